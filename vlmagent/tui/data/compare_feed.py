"""The two sides of a comparison: which evaluation each one is, its episodes, one of them at a time.

Deliberately knows no widget.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from vlmagent.errors import StoreError
from vlmagent.paths import Run
from vlmagent.store.reader import StoreReader
from vlmagent.store.rows import EpisodeRow, TransitionRow
from vlmagent.tui.data.evaluations import Evaluation, pick, read_evaluations
from vlmagent.tui.data.pairs import Pair, Tally, count, pair_up
from vlmagent.tui.data.pictures import Pictures
from vlmagent.tui.data.pieces import PieceReader
from vlmagent.tui.data.source import Source, Worker
from vlmagent.tui.data.step_text import thought_weight
from vlmagent.tui.data.story import Story, read_story
from vlmagent.types import ImageArray


@dataclass(frozen=True, slots=True)
class CompareSide:
    """What one side of a comparison is to be.

    Attributes:
        run: the run's folder.
        database: one of its evaluations; None lets ``checkpoint`` decide.
        checkpoint: ``start``, ``latest`` or ``step-N``, for its newest evaluation; None leaves it to us.
    """

    run: Run
    database: Path | None = None
    checkpoint: str | None = None


def choose_sides(
    left: CompareSide, right: CompareSide, known: dict[Run, list[Evaluation]]
) -> tuple[Evaluation | None, Evaluation | None]:
    """The evaluations two sides stand for; of one run and without more words: its start and the furthest checkpoint.

    Args:
        known: all evaluations of both runs.
    """
    # twice the same run: its own evaluations are the two sides
    if left == right and left.checkpoint is None and left.database is None:
        found = known[left.run]
        last = pick(found, None)
        first = pick(found, "start")
        # the start was not evaluated, or nothing else was: any other evaluation makes a pair with the last
        if first is None or first == last:
            first = next((one for one in found if one != last and not one.problem), first)
        return first, last
    return _chosen(left, known[left.run]), _chosen(right, known[right.run])


def _chosen(side: CompareSide, found: list[Evaluation]) -> Evaluation | None:
    if side.database is not None:
        # by the file's name, which is unique in the run: its path may be written in another way
        return next((one for one in found if one.database.name == side.database.name), None)
    return pick(found, side.checkpoint)


def comparable_with(run: Run, others: Iterable[Run]) -> Run | None:
    """The first of ``others`` that has an evaluation on seeds that one of ``run`` has too; never raises."""
    for other in others:
        sides = choose_sides(
            CompareSide(run), CompareSide(other), {one: read_evaluations(one) for one in (run, other)}
        )
        if (
            sides[0] is not None
            and sides[1] is not None
            # evaluations without a common seed have nothing to show side by side
            and pair_up(_episodes(sides[0]), _episodes(sides[1]))[0]
        ):
            return other
    return None


def _episodes(evaluation: Evaluation) -> list[EpisodeRow]:
    try:
        with StoreReader(evaluation.database) as reader:
            return read_episodes(reader)
    except StoreError:
        return []


def read_episodes(reader: StoreReader) -> list[EpisodeRow]:
    """All episodes, in the order they were begun."""
    return reader.episodes(order="oldest", limit=-1)


class Side:
    """One side: an evaluation's database, and the episode of it that is shown."""

    def __init__(self, evaluation: Evaluation) -> None:
        self.evaluation = evaluation
        self.story: Story | None = None
        self.weight: float | None = None
        self._source = Source(evaluation.database)
        self._pictures = Pictures(self._source)
        # the tokenizer of the checkpoint that played
        self._pieces = PieceReader(evaluation.run, evaluation.checkpoint)

    async def episodes(self) -> list[EpisodeRow]:
        """All episodes, in the order they were begun."""
        return await self._source.query(read_episodes)

    async def read(self, episode: int) -> tuple[Story, float | None]:
        """An episode of this side, for ``take``; its pictures come with ``image``."""

        def read(reader: StoreReader) -> tuple[Story, float | None]:
            name = self.evaluation.run.name
            # without pictures: decoding a whole episode of them would hold up its first step
            return read_story(reader, episode, name, self._pieces, images=False), thought_weight(reader.run())

        return await self._source.query(read)

    def take(self, story: Story, weight: float | None) -> None:
        """Show an episode that was read."""
        self.story, self.weight = story, weight

    async def image(self, step: int) -> ImageArray | None:
        """The picture of a step, the last one's beyond the end; None when it is missing."""
        if self.story is None:
            return None
        try:
            return await self._pictures.read(_step_of(self.story, step).image_sha256)
        except StoreError:
            return None

    # never reads, so that a screen may call it while it draws
    def known_image(self, step: int) -> ImageArray | None:
        """The same, if it was read before."""
        return self._pictures.known(_step_of(self.story, step).image_sha256) if self.story else None

    def close(self) -> None:
        """Let go of the database."""
        self._source.close()


def _step_of(story: Story, step: int) -> TransitionRow:
    """A step of an episode; beyond its end, the last one."""
    return story.steps[min(step, len(story.steps) - 1)]


class Comparison:
    """The two sides of a comparison, the pairs of their episodes, and the pair that is shown.

    Args:
        left, right: what to compare; two equal sides mean a run's start and its furthest checkpoint.

    Attributes:
        known: the evaluations of both runs.
        sides: left and right; empty while there is nothing to compare.
        pairs: episodes of equal seeds, in the order of the left side.
        tally: the pairs counted; None before there were any to count.
        pair: the pair whose episodes are read; None without one.
    """

    def __init__(self, left: CompareSide, right: CompareSide) -> None:
        self.wanted = (left, right)
        self.known: dict[Run, list[Evaluation]] = {}
        self.sides: list[Side] = []
        self.pairs: list[Pair] = []
        self.tally: Tally | None = None
        self.pair: Pair | None = None
        self._worker = Worker("evaluations")

    def close(self) -> None:
        """Let go of the databases."""
        for side in self.sides:
            side.close()
        self._worker.close()

    async def find(self) -> tuple[Evaluation | None, Evaluation | None]:
        """Look for the evaluations of both runs; returns those that the two sides stand for."""
        # each run once, in order: both sides may be of the same
        runs = list(dict.fromkeys(side.run for side in self.wanted))
        self.known = await self._worker.call(lambda: {run: read_evaluations(run) for run in runs})
        return choose_sides(*self.wanted, self.known)

    async def use(self, left: Evaluation, right: Evaluation) -> None:
        """Pair the episodes of two evaluations and count them; the databases used before are let go."""
        for side in self.sides:
            side.close()
        self.sides = [Side(left), Side(right)]
        # the pair that was shown belongs to the sides just closed
        self.pair = None
        self.pairs, alone = pair_up(await self.sides[0].episodes(), await self.sides[1].episodes())
        self.tally = count(self.pairs, alone)

    async def load(self, pair: Pair) -> int:
        """Read the two episodes of a pair; returns how many steps the longer one has."""
        sides = self.sides
        read = [await side.read(episode.id) for side, episode in zip(sides, pair.sides, strict=True)]
        # both at once: while the pair before is played, no frame may show halves of two pairs
        for side, (story, weight) in zip(sides, read, strict=True):
            side.take(story, weight)
        self.pair = pair
        return max(len(story.steps) for story, _ in read)

    @property
    def marks(self) -> list[str]:
        """One mark a step of the pair, see ``Timeline.show``: steps with different actions stand out."""
        if self.pair is None:
            return []
        stories = [side.story.steps if side.story else () for side in self.sides]
        # where one episode is over there is nothing to differ from
        return ["bad" if a and b and a.action != b.action else "plain" for a, b in zip_longest(*stories)]

    def missing(self, chosen: tuple[Evaluation | None, Evaluation | None]) -> dict[Run, str]:
        """For each run that lacks an evaluation, what it lacks.

        Args:
            chosen: what ``find`` returned.
        """
        found = {}
        for side, evaluation in zip(self.wanted, chosen, strict=True):
            if evaluation is not None:
                continue
            if side.checkpoint:
                found[side.run] = f"no evaluation of {side.checkpoint}"
            elif not self.known[side.run]:
                found[side.run] = "no evaluation"
            else:
                # a run beside itself: one evaluation was found, and it takes two
                found[side.run] = "no second evaluation" if any(chosen) else "no evaluation that can be read"
        return found
