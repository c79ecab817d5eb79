"""Actions chosen from a list that filters as one types."""

from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, OptionList

from tests.tui.driving import said, shown
from tests.tui.play.made_play import Brain, alone, begin, brains, database, happens, host, logged, plan, table
from vlmagent.play.messages import Died
from vlmagent.tasks import registry
from vlmagent.tui.play.review import PlayReviewScreen
from vlmagent.tui.play.state_pane import StatePane
from vlmagent.tui.screens.help import keys_of

__all__ = ["brains"]


@pytest.fixture(autouse=True)
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.BUILT_IN, "many", "tests.tui.play.many_task:ManyTask")


def listed(pilot: Pilot[Any]) -> list[str]:
    options = table(pilot).query_one(OptionList)
    return [str(options.get_option_at_index(k).prompt) for k in range(options.option_count)]


async def test_typing_filters_and_enter_takes() -> None:
    async with host(alone("many")).run_test(size=(80, 24)) as pilot:
        playing = await begin(pilot)
        assert len(listed(pilot)) == 23
        assert isinstance(pilot.app.focused, Input)
        await pilot.press(*"shelf 1")
        await happens(pilot, lambda: len(listed(pilot)) == 11)
        assert listed(pilot)[:2] == ["go to shelf 1", "go to shelf 10"]
        await pilot.press("down", "down", "up", "enter")
        await happens(pilot, lambda: playing.you is not None and playing.you.actions == ("go to shelf 10",))
        await happens(pilot, lambda: len(listed(pilot)) == 4)
        assert table(pilot).query_one(Input).value == ""
        await pilot.press(*"book")
        await happens(pilot, lambda: listed(pilot) == ["take [b]book[/b] 2"])
        await pilot.press("enter")
        await happens(pilot, lambda: playing.you is not None and len(playing.you.steps) == 2)
        await pilot.press(*"nothing like it", "enter")
        await pilot.press(*["backspace"] * 15)
        await pilot.press(*"lamp", "enter")
        await happens(pilot, lambda: playing.over)
        assert [action for action, _ in logged(database(pilot))] == [
            "go to shelf 10",
            "take [b]book[/b] 2",
            "take lamp 7",
        ]
        await happens(pilot, lambda: not table(pilot).query_one(Input).display)
        await pilot.press("n")
        await happens(pilot, lambda: playing.you is not None and playing.you.number == 2)
        await happens(pilot, lambda: isinstance(pilot.app.focused, Input))


async def test_letters_are_typed_and_function_keys_command(brains: list[Brain]) -> None:
    async with host(plan("many", human=True)).run_test(size=(80, 24)) as pilot:
        playing = await begin(pilot)
        (brain,) = brains
        brain.load()
        await happens(
            pilot, lambda: "f2 shows what it would do here" in shown(table(pilot).query_one("#mind-facts"))
        )
        await pilot.press("x", "n", "r")
        assert table(pilot).query_one(Input).value == "xnr"
        assert brain.thinks == []
        assert "f2" in {help.keys for help in keys_of(table(pilot))}
        await pilot.press("f2")
        await happens(pilot, lambda: len(brain.thinks) == 1)
        brain.answer(brain.thinks[0], "look")
        await happens(pilot, lambda: "75.0 %" in shown(table(pilot).query_one("#mind-facts")))
        assert "15 others together" in shown(table(pilot).query_one("#mind-facts"))
        await pilot.press("f3")
        assert playing.hints == "on"
        brain.say(Died("gone"))
        await pilot.press("f3")
        facts = table(pilot).query_one("#mind-facts")
        await happens(pilot, lambda: "f5 starts it again" in shown(facts))
        await pilot.press("f5")
        await happens(pilot, lambda: len(brains) == 2)
        brains[1].load()
        await happens(pilot, lambda: "f3 changes that" in shown(facts))
        await pilot.press("f7")
        await happens(pilot, lambda: isinstance(pilot.app.screen, PlayReviewScreen))
        await pilot.press("escape")
        await pilot.press("f4")
        await happens(pilot, lambda: playing.seat == "opponent")
        await happens(pilot, lambda: not table(pilot).query_one(Input).display)


async def test_a_click_takes() -> None:
    async with host(alone("many")).run_test(size=(80, 24)) as pilot:
        playing = await begin(pilot)
        await pilot.click(OptionList, offset=(3, 1))
        await happens(pilot, lambda: playing.you is not None and playing.you.actions == ("go to shelf 2",))


async def test_a_task_without_an_expert() -> None:
    async with host(alone("many")).run_test(size=(100, 30)) as pilot:
        playing = await begin(pilot)
        await pilot.press(*"lamp", "enter")
        await happens(pilot, lambda: playing.over)
        await pilot.press("v")
        await happens(pilot, lambda: isinstance(pilot.app.screen, PlayReviewScreen))
        await happens(pilot, lambda: "take lamp 7" in shown(pilot.app.screen.query_one("#play-review-text")))
        text = shown(pilot.app.screen.query_one("#play-review-text"))
        assert "expert" not in text
        assert "[red]A shelf" in text


@pytest.fixture(scope="module")
def household(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache for the tests that play ALFWorld: its household takes seconds to write."""
    return tmp_path_factory.mktemp("household")


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_the_goal_stands_above_and_the_text_scrolls(
    size: tuple[int, int], household: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLMAGENT_CACHE", str(household))
    async with host(alone("alfworld")).run_test(size=size) as pilot:
        playing = await begin(pilot)
        you = playing.you
        assert you is not None
        goal = you.state["goal_text"]
        line, pane = table(pilot).query_one("#play-goal"), table(pilot).query_one(StatePane)
        assert shown(line).split(maxsplit=1)[1].strip() == goal
        assert goal not in said(table(pilot).query_one("#play-state-text"))
        assert pane.scrollable_content_region.height >= 4
        top = pane.scroll_y
        await pilot.press("ctrl+down")
        assert pane.scroll_y > top or not pane.max_scroll_y
        await pilot.press("ctrl+up")
        assert pane.scroll_y == top
        # the prompt has all of it, and is long enough to scroll everywhere
        await pilot.press("f8")
        await happens(pilot, lambda: pane.max_scroll_y > 0)
        await pilot.press("ctrl+down")
        assert pane.scroll_y > 0
        await pilot.press("f8")
        await happens(pilot, lambda: pane.scroll_y == 0)
        # beside the actions, which are still taken by what is typed
        await pilot.press("enter")
        await happens(pilot, lambda: playing.you is not you)
        assert goal in said(line)


async def test_other_tasks_have_no_line_for_a_goal() -> None:
    async with host(alone("points24")).run_test(size=(80, 24)) as pilot:
        await begin(pilot)
        assert not table(pilot).query_one("#play-goal").display
