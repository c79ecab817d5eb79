import subprocess
import sys
from pathlib import Path

import pytest
from textual.screen import Screen
from typer.testing import CliRunner

from tests.tui.driving import shown, until
from tests.tui.made_episodes import make_evaluation, make_two_evaluations
from tests.tui.made_runs import make_run
from vlmagent import paths
from vlmagent.cli.main import app as command
from vlmagent.errors import UsageError
from vlmagent.paths import Run
from vlmagent.tui.app import VlmAgentApp
from vlmagent.tui.screens.help import HelpScreen, keys_of
from vlmagent.tui.screens.runs import RunsScreen
from vlmagent.tui.screens.train import TrainScreen
from vlmagent.tui.settings import load_theme, save_theme
from vlmagent.tui.start import run_dashboard, take_screenshots

HEAVY = ("torch", "transformers", "sqlite_utils", "safetensors", "scipy", "gymnasium")


@pytest.fixture
def run() -> Run:
    return make_run(paths.runs_dir() / "first")


def test_no_heavy_imports(run: Run) -> None:
    code = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from vlmagent.paths import Run\n"
        "from vlmagent.tui.app import VlmAgentApp\n"
        "from vlmagent.tui import start, navigate\n"
        "from vlmagent.tui.screens import episodes, replay, compare\n"
        "async def main():\n"
        "    async with VlmAgentApp(Run(Path(sys.argv[1]))).run_test() as pilot:\n"
        "        await pilot.pause(0.5)\n"
        "        await pilot.press('escape')\n"
        "asyncio.run(main())\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(run)], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_screens_are_imported_when_they_are_opened() -> None:
    code = (
        "import sys, vlmagent.tui.app, vlmagent.tui.screens.runs\n"
        "names = [name for name in sys.modules if name.startswith(('vlmagent.tui.screens.', 'vlmagent.tui.play.'))]\n"
        "print(*sorted(names))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    opened = {name.rsplit(".", 1)[1] for name in done.stdout.split()}
    assert opened == {"runs", "polling", "confirm"}


def test_the_command_line_does_not_import_textual() -> None:
    heavy = ("textual", "torch", "sqlite_utils")
    code = f"import sys; import vlmagent.cli.main; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


async def test_help_lists_the_keys_of_the_screen(run: Run) -> None:
    async with VlmAgentApp(run).run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: isinstance(pilot.app.screen, TrainScreen) and pilot.app.focused)
        texts = {help.text: help for help in keys_of(pilot.app.screen)}
        assert texts["Next page of charts"].keys == "] pgdn"
        assert texts["Crosshair one update back"].place == "in the focused pane"
        assert texts["All keys of this screen"].place == "everywhere"
        await pilot.press("question_mark")
        assert isinstance(pilot.app.screen, HelpScreen)
        words = pilot.app.screen.query_one("#help-box Static")
        await until(pilot, lambda: "Lay the curves of other runs over these" in shown(words))
        await pilot.press("question_mark")
        assert isinstance(pilot.app.screen, TrainScreen)
        for close in ("escape", "q"):
            await pilot.press("question_mark", close)
            assert isinstance(pilot.app.screen, TrainScreen)


def names_of(app: VlmAgentApp) -> list[str]:
    """What the palette calls the commands of the screen on top."""
    return [entry.title.partition(":")[0] for entry in app.get_system_commands(app.screen)]


async def test_the_palette_follows_the_screen(run: Run) -> None:
    app = VlmAgentApp(run)
    async with app.run_test() as pilot:
        await until(pilot, lambda: isinstance(app.screen, TrainScreen) and app.focused)
        names = names_of(app)
        assert {"Smooth", "Overlay", "Log", "SFT", "Theme", "Quit"} <= set(names)
        assert names.count("Page") == 1
        page = next(entry for entry in app.get_system_commands(app.screen) if entry.title.startswith("Page:"))
        assert (page.title, page.help) == ("Page: Next page of charts", "key ]")
        await pilot.press("ctrl+p")
        await pilot.press(*"smooth")
        await until(pilot, lambda: app.screen.query("OptionList").first().option_count)  # type: ignore[attr-defined]
        await pilot.press("enter")
        train = app.screen_stack[-1]
        await until(pilot, lambda: isinstance(app.screen, TrainScreen))
        assert isinstance(train, Screen)
        await until(pilot, lambda: app.screen.look.smoothing == 0.6)  # type: ignore[attr-defined]
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, RunsScreen))
        names = names_of(app)
        assert "Smooth" not in names
        assert "Filter" in names


async def test_the_theme_is_remembered(run: Run) -> None:
    app = VlmAgentApp(run)
    async with app.run_test() as pilot:
        assert app.theme == "vlmagent-dark"
        await until(pilot, lambda: isinstance(app.screen, TrainScreen))
        await pilot.press("ctrl+t")
        assert app.theme == "vlmagent-light"
        await pilot.pause()
    assert load_theme() == "vlmagent-light"
    assert VlmAgentApp().theme == "vlmagent-light"
    save_theme("no such theme")
    assert VlmAgentApp().theme == "vlmagent-dark"
    (paths.cache_dir() / "dashboard.json").write_text("[")
    assert VlmAgentApp().theme == "vlmagent-dark"


@pytest.mark.parametrize("theme", ["vlmagent-light", "nord", "gruvbox", "ansi-dark", "ansi-light"])
async def test_every_theme_draws(run: Run, theme: str) -> None:
    app = VlmAgentApp(run)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, TrainScreen))
        if theme not in app.available_themes:
            pytest.skip(f"this Textual has no theme {theme}")
        app.theme = theme
        await until(pilot, lambda: app.screen.points.x.size == 3)  # type: ignore[attr-defined]
        await pilot.press("left", "s", "escape", "escape")
        await until(pilot, lambda: isinstance(app.screen, RunsScreen))


async def test_a_notice_is_shown() -> None:
    app = VlmAgentApp(notice="Pictures are drawn with half blocks.")
    async with app.run_test() as pilot:
        await until(pilot, lambda: any("half blocks" in toast.message for toast in app._notifications))


def test_unknown_image_modes() -> None:
    with pytest.raises(UsageError, match=r"Did you mean 'sixel'\? Valid choices: auto, kitty"):
        run_dashboard(None, "sixl")


def test_without_a_terminal() -> None:
    with pytest.raises(UsageError, match="needs a terminal"):
        run_dashboard(None, "half")


def test_screenshots_by_the_command(run: Run, tmp_path: Path) -> None:
    done = CliRunner().invoke(command, ["tui", "first", "--screenshot", str(tmp_path / "pictures")])
    assert done.exit_code == 0, done.output
    files = list((tmp_path / "pictures").iterdir())
    assert {file.name for file in files} == {"runs.svg", "train.svg", "episodes.svg", "replay.svg"}
    texts = {file.stem: file.read_text().replace("&#160;", " ") for file in files}
    assert "first" in texts["runs"]
    assert "success" in texts["train"]
    assert "2 of 3 finished" in texts["episodes"]
    assert ">1–2<" in texts["episodes"]  # about update 1, as near to a half as the others
    assert "episode 1" in texts["replay"]  # the only success among them
    assert all(text.startswith("<svg") for text in texts.values())
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="could not be written"):
        take_screenshots(tmp_path / "file", run)
    missing = CliRunner().invoke(command, ["tui", "nothing"])
    assert missing.exit_code != 0
    assert "There is no run" in str(missing.exception)


def test_screenshots_of_runs_that_can_be_compared(run: Run, tmp_path: Path) -> None:
    two = make_two_evaluations(paths.runs_dir() / "two")
    files = take_screenshots(tmp_path / "pictures", two)
    assert files[-1].name == "compare.svg"
    assert "rl step-500" in files[-1].read_text().replace("&#160;", " ")
    make_evaluation(run, "step-9", [True, True])
    text = take_screenshots(tmp_path / "more", run)[-1].read_text().replace("&#160;", " ")
    assert "first rl step-9" in text
    assert "two rl step-500" in text


async def test_a_run_outside_the_runs_folder(tmp_path: Path) -> None:
    run = make_run(tmp_path / "elsewhere")
    app = VlmAgentApp(run)
    async with app.run_test() as pilot:
        await until(pilot, lambda: isinstance(app.screen, TrainScreen))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, RunsScreen) and str(run) in app.screen.runs)


def test_settings_in_a_place_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VLMAGENT_CACHE", str(tmp_path / "file"))
    save_theme("x")
    assert load_theme() is None
