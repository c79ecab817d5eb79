"""A recorded episode on the screen: its steps, playing them, going to others, exporting."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from textual.containers import VerticalScroll
from textual.pilot import Pilot
from textual.widgets import Static

from tests.tui.driving import said, shown, until
from tests.tui.made_episodes import Host, make_episodes, make_evaluation
from tests.tui.screens.replay_pilot import SIZE, begin, host, screen, words
from vlmagent.paths import Run
from vlmagent.tui.data.playback import SPEEDS
from vlmagent.tui.data.trail import FixedTrail
from vlmagent.tui.screens.replay import ReplayScreen
from vlmagent.tui.widgets.picture import Picture
from vlmagent.tui.widgets.timeline import Timeline
from vlmagent.tui.widgets.tokens import Tokens, TokenText


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_episodes(tmp_path / "a-run", 8)


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)])
async def test_shows_everything_of_a_step(run: Run, size: tuple[int, int]) -> None:
    async with host(run).run_test(size=size) as pilot:
        await begin(pilot)
        title = words(pilot, "#replay-title")
        assert "a-run  episode 5  ✓ success  return +1.00" in title
        facts = words(pilot, "#replay-facts")
        for text in ("action", "drawn (illegal)", "reward", "-0.50", "value", "+0.50", "log p", "thought"):
            assert text in facts
        assert "thoughts" in words(pilot, "TokenText")
        assert "1/3" in words(pilot, "#replay-timeline")
        assert "0.5 × thought" in facts
        assert screen(pilot).query_one("#replay-thoughts").display is (size[1] > 24)


async def test_stepping_and_seeking(run: Run) -> None:
    async with host(run).run_test(size=SIZE) as pilot:
        await begin(pilot)
        where = []
        for key in ("right", "right", "right", "left", "home", "end", "0", "9", "5"):
            await pilot.press(key)
            where.append(screen(pilot).playback.at)
        assert where == [1, 2, 2, 1, 0, 2, 0, 2, 1]
        assert "2/3" in words(pilot, "#replay-timeline")
        assert "return so far" in words(pilot, "#replay-facts")
        where.clear()
        for digit in "0123456789":
            await pilot.press(digit)
            where.append(screen(pilot).playback.at)
        assert where == [0, 0, 0, 1, 1, 1, 1, 1, 2, 2]


async def test_the_picture_follows(run: Run) -> None:
    async with host(run).run_test(size=SIZE) as pilot:
        replay = await begin(pilot)
        seen = []
        for step in range(3):
            assert replay.story is not None
            key = replay.story.steps[step].image_sha256
            await until(
                pilot, lambda key=key: replay.query_one(Picture).image is replay.feed.known_image(key)
            )  # type: ignore[misc]
            image = replay.query_one(Picture).image
            assert image is not None
            seen.append(image.tobytes())
            await pilot.press("right")
        assert len(set(seen)) == 3


async def test_playing(run: Run) -> None:
    async with host(run).run_test(size=SIZE) as pilot:
        replay = await begin(pilot)
        await pilot.press("minus", "minus", "space")
        assert replay.playback.playing
        await pilot.press(*["plus"] * 9)
        assert replay.playback.speed == SPEEDS[-1]
        await until(pilot, lambda: not replay.playback.playing)
        assert replay.playback.at == 2
        assert "16/s" in words(pilot, "#replay-timeline")
        await pilot.press("minus", "minus", "minus", "minus", "minus")
        await pilot.press("space")
        assert (replay.playback.at, replay.playback.playing) == (0, True)
        await pilot.press("space")
        assert not replay.playback.playing
        await pilot.press("space", "right")
        assert not replay.playback.playing
        await pilot.press("space")
        pilot.app.push_screen(ReplayScreen(run, 1))
        await until(pilot, lambda: not replay.playback.playing)


async def test_next_and_previous_of_a_list(run: Run) -> None:
    trail = FixedTrail([(7, 0), (5, 1), (2, 2)])
    async with host(run, 5, trail=trail, step=1).run_test(size=SIZE) as pilot:
        replay = await begin(pilot)
        assert "(2 of 3)" in words(pilot, "#replay-title")
        assert replay.playback.at == 1
        await pilot.press("n")
        await until(pilot, lambda: replay.episode_id == 2)
        assert "(3 of 3)" in words(pilot, "#replay-title")
        assert replay.playback.at == 2
        await pilot.press("n")
        await pilot.pause()
        assert replay.episode_id == 2
        await pilot.press("N")
        await until(pilot, lambda: replay.episode_id == 5)
        await pilot.press("N")
        await until(pilot, lambda: replay.episode_id == 7)
        await pilot.press("N")
        await pilot.pause()
        assert replay.episode_id == 7


async def test_next_and_previous_of_the_database(run: Run) -> None:
    async with host(run, 7).run_test(size=SIZE) as pilot:
        replay = await begin(pilot)
        await pilot.press("n")
        await until(pilot, lambda: replay.episode_id == 8)
        await pilot.press("n")
        await until(pilot, lambda: "There is no later episode yet." in str(list(pilot.app._notifications)))
        assert replay.episode_id == 8
        await pilot.press("N")
        await until(pilot, lambda: replay.episode_id == 7)


async def test_tokens(run: Run) -> None:
    async with host(run).run_test(size=SIZE) as pilot:
        replay = await begin(pilot)
        tokens = replay.query_one(Tokens)
        await pilot.press("full_stop", "full_stop")
        assert tokens.cursor == 1
        await pilot.press("comma")
        assert tokens.cursor == 0
        await pilot.press("w")
        assert tokens.cursor == len(tokens.output.ids) - 1
        assert "log p -4.000" in words(pilot, "#token-facts")
        await pilot.press("escape")
        assert tokens.cursor == -1
        assert pilot.app.screen is replay


async def test_panes(run: Run) -> None:
    async with host(run).run_test(size=SIZE) as pilot:
        replay = await begin(pilot)
        prompt, thoughts = replay.query_one("#replay-prompt"), replay.query_one("#replay-thoughts")
        assert (prompt.display, thoughts.display) == (False, True)
        await pilot.press("i")
        await pilot.pause()
        assert "You are playing [b]a game[/b]. State 0." in shown(
            replay.query_one("#replay-prompt Static", Static)
        )
        await pilot.press("right")
        await pilot.pause()
        assert "State 1." in shown(replay.query_one("#replay-prompt Static", Static))
        await pilot.press("t")
        assert (prompt.display, thoughts.display) == (True, False)
        await pilot.press("i", "t")
        assert (prompt.display, thoughts.display) == (False, True)


async def test_scrolling(tmp_path: Path) -> None:
    run = make_episodes(tmp_path / "run", 1, output="word " * 4000)
    async with host(run, 1).run_test(size=SIZE) as pilot:
        replay = await begin(pilot)
        text = replay.query_one(TokenText)
        await pilot.press("down", "down")
        await pilot.pause()
        assert text.scroll_offset.y == 2
        await pilot.press("up")
        await pilot.pause()
        assert text.scroll_offset.y == 1
        await pilot.press("pagedown")
        await pilot.pause()
        assert text.scroll_offset.y > 10
        await pilot.press("pageup")
        await pilot.pause()
        assert text.scroll_offset.y == 1
        await pilot.press("i", "pagedown")
        await pilot.pause()
        assert text.scroll_offset.y == 1
        assert replay.query_one("#replay-prompt", VerticalScroll).scroll_offset.y == 0


async def test_copying(run: Run) -> None:
    async with host(run).run_test(size=SIZE) as pilot:
        replay = await begin(pilot)
        assert replay.row is not None
        await pilot.press("y")
        assert pilot.app.clipboard == replay.row.output
        await pilot.press("Y")
        assert pilot.app.clipboard == replay.row.prompt


@pytest.mark.parametrize(("key", "kind"), [("g", "gif"), ("x", "html")])
async def test_exporting(run: Run, key: str, kind: str) -> None:
    async with host(run).run_test(size=SIZE) as pilot:
        await begin(pilot)
        path = run.path / "exports" / f"episode-5.{kind}"
        await pilot.press(key)
        await until(pilot, lambda: "Written" in words(pilot, "#replay-note"))
        assert path.name in words(pilot, "#replay-note")
        assert path.is_file()
        if kind == "gif":
            with Image.open(path) as image:
                assert image.n_frames == 3
        await pilot.press("n")
        await until(pilot, lambda: not screen(pilot).query_one("#replay-note").display)


async def test_exporting_where_that_is_impossible(run: Run) -> None:
    (run.path / "exports").write_text("in the way")
    async with host(run).run_test(size=SIZE) as pilot:
        await begin(pilot)
        await pilot.press("g")
        await until(pilot, lambda: "could not be written" in said(screen(pilot).query_one("#replay-note")))


async def test_the_mouse_seeks(run: Run) -> None:
    async with host(run).run_test(size=SIZE) as pilot:
        replay = await begin(pilot)
        line = words(pilot, "#replay-timeline")
        await pilot.click(Timeline, offset=(line.index(" 1/3") - 1, 0))
        await until(pilot, lambda: replay.playback.at == 2)
        await pilot.mouse_down(Timeline, offset=(line.index("●"), 0))
        await until(pilot, lambda: replay.playback.at == 0)
        await pilot.click(Timeline, offset=(2, 0))
        await pilot.click(Timeline, offset=(SIZE[0] - 3, 0))
        assert replay.playback.at == 0


async def test_escape_goes_back_with_the_episode(run: Run) -> None:
    app = Host(ReplayScreen(run, 2))
    heard: list[Any] = []
    async with app.run_test(size=SIZE) as pilot:
        await begin(pilot)
        app.push_screen(ReplayScreen(run, 5), heard.append)
        await until(
            pilot,
            lambda: isinstance(app.screen, ReplayScreen) and app.screen.episode_id == 5 and app.screen.row,
        )
        await pilot.press("n")
        await until(pilot, lambda: screen(pilot).episode_id == 6)
        await pilot.press("escape")
        await until(pilot, lambda: heard)
        assert heard == [(6, 0)]


async def test_an_evaluation(run: Run) -> None:
    path = make_evaluation(run, "step-0", [True, False])
    async with host(run, 2, database=path).run_test(size=SIZE) as pilot:
        await begin(pilot)
        title = words(pilot, "#replay-title")
        assert path.stem in title
        assert "✗ failure" in title
        assert "eval · seed 51" in title
        await pilot.press("x")
        await until(pilot, lambda: "Written" in words(pilot, "#replay-note"))
        assert (run.path / "exports" / f"{path.stem}-episode-2.html").is_file()


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
def test_snapshot(tmp_path: Path, snap_compare: Any, size: tuple[int, int]) -> None:
    run = make_episodes(tmp_path / "a-run", 5)

    async def settle(pilot: Pilot[Any]) -> None:
        await begin(pilot)
        await pilot.press("right", "w")
        await pilot.pause()

    assert snap_compare(
        host(run, 5, trail=FixedTrail([(4, 0), (5, 0)])), terminal_size=size, run_before=settle
    )
