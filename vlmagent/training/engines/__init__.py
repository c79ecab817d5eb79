"""How gradients become weights: on this device (local), or over many processes."""
