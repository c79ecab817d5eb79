"""Whoever chooses actions: models, experts, chance. Each implements ``types.Agent``."""
