"""Environment steps per second on one core, pictures included; each as a ratio to NumberLine's.

``python benchmarks/env_steps.py`` plays random actions, resets at every end and prints medians of repeats.
"""

from __future__ import annotations

import argparse
import statistics
import time

import gymnasium as gym
import numpy as np

import vlmagent_envs

BASELINE = "vlmagent/NumberLine-v0"
ALFWORLD = "vlmagent/ALFWorld-v0"
"""Runs in processes and has a benchmark of its own, ``alfworld.py``."""


def rate(env_id: str, steps: int, seed: int) -> float:
    """Steps per second of one run."""
    env = gym.make(env_id, disable_env_checker=True)
    actions = np.random.default_rng(seed).integers(0, env.action_space.n, steps).tolist()
    env.reset(seed=seed)
    started = time.perf_counter()
    for action in actions:
        _, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            env.reset()
    return steps / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=5000, help="steps of one run")
    parser.add_argument(
        "--repeats", type=int, default=7, help="runs of each environment; the first is not counted"
    )
    arguments = parser.parse_args()
    vlmagent_envs.register_envs()
    medians = {
        env_id: statistics.median(
            rate(env_id, arguments.steps, seed) for seed in range(arguments.repeats + 1)[1:]
        )
        for env_id in vlmagent_envs.ENTRY_POINTS
        if env_id != ALFWORLD
    }
    print(f"{'environment':<24}{'steps/s (median)':>18}{'ratio to ' + BASELINE:>36}")
    for env_id, median in medians.items():
        print(f"{env_id:<24}{median:>18,.0f}{median / medians[BASELINE]:>36.3f}")


if __name__ == "__main__":
    main()
