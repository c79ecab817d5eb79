import os
from pathlib import Path

import pytest

from vlmagent.paths import Run
from vlmagent.tui.data import log_tail
from vlmagent.tui.data.log_tail import LogTail, log_files


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "log.txt"


def add(file: Path, text: str) -> None:
    with file.open("a", newline="") as opened:
        opened.write(text)


def test_follows_a_file(file: Path) -> None:
    tail = LogTail(file)
    assert "log.txt is not there" in tail.look().problem
    add(file, "one\ntwo\nthr")
    first = tail.look()
    assert (list(first.lines), first.partial, first.anew) == (["one", "two"], "thr", True)
    assert list(tail.look().lines) == []
    add(file, "ee\r\nfour")
    more = tail.look()
    assert (list(more.lines), more.partial, more.anew) == (["three"], "four", False)
    assert tail.earlier() == []


def test_a_large_file_is_read_from_its_end(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with file.open("wb") as opened:
        opened.truncate(300 * 2**20)  # a hole, which takes no room
    add(file, "\nlast\n")
    assert LogTail(file).look().lines[-1] == "last"
    monkeypatch.setattr(log_tail, "BLOCK", 64)
    file.write_text("".join(f"line {number:4}\n" for number in range(100)))
    tail = LogTail(file)
    found = list(tail.look().lines)
    assert found == [f"line {number:4}" for number in range(94, 100)]
    while lines := tail.earlier():
        found[:0] = lines
    assert found == [f"line {number:4}" for number in range(100)]
    add(file, "x" * 1000)  # more at once than is read at once
    burst = tail.look()
    assert burst.anew
    assert set(burst.partial) == {"x"}
    assert len(burst.partial) == 64
    add(file, "y" * 60)
    assert len(tail.look().partial) <= 64
    assert tail.earlier()  # also from inside a long line


@pytest.mark.parametrize("grown", [False, True])
def test_a_file_that_was_emptied_or_replaced(file: Path, tmp_path: Path, grown: bool) -> None:
    add(file, "old line\n" * 10)
    tail = LogTail(file)
    tail.look()
    new = "new\n" * (100 if grown else 1)
    file.write_text(new)
    found = tail.look()
    assert found.anew
    assert "\n".join(found.lines) + "\n" == new
    other = tmp_path / "other"
    other.write_text("another file\n")
    other.replace(file)
    assert tail.earlier() == []
    assert list(tail.look().lines) == ["another file"]
    file.unlink()
    assert tail.look().problem
    add(file, "back\n")
    assert (list(tail.look().lines), tail.look().anew) == (["back"], False)


def test_lines_as_a_terminal_shows_them(file: Path) -> None:
    file.write_bytes(
        b"10%\r50%\r100%\n\x1b[1;31mred\x1b[0m\x07\ta\n\xff\xfe\n\x1b]0;title\x07x\n" + b"z" * 5000
    )
    found = LogTail(file).look()
    assert list(found.lines) == ["100%", "red·    a", "��", "x"]
    assert len(found.partial) == log_tail.LINE_CHARACTERS


def test_what_cannot_be_read(tmp_path: Path) -> None:
    assert "cannot be read" in LogTail(tmp_path).look().problem
    assert LogTail(tmp_path).earlier() == []


def test_logs_of_ranks(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert log_files(run) == [run.log]
    run.ranks.mkdir()
    for name in ("rank-0.txt", "rank-10.txt", "rank-2.txt", "rank-x.txt", "rank-0.json"):
        (run.ranks / name).touch()
    assert [path.name for path in log_files(run)] == ["log.txt", "rank-0.txt", "rank-2.txt", "rank-10.txt"]
    assert os.path.commonpath(log_files(run)) == str(tmp_path)
