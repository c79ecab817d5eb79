"""What the model thinks, beside a game on the screen: hints, failures, newer checkpoints, watching it play."""

from tests.tui.made_runs import NASTY
from tests.tui.play.made_play import (
    Brain,
    begin,
    brains,
    database,
    happens,
    host,
    logged,
    mind,
    plan,
    press,
    words,
)
from vlmagent.play.messages import Died, Finished, Forget, Refused, Reload, Writing
from vlmagent.store.reader import StoreReader
from vlmagent.tui.play.review import PlayReviewScreen

__all__ = ["brains"]
SIZE = (80, 24)


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
