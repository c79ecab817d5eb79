"""Train vision-language models to act, and watch, replay, play and evaluate them, from a terminal.

Importing the package is cheap on purpose: nothing heavy is imported here.
"""

__version__ = "0.2.0"
