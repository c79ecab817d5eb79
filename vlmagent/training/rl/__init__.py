"""Reinforcement learning: pure maths (advantages, losses, buffer) and one update (ppo)."""
