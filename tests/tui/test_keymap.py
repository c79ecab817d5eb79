"""Keys of one's own."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.tui.driving import shown, until
from tests.tui.made_runs import make_run
from vlmagent import paths
from vlmagent.cli.main import app as command
from vlmagent.paths import Run
from vlmagent.tui.app import VlmAgentApp
from vlmagent.tui.keymap import full_name, is_key, keys_file, read_keys
from vlmagent.tui.screens.help import HelpScreen
from vlmagent.tui.screens.train import TrainScreen


@pytest.fixture
def run() -> Run:
    return make_run(paths.runs_dir() / "first")


def write(text: str) -> Path:
    file = keys_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def test_where_the_file_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert keys_file() == paths.user_dir() / "keys.yaml"
    monkeypatch.delenv("VLMAGENT_CONFIG")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/x")
    assert keys_file() == Path("/x/vlmagent/keys.yaml")
    monkeypatch.delenv("XDG_CONFIG_HOME")
    assert keys_file() == Path.home() / ".config/vlmagent/keys.yaml"


@pytest.mark.parametrize("text", [None, "", "# nothing\n"])
def test_without_keys_of_ones_own(text: str | None) -> None:
    if text is not None:
        write(text)
    assert (read_keys().keys, read_keys().notice) == ({}, "")


def test_ways_to_write_keys() -> None:
    write(
        "train.smooth: m\ntrain.page: [']', ctrl+right]\ntrain.log: '!'\ntrain.axis: ','\nchart.first: 0\n"
        "runs.filter: f3,f\nruns.pin: É\nruns.sort: x, x\n"
    )
    own = read_keys()
    assert own.problems == []
    assert own.keys == {
        "train.smooth": "m", "train.page": "right_square_bracket,ctrl+right", "train.log": "exclamation_mark",
        "train.axis": "comma", "chart.first": "0", "runs.filter": "f3,f", "runs.pin": "É", "runs.sort": "x",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train.smoth: m", "there is no `train.smoth` (`train.smooth`?)"),
        ("7: m", "there is no `7`"),
        ("train.smooth: shiftt+x", "`train.smooth` needs the name of a key, not `shiftt+x`"),
        ("train.smooth: bang", "not `bang`"),
        ("train.smooth:", "`train.smooth` needs the name of a key"),
        ("train.smooth: {a: b}", "`train.smooth` needs the name of a key"),
        ("train.smooth: [m, '']", "needs the name of a key, not ``"),
        ("train.smooth: yes", "not `True`"),
        ("train.smooth: o", "`train.smooth` takes o from `train.overlay`"),
        (
            "train.smooth: m\ntrain.axis: m",
            "`train.smooth` and `train.axis` both want m, which the first one gets",
        ),
        ("runs.open: up", "`runs.open` takes up from `cursor_up`"),
        ("train.smooth: q", "`train.smooth` keeps q from `app.quit`"),
        ("app.help: s", "`train.smooth` keeps s from `app.help`"),
    ],
)
def test_what_is_wrong_is_told_and_the_rest_counts(text: str, words: str) -> None:
    file = write(text + "\ntrain.zoom: k\n")
    own = read_keys()
    assert own.keys["train.zoom"] == "k"
    assert words in own.notice
    assert own.notice.startswith(f"{file}: ")
    assert own.keys.get("train.axis", "") != "m"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- a\n- b", "it must map ids to keys"),
        ("m", "it must map ids to keys"),
        ("a: [", "it is no YAML (line"),
        ("a: !!python/object:x {}", "it is no YAML"),
    ],
)
def test_files_that_are_something_else(text: str, words: str) -> None:
    write(text)
    assert read_keys().keys == {}
    assert words in read_keys().notice


def test_files_that_cannot_be_read() -> None:
    keys_file().parent.mkdir()
    keys_file().write_bytes(b"\xff\xfe\x00")
    assert "no text" in read_keys().notice
    keys_file().unlink()
    keys_file().mkdir()
    assert "cannot be read" in read_keys().notice


def test_keys_may_change_places() -> None:
    write("train.smooth: o\ntrain.overlay: s\n")
    assert read_keys().problems == []


def test_many_problems_are_counted() -> None:
    write("".join(f"nothing.{number}: x\n" for number in range(5)))
    assert "; 2 more" in read_keys().notice


NAMES = "a Z ? + ctrl+t f5 shift+left question_mark space slash minus plus left_square_bracket é alt+shift+x"


@pytest.mark.parametrize("name", NAMES.split())
def test_names_of_keys(name: str) -> None:
    assert is_key(name)


@pytest.mark.parametrize(
    "name", ["", "foo", "ctrl+", "Ctrl+t", "control+t", "F5", "\x07", "ctrl+foo", "QUESTION MARK"]
)
def test_what_is_no_key(name: str) -> None:
    assert not is_key(name)


def test_full_names() -> None:
    assert [full_name(name) for name in "?,+a"] == ["question_mark", "comma", "plus", "a"]


async def test_keys_of_ones_own_work_and_are_shown(run: Run) -> None:
    write("train.smooth: m\napp.help: f1\ntrain.overlay: c\nnothing: x\n")
    app = VlmAgentApp(run)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, TrainScreen) and app.focused)
        train = app.screen
        assert isinstance(train, TrainScreen)
        told = [toast.message for toast in app._notifications]
        assert len(told) == 1
        assert "there is no `nothing`" in told[0]
        assert "`train.overlay` takes c from `train.compare`" in told[0]
        await pilot.press("s")
        assert not train.look.smoothing
        await pilot.press("m")
        assert train.look.smoothing
        await pilot.press("question_mark", "f1")
        assert isinstance(app.screen, HelpScreen)
        lines = shown(app.screen.query_one("#help-box Static")).splitlines()
        by_text = {line[16:].strip(): line[:16].strip() for line in lines}
        assert by_text["Smoothing: off, light, strong"] == "m"
        assert by_text["All keys of this screen"] == "f1"
        assert by_text["Lay the curves of other runs over these"] == "c"
        assert "Compare with the overlaid run; alone, start with newest" not in by_text
        await pilot.press("escape")
        commands = {
            entry.title.partition(":")[0]: entry.help for entry in app.get_system_commands(app.screen)
        }
        assert commands["Smooth"] == "key m"


def test_the_command_prints_them(tmp_path: Path) -> None:
    shown_ = CliRunner().invoke(command, ["tui", "--keys"])
    assert shown_.exit_code == 0
    assert f"would be read from {keys_file()}" in shown_.stdout.replace("\n", " ")
    assert "train.page-back" in shown_.stdout
    file = write("train.smooth: m\nnothing: x\n")
    found = CliRunner().invoke(command, ["tui", "--keys"])
    lines = [line.split(maxsplit=2) for line in found.stdout.splitlines() if line]
    assert ["train.smooth", "m*", "Smoothing: off, light, strong"] in lines
    assert f"is read from {file}" in found.stdout.replace("\n", " ")
    assert "there is no `nothing`" in found.stderr
