"""A game on the screen, played by keys; the command that opens it."""

import subprocess
import sys
from pathlib import Path

import pytest
from textual.widgets import Footer
from typer.testing import CliRunner

from tests.tui.driving import shown
from tests.tui.play.made_play import (
    alone,
    begin,
    database,
    game,
    happens,
    host,
    logged,
    mind,
    press,
    table,
    words,
)
from vlmagent.cli.main import app as command
from vlmagent.tui.app import VlmAgentApp
from vlmagent.tui.play.letters import keys_for
from vlmagent.tui.play.review import PlayReviewScreen
from vlmagent.tui.play.screen import PlayScreen
from vlmagent.tui.play_app import PlayApp
from vlmagent.tui.screens.confirm import ConfirmScreen
from vlmagent.tui.screens.help import HelpScreen
from vlmagent.tui.widgets.picture import Picture

SIZE = (80, 24)
TASKS = {
    "numberline": [],
    "ezpoints": [],
    "points24": ["env.solvable_only=true"],
    "blackjack": [],
}


# playing by keys


@pytest.mark.parametrize("task", TASKS)
async def test_a_task_played_to_its_end_by_keys(task: str) -> None:
    async with host(alone(task, overrides=TASKS[task])).run_test(size=SIZE) as pilot:
        playing = await begin(pilot)
        session = playing.session
        assert session is not None
        while not playing.over:
            assert playing.you is not None
            action = session.expert(playing.you)
            entries = keys_for(playing.you.observation.legal_actions)
            assert entries is not None
            await press(pilot, next(entry.keys[0] for entry in entries if entry.action == action))
        you = playing.you
        assert you is not None
        assert you.end is not None
        assert you.end.goal or task == "blackjack"
        await pilot.pause()
        assert ("✓ success" if you.end.success else "✗ no success") in words(pilot, "#play-last")
        assert f"you {int(you.end.success)}/1" in words(pilot, "#play-score")
        where = database(pilot)
        assert logged(where) == [(action, "human") for action in you.actions]
        await pilot.press("n")
        await happens(pilot, lambda: game(pilot).you is not you)
        assert "episode 2 · step 0" in words(pilot, "#play-title")
        await pilot.press("escape")
        await happens(pilot, lambda: not isinstance(pilot.app.screen, PlayScreen))
    assert logged(where, "count(*)") == [(len(you.actions),)]


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)])
async def test_everything_is_in_sight(size: tuple[int, int]) -> None:
    async with host(alone("points24")).run_test(size=size) as pilot:
        await begin(pilot)
        await press(pilot, "plus")
        screen = table(pilot)
        assert [word for chip in screen.query("ActionChip") for word in shown(chip).split()] == [
            *"123456789",
            "0",
            "10",
            *"+-*/()=",
        ]
        assert "+" in words(pilot, "#play-state-text")
        assert "you: +  reward 0.00" in words(pilot, "#play-last")
        assert screen.query_one(Picture).size.height >= size[1] - 7
        assert screen.query_one(Footer).region.bottom == size[1]
        assert "vlmagent train points24" in mind(pilot)


async def test_a_card_that_is_not_held() -> None:
    async with host(alone("ezpoints")).run_test(size=SIZE) as pilot:
        playing = await begin(pilot)
        assert playing.you is not None
        numbers = playing.you.state["numbers"]
        await press(pilot, next(str(n) for n in range(1, 10) if n not in numbers))
        await pilot.pause()
        assert "reward -1.00  (not possible here)" in words(pilot, "#play-last")
        you = playing.you
        await pilot.press("minus", "h", "5" if 5 not in numbers else "6")
        await happens(pilot, lambda: playing.you is not you and len(playing.you.steps) == 2)  # type: ignore[union-attr]


async def test_quick_typing_loses_no_key() -> None:
    async with host(alone("points24")).run_test(size=SIZE) as pilot:
        playing = await begin(pilot)
        signs = ("plus", "minus", "left_parenthesis", "right_parenthesis", "asterisk", "equals_sign", "plus")
        await pilot.press(*signs)
        await happens(pilot, lambda: playing.over)
        assert playing.you is not None
        assert playing.you.actions == ("+", "-", "(", ")", "*", "=")


async def test_a_click_is_a_key() -> None:
    async with host(alone("numberline")).run_test(size=SIZE) as pilot:
        playing = await begin(pilot)
        await pilot.click("ActionChip")
        await happens(pilot, lambda: playing.you is not None and playing.you.actions == ("-",))


async def test_leaving_in_the_middle_is_asked_about() -> None:
    async with host(alone("points24")).run_test(size=SIZE) as pilot:
        playing = await begin(pilot)
        await press(pilot, "plus")
        for key in ("escape", "n", "N"):
            await pilot.press(key)
            await happens(pilot, lambda: isinstance(pilot.app.screen, ConfirmScreen))
            await pilot.press("escape")
            await happens(pilot, lambda: isinstance(pilot.app.screen, PlayScreen))
        you = playing.you
        await pilot.press("N")
        await happens(pilot, lambda: isinstance(pilot.app.screen, ConfirmScreen))
        await pilot.press("y")
        await happens(pilot, lambda: playing.you is not you)
        assert playing.you is not None
        assert you is not None
        assert (playing.you.seed, playing.you.steps) == (you.seed, ())


async def test_prompt_and_zoom() -> None:
    async with host(alone("numberline")).run_test(size=SIZE) as pilot:
        await begin(pilot)
        assert not table(pilot).query_one("#play-state").display
        await pilot.press("i")
        await happens(pilot, lambda: "number line" in words(pilot, "#play-state-text"))
        await pilot.press("z")
        assert not table(pilot).query_one("#play-right").display
        await pilot.press("escape")
        await happens(pilot, lambda: table(pilot).query_one("#play-right").display)
        assert isinstance(pilot.app.screen, PlayScreen)


async def test_the_help_names_the_keys() -> None:
    app = PlayApp(alone("blackjack"))
    async with app.run_test(size=SIZE) as pilot:
        await begin(pilot)
        await pilot.press("question_mark")
        await happens(pilot, lambda: isinstance(app.screen, HelpScreen))
        text = shown(app.screen.query_one("#help-box Static"))
        assert "h  Choose hit" in text
        assert "The picture alone, as large as it goes" in text
        await pilot.press("escape")
        names = [entry.title.partition(":")[0] for entry in app.get_system_commands(table(pilot))]
        assert {"Hints", "Review", "Zoom", "Leave"} <= set(names)


# the command


def test_without_a_terminal_and_other_mistakes() -> None:
    def said(*arguments: str) -> str:
        done = CliRunner().invoke(command, ["play", *arguments])
        assert getattr(done.exception, "exit_code", None) == 2
        return str(done.exception)

    assert "needs a terminal" in said("numberline", "--human", "--images", "half")
    assert "Did you mean 'numberline'" in said("numberlin", "--human")
    assert "--opponent expert" in said("numberline")
    assert "Did you mean 'half'" in said("numberline", "--human", "--images", "hlf")


def test_no_heavy_imports(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys\n"
        "from vlmagent.play.plan import PlayRequest, plan_session\n"
        "from vlmagent.tui.play_app import PlayApp\n"
        "async def main():\n"
        "    app = PlayApp(plan_session(PlayRequest('numberline', opponent='expert', human=True, hints='on')))\n"
        "    async with app.run_test() as pilot:\n"
        "        while app.screen.game.opinion is None or not app.screen.game.opinion.done:\n"
        "            await pilot.pause(0.05)\n"
        "        await pilot.press('left', 'v', 'escape')\n"
        "asyncio.run(main())\n"
        "print([name for name in ('torch', 'transformers', 'safetensors', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("owner", [PlayScreen, PlayReviewScreen])
def test_every_binding_has_an_id_and_a_tooltip(owner: type) -> None:
    ids = [binding.id for binding in owner.__dict__["BINDINGS"]]
    assert len(ids) == len(set(ids))
    for binding in owner.__dict__["BINDINGS"]:
        assert binding.id, binding
        assert len(binding.tooltip) > 3, binding


def test_the_dashboard_knows_the_application() -> None:
    assert issubclass(PlayApp, VlmAgentApp)
