"""Pages of episodes and outputs, against what plain Python makes of the same rows."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest

from tests.store.records import step
from vlmagent.store import browse
from vlmagent.store.browse import Filter
from vlmagent.store.queries import EPISODE_ORDERS, EpisodeOrder
from vlmagent.store.reader import StoreReader
from vlmagent.store.writer import StoreWriter
from vlmagent.types import Decision, EpisodeEnd, EpisodeStart, ParsedAction

EPISODES = 60
WORDS = ("apple", "river stone", "[bold]cloud[/]", "\x1b[31mmaple", "Äpfel")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty finished episodes of three steps in six updates and two that run; advantages with ties."""
    path = tmp_path_factory.mktemp("many") / "run.db"
    rng = random.Random(0)
    with StoreWriter(path) as writer:
        id_ = 0
        for episode in range(1, EPISODES + 3):
            writer.episode_started(EpisodeStart(episode, "train", episode % 4, 1000 + episode))
            ids = []
            for k in range(3):
                id_ += 1
                ids.append(id_)
                writer.transition(some_step(id_, episode, k, rng))
            if episode <= EPISODES:
                success = rng.random() < 0.5
                end = EpisodeEnd(episode, 3, float(rng.choice([-2, -1, 1])), success, success, "terminated")
                writer.episode_ended(end)
            writer.commit()
            writer.advantages(
                (episode - 1) // 10, ids, [rng.choice([-2.0, -0.5, 1.0]) for _ in ids], [0.0] * 3
            )
    return path


def some_step(id_: int, episode: int, k: int, rng: random.Random):
    transition = step(
        id_, episode_id=episode, step=k, update_index=(episode - 1) // 10, legal=rng.random() < 0.8,
        output=f"episode {episode} says {rng.choice(WORDS)} {'filler ' * 20}",
    )  # fmt: skip
    decision = transition.decision
    assert isinstance(decision, Decision)
    assert isinstance(decision.parsed, ParsedAction)
    object.__setattr__(decision, "logprob", rng.choice([-9.0, -3.0, -1.5, None]))
    return transition


def passes(reader: StoreReader, filter: Filter, row) -> bool:
    episode = reader.episode(row.episode_id)
    assert episode is not None
    return (
        (filter.split is None or episode.split == filter.split)
        and (filter.success is None or episode.success is filter.success)
        and (filter.illegal is None or row.legal_output is not filter.illegal)
        and (filter.updates is None or filter.updates[0] <= row.update_index <= filter.updates[1])
    )


FILTERS = (
    Filter(),
    Filter(success=False),
    Filter(success=True, illegal=True),
    Filter(illegal=True),
    Filter(illegal=False),
    Filter(updates=(2, 3)),
    Filter(updates=(2, 3), success=False, illegal=True),
    Filter(updates=(90, 99)),
    Filter(split="train"),
    Filter(split="eval"),
)


def all_pages(reader: StoreReader, filter: Filter, order, limit: int, **more) -> list[int]:
    ids, cursor = [], None
    while True:
        page = browse.output_page(reader, filter, order, after=cursor, limit=limit, **more)
        assert len(page.rows) <= limit
        ids += [row.id for row in page.rows]
        cursor = page.cursor
        if cursor is None:
            return ids


@pytest.mark.parametrize("filter", FILTERS)
@pytest.mark.parametrize("order", ["advantage", "logprob"])
@pytest.mark.parametrize("narrow", [True, False])
@pytest.mark.parametrize("seconds", [1.0, 0.0])
def test_ranked_outputs(
    many: Path, monkeypatch: pytest.MonkeyPatch, filter: Filter, order, narrow: bool, seconds: float
) -> None:
    monkeypatch.setattr(browse, "NARROW", 20_000 if narrow else 0)
    monkeypatch.setattr(browse, "WINDOW", 7)
    with StoreReader(many) as reader:
        rows = [row for row in reader.transitions_after(0) if passes(reader, filter, row)]
        rows = [row for row in rows if getattr(row, order) is not None]
        if order == "advantage":
            rows.sort(key=lambda row: (-abs(row.advantage), -row.id))
        else:
            rows.sort(key=lambda row: (row.logprob, row.id))
        assert all_pages(reader, filter, order, 10, seconds=seconds) == [row.id for row in rows]


@pytest.mark.parametrize("filter", FILTERS)
@pytest.mark.parametrize(
    ("text", "inside"), [("river", "river"), ('"river stone"', "river stone"), ("fil", "filler")]
)
def test_searched_outputs(
    many: Path, monkeypatch: pytest.MonkeyPatch, filter: Filter, text: str, inside: str
) -> None:
    monkeypatch.setattr(browse, "WINDOW", 7)
    with StoreReader(many) as reader:
        rows = [row for row in reader.transitions_after(0) if passes(reader, filter, row)]
        wanted = [row.id for row in reversed(rows) if inside in row.output]
        assert all_pages(reader, filter, "match", 10, text=text, seconds=0.0) == wanted


def test_what_a_row_tells(many: Path) -> None:
    with StoreReader(many) as reader:
        (row, *_) = browse.output_page(reader, Filter(), "match", text="APPLE").rows
        assert [row.excerpt[start:end].lower() for start, end in row.marks] == ["apple"]
        full = reader.transition(row.id)
        assert full is not None
        assert (row.step, row.update_index, row.advantage) == (full.step, full.update_index, full.advantage)
        assert row.legal_output is full.legal_output
        assert row.seed == 1000 + row.episode_id
        assert browse.output_page(reader, Filter(), "match", text="... !").rows == []
        assert browse.output_page(reader, Filter(), "match", text="\x1b[31mmaple (").rows


def test_a_match_deep_in_a_long_output(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "run.db") as writer:
        writer.episode_started(EpisodeStart(1, "train", 0, 1))
        writer.transition(step(1, output="x " * 50_000 + "needle" + " y" * 50_000))
    with StoreReader(tmp_path / "run.db") as reader:
        (row,) = browse.output_page(reader, Filter(), "match", text="needle").rows
        assert len(row.excerpt) <= browse.EXCERPT
        assert [row.excerpt[start:end] for start, end in row.marks] == ["needle"]


@pytest.mark.parametrize("order", list(EPISODE_ORDERS))
@pytest.mark.parametrize("filter", FILTERS)
def test_episode_pages(many: Path, order: EpisodeOrder, filter: Filter) -> None:
    with StoreReader(many) as reader:
        ids: list[int] = []
        after = None
        while page := browse.episode_page(reader, filter, order, after=after, limit=7):
            ids += [row.id for row in page]
            after = page[-1]
        everything = [row for row in reader.episodes(limit=-1) if row.ended != "running"]
        wanted = [
            row
            for row in everything
            if (filter.split in (None, row.split))
            and (filter.success in (None, row.success))
            and (filter.illegal is None or bool(row.illegal) is filter.illegal)
            and (filter.updates is None or filter.updates[0] <= (row.update_index or 0) <= filter.updates[1])
        ]
        assert sorted(ids) == sorted(row.id for row in wanted)
        assert browse.count_episodes(reader, filter) == len(wanted)
        column, way = EPISODE_ORDERS[order]
        keys = [(getattr(row, column), row.id) for id_ in ids for row in wanted if row.id == id_]
        assert keys == sorted(keys, reverse=way == "DESC")


def test_newer_episodes_and_bounds(many: Path, tmp_path: Path) -> None:
    with StoreReader(many) as reader:
        found = browse.episodes_since(reader, Filter(), browse.Seen(EPISODES - 2, (3, 1)))
        assert [row.id for row in found] == [EPISODES, EPISODES - 1, 3, 1]
        assert browse.look_at_episodes(reader) == browse.Seen(EPISODES + 2, (EPISODES + 1, EPISODES + 2))
        assert browse.update_bounds(reader) == (0, 6)
    StoreWriter(tmp_path / "run.db").close()
    with StoreReader(tmp_path / "run.db") as reader:
        assert browse.update_bounds(reader) is None
        assert browse.output_page(reader, Filter(), "advantage").rows == []
        assert browse.episode_page(reader, Filter()) == []


def test_a_database_without_the_indexes_is_ranked_too(many: Path, tmp_path: Path, monkeypatch) -> None:
    old = tmp_path / "old.db"
    with sqlite3.connect(many) as connection:
        connection.execute("VACUUM INTO ?", (str(old),))
    with sqlite3.connect(old) as connection:
        connection.execute("DROP INDEX transitions_advantage")
        connection.execute("DROP INDEX transitions_logprob")
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    monkeypatch.setattr(browse, "NARROW", 0)
    for order in ("advantage", "logprob"):
        with StoreReader(many) as new, StoreReader(old) as reader:
            found = all_pages(reader, Filter(success=True), order, 10)
            assert found == all_pages(new, Filter(success=True), order, 10)
