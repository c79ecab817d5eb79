"""What the transitions and episodes of one update come to: the ``rollout/`` rows of ``metrics``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vlmagent.types import EpisodeEnd, EpisodeStart, Transition

EPISODE_METRICS = frozenset({"rollout/success", "rollout/goal", "rollout/return", "rollout/episode_length"})
"""Means over the episodes that ended, where the others are over transitions."""


class EpisodeLog:
    """A sink that keeps the episodes that ended since it was last asked."""

    def __init__(self) -> None:
        self._ended: list[EpisodeEnd] = []

    def episode_started(self, episode: EpisodeStart) -> None:
        """Nothing to keep."""

    def transition(self, transition: Transition) -> None:
        """Nothing to keep."""

    def episode_ended(self, episode: EpisodeEnd) -> None:
        """Keep it, unless its environment's process was lost: then it has no result."""
        if episode.ended != "lost":
            self._ended.append(episode)

    def take(self) -> list[EpisodeEnd]:
        """The episodes since the last call."""
        ended, self._ended = self._ended, []
        return ended


def rollout_metrics(transitions: Sequence[Transition], ended: Sequence[EpisodeEnd]) -> dict[str, float]:
    """What one update's collection measured; rates are fractions, log-probs sums per output in nats.

    Episode metrics cover the episodes that ended in it and are left out when none did.
    """

    def mean(values: Sequence[float]) -> float:
        # not 0: an average over nothing must not look like a measurement
        return sum(values) / len(values) if values else float("nan")

    generations = [t.decision.generation for t in transitions]
    metrics = {
        "rollout/legal_rate": mean([t.decision.parsed.legal_output for t in transitions]),
        "rollout/output_tokens": mean([len(g.token_ids) for g in generations if g]),
        "rollout/thought_logprob": mean([t.decision.thought_logprob or 0.0 for t in transitions]),
        "rollout/action_logprob": mean([t.decision.action_logprob or 0.0 for t in transitions]),
        "rollout/value": mean([t.value for t in transitions if t.value is not None]),
        "rollout/reward": mean([t.reward for t in transitions]),
        "rollout/episodes": float(len(ended)),
    }
    if ended:
        metrics["rollout/success"] = mean([e.success for e in ended])
        metrics["rollout/goal"] = mean([e.goal for e in ended])
        metrics["rollout/return"] = mean([e.episode_return for e in ended])
        metrics["rollout/episode_length"] = mean([e.length for e in ended])
    return metrics


def merged_metrics(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """``rollout_metrics`` of several processes with equally many transitions each, as if of one."""
    if len(parts) == 1:
        return dict(parts[0])
    episodes = sum(own["rollout/episodes"] for own in parts)
    merged: dict[str, float] = {}
    # names in the order of their first appearance
    for name in dict.fromkeys(name for own in parts for name in own):
        # a process none of whose episodes ended has no episode metrics
        having = [own for own in parts if name in own]
        # shares of transitions are equal, numbers of episodes are not
        weights = [own["rollout/episodes"] if name in EPISODE_METRICS else 1.0 for own in having]
        total = sum(weight * own[name] for weight, own in zip(weights, having, strict=True))
        merged[name] = total / sum(weights)
    return {**merged, "rollout/episodes": episodes} if parts else {}
