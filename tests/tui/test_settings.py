import json
import threading
from pathlib import Path

import pytest

from vlmagent import paths
from vlmagent.errors import UsageError
from vlmagent.paths import Run
from vlmagent.tui.settings import load_pins, load_theme, save_pin, save_theme


def file() -> Path:
    return paths.cache_dir() / "dashboard.json"


def test_what_is_kept_does_not_push_the_rest_out(tmp_path: Path) -> None:
    save_theme("light")
    first, second = Run(tmp_path / "first"), Run(tmp_path / "second")
    assert save_pin(first, True) == {str(first)}
    assert save_pin(second, True) == {str(first), str(second)}
    save_theme("dark")
    assert (load_theme(), load_pins()) == ("dark", {str(first), str(second)})
    assert save_pin(first, False) == {str(second)}
    save_pin(first, False)
    file().write_text(json.dumps({**json.loads(file().read_text()), "of a later version": 1}))
    save_theme("light")
    assert json.loads(file().read_text()) == {
        "theme": "light",
        "pins": [str(second)],
        "of a later version": 1,
    }


def test_several_dashboards_at_once(tmp_path: Path) -> None:
    runs = [Run(tmp_path / f"run-{number}") for number in range(12)]
    threads = [threading.Thread(target=save_pin, args=(run, True)) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert load_pins() == {str(run) for run in runs}


@pytest.mark.parametrize(
    "text", ["", "[", "[1, 2]", '{"pins": 7, "theme": []}', '{"pins": [1, null]}', "[" * 100_000]
)
def test_a_broken_file(tmp_path: Path, text: str) -> None:
    file().parent.mkdir(parents=True)
    file().write_text(text)
    assert (load_theme(), load_pins()) == (None, set())
    run = Run(tmp_path / "run")
    assert save_pin(run, True) == load_pins() == {str(run)}


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    file().parent.mkdir(parents=True)
    file().write_bytes(b"\xff\xfe\x00")
    assert load_pins() == set()
    assert save_pin(Run(tmp_path), True) == {str(tmp_path)}


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VLMAGENT_CACHE", str(tmp_path / "file" / "cache"))
    save_theme("x")
    with pytest.raises(UsageError, match="could not be kept"):
        save_pin(Run(tmp_path), True)
    assert (load_theme(), load_pins()) == (None, set())
