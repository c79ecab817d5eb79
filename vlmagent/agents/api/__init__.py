"""Models behind an API as agents: endpoints, the client that asks them, what asking costs."""
