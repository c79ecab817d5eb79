import math
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.store.records import picture, step
from vlmagent.errors import StoreError
from vlmagent.store import codec, connection
from vlmagent.store.reader import StoreReader
from vlmagent.store.writer import StoreWriter, add_evaluation, mark_failed
from vlmagent.types import EpisodeEnd, EpisodeStart


def query(path: Path, sql: str) -> list[tuple]:
    with sqlite3.connect(path) as plain:
        return plain.execute(sql).fetchall()


def until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.01)


def test_a_batch_is_one_transaction(db: Path) -> None:
    with StoreWriter(db) as writer:
        writer.episode_started(EpisodeStart(1, "train", 0, 7))
        for k in range(1, 6):
            writer.transition(step(k))
        assert query(db, "SELECT count(*) FROM transitions") == [(0,)]
        writer.commit()
        writer.flush()
        assert query(db, "SELECT count(*) FROM transitions") == [(5,)]
        writer.commit()  # nothing to do


def test_rows_come_back_as_they_were(db: Path) -> None:
    one = step(1, reward=np.float32(-1.0), truncated=True, bootstrap_value=0.75)
    with StoreWriter(db) as writer:
        writer.episode_started(EpisodeStart(1, "train", 0, 7))
        writer.transition(one)
        writer.flush()
        writer.advantages(0, [1], [np.float32(0.5)], [math.nan])
    with StoreReader(db) as reader:
        (row,) = reader.transitions(1)
        assert one.decision.generation is not None
        assert np.array_equal(row.token_ids, one.decision.generation.token_ids)
        assert row.token_logprobs.tobytes() == one.decision.generation.token_logprobs.tobytes()
        assert (row.action_start, row.bootstrap_value, row.truncated, row.terminated) == (
            2,
            0.75,
            True,
            False,
        )
        assert (row.logprob, row.thought_logprob, row.action_logprob) == (-1.5, -2.0, -0.5)
        assert (row.advantage, row.return_) == (0.5, None)
        assert np.array_equal(reader.image(row.image_sha256), one.image)


def test_agents_without_tokens(db: Path) -> None:
    with StoreWriter(db) as writer:
        writer.transition(step(1, generation=None, value=None))
    with StoreReader(db) as reader:
        row = reader.transition(1)
        assert row is not None
        assert (row.token_ids, row.token_logprobs, row.action_start, row.value) == (None, None, None, None)


def test_any_text_is_stored(db: Path) -> None:
    texts = ["\ud800 lone", "a\0b", "x" * 100_000, "\x1b[31m[red]\u202e😀", "", "'\"; DROP TABLE run; --"]
    with StoreWriter(db) as writer:
        for k, text in enumerate(texts, start=1):
            writer.transition(step(k, output=text, prompt=text, thoughts=text))
        writer.event("info", "\udfff")
        writer.flush()
    with StoreReader(db) as reader:
        assert [row.output for row in reader.transitions(1)] == ["� lone", *texts[1:]]
        assert reader.events()[0].text == "�"
        assert [row.id for row in reader.search("lone")] == [1]


def test_pictures_are_stored_once_and_encoded_once(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[int] = []
    original = codec.encode_image
    monkeypatch.setattr(codec, "encode_image", lambda image: encoded.append(1) or original(image))
    for start in (1, 11):
        with StoreWriter(db) as writer:
            for k in range(start, start + 10):
                writer.transition(step(k))
    assert len(encoded) == 3  # the second writer finds them in the file
    assert query(db, "SELECT count(*), min(width), min(height), min(mime) FROM images") == [
        (3, 14, 12, "image/png")
    ]


def test_metrics_of_a_redone_update_replace(db: Path) -> None:
    with StoreWriter(db) as writer:
        writer.metrics(1, 64, {"ppo/kl": 0.1, "rollout/success": 0.5})
        writer.metrics(2, 128, {"ppo/kl": math.nan})
        writer.flush()
        with StoreReader(db) as reader:
            cursor = reader.metrics()[-1].id
            writer.metrics(2, 128, {"ppo/kl": 0.2})
            writer.flush()
            (new,) = reader.metrics(cursor)
            assert (new.update_index, new.value) == (2, 0.2)
            assert [(row.update_index, row.value) for row in reader.metric_series("ppo/kl")] == [
                (1, 0.1),
                (2, 0.2),
            ]


def test_run_status_and_resume(db: Path) -> None:
    with StoreWriter(db) as writer:
        writer.start_run("r1", "numberline", "tiny", "{}", 3)
        writer.set_status("running")
        writer.set_status("stopped")
    with StoreReader(db) as reader:
        first = reader.run()
    assert first is not None
    assert first.finished_at is not None
    assert first.status == "stopped"
    with StoreWriter(db) as writer:
        writer.start_run("other", "numberline", "tiny", "{}", 3)
        writer.flush()
        with StoreReader(db) as reader:
            again = reader.run()
        assert again is not None
        assert (again.id, again.created_at, again.status, again.finished_at) == (
            "r1",
            first.created_at,
            "starting",
            None,
        )
        writer.set_status("failed", "\ud800 it broke")
    with StoreReader(db) as reader:
        last = reader.run()
    assert last is not None
    assert (last.status, last.error) == ("failed", "� it broke")


def test_a_repeated_episode_start_keeps_its_end(filled: Path) -> None:
    with StoreWriter(filled) as writer:
        writer.episode_started(EpisodeStart(1, "train", 0, 101))
    with StoreReader(filled) as reader:
        episode = reader.episode(1)
        assert episode is not None
        assert (episode.success, episode.ended) == (True, "terminated")


def test_the_heart_beats_while_the_trainer_computes(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEARTBEAT_SECONDS", 0.05)
    with StoreWriter(db) as writer:
        writer.start_run("r", "t", "m", "{}", 0)
        writer.flush()

        def beat() -> float:
            return query(db, "SELECT heartbeat_at FROM run")[0][0]

        first = beat()
        until(lambda: beat() > first)
        writer.set_status("done")
        writer.flush()
        last = beat()
        time.sleep(0.2)
        assert beat() == last


def test_a_full_queue_makes_the_caller_wait_and_drops_nothing(db: Path) -> None:
    with StoreWriter(db, queue_size=4) as writer:
        blocker = sqlite3.connect(db, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        done = threading.Event()

        def produce() -> None:
            for k in range(1, 41):
                writer.transition(step(k))
                if k % 2 == 0:
                    writer.commit()
            writer.commit()
            done.set()

        thread = threading.Thread(target=produce)
        thread.start()
        assert not done.wait(0.3)
        blocker.execute("ROLLBACK")
        assert done.wait(20)
        thread.join()
    assert query(db, "SELECT count(*), max(id) FROM transitions") == [(40, 40)]


def test_a_batch_larger_than_the_queue_passes(db: Path) -> None:
    with StoreWriter(db, queue_size=2) as writer:
        for k in range(1, 11):
            writer.transition(step(k))
        writer.commit()
    assert query(db, "SELECT count(*) FROM transitions") == [(10,)]


def fail(writer: StoreWriter) -> str:
    """Write until the thread's error reaches the caller; returns its text."""
    rng = np.random.default_rng(0)

    def produce() -> None:
        for k in range(1, 5000):
            writer.transition(step(k, image=rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)))
            writer.commit()

    with pytest.raises(StoreError) as caught:
        produce()
    for call in (
        writer.commit,
        writer.flush,
        lambda: writer.event("info", "x"),
        lambda: writer.transition(step(9)),
    ):
        with pytest.raises(StoreError):
            call()
    writer.close()  # already raised
    return str(caught.value)


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_full_disk_is_told_and_the_database_stays_intact(db: Path, mode: str) -> None:
    writer = StoreWriter(db, journal_mode=mode, queue_size=3)  # type: ignore[arg-type]
    writer.start_run("r", "t", "m", "{}", 0)
    writer.flush()
    writer._database.run("PRAGMA max_page_count = 120")
    ballast = connection.ballast(db)
    assert ballast.stat().st_size == connection.BALLAST_BYTES
    message = fail(writer)
    assert str(db) in message
    assert "full" in message
    assert "Free some space" in message
    assert mark_failed(db, "The disk is full.")
    assert not ballast.exists()
    assert query(db, "PRAGMA integrity_check") == [("ok",)]
    assert query(db, "SELECT count(*) = max(id) FROM transitions") == [(1,)]
    assert query(db, "SELECT status, error FROM run") == [("failed", "The disk is full.")]
    assert query(db, "SELECT level FROM events") == [("error",)]


def test_a_bad_record_is_told_and_the_batch_undone(db: Path) -> None:
    writer = StoreWriter(db)
    writer.transition(step(1))
    writer.transition(step(2, image=picture(0).astype(np.float32)))
    writer.commit()
    with pytest.raises(StoreError, match="uint8"):
        writer.flush()
    writer.close()
    assert query(db, "SELECT count(*) FROM transitions") == [(0,)]


def test_an_exception_drops_the_half_written_step(db: Path) -> None:
    def interrupted() -> None:
        with StoreWriter(db) as writer:
            writer.transition(step(1))
            writer.commit()
            writer.transition(step(2))
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    assert query(db, "SELECT count(*) FROM transitions") == [(1,)]


def test_a_step_twice_and_unknown_advantages_are_errors(filled: Path) -> None:
    writer = StoreWriter(filled)
    writer.transition(step(1))
    with pytest.raises(StoreError, match="already holds this step"):
        writer.close()
    writer = StoreWriter(filled)
    writer.advantages(0, [1, 99], [0.0, 0.0], [0.0, 0.0])
    with pytest.raises(StoreError, match="1 of them exist"):
        writer.flush()
    writer.close()


def test_closing_twice_and_using_a_closed_writer(db: Path) -> None:
    writer = StoreWriter(db)
    writer.close()
    writer.close()
    with pytest.raises(StoreError, match="already closed"):
        writer.commit()
    assert not connection.ballast(db).exists()
    assert not db.with_name("run.db-wal").exists()


def test_unwritable_places(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"could not be opened.*folder exists"):
        StoreWriter(tmp_path / "no" / "run.db")
    (tmp_path / "text.db").write_text("hello " * 500)
    with pytest.raises(StoreError, match="something else"):
        StoreWriter(tmp_path / "text.db")
    assert mark_failed(tmp_path / "absent.db", "x") is False
    assert not (tmp_path / "absent.db").exists()
    assert mark_failed(tmp_path / "text.db", "x") is False


def test_evaluations_from_a_second_process(db: Path) -> None:
    with StoreWriter(db) as writer:
        writer.start_run("r", "t", "m", "{}", 0)
        writer.flush()
        row = {
            "task": "numberline", "system": "tiny", "episodes": np.int64(200), "success": np.float64(0.99),
            "success_ci": (0.96, 1.0), "mean_return": math.nan, "extra": {"a": 1}, "seed": 0,
        }  # fmt: skip
        add_evaluation(db, row)
        writer.evaluation({"task": "numberline", "system": "random"})
    with StoreReader(db) as reader:
        first, second = reader.evaluations()
    assert (first.system, first.episodes, first.success, first.success_low, first.mean_return) == (
        "tiny", 200, 0.99, 0.96, None,
    )  # fmt: skip
    assert first.more["extra"] == {"a": 1}
    assert second.system == "random"
    with pytest.raises(StoreError, match="could not be written"):
        add_evaluation(db.with_name("absent.db"), row)


def test_episode_summary(db: Path) -> None:
    with StoreWriter(db) as writer:
        writer.episode_started(EpisodeStart(1, "eval", 4, 7))
        writer.transition(step(1, legal=False))
        writer.transition(step(2, legal=False, update_index=1))
        writer.episode_ended(EpisodeEnd(1, 2, -2.0, False, True, "truncated"))
    with StoreReader(db) as reader:
        episode = reader.episode(1)
    assert episode is not None
    assert (episode.illegal, episode.update_index, episode.goal, episode.success) == (2, 1, True, False)
    assert (episode.split, episode.ended, episode.length, episode.episode_return) == (
        "eval",
        "truncated",
        2,
        -2.0,
    )
