"""Seeds by counting: every random choice has a seed that is a pure function of the run's seed and a counter.

Nothing has to be saved to resume exactly, and two processes cannot drift apart. Training and evaluation episodes
live in disjoint halves of the 32-bit seeds. (Where a game has few starting states, other seeds may well deal the same:
see ``vlmagent_envs.holdout``.)
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

# the highest bit of a 32-bit seed: set for evaluation, clear for all that trains or plays
EVALUATION_BIT = 2**31


def derive(seed: int, purpose: str, *counters: int) -> int:
    """A seed in [0, 2^32) for one purpose; equal arguments give equal seeds, different ones unrelated streams."""
    # crc32 and not `hash`, which differs from process to process
    words = [seed, zlib.crc32(purpose.encode()), *counters]
    # SeedSequence mixes its words so that neighbouring counters give unrelated seeds
    return int(np.random.SeedSequence(words).generate_state(1, np.uint32)[0])


def train_episode_seed(seed: int, env_index: int, episode: int) -> int:
    """Seed in [0, 2^31) of an environment's n-th training episode."""
    return derive(seed, "train", env_index, episode) % EVALUATION_BIT


def sft_episode_seed(seed: int, episode: int) -> int:
    """Seed in [0, 2^31) of the n-th episode that the solver plays for supervised samples."""
    return derive(seed, "sft", episode) % EVALUATION_BIT


def play_episode_seed(seed: int, episode: int) -> int:
    """Seed in [0, 2^31) of the n-th episode of a session of play: never one of the evaluation's."""
    return derive(seed, "play", episode) % EVALUATION_BIT


def evaluation_episode_seed(seed: int, episode: int) -> int:
    """Seed in [2^31, 2^32) of the n-th evaluation episode; the same for every system, so that results pair up."""
    return EVALUATION_BIT + derive(seed, "evaluation", episode) % EVALUATION_BIT


@dataclass(frozen=True, slots=True)
class EvaluationSeeds:
    """Which evaluation episode an environment plays next: episode k goes to environment k mod ``num_envs``.

    So every number of environments plays the same episodes.

    Attributes:
        seed: chooses the episodes.
        episodes: how many there are.
        num_envs: environments that share them.
    """

    seed: int
    episodes: int
    num_envs: int

    def __call__(self, env_index: int, count: int) -> int | None:
        """Seed of the episode after ``count`` others in an environment; None when there are no more."""
        # counting through the environments row by row
        number = env_index + count * self.num_envs
        return evaluation_episode_seed(self.seed, number) if number < self.episodes else None
