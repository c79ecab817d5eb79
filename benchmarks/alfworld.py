"""ALFWorld's speed: steps per second with 1, 4 and 8 environments, each as a ratio to one; and memory over many resets.

``python -m benchmarks.alfworld`` plays the expert's episodes in the generated household, resets at every end, pictures
included, as a training run would. ``--world tw`` plays the real games. Needs the extra ``alfworld``.
"""

from __future__ import annotations

import argparse
import time

import psutil

from vlmagent.agents.simple import ExpertAgent
from vlmagent.seeding import train_episode_seed
from vlmagent.tasks.base import Task
from vlmagent.tasks.registry import build_task
from vlmagent.training.rollout import Rollout

WARM_UP = 10


def speed(task: Task, num_envs: int, steps: int) -> tuple[float, float]:
    """Environment steps per second over ``steps`` steps of each environment, and seconds until they could begin."""
    rollout = Rollout(
        task,
        ExpertAgent(task),
        num_envs=num_envs,
        split="train",
        seed=0,
        episode_seeds=lambda env_index, count: train_episode_seed(0, env_index, count),
    )
    try:
        started = time.perf_counter()
        rollout.start()
        ready = time.perf_counter() - started
        for _ in range(WARM_UP):
            rollout.step()
        started = time.perf_counter()
        for _ in range(steps):
            rollout.step()
        return num_envs * steps / (time.perf_counter() - started), ready
    finally:
        rollout.close()


def memory(task: Task, resets: int) -> list[tuple[int, float, float]]:
    """(resets so far, MiB of the game's process, MiB of this one) at ten points."""
    env, found = task.make_env(), []
    try:
        for count in range(1, resets + 1):
            env.reset(seed=count)
            if count % max(1, resets // 10) == 0:
                sizes = [
                    psutil.Process(pid).memory_info().rss / 2**20 for pid in (env.unwrapped.worker.pid, None)
                ]
                found.append((count, *sizes))
    finally:
        env.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--world", choices=["mini", "tw"], default="mini")
    parser.add_argument("--split", default="train", help="games to play")
    parser.add_argument("--steps", type=int, default=100, help="steps of each environment")
    parser.add_argument("--envs", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--resets", type=int, default=200, help="0 leaves the memory out")
    chosen = parser.parse_args()
    task = build_task("alfworld", env={"world": chosen.world, "split": chosen.split})
    baseline = 0.0
    print(f"{'environments':<14}{'steps/s':>10}{'ratio to ' + str(chosen.envs[0]):>14}{'start, s':>10}")
    for num_envs in chosen.envs:
        rate, ready = speed(task, num_envs, chosen.steps)
        baseline = baseline or rate
        print(f"{num_envs:<14}{rate:>10.1f}{rate / baseline:>14.2f}{ready:>10.1f}")
    if chosen.resets:
        print(f"\n{'resets':<14}{'game, MiB':>10}{'own, MiB':>14}")
        for count, game, own in memory(task, chosen.resets):
            print(f"{count:<14}{game:>10.1f}{own:>14.1f}")


if __name__ == "__main__":
    main()
