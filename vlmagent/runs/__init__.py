"""What a run is: its folder, its process, its state. Training itself stands in ``training``."""
