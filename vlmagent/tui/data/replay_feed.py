"""What a replay reads: one episode after the other, their pictures, the way from one to the next, the export.

Deliberately knows no widget; every method that reads may raise ``StoreError``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vlmagent import paths
from vlmagent.paths import Run
from vlmagent.store.reader import StoreReader
from vlmagent.tui.data.pictures import Pictures
from vlmagent.tui.data.pieces import PieceReader
from vlmagent.tui.data.source import Source, Worker
from vlmagent.tui.data.step_text import thought_weight
from vlmagent.tui.data.story import Story, export_path, read_story, write_gif, write_html
from vlmagent.tui.data.trail import Place, Trail, find
from vlmagent.types import ImageArray

FETCHED_AHEAD = 200
"""Steps whose pictures are decoded before they are asked for."""
WRITERS: dict[str, Callable[[Story, Path], Path]] = {"gif": write_gif, "html": write_html}


class ReplayFeed:
    """Reads the episodes of one database.

    Args:
        run: the run's folder.
        database: where the episodes are; None stands for the run's own database.
        trail: the episodes that next and previous go through; None for all of the database.
        place: the episode and step to begin with.

    Attributes:
        place: the place of the trail that was shown last.
        story: the episode shown; None until it was read.
        weight: of the thoughts in the sum of log-probs, where the run's config says it.
    """

    def __init__(self, run: Run, database: Path | None, trail: Trail | None, place: Place) -> None:
        self.run = run
        self.database = database or run.database
        self.trail = trail
        self.place = place
        self.story: Story | None = None
        self.weight: float | None = None
        self._source = Source(self.database)
        self._pieces = PieceReader(run)
        # a thread of its own: a GIF takes seconds, in which steps must still be read
        self._writer = Worker("export")
        self._pictures = Pictures(self._source)

    def close(self) -> None:
        """Let go of the database."""
        self._source.close()
        self._writer.close()

    @property
    def is_runs_own(self) -> bool:
        """Whether the episodes are those that the run learnt from, not an evaluation's or a game's."""
        return self.database.name == paths.DATABASE

    # -- episodes

    async def load(self, episode_id: int, step: int | None = 0) -> Story:
        """Read an episode and make it the present one.

        Args:
            step: the step it will be shown from; None for the present episode, read again.
        """
        name = self.run.name
        title = name if self.is_runs_own else f"{name} · {self.database.stem}"

        def read(reader: StoreReader) -> tuple[Story, float | None]:
            story = read_story(reader, episode_id, title, self._pieces, images=False)
            return story, thought_weight(reader.run())

        story, weight = await self._source.query(read)
        self.story, self.weight = story, weight
        # read again to follow a running episode: the place in the list stays as it is
        if step is not None:
            self.place = (episode_id, step)
        return story

    async def has_episode(self, episode_id: int) -> bool:
        """Whether the database has steps of an episode."""
        return await self._source.query(lambda reader: bool(reader.transitions(episode_id)))

    def following(self, by: int) -> Place | None:
        """The place ``by`` places from the present one, as far as the trail is known; None beyond its ends."""
        # asked anew each time: a list that follows its run grows at both ends
        places = self.trail.places if self.trail else ()
        present = find(places, self.place)
        if present is None:  # the list was filtered anew meanwhile: begin at its near end
            present = -1 if by > 0 else len(places)
        wanted = present + by
        return places[wanted] if 0 <= wanted < len(places) else None

    def position(self) -> tuple[int, str] | None:
        """The present place in the trail from 1 on, and how many there are, with a plus while more may follow."""
        place = find(self.trail.places, self.place) if self.trail else None
        if self.trail is None or place is None:
            return None
        return place + 1, f"{len(self.trail.places):,}{'+' if self.trail.more else ''}"

    # -- pictures

    def known_image(self, key: str) -> ImageArray | None:
        """A picture that was read before and is still kept."""
        return self._pictures.known(key)

    async def image(self, key: str) -> ImageArray:
        """A picture."""
        return await self._pictures.read(key)

    async def fetch_ahead(self) -> None:
        """Decode the pictures of the episode before they are needed."""
        story = self.story
        # in order, and one after the other: a step asked for by the user gets its turn between two of them
        for row in story.steps[:FETCHED_AHEAD] if story else ():
            await self.image(row.image_sha256)

    # -- files

    def export_target(self, kind: str) -> Path:
        """The file that ``export`` writes for the present episode.

        Args:
            kind: one of ``WRITERS``.
        """
        episode = self.place[0] if self.story is None else self.story.episode.id
        return export_path(self.run, self.database, episode, kind)

    async def export(self, story: Story, kind: str, target: Path) -> Path:
        """Write an episode with all its pictures.

        Raises:
            VlmAgentError: it cannot be read or written.
        """
        episode, title = story.episode.id, story.title
        # read again, because the story on the screen has no pictures; on the source's thread, which owns the connection
        whole = await self._source.query(lambda reader: read_story(reader, episode, title, self._pieces))
        return await self._writer.call(lambda: WRITERS[kind](whole, target))
