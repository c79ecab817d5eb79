"""What is written whole stays whole, wherever the process that writes it is killed."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.killing import killed_before
from vlmagent import files
from vlmagent.files import point_link, recover, remove_folder, tidy, whole_file, whole_folder, write_text


def put(folder: Path, text: str) -> None:
    """A folder of two files that belong together, in place of the one before."""
    with whole_folder(folder, replace=True) as new:
        (new / "a").write_text(text)
        (new / "b").write_text(text)


def content(folder: Path) -> set[str]:
    return {file.read_text() for file in folder.iterdir()}


def test_a_replaced_folder_is_the_old_one_or_the_new_one_wherever_the_writer_is_killed(tmp_path: Path):
    seen, number, killed = set(), 0, True
    while killed:
        folder = tmp_path / str(number) / "sft"
        put(folder, "old")
        killed = killed_before(number, lambda folder=folder: put(folder, "new"))
        tidy(folder.parent)
        assert [entry.name for entry in folder.parent.iterdir()] == ["sft"], number
        assert len(content(folder)) == 1, number
        seen |= content(folder)
        put(folder, "newest")  # and the next one is written as ever
        assert content(folder) == {"newest"}
        number += 1
    assert seen == {"old", "new"}
    assert number > 8


def test_recovering_may_be_killed_too(tmp_path: Path):
    for first in range(30):
        for second in range(first % 2, 6, 2):  # half of the pairs, all of either kind
            folder = tmp_path / f"{first}-{second}" / "sft"
            put(folder, "old")
            killed_before(first, lambda folder=folder: put(folder, "new"))
            killed_before(second, lambda folder=folder: tidy(folder.parent))
            tidy(folder.parent)
            assert content(folder) in ({"old"}, {"new"})


def test_a_file_is_the_old_one_or_the_new_one_wherever_the_writer_is_killed(tmp_path: Path):
    seen, number, killed = set(), 0, True
    while killed:
        file = tmp_path / str(number) / "config.yaml"
        write_text(file, "old")
        killed = killed_before(number, lambda file=file: write_text(file, "new"))
        tidy(file.parent)
        assert [entry.name for entry in file.parent.iterdir()] == ["config.yaml"], number
        seen.add(file.read_text())
        number += 1
    assert seen == {"old", "new"}


def test_a_removed_folder_never_comes_back_in_part(tmp_path: Path):
    number, killed = 0, True
    while killed:
        folder = tmp_path / str(number) / "step-8"
        put(folder, "whole")
        killed = killed_before(number, lambda folder=folder: remove_folder(folder))
        tidy(folder.parent)
        assert not folder.exists() or content(folder) == {"whole"}
        assert {entry.name for entry in folder.parent.iterdir()} <= {"step-8"}
        number += 1
    assert not folder.exists()


def test_a_link_points_somewhere_wherever_the_writer_is_killed(tmp_path: Path):
    number, killed = 0, True
    while killed:
        link = tmp_path / str(number) / "latest"
        link.parent.mkdir()
        point_link(link, "step-1")
        killed = killed_before(number, lambda link=link: point_link(link, "step-2"))
        tidy(link.parent)
        assert link.readlink().name in ("step-1", "step-2")
        assert [entry.name for entry in link.parent.iterdir()] == ["latest"]
        number += 1
    assert link.readlink().name == "step-2"


def test_what_fails_leaves_what_was_there(tmp_path: Path):
    put(tmp_path / "kept", "old")
    write_text(tmp_path / "file", "old")

    def half_a_folder() -> None:
        with whole_folder(tmp_path / "kept", replace=True) as new:
            (new / "a").write_text("half")
            raise ZeroDivisionError

    def half_a_file() -> None:
        with whole_file(tmp_path / "file") as file:
            file.write(b"half")
            raise ZeroDivisionError

    for fail in (half_a_folder, half_a_file):
        with pytest.raises(ZeroDivisionError):
            fail()
    assert content(tmp_path / "kept") == {"old"}
    assert (tmp_path / "file").read_text() == "old"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "kept"]


def test_a_folder_that_is_there_is_not_replaced_unasked(tmp_path: Path):
    put(tmp_path / "there", "old")
    with pytest.raises(OSError, match="there"), whole_folder(tmp_path / "there") as new:
        (new / "a").write_text("new")
    assert content(tmp_path / "there") == {"old"}
    (tmp_path / "empty").mkdir()
    with whole_folder(tmp_path / "empty") as new:
        (new / "a").write_text("new")
    assert content(tmp_path / "empty") == {"new"}


def test_recover_leaves_alone_what_nobody_was_replacing(tmp_path: Path):
    put(tmp_path / "sft", "whole")
    recover(tmp_path / "sft")
    recover(tmp_path / "never")
    assert content(tmp_path / "sft") == {"whole"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["sft"]


@pytest.mark.parametrize("kind", [files.BEGUN, files.GONE])
def test_only_what_was_abandoned_goes_where_others_write(tmp_path: Path, kind: str) -> None:
    old, young, growing = (tmp_path / f"{kind}{name}" for name in ("old", "young", "growing"))
    day_ago = time.time() - files.ABANDONED_SECONDS - 60
    for folder in (old, young, growing):
        folder.mkdir()
        (folder / "model.safetensors").write_text("half")
    for path in (old / "model.safetensors", old, growing):
        os.utime(path, (day_ago, day_ago))
    (tmp_path / "whole").mkdir()
    os.utime(tmp_path / "whole", (day_ago, day_ago))
    files.remove_abandoned(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{kind}growing",
        f"{kind}young",
        "whole",
    ]
    files.remove_abandoned(tmp_path / "nowhere")
