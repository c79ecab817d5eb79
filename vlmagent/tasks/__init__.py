"""The text side of every task: prompts, parsing, experts and supervised samples, one file per task."""
