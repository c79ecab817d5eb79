import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Footer
from typer.testing import CliRunner

from tests.tui.driving import shown
from tests.tui.made_runs import NASTY
from tests.tui.play.made_play import (
    Brain,
    alone,
    begin,
    brains,
    database,
    game,
    happens,
    host,
    logged,
    plan,
    press,
    table,
)
from vlmagent.cli.main import app as command
from vlmagent.play.messages import Died, Finished, Forget, Refused, Reload, Writing
from vlmagent.store.reader import StoreReader
from vlmagent.tui.app import VlmAgentApp
from vlmagent.tui.play.letters import keys_for
from vlmagent.tui.play.review import PlayReviewScreen
from vlmagent.tui.play.screen import PlayScreen
from vlmagent.tui.play_app import PlayApp
from vlmagent.tui.screens.confirm import ConfirmScreen
from vlmagent.tui.screens.help import HelpScreen
from vlmagent.tui.widgets.picture import Picture

__all__ = ["brains"]
SIZE = (80, 24)
TASKS = {
    "numberline": [],
    "ezpoints": [],
    "points24": ["env.solvable_only=true"],
    "blackjack": [],
}


def words(pilot: Pilot[Any], selector: str) -> str:
    return shown(table(pilot).query_one(selector))


def mind(pilot: Pilot[Any]) -> str:
    """What stands in the pane, as one line."""
    return " ".join(" ".join(words(pilot, part) for part in ("#mind-facts", "#mind-output")).split())


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


# hints


async def test_hints_when_asked_for(brains: list[Brain]) -> None:
    async with host(plan(human=True)).run_test(size=SIZE) as pilot:
        playing = await begin(pilot)
        (brain,) = brains
        assert "starting" in mind(pilot)
        brain.load()
        await happens(pilot, lambda: "x shows what it would do here" in mind(pilot))
        assert brain.thinks == []
        await pilot.press("x")
        await happens(pilot, lambda: len(brain.thinks) == 1)
        (question,) = brain.thinks
        assert playing.you is not None
        assert question.observation is playing.you.observation
        brain.say(Writing(question.number, '{"thoughts": "hm'))
        await happens(pilot, lambda: '"hm' in mind(pilot))
        brain.answer(question, "-")
        await happens(pilot, lambda: "75.0 %" in mind(pilot))
        text = mind(pilot)
        for part in ("action -", "value +0.62", "25.0 %", "because of -"):
            assert part in text
        assert "█" in text
        await press(pilot, "right")
        await pilot.pause()
        assert "x shows" in mind(pilot), "the next state's hint is hidden again"
        assert len(brain.thinks) == 1


async def test_hints_shown_live(brains: list[Brain]) -> None:
    Brain.choose = lambda _: "+"  # type: ignore[assignment, misc]
    async with host(plan("points24", human=True, hints="on")).run_test(size=SIZE) as pilot:
        await begin(pilot)
        brains[0].load()
        await happens(pilot, lambda: "because of +" in mind(pilot))
        await press(pilot, "plus")
        await happens(pilot, lambda: len(brains[0].thinks) == 2)
        assert "alike 1/1 (100.0 %)" in words(pilot, "#play-score")
        assert "9 others together" in mind(pilot)


async def test_the_bars_follow_the_terminal(brains: list[Brain]) -> None:
    Brain.choose = lambda _: "+"  # type: ignore[assignment, misc]
    async with host(plan("points24", human=True, hints="on")).run_test(size=(200, 60)) as pilot:
        await begin(pilot)
        brains[0].load()
        await happens(pilot, lambda: "█" * 20 in mind(pilot))
        await pilot.resize_terminal(80, 24)
        await happens(
            pilot,
            lambda: any("█" in line and "75.0 %" in line for line in words(pilot, "#mind-facts").split("\n")),
        )


async def test_hints_off(brains: list[Brain]) -> None:
    async with host(plan(human=True, hints="off")).run_test(size=SIZE) as pilot:
        playing = await begin(pilot)
        await pilot.press("x")
        await press(pilot, "left")
        assert brains == []
        assert "Hints are off" in mind(pilot)
        await pilot.press("X")
        assert playing.hints == "ask"
        await happens(pilot, lambda: len(brains) == 1)
        await pilot.press("X", "X")
        assert playing.hints == "off"


async def test_moving_on_supersedes_a_question(brains: list[Brain]) -> None:
    async with host(plan("points24", human=True, hints="on")).run_test(size=SIZE) as pilot:
        await begin(pilot)
        (brain,) = brains
        brain.load()
        await happens(pilot, lambda: brain.thinks)
        await press(pilot, "plus")
        await happens(pilot, lambda: Forget(1) in brain.sent)
        await press(pilot, "plus")
        assert len(brain.thinks) == 1, "the next question waits for the first to end, keys do not"
        assert logged(database(pilot)) == [("+", "human")] * 2


async def test_what_a_model_writes_is_never_obeyed(brains: list[Brain]) -> None:
    async with host(plan(human=True, hints="on")).run_test(size=SIZE) as pilot:
        await begin(pilot)
        (brain,) = brains
        brain.actor = NASTY[:60]
        brain.load(NASTY[:60])
        await happens(pilot, lambda: brain.thinks)
        brain.answer(brain.thinks[0], "+", legal=False, text=NASTY)
        await happens(pilot, lambda: "[red]x[/]" in mind(pilot))
        assert "\x1b" not in mind(pilot)
        assert "drawn: it named no legal one" in mind(pilot)
        await pilot.press("v")
        await happens(pilot, lambda: isinstance(pilot.app.screen, PlayReviewScreen))


async def test_an_answer_that_failed(brains: list[Brain]) -> None:
    async with host(plan(human=True, hints="on")).run_test(size=SIZE) as pilot:
        await begin(pilot)
        (brain,) = brains
        brain.load()
        await happens(pilot, lambda: brain.thinks)
        brain.say(Finished(1, "OutOfMemoryError: [b]no room"))
        await happens(pilot, lambda: "could not answer: OutOfMemoryError: [b]no room" in mind(pilot))


# whoever thinks


async def test_one_that_dies_is_reported_and_started_again(brains: list[Brain]) -> None:
    async with host(plan(human=True, hints="on")).run_test(size=SIZE) as pilot:
        await begin(pilot)
        brains[0].load()
        await happens(pilot, lambda: brains[0].thinks)
        brains[0].say(Died("The process that thinks was ended by SIGKILL."))
        await happens(pilot, lambda: "SIGKILL" in mind(pilot))
        assert "r starts it again" in mind(pilot)
        await press(pilot, "left")
        await pilot.press("r")
        await happens(pilot, lambda: len(brains) == 2)
        brains[1].load()
        await happens(pilot, lambda: len(brains[1].thinks) == 1)
        assert brains[0].closed


async def test_a_newer_checkpoint_is_picked_up(brains: list[Brain]) -> None:
    Brain.choose = lambda _: "+"  # type: ignore[assignment, misc]
    async with host(plan("points24", human=True, hints="on")).run_test(size=SIZE) as pilot:
        playing = await begin(pilot)
        (brain,) = brains
        brain.load()
        await happens(pilot, lambda: "because of +" in mind(pilot))
        await pilot.press("r")
        assert brain.sent[-1] == Reload()
        brain.load(changed=False)
        await happens(pilot, lambda: "still the newest" in str(list(pilot.app._notifications)))
        assert len(brain.thinks) == 1
        await pilot.press("r")
        brain.load("model step-16")
        await happens(pilot, lambda: len(brain.thinks) == 2)
        assert playing.desk.actor == "model step-16"
        await pilot.press("r")
        brain.say(Refused("The checkpoint is broken."))
        await happens(pilot, lambda: "is broken" in str(list(pilot.app._notifications)))
        await press(pilot, "plus")
        await happens(pilot, lambda: len(brain.thinks) == 3)
        where = database(pilot)
    with StoreReader(where) as reader:
        events = [event.text for event in reader.events()]
    assert {"thinking: model step-8", "thinking: model step-16"} <= set(events)


# watching


async def test_watching_stepping_taking_over(brains: list[Brain]) -> None:
    Brain.choose = lambda _: "+"  # type: ignore[assignment, misc]
    async with host(plan("points24")).run_test(size=SIZE) as pilot:
        playing = await begin(pilot)
        await pilot.press("space")
        brains[0].load()
        await happens(pilot, lambda: playing.can_take(0))
        assert "paused" in words(pilot, "#play-last")
        await pilot.press("5")
        await press(pilot, "right")
        await pilot.press("t")
        assert playing.seat == "human"
        await press(pilot, "minus")
        await pilot.press("t")
        assert playing.seat == "opponent"
        await press(pilot, "right")
        await pilot.press("plus", "plus", "plus", "plus", "space")
        await happens(pilot, lambda: playing.over)
        you = playing.you
        assert you is not None
        assert you.actions[:3] == ("+", "-", "+")
        await happens(pilot, lambda: playing.you is not you)
        where = database(pilot)
    actors = [actor for _, actor in logged(where)]
    assert actors[:3] == ["model step-8", "human", "model step-8"]
    outputs = logged(where, "output, value")
    assert (outputs[0][1], outputs[1]) == (0.625, ("", None))
    assert "because of +" in outputs[0][0]


async def test_the_expert_plays_for_real() -> None:
    """With its own process."""
    async with host(plan("numberline")).run_test(size=SIZE) as pilot:
        playing = await begin(pilot)
        await pilot.press("plus", "plus", "plus", "plus")
        await happens(pilot, lambda: playing.over)
        assert playing.you is not None
        assert playing.you.end is not None
        assert playing.you.end.success
        assert "expert 1/1" in words(pilot, "#play-score")


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
