"""The ``vlmagent`` command: one file per group of verbs. Each parses, resolves one request and calls one function."""
