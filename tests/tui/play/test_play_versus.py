"""A person and an opponent at two tables with the same deals."""

from typing import Any

from textual.pilot import Pilot

from tests.tui.driving import shown
from tests.tui.play.made_play import Brain, begin, brains, database, happens, host, logged, plan, press, table
from vlmagent.play.messages import Think
from vlmagent.play.table import Moment
from vlmagent.tui.play.game import Game
from vlmagent.tui.play.review import PlayReviewScreen
from vlmagent.tui.play.screen import PlayScreen
from vlmagent.tui.screens.confirm import ConfirmScreen

__all__ = ["brains"]
ARROWS = {"+": "right", "-": "left"}


def right(state: Any) -> str:
    return "+" if state["current"] < state["target"] else "-"


def wrong(state: Any) -> str:
    return "-" if right(state) == "+" else "+"


def present(playing: Game) -> Moment:
    assert playing.you is not None
    return playing.you


async def finish(pilot: Pilot[Any], playing: Game) -> None:
    while not playing.over:
        await press(pilot, ARROWS[right(present(playing).state)])


def review(pilot: Pilot[Any]) -> str:
    """What it says; nothing before it is composed."""
    return "".join(shown(text) for text in pilot.app.screen.query("#play-review-text"))


async def test_the_same_deals_with_a_score_and_a_review(brains: list[Brain]) -> None:
    Brain.choose = lambda question: right(question.state)  # type: ignore[assignment, misc]
    async with host(plan(versus=True)).run_test(size=(100, 30)) as pilot:
        playing = await begin(pilot)
        brains[0].load()
        assert playing.them is not None
        assert (present(playing).seed, present(playing).state) == (playing.them.seed, playing.them.state)
        await happens(pilot, lambda: playing.them is not None and playing.them.end is not None)
        assert "you against model step-8" in shown(table(pilot).query_one("#play-title"))
        assert "because of" not in shown(table(pilot).query_one("#mind-output")), (
            "hints are asked for here too"
        )
        first = present(playing)
        await press(pilot, ARROWS[wrong(first.state)])
        await finish(pilot, playing)
        await happens(pilot, lambda: isinstance(pilot.app.screen, PlayReviewScreen))
        steps = len(present(playing).steps)
        await happens(pilot, lambda: f"alike in {steps - 1} of {steps} states" in review(pilot))
        text = review(pilot)
        assert f"you: ✗ no success, return 0.00 in {steps} steps" in text
        assert f"model step-8: ✓ success, return +1.00 in {steps - 2} step" in text
        line = next(line for line in text.split("\n") if line.strip().startswith("1 "))
        assert line.split() == [
            "1",
            wrong(first.state),
            right(first.state),
            "✗",
            right(first.state),
            "✗",
            "-1.00",
        ]
        assert "you: success 0 of 1 (0.0 %) · mean return 0.00" in text
        assert "model step-8: success 1 of 1 (100.0 %) · mean return +1.00" in text
        await pilot.press("n")
        await happens(pilot, lambda: present(playing).number == 2)
        assert isinstance(pilot.app.screen, PlayScreen)
        assert playing.them is not None
        assert present(playing).seed == playing.them.seed != first.seed
        await finish(pilot, playing)
        await happens(pilot, lambda: isinstance(pilot.app.screen, PlayReviewScreen))
        await happens(pilot, lambda: "you: success 1 of 2 (50.0 %)" in review(pilot))
        same, compared = playing.alike
        assert (same, compared) == (compared - 1, steps + len(present(playing).steps))
        where = database(pilot)
    tables = logged(where, "env_index, actor", "GROUP BY env_index, actor")
    assert sorted(tables) == [(0, "human"), (1, "model step-8")]


async def test_equal_states_are_thought_about_once(brains: list[Brain]) -> None:
    Brain.choose = lambda question: right(question.state)  # type: ignore[assignment, misc]
    async with host(plan(versus=True)).run_test(size=(80, 24)) as pilot:
        playing = await begin(pilot)
        brains[0].load()
        await happens(pilot, lambda: playing.them is not None and playing.them.end is not None)
        asked = len(brains[0].thinks)
        await finish(pilot, playing)
        await happens(pilot, lambda: isinstance(pilot.app.screen, PlayReviewScreen))
        assert len(brains[0].thinks) == asked == len(present(playing).steps)
        assert playing.alike == (asked, asked)


async def test_an_opponent_that_is_slow(brains: list[Brain]) -> None:
    async with host(plan(versus=True)).run_test(size=(80, 24)) as pilot:
        playing = await begin(pilot)
        (brain,) = brains
        brain.load()
        await happens(pilot, lambda: brain.thinks)
        first = present(playing)
        await finish(pilot, playing)
        await happens(pilot, lambda: "still playing" in shown(table(pilot).query_one("#play-last")))
        await pilot.press("n")
        await happens(pilot, lambda: isinstance(pilot.app.screen, ConfirmScreen))
        await pilot.press("escape")
        await pilot.press("v")
        await happens(pilot, lambda: isinstance(pilot.app.screen, PlayReviewScreen))
        answered = 0
        while (playing.them is not None and playing.them.end is None) or playing.alike[1] < len(
            present(playing).steps
        ):
            thinks = brain.thinks
            if len(thinks) > answered:
                answered += 1
                brain.answer(thinks[answered - 1], right(thinks[answered - 1].state))
            await pilot.pause(0.02)
        steps = len(present(playing).steps)
        await happens(pilot, lambda: f"alike in {steps} of {steps} states" in review(pilot))
        assert (
            playing.score.records["human"].successes == playing.score.records["model step-8"].successes == 1
        )
        assert first.seed == present(playing).seed


async def test_hints_come_before_the_opponents_own_moves(brains: list[Brain]) -> None:
    async with host(plan("points24", versus=True)).run_test(size=(80, 24)) as pilot:
        playing = await begin(pilot)
        (brain,) = brains
        brain.load()
        await happens(pilot, lambda: brain.thinks)
        await press(pilot, "plus")
        await press(pilot, "plus")
        await pilot.press("x")

        def actions_of(question: Think) -> int:
            return len(question.state["formula"])

        brain.answer(brain.thinks[0], "-")
        await happens(pilot, lambda: len(brain.thinks) == 2)
        assert actions_of(brain.thinks[1]) == 2, "what is shown is thought about first"
        assert playing.shows_opinion
