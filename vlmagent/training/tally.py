"""What the episodes of a rollout come to, one by one: outcomes to count, and how often the outputs were legal.

Knows neither statistics nor databases.
"""

from __future__ import annotations

from dataclasses import dataclass

from vlmagent.types import EpisodeEnd, EpisodeStart, Transition


@dataclass(frozen=True, slots=True)
class Outcome:
    """One episode. ``seed`` tells which one, so that systems can be compared on it."""

    seed: int
    success: bool
    episode_return: float
    goal: bool
    length: int
    kind: str | None = None


class Tally:
    """A sink that counts episodes and legal outputs; an episode with an error in it has no result.

    Attributes:
        outcomes: of the episodes that have one, in the order in which they ended.
        transitions: how many there were.
        errors: episodes without a result.
    """

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.transitions = 0
        self.errors = 0
        self._legal = 0
        self._answered = 0
        # an episode's end does not say which seed it had
        self._seeds: dict[int, int] = {}
        # by id: episodes in which some step has no answer
        self._broken: set[int] = set()

    @property
    def done(self) -> int:
        """Episodes that have ended, with or without a result."""
        return len(self.outcomes) + self.errors

    @property
    def legal_rate(self) -> float:
        """Share of the outputs that named one legal action."""
        return self._legal / self._answered if self._answered else 0.0

    def episode_started(self, episode: EpisodeStart) -> None:
        """Keep which episode it is."""
        self._seeds[episode.id] = episode.seed

    def transition(self, transition: Transition) -> None:
        """Count the output; one that never came is the environment's or the network's, not the system's."""
        self.transitions += 1
        # one missing answer spoils the whole episode: what would have happened is not known
        if transition.decision.error is not None:
            self._broken.add(transition.episode_id)
            return
        self._answered += 1
        self._legal += transition.decision.parsed.legal_output

    def episode_ended(self, episode: EpisodeEnd) -> None:
        """Count the episode."""
        if episode.id in self._broken or episode.ended == "lost":
            self.errors += 1
            return
        seed, end = self._seeds[episode.id], episode
        self.outcomes.append(Outcome(seed, end.success, end.episode_return, end.goal, end.length, end.kind))
