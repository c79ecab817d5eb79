from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from tests.tui.driving import shown, until
from tests.tui.made_episodes import Host, make_episodes
from tests.tui.screens.episodes_pilot import COUNT, SIZE, bar, begin, episodes, names, press, screen, settled
from vlmagent.errors import UsageError
from vlmagent.paths import Run
from vlmagent.store.browse import Filter
from vlmagent.tui.data import episode_list
from vlmagent.tui.data.episode_list import ORDERS, View, columns_for, parse_updates
from vlmagent.tui.screens import episodes as module
from vlmagent.tui.screens.episodes import EpisodesScreen
from vlmagent.tui.widgets.step_preview import StepPreview


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_episodes(tmp_path / "a-run", COUNT)


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


async def test_the_step_beside_the_list(run: Run) -> None:
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


async def test_outcome_and_illegal(run: Run) -> None:
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


async def test_orders(run: Run) -> None:
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


async def test_update_range(run: Run) -> None:
    async with Host(EpisodesScreen(run, updates=(2, 2))).run_test(size=SIZE) as pilot:
        await begin(pilot)
        assert names(pilot) == [f"e{id_}" for id_ in range(20, 10, -1)]
        assert "updates 2 |" in bar(pilot)
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


async def test_search(run: Run) -> None:
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


async def test_a_search_that_finds_nothing_and_strange_ones(run: Run) -> None:
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
    run = make_episodes(tmp_path / "run", 70)
    async with Host(EpisodesScreen(run)).run_test(size=(80, 24)) as pilot:
        await begin(pilot)
        assert len(names(pilot)) < 60
        for _ in range(7):
            await press(pilot, "pagedown")
        await until(pilot, lambda: len(names(pilot)) == 70)
        assert names(pilot) == [f"e{id_}" for id_ in episodes(70)]
        await press(pilot, "end")
        assert screen(pilot).table.current == "e1"
        await press(pilot, "l")
        for _ in range(16):
            await press(pilot, "pagedown")
        await until(pilot, lambda: len(names(pilot)) == 210)
        assert len(set(names(pilot))) == 210


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


async def test_every_key_has_words(run: Run) -> None:
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


async def test_typing_does_not_press_keys(run: Run) -> None:
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
