"""What a training would take in memory and time, computed without weights, network or run."""
