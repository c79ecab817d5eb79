"""The screen on which people play, and its parts."""
