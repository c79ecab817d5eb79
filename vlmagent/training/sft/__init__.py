"""Supervised fine-tuning on solver samples, the start of every RL run (paper, appendix D)."""
