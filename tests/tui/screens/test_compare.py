import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from tests.tui.driving import said, seen, shown, until
from tests.tui.made_episodes import Host, make_episodes, make_evaluation, make_two_evaluations
from tests.tui.made_runs import NASTY
from vlmagent.paths import Run
from vlmagent.store.codec import clean_text
from vlmagent.tui.data import compare_feed
from vlmagent.tui.data.compare_feed import Comparison
from vlmagent.tui.data.pair_list import ORDERS, SHOWN
from vlmagent.tui.data.story import Story
from vlmagent.tui.screens.choose import ChooseScreen
from vlmagent.tui.screens.compare import CompareScreen, CompareSide
from vlmagent.tui.screens.replay import ReplayScreen
from vlmagent.tui.widgets.picture import Picture
from vlmagent.tui.widgets.side_pane import SidePane
from vlmagent.tui.widgets.timeline import Timeline

SIZE = (120, 40)
KINDS = ["both", "right", "neither", "left", "right"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_two_evaluations(tmp_path / "a-run")


def host(run: Run, other: Run | None = None) -> Host:
    return Host(CompareScreen(CompareSide(run), CompareSide(other or run)))


def screen(pilot: Pilot[Any]) -> CompareScreen:
    found = pilot.app.screen
    assert isinstance(found, CompareScreen)
    return found


def who(pilot: Pilot[Any]) -> list[str]:
    table = screen(pilot).table
    return [str(table.get_row_at(row)[0]) for row in range(table.row_count)]


def pane(pilot: Pilot[Any], side: str) -> str:
    return shown(screen(pilot).query_one(f"#compare-{side} .side-title"))


async def begin(pilot: Pilot[Any], rows: int = 5) -> CompareScreen:
    await until(
        pilot, lambda: isinstance(pilot.app.screen, CompareScreen) and screen(pilot).table.row_count == rows
    )
    await until(pilot, lambda: screen(pilot).comparison.pair is not None)
    await pilot.pause()
    return screen(pilot)


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)])
async def test_shows_who_succeeded_where(run: Run, size: tuple[int, int]) -> None:
    async with host(run).run_test(size=size) as pilot:
        await begin(pilot)
        assert "a-run   sft step-0   ↔   rl step-500" in shown(screen(pilot).query_one("#compare-title"))
        tally = shown(screen(pilot).query_one("#compare-tally"))
        assert "both 1   only left 1   only right 2   neither 1   of 5 seeds" in tally
        assert "success 40.0 % → 60.0 %" in tally
        assert "McNemar p = 1" in tally
        assert who(pilot) == [kind if kind in ("both", "neither") else f"only {kind}" for kind in KINDS]
        assert screen(pilot).query_one("#compare-panes").display is (size[0] > 100)


async def test_both_sides_of_a_pair_come_at_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    comparison = Comparison(CompareSide(run), CompareSide(run))
    left, right = await comparison.find()
    assert left
    assert right
    await comparison.use(left, right)
    first, second = comparison.pairs[:2]
    await comparison.load(first)
    before = [side.story for side in comparison.sides]
    seen: list[list[Story | None]] = []
    real = compare_feed.read_story
    # called by each side on its own thread, while the screen might draw
    monkeypatch.setattr(
        compare_feed,
        "read_story",
        lambda *args, **more: seen.append([side.story for side in comparison.sides]) or real(*args, **more),
    )
    await comparison.load(second)
    assert seen == [before, before]
    assert [side.story.episode.id for side in comparison.sides if side.story] == [
        row.id for row in second.sides
    ]
    comparison.close()


async def test_two_episodes_in_step(run: Run) -> None:
    async with host(run).run_test(size=SIZE) as pilot:
        compare = await begin(pilot)
        assert compare.playback.count == 4
        assert "step 1 of 4  ✓ success" in pane(pilot, "left")
        assert "step 1 of 2  ✓ success" in pane(pilot, "right")
        await pilot.press("right", "right")
        assert "step 3 of 4" in pane(pilot, "left")
        assert "over after step 2" in pane(pilot, "right")
        assert compare.query_one("#compare-right").has_class("-over")
        assert "3/4" in shown(compare.query_one(Timeline))
        await pilot.press("left")
        assert not compare.query_one("#compare-right").has_class("-over")
        seen = []
        for digit in "0123456789":
            await pilot.press(digit)
            seen.append(compare.playback.at)
        assert seen == [0, 0, 1, 1, 1, 2, 2, 2, 2, 3]
        await until(
            pilot, lambda: all(p.query_one(Picture).image is not None for p in compare.query(SidePane))
        )


async def test_playing(run: Run) -> None:
    async with host(run).run_test(size=SIZE) as pilot:
        compare = await begin(pilot)
        await pilot.press("minus", "minus", "space")
        assert compare.playback.playing
        await pilot.press(*["plus"] * 8, "equals_sign")
        await until(pilot, lambda: not compare.playback.playing)
        assert compare.playback.at == 3
        await pilot.press(*["minus"] * 9)
        await pilot.press("enter")
        await until(pilot, lambda: compare.playback.playing)
        assert compare.playback.at == 0
        pilot.app.push_screen(ChooseScreen("x", []))
        await until(pilot, lambda: not compare.playback.playing)
        await pilot.press("enter")


async def test_other_pairs(run: Run) -> None:
    async with host(run).run_test(size=SIZE) as pilot:
        compare = await begin(pilot)
        await pilot.press("down", "down", "down")
        await until(pilot, lambda: compare.comparison.pair and compare.comparison.pair.kind == "left")
        assert "✓ success" in pane(pilot, "left")
        assert "✗ failure" in pane(pilot, "right")
        assert compare.playback.at == 0


async def test_filters_and_orders(run: Run) -> None:
    async with host(run).run_test(size=SIZE) as pilot:
        compare = await begin(pilot)
        seen = {}
        for _ in SHOWN:
            await pilot.press("f")
            await pilot.pause()
            seen[SHOWN[compare.shown][0]] = who(pilot) if compare.comparison.pairs else []
        assert seen["different"] == ["only right", "only left", "only right"]
        assert {name: len(rows) for name, rows in seen.items()} == {
            "all": 5, "different": 3, "both": 1, "only left": 1, "only right": 2, "neither": 1,
        }  # fmt: skip
        orders = {}
        for _ in ORDERS:
            await pilot.press("o")
            await pilot.pause()
            orders[compare.order] = who(pilot)
        assert orders["right better"][0] == "only right"
        assert orders["left better"][0] == "only left"
        assert orders["longest"][0] == "both"
        assert "5 pairs · all · by seeds" in str(compare.query_one("#compare-list").border_title)


async def test_no_pair_of_a_kind(tmp_path: Path) -> None:
    run = make_episodes(tmp_path / "run", 1)
    make_evaluation(run, "step-0", [True, True], system="sft")
    make_evaluation(run, "step-9", [True, True])
    async with host(run).run_test(size=SIZE) as pilot:
        compare = await begin(pilot, 2)
        await pilot.press("f")
        await until(pilot, lambda: "No pair is like this" in shown(compare.query_one("#compare-empty")))
        await until(pilot, lambda: compare.comparison.pair is None)
        await pilot.press("space", "right", "left_square_bracket", "enter", "5", "plus")
        await pilot.press("f")
        await until(pilot, lambda: compare.table.row_count == 2)
        await until(pilot, lambda: compare.comparison.pair is not None)
        await pilot.press("down")
        await until(pilot, lambda: compare.comparison.pair and compare.comparison.pair.left.id == 2)


async def test_choosing_and_swapping(run: Run) -> None:
    make_evaluation(run, "step-900", [False, False, False])
    async with host(run).run_test(size=SIZE) as pilot:
        compare = await begin(pilot, 3)
        assert "2 without a partner" in shown(compare.query_one("#compare-tally"))
        await pilot.press("r")
        await until(pilot, lambda: isinstance(pilot.app.screen, ChooseScreen))
        await pilot.press("down", "enter")
        await until(
            pilot, lambda: isinstance(pilot.app.screen, CompareScreen) and compare.table.row_count == 5
        )
        assert [side.evaluation.name for side in compare.sides] == ["sft step-0", "rl step-500"]
        await pilot.press("s")
        await until(
            pilot, lambda: [side.evaluation.name for side in compare.sides] == ["rl step-500", "sft step-0"]
        )
        await begin(pilot)
        assert who(pilot).count("only left") == 2
        await pilot.press("l")
        await until(pilot, lambda: isinstance(pilot.app.screen, ChooseScreen))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, CompareScreen))
        assert compare.sides[0].evaluation.name == "rl step-500"
        await pilot.press("l")
        await until(pilot, lambda: isinstance(pilot.app.screen, ChooseScreen))
        await pilot.click("#choose-list", offset=(4, 0))
        await until(pilot, lambda: isinstance(pilot.app.screen, CompareScreen))
        await until(pilot, lambda: compare.sides[0].evaluation.name == "rl step-900")


async def test_replaying_one_side(run: Run) -> None:
    async with host(run).run_test(size=SIZE) as pilot:
        compare = await begin(pilot)
        await pilot.press("right")
        for key, side in (("left_square_bracket", 0), ("right_square_bracket", 1)):
            await pilot.press(key)
            await until(pilot, lambda: isinstance(pilot.app.screen, ReplayScreen) and pilot.app.screen.row)
            replay = pilot.app.screen
            assert isinstance(replay, ReplayScreen)
            assert replay.feed.database == compare.sides[side].evaluation.database
            assert (replay.episode_id, replay.playback.at) == (1, 1)
            await pilot.press("n")
            await until(pilot, lambda replay=replay: replay.episode_id == 2)  # type: ignore[misc]
            await pilot.press("escape")
            await until(pilot, lambda: isinstance(pilot.app.screen, CompareScreen))


async def test_a_narrow_terminal_shows_one_after_the_other(run: Run) -> None:
    async with host(run).run_test(size=(80, 24)) as pilot:
        compare = await begin(pilot)
        await pilot.press("down", "enter")
        await until(pilot, lambda: compare.query_one("#compare-panes").display)
        assert not compare.query_one("#compare-list").display
        await until(pilot, lambda: compare.comparison.pair and compare.comparison.pair.kind == "right")
        await pilot.press("down")
        await until(pilot, lambda: compare.comparison.pair and compare.comparison.pair.kind == "neither")
        await pilot.press("up")
        await until(pilot, lambda: compare.comparison.pair and compare.comparison.pair.kind == "right")
        await pilot.press("right")
        assert compare.playback.at == 1
        await pilot.press("left")
        assert compare.playback.at == 0
        await pilot.press("escape")
        await until(pilot, lambda: compare.query_one("#compare-list").display)
        await pilot.press("v")
        await until(pilot, lambda: compare.query_one("#compare-panes").display)
        await pilot.resize_terminal(140, 40)
        await until(pilot, lambda: compare.query_one("#compare-list").display)
        await pilot.press("v")
        await until(pilot, lambda: not compare.query_one("#compare-panes").display)


async def test_the_mouse(run: Run) -> None:
    async with host(run).run_test(size=SIZE) as pilot:
        compare = await begin(pilot)
        await pilot.click("#compare-table", offset=(4, 3))
        await until(pilot, lambda: compare.comparison.pair and compare.comparison.pair.kind == "neither")
        line = shown(compare.query_one(Timeline))
        await pilot.click(Timeline, offset=(line.index(" 1/3") - 1, 0))
        await until(pilot, lambda: compare.playback.at == 2)


async def test_two_runs(run: Run, tmp_path: Path) -> None:
    other = make_episodes(tmp_path / "b-run", 1)
    make_evaluation(other, "step-70", [True] * 5)
    async with host(run, other).run_test(size=SIZE) as pilot:
        await begin(pilot)
        assert "a-run rl step-500   ↔   b-run rl step-70" in shown(screen(pilot).query_one("#compare-title"))
        await pilot.press("l")
        await until(pilot, lambda: isinstance(pilot.app.screen, ChooseScreen))
        assert len(pilot.app.screen.choices) == 3  # type: ignore[attr-defined]
        await pilot.press("escape")
        await pilot.pause()
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(pilot.app.screen, CompareScreen))


# What goes wrong


@pytest.mark.parametrize("checkpoints", [(), ("step-5",)])
async def test_evaluations_that_are_missing(tmp_path: Path, checkpoints: Sequence[str]) -> None:
    run = make_episodes(tmp_path / "run", 1)
    for checkpoint in checkpoints:
        make_evaluation(run, checkpoint, [True])
    async with host(run).run_test(size=SIZE) as pilot:
        await until(pilot, lambda: "--checkpoint start" in said(screen(pilot).query_one("#compare-empty")))
        words = "no second evaluation" if checkpoints else "has no evaluation yet"
        assert words in said(screen(pilot).query_one("#compare-empty"))
        for key in (
            "space",
            "right",
            "f",
            "o",
            "s",
            "v",
            "left_square_bracket",
            "enter",
            "5",
            "plus",
            "down",
        ):
            await pilot.press(key)
        await pilot.press("l")
        await until(pilot, lambda: isinstance(pilot.app.screen, ChooseScreen))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, CompareScreen))
        if checkpoints:  # the same one on both sides
            await until(
                pilot, lambda: screen(pilot).comparison.tally and screen(pilot).comparison.tally.total == 1
            )  # type: ignore[union-attr]
        await pilot.press("escape")
        await pilot.pause()


async def test_other_seeds(tmp_path: Path) -> None:
    run = make_episodes(tmp_path / "run", 1)
    make_evaluation(run, "step-0", [True], system="sft")
    make_evaluation(run, "step-9", [True], first_seed=900)
    async with host(run).run_test(size=SIZE) as pilot:
        await until(pilot, lambda: "no seed in common" in shown(screen(pilot).query_one("#compare-empty")))


async def test_a_database_that_is_damaged_or_deleted_meanwhile(run: Run) -> None:
    async with host(run).run_test(size=SIZE) as pilot:
        await begin(pilot)
        shutil.rmtree(run)
        await pilot.press("down")
        await until(pilot, lambda: "no run database" in shown(screen(pilot).query_one("#compare-problem")))
        await pilot.press("right", "space", "l")
        await until(pilot, lambda: isinstance(pilot.app.screen, ChooseScreen))
        await pilot.press("down", "enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, CompareScreen))
        await pilot.pause()


async def test_a_run_that_is_gone(tmp_path: Path) -> None:
    async with host(Run(tmp_path / "gone")).run_test(size=SIZE) as pilot:
        await until(pilot, lambda: "has no evaluation" in shown(screen(pilot).query_one("#compare-empty")))


@pytest.mark.parametrize("size", [(80, 24), (160, 50)])
async def test_nasty_text(tmp_path: Path, size: tuple[int, int]) -> None:
    run = make_episodes(tmp_path / "[red]run[b]", 1)
    for checkpoint in ("step-0", "step-9"):
        make_evaluation(
            run, checkpoint, [True], system="[b]\x1b[31m", output=clean_text(NASTY[:5000]), steps=[1]
        )
    async with host(run).run_test(size=size) as pilot:
        await begin(pilot, 1)
        await pilot.press("enter")
        await until(
            pilot,
            lambda: (
                "[red]x[/]" in shown(screen(pilot).query_one("#compare-left TokenText")).replace("\n", "")
            ),
        )
        everything = seen(pilot)
        assert "\x1b" not in everything
        assert "\u202e" not in everything
        assert "[red]run[b]" in shown(screen(pilot).query_one("#compare-title"))
        await pilot.press("l")
        await until(pilot, lambda: isinstance(pilot.app.screen, ChooseScreen))
        assert "[b]" in seen(pilot)


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
def test_snapshot(tmp_path: Path, snap_compare: Any, size: tuple[int, int]) -> None:
    run = make_two_evaluations(tmp_path / "a-run")

    async def settle(pilot: Pilot[Any]) -> None:
        compare = await begin(pilot)
        await pilot.press("down")
        await until(pilot, lambda: compare.comparison.pair and compare.comparison.pair.kind == "right")
        await pilot.press("right")
        await until(
            pilot, lambda: all(p.query_one(Picture).image is not None for p in compare.query(SidePane))
        )
        await pilot.pause()

    assert snap_compare(host(run), terminal_size=size, run_before=settle)
