"""Playing a task: people, checkpoints and experts at the same table; every step is logged before it is shown.

``plan`` decides who plays what, ``session`` steps the environments and writes the log, ``server`` is the process
that thinks, ``client`` and ``desk`` talk to it. Nothing but ``server`` imports torch.
"""
