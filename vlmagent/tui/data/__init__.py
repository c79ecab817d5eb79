"""What the screens read and lay out; draws nothing itself and imports no widget."""
