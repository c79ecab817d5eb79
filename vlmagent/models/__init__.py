"""Networks: building and loading them, the value head, and splitting an output's log-probability."""
