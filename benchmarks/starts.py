"""How many starting states each game has, and how many of those that evaluation begins in training has begun in, too.

    python benchmarks/starts.py                   # as the shipped recipes deal
    python benchmarks/starts.py --holdout 0.2     # with a share of the starting states held out for evaluation

A start counts as the rules see it (values, not suits or order) and, in the last column, as the very picture. Training's
episodes are those that a run with seed 0 begins, supervised samples and RL together.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from vlmagent.config import find_config, load_config
from vlmagent.seeding import evaluation_episode_seed, sft_episode_seed, train_episode_seed
from vlmagent.tasks.registry import task_from_config

TASKS = ("numberline", "ezpoints", "points24", "blackjack")


class Start(NamedTuple):
    """A starting state as the rules see it, and as a picture."""

    state: str
    picture: bytes


def rank(card: str) -> int:
    """A card's value: "10H" is 10, faces are 11 to 13."""
    faces = {"A": 1, "J": 11, "Q": 12, "K": 13}
    return faces.get(card[:-1]) or int(card[:-1])


NAMES: dict[str, Callable[[Any], str]] = {
    "numberline": lambda info: f"{info['target']} {info['current']}",
    "ezpoints": lambda info: str(sorted(info["numbers"])),
    "points24": lambda info: str(sorted(info["numbers"])),
    "blackjack": lambda info: str(
        (min(rank(info["dealer"][0]), 10), sorted(min(rank(c), 10) for c in info["player"]))
    ),
}


def begun(task: str, env: Any, seeds: Iterable[int]) -> Iterator[Start]:
    """The starts of these episodes."""
    for seed in seeds:
        image, info = env.reset(seed=seed)
        yield Start(NAMES[task](info), hashlib.sha256(image.tobytes()).digest())


def row(name: str, episodes: int, evaluated: int, overrides: dict[str, Any]) -> list[str]:
    """One line of the table."""
    config = load_config(find_config(name), overrides)
    task = task_from_config(config)
    env = task.make_env()
    train = (train_episode_seed(config.seed, index % 32, index // 32) for index in range(episodes))
    trained = set(begun(name, env, train))
    taught = set(
        begun(name, task.make_sft_env(), (sft_episode_seed(config.seed, n) for n in range(episodes)))
    )
    tested = list(begun(name, env, (evaluation_episode_seed(0, n) for n in range(evaluated))))
    known = {start.state for start in trained | taught}
    pictures = {start.picture for start in trained | taught}
    total = len(set(env.unwrapped.starts()))
    states = sum(start.state in known for start in tested) / len(tested)
    same = sum(start.picture in pictures for start in tested) / len(tested)
    return [name, str(total), str(len(known)), f"{states:.1%}", f"{same:.1%}"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--episodes", type=int, default=4000, help="of supervised samples, and as many of RL")
    parser.add_argument("--evaluated", type=int, default=1000, help="episodes of evaluation")
    parser.add_argument("--holdout", type=float, default=0.0)
    chosen = parser.parse_args()
    overrides = {"env": {"holdout": chosen.holdout}} if chosen.holdout else {}
    head = ["task", "starting states", "met in training", "evaluation's starts met there", "the very picture"]
    print("| " + " | ".join(head) + " |\n|---|---|---|---|---|")
    for name in TASKS:
        print("| " + " | ".join(row(name, chosen.episodes, chosen.evaluated, overrides)) + " |", flush=True)
    print(
        f"\n{chosen.episodes} episodes each of supervised samples and of RL, {chosen.evaluated} of evaluation"
    )


if __name__ == "__main__":
    main()
