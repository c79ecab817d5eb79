import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from tests.tui.driving import shown, until
from tests.tui.made_episodes import Host, make_episodes, make_evaluation, write_episode
from tests.tui.made_runs import NASTY, make_run
from vlmagent import paths
from vlmagent.errors import UsageError
from vlmagent.store.browse import Filter
from vlmagent.store.writer import StoreWriter
from vlmagent.tui import episode_feed, episode_list
from vlmagent.tui.episode_list import ORDERS, View, columns_for, parse_updates
from vlmagent.tui.screens import episodes as module
from vlmagent.tui.screens.choose import ChooseScreen
from vlmagent.tui.screens.compare import CompareScreen
from vlmagent.tui.screens.episodes import EpisodesScreen
from vlmagent.tui.screens.replay import ReplayScreen
from vlmagent.tui.widgets.step_preview import StepPreview
from vlmagent.tui.widgets.tokens import TokenText

SIZE = (120, 40)
COUNT = 30


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_episodes(tmp_path / "a-run", COUNT)


def screen(pilot: Pilot[Any]) -> EpisodesScreen:
    found = pilot.app.screen
    assert isinstance(found, EpisodesScreen)
    return found


def names(pilot: Pilot[Any]) -> list[str]:
    return [str(row.key.value) for row in screen(pilot).table.ordered_rows]


def bar(pilot: Pilot[Any]) -> str:
    chips = ("data", "outcome", "illegal", "order", "updates", "search", "news")
    return " | ".join(shown(screen(pilot).query_one(f"#chip-{name}")).strip() for name in chips)


async def begin(pilot: Pilot[Any], rows: int = 1) -> EpisodesScreen:
    await until(
        pilot, lambda: isinstance(pilot.app.screen, EpisodesScreen) and screen(pilot).table.row_count >= rows
    )
    await settled(pilot)
    return screen(pilot)


async def settled(pilot: Pilot[Any]) -> None:
    await until(pilot, lambda: not screen(pilot)._loading)
    await pilot.pause()


async def press(pilot: Pilot[Any], *keys: str) -> None:
    await pilot.press(*keys)
    await pilot.pause()
    await settled(pilot)


def episodes(count: int = COUNT) -> list[int]:
    return list(range(count, 0, -1))


# The list


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)])
async def test_lists_finished_episodes(tmp_path: Path, size: tuple[int, int]) -> None:
    run = make_episodes(tmp_path / "a-run", COUNT, running=2)
    async with Host(EpisodesScreen(run)).run_test(size=size) as pilot:
        await begin(pilot, COUNT)
        assert names(pilot) == [f"e{id_}" for id_ in episodes()]
        await until(pilot, lambda: "30 finished" in shown(screen(pilot).query_one("#episodes-title")))
        text = shown(screen(pilot).table)
        assert "episode" in text
        assert "✗ failure" in text
        assert "-1.50" in text
        assert screen(pilot).query_one(StepPreview).display is (size[0] > 100)
        assert "data training | outcome all | illegal any | order newest | updates 1–" in bar(pilot)


async def test_the_step_beside_the_list(run: Path) -> None:
    async with Host(EpisodesScreen(run)).run_test(size=SIZE) as pilot:
        await begin(pilot)
        preview = screen(pilot).query_one(StepPreview)
        await until(pilot, lambda: preview.row and preview.row.episode_id == COUNT)
        assert preview.row is not None
        assert preview.row.step == 2
        assert "step 3 of 3" in shown(preview.query_one("#preview-title"))
        await pilot.press("down")
        await until(pilot, lambda: preview.row and preview.row.episode_id == COUNT - 1)
        await pilot.press("y")
        assert pilot.app.clipboard == preview.row.output
        await pilot.press("v")
        await pilot.pause()
        assert not preview.display
        await pilot.press("v")
        await pilot.pause()
        assert preview.display
    async with Host(EpisodesScreen(run)).run_test(size=(80, 24)) as pilot:
        await begin(pilot)
        assert not screen(pilot).query_one(StepPreview).display
        await pilot.press("v")
        await pilot.pause()
        assert screen(pilot).query_one(StepPreview).display
        await pilot.resize_terminal(140, 40)
        await pilot.pause()
        assert screen(pilot).query_one(StepPreview).display


async def test_outcome_and_illegal(run: Path) -> None:
    failures = [id_ for id_ in episodes() if id_ % 3 == 0]
    illegal = [id_ for id_ in episodes() if id_ % 5 == 0]
    async with Host(EpisodesScreen(run)).run_test(size=SIZE) as pilot:
        await begin(pilot)
        for key, wanted in (
            ("f", [id_ for id_ in episodes() if id_ not in failures]),
            ("f", failures),
            ("i", [id_ for id_ in failures if id_ in illegal]),
            ("f", illegal),
            ("i", episodes()),
        ):
            await press(pilot, key)
            assert names(pilot) == [f"e{id_}" for id_ in wanted]
        await press(pilot, "f", "f")
        await until(pilot, lambda: "10 of 30 finished" in shown(screen(pilot).query_one("#episodes-title")))
        assert "outcome failure" in bar(pilot)
        await press(pilot, "escape")
        assert len(names(pilot)) == COUNT
        assert "outcome all" in bar(pilot)


async def test_orders(run: Path) -> None:
    async with Host(EpisodesScreen(run)).run_test(size=SIZE) as pilot:
        await begin(pilot)
        seen = {}
        for _ in ORDERS:
            await press(pilot, "o")
            seen[screen(pilot).view.order] = names(pilot)
        assert set(seen) == set(ORDERS)
        assert seen["oldest"] == [f"e{id_}" for id_ in reversed(episodes())]
        assert seen["lowest return"][:10] == [f"e{id_}" for id_ in range(3, 31, 3)]
        assert all(name.startswith("o") for name in seen["largest |advantage|"])
        rows = list(screen(pilot).feed.rows.values())
        assert len(rows) == COUNT
        await press(pilot, "O")
        assert screen(pilot).view.order == "lowest log-prob"
        ranked = [row.logprob for row in screen(pilot).feed.rows.values()]  # type: ignore[union-attr]
        assert ranked == sorted(ranked)
        await press(pilot, "a")
        advantages = [abs(row.advantage) for row in screen(pilot).feed.rows.values()]  # type: ignore[union-attr]
        assert advantages == sorted(advantages, reverse=True)
        await press(pilot, "i")
        assert all(not row.legal_output for row in screen(pilot).feed.rows.values())  # type: ignore[union-attr]
        await press(pilot, "i", "l")
        assert screen(pilot).view.order == "lowest log-prob"
        await press(pilot, "l")
        assert screen(pilot).view.order == "newest"


async def test_update_range(run: Path) -> None:
    async with Host(EpisodesScreen(run, updates=(2, 2))).run_test(size=SIZE) as pilot:
        await begin(pilot)
        assert names(pilot) == [f"e{id_}" for id_ in range(20, 10, -1)]
        assert "updates 2–2" in bar(pilot)
        await pilot.press("u")
        assert screen(pilot).entry.value == "2-2"
        screen(pilot).entry.value = "2-"
        await press(pilot, "enter")
        assert names(pilot) == [f"e{id_}" for id_ in range(30, 10, -1)]
        await pilot.press("u")
        screen(pilot).entry.value = "7-1"
        await press(pilot, "enter")
        assert screen(pilot).entry.display
        assert screen(pilot).view.filter.updates == (2, 3)
        screen(pilot).entry.value = ""
        await press(pilot, "enter")
        assert len(names(pilot)) == COUNT
        await pilot.press("u", "escape")
        assert not screen(pilot).entry.display


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("", None), (" 12 ", (12, 12)), ("5-20", (5, 20)), ("5 - 20", (5, 20)), ("5–20", (5, 20)), ("5..7", (5, 7)),
     ("5-", (5, 9)), ("-3", (1, 3)), ("12-", (12, 12))],
)  # fmt: skip
def test_ranges(text: str, wanted: tuple[int, int] | None) -> None:
    assert parse_updates(text, (1, 9)) == wanted


@pytest.mark.parametrize("text", ["x", "-", "1-2-3", "9-1", "1,2", "[b]", "9" * 40])
def test_ranges_that_are_none(text: str) -> None:
    with pytest.raises(UsageError):
        parse_updates(text, (1, 9))


async def test_search(run: Path) -> None:
    async with Host(EpisodesScreen(run)).run_test(size=SIZE) as pilot:
        await begin(pilot)
        await pilot.press("slash", *"river st")
        await until(pilot, lambda: screen(pilot).view.text == "river st")
        await settled(pilot)
        assert len(names(pilot)) == 15
        assert all(name.startswith("o") for name in names(pilot))
        assert "river stone" in shown(screen(pilot).table)
        assert "/ river st" in bar(pilot)
        assert "order newest match" in bar(pilot)
        await press(pilot, "enter")
        assert screen(pilot).focused is screen(pilot).table
        preview = screen(pilot).query_one(StepPreview)
        await until(pilot, lambda: preview.row and f"o{preview.row.id}" == names(pilot)[0])
        await press(pilot, "slash")
        assert screen(pilot).entry.value == "river st"
        await press(pilot, "escape")
        assert len(names(pilot)) == COUNT
        assert not screen(pilot).entry.display


async def test_a_search_that_finds_nothing_and_strange_ones(run: Path) -> None:
    async with Host(EpisodesScreen(run)).run_test(size=SIZE) as pilot:
        await begin(pilot)
        for text in ("zzzz", '"', "[b]", "a OR (", "\x1b[31m", "*"):
            await pilot.press("slash")
            screen(pilot).entry.value = text
            await press(pilot, "enter")
            assert screen(pilot).view.text == text
            if not screen(pilot).table.row_count:
                assert "Nothing passes these filters" in shown(screen(pilot).query_one("#episodes-empty"))
        await press(pilot, "escape")
        assert len(names(pilot)) == COUNT


async def test_paging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(episode_list, "PAGE", 20)
    monkeypatch.setattr(episode_list.read_page, "__defaults__", (20,))
    monkeypatch.setattr(module, "NEAR_END", 5)
    run = make_episodes(tmp_path / "run", 130)
    async with Host(EpisodesScreen(run)).run_test(size=(80, 24)) as pilot:
        await begin(pilot)
        assert len(names(pilot)) < 60
        for _ in range(12):
            await press(pilot, "pagedown")
        await until(pilot, lambda: len(names(pilot)) == 130)
        assert names(pilot) == [f"e{id_}" for id_ in episodes(130)]
        await press(pilot, "end")
        assert screen(pilot).table.current == "e1"
        await press(pilot, "l")
        for _ in range(30):
            await press(pilot, "pagedown")
        await until(pilot, lambda: len(names(pilot)) == 390)
        assert len(set(names(pilot))) == 390


async def test_rare_rows_are_looked_for_in_several_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vlmagent.store import browse

    monkeypatch.setattr(browse, "NARROW", 0)
    monkeypatch.setattr(browse, "WINDOW", 5)
    monkeypatch.setattr(browse, "LARGEST_WINDOW", 5)
    original = browse.output_page
    monkeypatch.setattr(episode_list, "output_page", lambda *a, **k: original(*a, **{**k, "seconds": 0.0}))
    run = make_episodes(tmp_path / "run", COUNT)
    async with Host(EpisodesScreen(run)).run_test(size=SIZE) as pilot:
        await begin(pilot)
        await press(pilot, "i", "l")
        assert len(names(pilot)) == 6
        assert screen(pilot).feed.looked_at >= 3 * COUNT - 5


# Replaying


async def test_enter_replays_and_comes_back_to_the_same_row(run: Path) -> None:
    async with Host(EpisodesScreen(run)).run_test(size=SIZE) as pilot:
        await begin(pilot)
        await pilot.press("down", "down", "enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, ReplayScreen) and pilot.app.screen.row)
        replay = pilot.app.screen
        assert isinstance(replay, ReplayScreen)
        assert (replay.episode_id, replay.playback.at) == (28, 0)
        await pilot.press("n")
        await until(pilot, lambda: replay.episode_id == 27)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, EpisodesScreen))
        await until(pilot, lambda: screen(pilot).table.current == "e27")


async def test_enter_on_an_output_shows_that_step(run: Path) -> None:
    async with Host(EpisodesScreen(run)).run_test(size=SIZE) as pilot:
        await begin(pilot)
        await press(pilot, "a")
        row = screen(pilot).current
        assert isinstance(row, episode_list.OutputRow)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, ReplayScreen) and pilot.app.screen.row)
        replay = pilot.app.screen
        assert isinstance(replay, ReplayScreen)
        assert replay.row is not None
        assert replay.row.id == row.id
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, EpisodesScreen))
        assert screen(pilot).table.current == f"o{row.id}"


async def test_compare_and_leaving(run: Path) -> None:
    app = Host(EpisodesScreen(run))
    async with app.run_test(size=SIZE) as pilot:
        await begin(pilot)
        await pilot.press("c")
        await until(pilot, lambda: isinstance(app.screen, CompareScreen))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, EpisodesScreen))
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, EpisodesScreen))


# Evaluations


async def test_the_episodes_of_an_evaluation(run: Path) -> None:
    make_evaluation(run, "step-0", [True, False, True], system="sft")
    path = make_evaluation(run, "step-500", [True, True])
    async with Host(EpisodesScreen(run, updates=(1, 1))).run_test(size=SIZE) as pilot:
        await begin(pilot)
        await pilot.press("d")
        await until(pilot, lambda: isinstance(pilot.app.screen, ChooseScreen))
        await pilot.press("down", "enter")
        await until(
            pilot, lambda: isinstance(pilot.app.screen, EpisodesScreen) and names(pilot) == ["e2", "e1"]
        )
        assert "data rl step-500" in bar(pilot)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, ReplayScreen) and pilot.app.screen.row)
        assert pilot.app.screen.database == path  # type: ignore[attr-defined]
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, EpisodesScreen))
        await pilot.press("d")
        await until(pilot, lambda: isinstance(pilot.app.screen, ChooseScreen))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, EpisodesScreen))
        assert names(pilot) == ["e2", "e1"]
        await pilot.click("#chip-data")
        await until(pilot, lambda: isinstance(pilot.app.screen, ChooseScreen))
        await pilot.press("home", "enter")
        await until(
            pilot, lambda: isinstance(pilot.app.screen, EpisodesScreen) and len(names(pilot)) == COUNT
        )


# Following a run


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(episode_feed, "COUNT_SECONDS", 0.0)


async def test_new_episodes_join_the_top(run: Path, quick: None) -> None:
    with StoreWriter(run / paths.DATABASE) as writer:
        async with Host(EpisodesScreen(run)).run_test(size=SIZE) as pilot:
            await begin(pilot)
            write_episode(writer, 31, 91)
            await until(pilot, lambda: names(pilot)[0] == "e31")
            assert screen(pilot).table.current == "e31"
            assert screen(pilot).feed.waiting == 0
            await until(pilot, lambda: "31 finished" in shown(screen(pilot).query_one("#episodes-title")))


async def test_they_wait_while_the_user_is_elsewhere(run: Path, quick: None) -> None:
    with StoreWriter(run / paths.DATABASE) as writer:
        async with Host(EpisodesScreen(run)).run_test(size=SIZE) as pilot:
            await begin(pilot)
            await pilot.press("down", "down")
            for number in range(3):
                write_episode(writer, 31 + number, 91 + 3 * number)
            await until(pilot, lambda: "▲ 3 new" in bar(pilot))
            assert names(pilot)[0] == "e30"
            assert screen(pilot).table.current == "e28"
            await pilot.press("r")
            await until(pilot, lambda: names(pilot)[0] == "e33")
            assert screen(pilot).table.current == "e28"
            assert "new" not in bar(pilot).split("|")[-1]
            write_episode(writer, 34, 100)
            await until(pilot, lambda: "▲ 1 new" in bar(pilot))
            await pilot.click("#chip-news")
            await until(pilot, lambda: names(pilot)[0] == "e34")
            write_episode(writer, 35, 103)
            await until(pilot, lambda: "▲ 1 new" in bar(pilot))
            await pilot.press("home")
            write_episode(writer, 36, 106)
            await until(pilot, lambda: names(pilot)[:2] == ["e36", "e35"])


async def test_filters_hold_for_new_episodes(run: Path, quick: None) -> None:
    with StoreWriter(run / paths.DATABASE) as writer:
        async with Host(EpisodesScreen(run)).run_test(size=SIZE) as pilot:
            await begin(pilot)
            await press(pilot, "f", "f")
            write_episode(writer, 31, 91, success=True)
            write_episode(writer, 32, 94, success=False)
            await until(pilot, lambda: names(pilot)[0] == "e32")
            assert "e31" not in names(pilot)
            await press(pilot, "o")
            write_episode(writer, 33, 97, success=False)
            writer.flush()
            await pilot.pause(0.2)
            assert names(pilot)[0] == "e3"
            await press(pilot, "r")
            await until(pilot, lambda: names(pilot)[-1] == "e33")


async def test_a_list_that_follows_for_long_stays_short(
    run: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(episode_feed, "MOST_FOLLOWED", 20)
    with StoreWriter(run / paths.DATABASE) as writer:
        async with Host(EpisodesScreen(run)).run_test(size=(80, 24)) as pilot:
            await begin(pilot)
            write_episode(writer, 31, 91)
            # the screen shows about twenty lines, so that a further page may be read again at once
            await until(pilot, lambda: names(pilot)[0] == "e31")
            await press(pilot, "end")
            await until(pilot, lambda: names(pilot)[-1] == "e1")


async def test_the_first_episode_of_a_run(tmp_path: Path, quick: None) -> None:
    run = tmp_path / "run"
    run.mkdir()
    async with Host(EpisodesScreen(run)).run_test(size=SIZE) as pilot:
        await until(pilot, lambda: "no run database" in shown(screen(pilot).query_one("#episodes-problem")))
        with StoreWriter(run / paths.DATABASE) as writer:
            writer.start_run("run", "numberline", "tiny", "{}", 0)
            writer.flush()
            await until(
                pilot, lambda: "No episode has ended yet" in shown(screen(pilot).query_one("#episodes-empty"))
            )
            assert not screen(pilot).query_one("#episodes-problem").display
            write_episode(writer, 1, 1)
            await until(pilot, lambda: names(pilot) == ["e1"])
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(pilot.app.screen, ReplayScreen))


# What goes wrong


async def test_a_run_deleted_meanwhile(run: Path, quick: None) -> None:
    async with Host(EpisodesScreen(run)).run_test(size=SIZE) as pilot:
        await begin(pilot)
        shutil.rmtree(run)
        await until(pilot, lambda: "no run database" in shown(screen(pilot).query_one("#episodes-problem")))
        assert len(names(pilot)) == COUNT
        for key in ("f", "o", "i", "l", "y", "r", "d"):
            await pilot.press(key)
        await until(pilot, lambda: isinstance(pilot.app.screen, ChooseScreen))
        await pilot.press("escape")
        make_episodes(run, 4)
        await until(pilot, lambda: not screen(pilot).query_one("#episodes-problem").display)


@pytest.mark.parametrize("how", ["cut", "text", "newer", "locked"])
async def test_databases_that_cannot_be_read(run: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlmagent.store.reader.BUSY_SECONDS", 0.05)
    path = run / paths.DATABASE
    holder = sqlite3.connect(path, isolation_level=None)
    if how == "cut":
        holder.close()
        path.write_bytes(path.read_bytes()[:9000])
    elif how == "text":
        holder.close()
        path.write_text("not a database " * 500)
    elif how == "newer":
        holder.execute("PRAGMA user_version = 999")
    else:
        holder.execute("PRAGMA journal_mode = delete")
        holder.execute("BEGIN EXCLUSIVE")
    words = {"cut": "damaged", "text": "not a SQLite database", "newer": "newer vlmagent", "locked": "locked"}
    async with Host(EpisodesScreen(run)).run_test(size=SIZE) as pilot:
        await until(pilot, lambda: words[how] in shown(screen(pilot).query_one("#episodes-problem")))
        await pilot.press("down", "enter", "f", "y", "slash", "x", "escape")
        if how == "locked":
            holder.execute("ROLLBACK")
            await begin(pilot)
    holder.close()


async def test_an_older_schema_is_listed_too(run: Path) -> None:
    with sqlite3.connect(run / paths.DATABASE) as connection:
        connection.execute("DROP INDEX transitions_advantage")
        connection.execute("DROP INDEX transitions_logprob")
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    async with Host(EpisodesScreen(run)).run_test(size=SIZE) as pilot:
        await begin(pilot)
        await press(pilot, "a")
        assert len(names(pilot)) == 3 * COUNT


@pytest.mark.parametrize("size", [(80, 24), (160, 40)])
async def test_nasty_text(tmp_path: Path, size: tuple[int, int]) -> None:
    run = make_run(tmp_path / "[red]run[b]", updates=2, text=NASTY)
    async with Host(EpisodesScreen(run)).run_test(size=size) as pilot:
        await begin(pilot)
        await press(pilot, "l")
        if size[0] == 80:
            await press(pilot, "v")
        await until(pilot, lambda: "[red]x[/]" in shown(screen(pilot).query_one(TokenText)).replace("\n", ""))
        await pilot.press("slash", *"abc", "enter")
        await settled(pilot)
        everything = "".join(strip.text for strip in screen(pilot)._compositor.render_strips())
        assert "\x1b" not in everything
        assert "\u202e" not in everything
        assert "[red]run[b]" in shown(screen(pilot).query_one("#episodes-title"))
        assert "abc" in shown(screen(pilot).table)


@pytest.mark.parametrize("width", [30, 44, 72, 80, 120, 200])
@pytest.mark.parametrize("view", [View(), View(order="lowest log-prob"), View(text="x")])
def test_columns_fit(view: View, width: int) -> None:
    columns = columns_for(view, width)
    assert len(columns) >= 4
    assert sum(w + 2 for _, w in columns) + 1 <= max(width, 44)


def test_views() -> None:
    assert View().can_grow
    assert not View(order="oldest").can_grow
    assert View(text=" x ").lists_outputs
    assert not View(text="  ").lists_outputs
    assert View().with_filter(success=True).filter == Filter(success=True)


async def test_every_key_has_words(run: Path) -> None:
    async with Host(EpisodesScreen(run)).run_test(size=SIZE) as pilot:
        await begin(pilot)
        for active in screen(pilot).active_bindings.values():
            if active.node is screen(pilot) and active.binding.action not in (
                "app.focus_next",
                "app.focus_previous",
            ):
                binding = active.binding
                assert (
                    binding.system or (binding.id and binding.tooltip) or binding.key in ("ctrl+c", "super+c")
                ), binding


async def test_typing_does_not_press_keys(run: Path) -> None:
    async with Host(EpisodesScreen(run)).run_test(size=SIZE) as pilot:
        await begin(pilot)
        await pilot.press("slash", *"fiodcy")
        assert screen(pilot).query_one(Input).value == "fiodcy"
        assert screen(pilot).view.filter == Filter()


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
def test_snapshot(tmp_path: Path, snap_compare: Any, size: tuple[int, int]) -> None:
    run = make_episodes(tmp_path / "a-run", COUNT)

    async def settle(pilot: Pilot[Any]) -> None:
        await begin(pilot, COUNT)
        if size[0] > 100:
            await press(pilot, "a")
            await pilot.press("down")
            preview = screen(pilot).query_one(StepPreview)
            await until(pilot, lambda: preview.row and f"o{preview.row.id}" == screen(pilot).table.current)
        await until(pilot, lambda: screen(pilot).feed.summary)
        await pilot.pause()

    assert snap_compare(Host(EpisodesScreen(run)), terminal_size=size, run_before=settle)
