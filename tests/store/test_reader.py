import contextlib
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.store.records import step
from vlmagent.errors import StoreError, UsageError
from vlmagent.store.reader import StoreReader
from vlmagent.store.writer import StoreWriter


def test_queries(filled: Path) -> None:
    with StoreReader(filled) as reader:
        run = reader.run()
        assert run is not None
        assert (run.id, run.task, run.seed, run.status) == ("r1", "numberline", 3, "done")
        assert reader.env_steps() == 6
        assert [row.id for row in reader.episodes()] == [2, 1]
        assert [row.id for row in reader.episodes(success=True)] == [1]
        assert [row.id for row in reader.episodes(split="train", ended="terminated", order="oldest")] == [
            1,
            2,
        ]
        assert [row.id for row in reader.episodes(updates=(1, 5), illegal=False)] == [2]
        assert [row.id for row in reader.episodes(order="lowest return", limit=1, offset=1)] == [1]
        assert reader.episodes(split="eval") == []
        assert reader.recent_success() == (0.5, 2)
        assert reader.recent_success(1) == (0.0, 1)
        assert [row.step for row in reader.transitions(2)] == [0, 1, 2]
        assert [row.id for row in reader.transitions_of_update(1)] == [4, 5, 6]
        assert [row.id for row in reader.transitions_after(2, limit=2)] == [3, 4]
        latest = reader.latest_transition()
        assert latest is not None
        assert latest.id == 6
        assert reader.transition(99) is None
        assert reader.episode(99) is None
        assert reader.latest_metrics() == {}
        with pytest.raises(UsageError, match="Unknown order"):
            reader.episodes(order="id; DROP TABLE run")  # type: ignore[arg-type]
        with pytest.raises(StoreError, match="no picture"):
            reader.image("abc")


def test_latest_metrics(db: Path) -> None:
    with StoreWriter(db) as writer:
        writer.metrics(1, 64, {"a": 1.0, "b": 1.0})
        writer.metrics(2, 128, {"a": 2.0})
        writer.metrics(1, 64, {"a": 1.5})
    with StoreReader(db) as reader:
        latest = reader.latest_metrics()
        assert {name: (row.update_index, row.value) for name, row in latest.items()} == {
            "a": (2, 2.0),
            "b": (1, 1.0),
        }
        assert reader.metric_names() == ["a", "b"]


def test_an_empty_run(db: Path) -> None:
    StoreWriter(db).close()
    with StoreReader(db) as reader:
        assert (reader.run(), reader.env_steps(), reader.latest_transition()) == (None, 0, None)
        rate, count = reader.recent_success()
        assert rate != rate
        assert count == 0


def test_search(filled: Path) -> None:
    with StoreReader(filled) as reader:
        assert [row.id for row in reader.search("episode")] == [6, 5, 4, 3, 2, 1]
        assert [row.id for row in reader.search("epis", limit=2, offset=1)] == [5, 4]
        assert [row.id for row in reader.search('"step 2" episode')] == [6, 3]
        assert [row.id for row in reader.search("1 step")] == [5, 3, 2, 1]


@pytest.mark.parametrize(
    "text",
    ["", " ", '"', '""', "AND", "NOT a", "a OR", "(", ")", "*", "^a", "a:b", "output:", "NEAR(a b)", "-x",
     "+", '"a', 'a"b"c', "{a} : b", "\0", "a\0b", "\ud800", "'", "--", "%", "😀", "x" * 50_000],
)  # fmt: skip
def test_no_search_is_a_syntax_error(filled: Path, text: str) -> None:
    with StoreReader(filled) as reader:
        assert isinstance(reader.search(text), list)


def test_reading_beside_the_writer(db: Path) -> None:
    with StoreWriter(db) as writer:
        with StoreReader(db) as reader:
            for k in range(1, 20):
                writer.transition(step(k))
                writer.commit()
                writer.flush()
                assert reader.env_steps() == k
        writer.flush()


def test_strange_names(filled: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a b?c#d%20e&mode=rwc"
    folder.mkdir()
    shutil.copy(filled, folder / "run.db")
    with StoreReader(folder / "run.db") as reader:
        assert reader.env_steps() == 6
    StoreWriter(folder / "run.db").close()


def test_files_that_are_no_run_database(filled: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="There is no run database"):
        StoreReader(tmp_path / "absent.db")
    (tmp_path / "text.db").write_text("not a database at all, but long enough to look at" * 20)
    with pytest.raises(StoreError, match="not a SQLite database"):
        StoreReader(tmp_path / "text.db")
    (tmp_path / "empty.db").touch()
    with pytest.raises(StoreError, match="only just creating"):
        StoreReader(tmp_path / "empty.db")
    (tmp_path / "cut.db").write_bytes(filled.read_bytes()[:20_000])
    with pytest.raises(StoreError, match="damaged"), StoreReader(tmp_path / "cut.db") as reader:
        reader.search("episode")
    with pytest.raises(StoreError):
        StoreReader(tmp_path)


def test_a_locked_database(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlmagent.store.reader.BUSY_SECONDS", 0.05)
    with sqlite3.connect(filled, isolation_level=None) as holder:
        holder.execute("PRAGMA journal_mode = delete")
        with StoreReader(filled) as reader:
            holder.execute("BEGIN EXCLUSIVE")
            with pytest.raises(StoreError, match="locked"):
                reader.env_steps()
            holder.execute("ROLLBACK")
            assert reader.env_steps() == 6
    holder.close()


def test_an_older_schema_and_a_closed_reader(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = StoreReader(filled)
    reader.close()
    with pytest.raises(StoreError, match="closed"):
        reader.env_steps()
    monkeypatch.setattr("vlmagent.store.codec.SCHEMA_VERSION", 99)
    StoreReader(filled).close()  # later schemas only added indexes
    monkeypatch.setattr("vlmagent.store.codec.OLDEST_READABLE", 99)
    with pytest.raises(StoreError, match="older schema"):
        StoreReader(filled)


def test_a_deleted_run_folder_does_not_crash(filled: Path) -> None:
    with StoreReader(filled) as reader:
        shutil.rmtree(filled.parent)
        with contextlib.suppress(StoreError):
            assert reader.env_steps() == 6


def test_a_finished_run_in_a_read_only_folder(filled: Path) -> None:
    assert not filled.with_name("run.db-shm").exists()
    filled.chmod(0o444)
    filled.parent.chmod(0o555)
    try:
        with StoreReader(filled) as reader:
            assert reader.env_steps() == 6
    finally:
        filled.parent.chmod(0o755)


def test_the_immutable_fallback(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root ignores permissions, so the refusal is simulated."""
    original = StoreReader._connect
    tried: list[str] = []

    def refuse(self: StoreReader, options: str) -> sqlite3.Connection:
        tried.append(options)
        if "immutable" not in options:
            raise sqlite3.OperationalError("unable to open database file")
        return original(self, options)

    monkeypatch.setattr(StoreReader, "_connect", refuse)
    with StoreReader(filled) as reader:
        assert reader.env_steps() == 6
    assert len(tried) == 2
    filled.with_name("run.db-wal").write_bytes(b"newer")
    with pytest.raises(StoreError, match="could not be opened"):
        StoreReader(filled)


def test_importing_the_reader_is_cheap() -> None:
    code = (
        "import sys, vlmagent.store.reader; "
        "print([m for m in ('sqlite_utils', 'torch', 'transformers', 'textual', 'PIL') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
