"""How an agent learns: SFT, rollouts, RL updates, checkpoints, and the plan of what that takes."""
