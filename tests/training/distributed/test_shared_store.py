"""Several processes, one database: what they play together is what one process would have played and written."""

import sqlite3
from pathlib import Path

import pytest

from tests.training.distributed.thread_ranks import ThreadRanks, together
from vlmagent.agents.simple import ExpertAgent
from vlmagent.seeding import train_episode_seed
from vlmagent.store.writer import StoreWriter
from vlmagent.tasks.registry import build_task
from vlmagent.training.distributed.ranks import ALONE, Ranks, anyone, part
from vlmagent.training.distributed.shared_store import SharedWriter
from vlmagent.training.rollout import Rollout
from vlmagent.types import Transition

ENVS = 6
TABLES = (
    "SELECT id, split, env_index, seed, length, episode_return, success, ended FROM episodes ORDER BY id",
    "SELECT id, episode_id, env_index, step, image_sha256, output, reward, terminated, advantage FROM transitions "
    "ORDER BY id",
)


def make_rollout(ranks: Ranks, writer: StoreWriter | SharedWriter) -> Rollout:
    task = build_task("numberline")
    return Rollout(
        task,
        ExpertAgent(task),
        num_envs=ENVS,
        split="train",
        seed=3,
        episode_seeds=lambda env_index, count: train_episode_seed(3, env_index, count),
        sinks=[writer],
        ranks=ranks,
    )


def play(rollout: Rollout, writer: StoreWriter | SharedWriter, steps: int) -> list[Transition]:
    seen = []
    for _ in range(steps):
        seen += rollout.step(1)
        writer.commit()
    return seen


def open_writer(path: Path) -> StoreWriter:
    writer = StoreWriter(path)
    writer.start_run("r", "numberline", "expert", "{}", 3)
    return writer


def contents(path: Path) -> list[list[tuple]]:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return [connection.execute(sql).fetchall() for sql in TABLES]
    finally:
        connection.close()


def play_alone(path: Path, steps: int) -> None:
    with open_writer(path) as writer:
        rollout = make_rollout(ALONE, writer)
        rollout.start()
        seen = play(rollout, writer, steps)
        writer.advantages(1, [t.id for t in seen], [t.id / 2 for t in seen], [0.0 for _ in seen])


@pytest.mark.parametrize("world", [2, 3])
def test_the_database_is_that_of_one_process(tmp_path: Path, world: int):
    def work(ranks: ThreadRanks) -> None:
        own = open_writer(tmp_path / "shared.db") if ranks.rank == 0 else None
        writer = SharedWriter(ranks, tmp_path / "shared.db", own)
        rollout = make_rollout(ranks, writer)
        rollout.start()
        seen = play(rollout, writer, 7)
        assert {t.env_index for t in seen} == set(part(ranks, ENVS))
        writer.advantages(1, [t.id for t in seen], [t.id / 2 for t in seen], [0.0 for _ in seen])
        writer.flush()
        if own is not None:
            own.close()

    together(world, work)
    play_alone(tmp_path / "alone.db", 7)
    episodes, transitions = contents(tmp_path / "shared.db")
    assert [row[0] for row in transitions] == list(range(1, 7 * ENVS + 1))
    assert [row[-1] for row in transitions] == [row[0] / 2 for row in transitions]
    assert [episodes, transitions] == contents(tmp_path / "alone.db")


def test_a_snapshot_fits_another_number_of_processes(tmp_path: Path):
    """Three processes begin, two go on, one ends: the same as one all along."""
    path = tmp_path / "shared.db"
    snapshots: list[dict] = []

    def work(ranks: ThreadRanks) -> None:
        own = open_writer(path) if ranks.rank == 0 else None
        writer = SharedWriter(ranks, path, own)
        rollout = make_rollout(ranks, writer)
        if snapshots:
            rollout.restore(snapshots[-1])
        else:
            rollout.start()
        play(rollout, writer, 3)
        snapshot = rollout.snapshot()
        writer.flush()
        if own is not None:
            snapshots.append(snapshot)
            own.close()

    together(3, work)
    together(2, work)
    assert len(snapshots[0]["environments"]) == ENVS
    with open_writer(path) as writer:
        rollout = make_rollout(ALONE, writer)
        rollout.restore(snapshots[-1])
        seen = play(rollout, writer, 3)
        writer.advantages(1, range(1, seen[-1].id + 1), [0.0] * seen[-1].id, [0.0] * seen[-1].id)
    play_alone(tmp_path / "alone.db", 9)
    ours, theirs = contents(path), contents(tmp_path / "alone.db")
    assert ours[0] == theirs[0]
    assert [row[:-1] for row in ours[1]] == [row[:-1] for row in theirs[1]]


def test_events_of_the_first_and_warnings_of_all(tmp_path: Path):
    path = tmp_path / "run.db"

    def work(ranks: ThreadRanks) -> None:
        own = open_writer(path) if ranks.rank == 0 else None
        writer = SharedWriter(ranks, path, own)
        writer.event("info", "begun")
        writer.event("warning", "odd")
        writer.metrics(1, 6, {"x": 1.0})
        writer.flush()
        if own is not None:
            own.close()

    together(2, work)
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT level, text FROM events ORDER BY id").fetchall() == [
        ("info", "begun"),
        ("warning", "odd"),
        ("warning", "process 1: odd"),
    ]
    assert connection.execute("SELECT count(*) FROM metrics").fetchone() == (1,)
    connection.close()


def test_a_stop_asked_of_one_stops_all():
    assert together(3, lambda ranks: anyone(ranks, ranks.rank == 2)) == [True, True, True]
    assert together(3, lambda ranks: anyone(ranks, False)) == [False, False, False]
    assert anyone(ALONE, True)
