"""Folders that cannot be written, network disks, and a SQLite that lacks something."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.cli.doctor.made import NOTE, OK, PROBLEM, only
from vlmagent.cli.doctor import places
from vlmagent.store.trial import Features, sqlite_features


def test_folders_that_can_be_written(monkeypatch, tmp_path):
    monkeypatch.setattr(places.shutil, "disk_usage", lambda _: SimpleNamespace(free=2**40))
    monkeypatch.setattr(places, "file_system", lambda _: "ext4")
    (tmp_path / "runs").mkdir()
    runs, cache = (
        only(places.check_runs_folder(), "Runs folder"),
        only(places.check_cache_folder(), "Cache folder"),
    )
    assert (runs.state, runs.text) == (OK, f"{tmp_path}/runs, 1024.0 GiB free, ext4")
    assert cache.text == f"{tmp_path}/cache (made when needed), 1024.0 GiB free, ext4"
    assert [entry.name for entry in tmp_path.iterdir()] == ["runs"]  # looking leaves nothing behind


def test_a_read_only_folder(monkeypatch):
    def refuse(**_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    for check, variable in ((places.check_runs_folder, "RUNS"), (places.check_cache_folder, "CACHE")):
        (found,) = check()
        assert (found.state, found.essential) == (PROBLEM, True)
        assert found.text.endswith("cannot be written: Read-only file system.")
        assert found.remedy.endswith(f"export VLMAGENT_{variable}=FOLDER")


@pytest.mark.parametrize(
    ("place", "why"),
    [("file", "file is a file."), ("file/below", "file is a file."), ("link", "link is a link to nothing.")],
)
def test_places_that_are_no_folders(monkeypatch, tmp_path, place, why):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    monkeypatch.setenv("VLMAGENT_RUNS", str(tmp_path / place))
    (found,) = places.check_runs_folder()
    assert found.essential
    assert found.text.endswith(why)


def test_a_name_that_is_too_long(monkeypatch, tmp_path):
    monkeypatch.setenv("VLMAGENT_RUNS", str(tmp_path / ("a" * 300)))
    (found,) = places.check_runs_folder()
    assert found.text.endswith("cannot be written: File name too long.")


def test_a_tilde_that_the_shell_did_not_expand(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VLMAGENT_RUNS", "~/my-runs")
    (found,) = places.check_runs_folder()
    assert (found.state, found.remedy) == (NOTE, 'export VLMAGENT_RUNS="$HOME"/my-runs')


@pytest.mark.parametrize(
    ("free", "state", "essential"), [(2**20, PROBLEM, True), (2**30, NOTE, False), (2**40, OK, False)]
)
def test_free_space(monkeypatch, free, state, essential):
    monkeypatch.setattr(places.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    monkeypatch.setattr(places, "file_system", lambda _: "ext4")
    (found,) = places.check_cache_folder()
    assert (found.state, found.essential) == (state, essential)


def partitions(*pairs):
    return lambda all: [SimpleNamespace(mountpoint=mount, fstype=kind) for mount, kind in pairs]


def test_runs_on_a_network_disk(monkeypatch, tmp_path):
    monkeypatch.setattr("psutil.disk_partitions", partitions(("/", "ext4"), (str(tmp_path), "nfs4")))
    (runs,), (cache,) = places.check_runs_folder(), places.check_cache_folder()
    assert (runs.state, runs.essential) == (PROBLEM, False)
    assert "on a network disk (nfs4), where SQLite's WAL does not work" in runs.text
    assert "--set store.journal_mode=delete" in runs.remedy
    assert cache.state is not PROBLEM


def test_the_deepest_and_newest_mount_counts(monkeypatch):
    mounts = (("/", "ext4"), ("/data", "xfs"), ("/data", "fuse.sshfs"), ("/data2", "nfs"))
    monkeypatch.setattr("psutil.disk_partitions", partitions(*mounts))
    assert places.file_system(Path("/data/x")) == "fuse.sshfs"
    assert places.file_system(Path("/home")) == "ext4"
    assert places.is_network("fuse.sshfs")
    assert places.is_network("CIFS")
    assert not places.is_network("fuse.ntfs")
    monkeypatch.setattr("psutil.disk_partitions", partitions())
    assert places.file_system(Path("/home")) == ""


def test_sqlite_makes_a_run_database_and_removes_it(tmp_path):
    (found,) = places.check_database()
    assert found.state is OK
    assert found.text.endswith("with full-text search; a run database can be made")
    assert list(tmp_path.iterdir()) == []
    assert sqlite_features().fts5


def test_sqlite_without_full_text_search_is_essential(monkeypatch):
    monkeypatch.setattr("vlmagent.store.trial.sqlite_features", lambda: Features("3.8.0", fts5=False))
    (found,) = places.check_database()
    assert (found.state, found.essential) == (PROBLEM, True)
    assert "3.8.0 has no full-text search (FTS5)" in found.text


def test_features_are_asked_of_sqlite_itself(monkeypatch):
    import sqlite3

    class Old(sqlite3.Connection):
        def execute(self, *_):
            raise sqlite3.OperationalError("no such module: fts5")

    real = sqlite3.connect
    monkeypatch.setattr("sqlite3.connect", lambda name: real(name, factory=Old))
    assert not sqlite_features().fts5


def test_a_disk_where_no_database_can_be_made(monkeypatch):
    from vlmagent.errors import StoreError

    def refuse(_folder):
        raise StoreError("disk I/O error")

    monkeypatch.setattr("vlmagent.store.trial.try_database", refuse)
    (found,) = places.check_database()
    assert (found.state, found.essential) == (PROBLEM, True)
    assert "disk I/O error" in found.text
