import builtins
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from textual.app import App, ComposeResult
from textual.widgets import Static

from tests.tui.driving import shown, until
from vlmagent.errors import UsageError
from vlmagent.tui.data.blocks import GLYPHS, halves, quadrants
from vlmagent.tui.data.half_cells import half_cells
from vlmagent.tui.widgets import picture as module
from vlmagent.tui.widgets.picture import Picture, fit, prepare_graphics


@pytest.fixture(autouse=True)
def no_graphics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_still_widgets", {})
    module.block_lines.cache_clear()


def two_colours(height: int = 8, width: int = 8) -> np.ndarray:
    """Red above, blue below."""
    image = np.zeros((height, width, 3), dtype=np.uint8)
    image[: height // 2, :, 0] = 252
    image[height // 2 :, :, 2] = 252
    return image


class PictureApp(App[None]):
    CSS = "Screen { layers: below; } Picture { width: 20; height: 10; }"

    def __init__(self, image: np.ndarray | None = None, mode: str = "half") -> None:
        super().__init__()
        self.picture = Picture(image, mode)

    def compose(self) -> ComposeResult:
        yield self.picture


@pytest.mark.parametrize(
    ("image", "cells", "wanted"),
    [
        ((300, 300), (60, 30), (60, 60)),
        ((300, 300), (20, 30), (20, 20)),
        ((300, 300), (60, 5), (10, 10)),
        ((100, 400), (60, 30), (60, 16)),
        ((400, 100), (60, 30), (15, 60)),
        ((1, 1000), (60, 30), (60, 2)),
        ((1000, 1), (60, 30), (1, 60)),
        ((10, 10), (1, 1), (1, 2)),
        ((3, 3), (60, 30), (60, 60)),
    ],
)
def test_fits_and_keeps_the_aspect(
    image: tuple[int, int], cells: tuple[int, int], wanted: tuple[int, int]
) -> None:
    pixels = half_cells(np.zeros((*image, 3), dtype=np.uint8), *cells)
    assert (pixels.shape[1], pixels.shape[0]) == wanted
    assert pixels.shape[0] % 2 == 0


def test_fit_knows_the_shape_of_a_cell() -> None:
    assert fit(300, 300, 60, 30, (1.0, 2.0)) == (60, 30)
    assert fit(300, 300, 60, 30, (10.0, 10.0)) == (30, 30)
    assert fit(1, 5000, 60, 30, (1.0, 2.0)) == (1, 30)
    assert fit(0, 0, 60, 30, (1.0, 2.0)) == (1, 1)


async def test_draws_two_pixels_a_cell() -> None:
    app = PictureApp(two_colours())
    async with app.run_test(size=(20, 10)) as pilot:
        await pilot.pause()
        strips = [app.picture.render_line(y) for y in range(10)]
        assert all(strip.cell_length == 20 for strip in strips)
        red, blue = (
            next(s.style for s in strips[y] if s.style and s.style.bgcolor and s.style.color) for y in (0, 9)
        )
        assert red.bgcolor.triplet == (252, 0, 0)
        assert blue.bgcolor.triplet == (0, 0, 252)
        app.picture.show(two_colours(6))
        await pilot.pause()
        middle = [s for y in range(10) for s in app.picture.render_line(y) if "▀" in s.text]
        assert {(s.style.color.triplet, s.style.bgcolor.triplet) for s in middle if s.style} <= {
            ((252, 0, 0), (0, 0, 252))
        }


def drawn(cells: Any) -> np.ndarray:
    """The pixels that a terminal shows of cells, (2r, 2c) of 0xRRGGBB."""
    places = {" ": (), "▀": (0, 1), "▌": (0, 2), "▘": (0,), "▝": (1,), "▖": (2,), "▗": (3,), "▚": (0, 3)}
    r, c = cells.glyph.shape
    found = np.zeros((r, c, 4), dtype=np.int64)
    for row, column in np.ndindex(r, c):
        found[row, column] = cells.back[row, column]
        found[row, column, list(places[GLYPHS[cells.glyph[row, column]]])] = cells.front[row, column]
    return found.reshape(r, c, 2, 2).transpose(0, 2, 1, 3).reshape(2 * r, 2 * c)


def test_quadrants_show_any_two_colours_of_four_pixels() -> None:
    pattern = np.array([[(n >> k) & 1 for k in range(4)] for n in range(16)], dtype=np.uint8)
    # sixteen cells side by side, of two colours in every arrangement
    image = pattern.reshape(16, 2, 2).transpose(1, 0, 2).reshape(2, 32)
    colours = np.array([[0, 100, 252], [252, 40, 0]], dtype=np.uint8)[image]
    assert drawn(quadrants(colours, 16, 1)).tolist() == np.where(image, 0xFC2800, 0x0064FC).tolist()


def test_quadrants_are_as_large_as_half_blocks_and_twice_as_sharp() -> None:
    # strokes as thin as half a cell, as small digits have them
    image = np.full((20, 20, 3), 252, dtype=np.uint8)
    image[:, 3::5] = 0
    for columns, rows in ((10, 5), (7, 9), (1, 1), (30, 3)):
        assert quadrants(image, columns, rows).glyph.shape == halves(image, columns, rows).glyph.shape
    assert (drawn(quadrants(image, 10, 5))[0] & 255).tolist() == image[0, :, 0].tolist()
    assert 0 not in drawn(halves(image, 10, 5)) & 255


def test_a_plain_cell_is_a_blank() -> None:
    for draw in (halves, quadrants):
        assert not draw(np.full((30, 30, 3), 77, dtype=np.uint8), 10, 5).glyph.any()


async def test_linux_console_has_half_blocks_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_sys, fake_os = terminal(stdin=False)
    fake_os.environ["TERM"] = "linux"
    monkeypatch.setattr(module, "sys", fake_sys)
    monkeypatch.setattr(module, "os", fake_os)
    assert prepare_graphics("auto").mode == "half"


@pytest.mark.parametrize("mode", ["half", "quadrant"])
async def test_modes_draw_their_characters(mode: str) -> None:
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    image[:, ::2] = 252
    app = PictureApp(image, mode)
    async with app.run_test(size=(20, 10)) as pilot:
        app.picture.styles.width, app.picture.styles.height = 4, 2
        await pilot.pause()
        assert ("▌" in shown(app.picture)) is (mode == "quadrant")


async def test_every_size_and_shape_is_drawn_in_full() -> None:
    rng = np.random.default_rng(0)
    app = PictureApp()
    async with app.run_test(size=(80, 24)) as pilot:
        for shape in ((1, 1), (1, 50), (50, 1), (7, 13), (300, 300), (200, 31)):
            for width, height in ((1, 1), (2, 7), (40, 3), (79, 23)):
                app.picture.styles.width, app.picture.styles.height = width, height
                app.picture.show(rng.integers(0, 256, (*shape, 3), dtype=np.uint8))
                await pilot.pause()
                assert [app.picture.render_line(y).cell_length for y in range(height)] == [width] * height


async def test_says_when_there_is_no_picture_and_in_mode_off() -> None:
    app = PictureApp()
    async with app.run_test(size=(20, 10)) as pilot:
        assert "no picture" in shown(app.picture)
        app.picture.show(two_colours())
        await pilot.pause()
        assert "no picture" not in shown(app.picture)
        app.picture.show(None)
        await pilot.pause()
        assert "no picture" in shown(app.picture)
    app = PictureApp(two_colours(30, 40), "off")
    async with app.run_test(size=(20, 10)):
        assert "40 × 30 pixels" in shown(app.picture)


def test_other_modes_are_refused() -> None:
    with pytest.raises(UsageError, match="Did you mean 'sixel'"):
        Picture(mode="sixle")
    with pytest.raises(UsageError, match="Valid choices: auto, kitty, sixel, quadrant, half, off"):
        prepare_graphics("ascii art")


async def test_frames_are_kept_by_content_and_size(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[int, int]] = []
    original = module._draw
    monkeypatch.setattr(
        module, "_draw", lambda pixels, c, r, base: drawn.append((c, r)) or original(pixels, c, r, base)
    )
    app = PictureApp(two_colours())
    async with app.run_test(size=(40, 20)) as pilot:
        for image in (two_colours(), two_colours(10), two_colours(), two_colours(10)):
            app.picture.show(image.copy())
            await pilot.pause()
            shown(app.picture)
        assert len(drawn) == 2
        app.picture.styles.width = 30
        await pilot.pause()
        shown(app.picture)
        assert drawn[-1] == (30, 10)


# The terminal's own graphics


class FakeStill(Static):
    def __init__(self, image: Image.Image) -> None:
        super().__init__("still")
        self.image = image


@pytest.mark.parametrize(
    ("mode", "uses"), [("kitty", True), ("auto", True), ("sixel", False), ("half", False)]
)
async def test_stills_are_the_terminals_and_moving_pictures_are_half_cells(
    monkeypatch: pytest.MonkeyPatch, mode: str, uses: bool
) -> None:
    monkeypatch.setattr(module, "_still_widgets", {"kitty": FakeStill, "auto": FakeStill})
    app = PictureApp(two_colours(), mode)
    async with app.run_test(size=(40, 20)) as pilot:
        app.picture.show(two_colours(10), moving=True)
        await pilot.pause()
        assert not app.query(FakeStill)
        app.picture.show(two_colours(10), moving=False)
        if not uses:
            await pilot.pause()
            assert not app.query(FakeStill)
            return
        await until(pilot, lambda: len(app.query(FakeStill)) == 1)
        still = app.query_one(FakeStill)
        await until(pilot, lambda: still.size == (16, 10))
        assert shown(app.picture).strip() == ""
        app.picture.show(two_colours(12))
        await until(pilot, lambda: len(app.query(FakeStill)) == 1 and app.query_one(FakeStill) is not still)
        app.picture.show(two_colours(12), moving=True)
        await until(pilot, lambda: not app.query(FakeStill))
        app.picture.show(None)
        await pilot.pause()
        assert "no picture" in shown(app.picture)


@pytest.mark.parametrize("mode", ["quadrant", "half", "off"])
def test_nothing_is_imported_for_half_cells(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    monkeypatch.setattr(module, "_load_textual_image", lambda: pytest.fail("imported"))
    assert prepare_graphics(mode) == module.Graphics(mode)


def terminal(stdin: bool = True, stdout: bool = True, size: tuple[int, int] = (80, 24)) -> Any:
    stream = lambda tty: SimpleNamespace(isatty=lambda: tty, fileno=lambda: 1)  # noqa: E731
    fake = SimpleNamespace(__stdin__=stream(stdin), __stdout__=stream(stdout))
    return fake, SimpleNamespace(get_terminal_size=lambda _: size, environ={"TERM": "xterm"})


@pytest.mark.parametrize("mode", ["auto", "kitty", "sixel"])
@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"stdin": False}, "not both a terminal"),
        ({"stdout": False}, "not both a terminal"),
        ({"size": (0, 0)}, "zero"),
    ],
)
def test_a_terminal_that_must_not_be_questioned(
    monkeypatch: pytest.MonkeyPatch, mode: str, how: dict[str, Any], reason: str
) -> None:
    fake_sys, fake_os = terminal(**how)
    monkeypatch.setattr(module, "sys", fake_sys)
    monkeypatch.setattr(module, "os", fake_os)
    monkeypatch.setattr(module, "_load_textual_image", lambda: pytest.fail("imported"))
    found = prepare_graphics(mode)
    assert found.mode == "quadrant"
    assert (reason in found.notice) is (mode != "auto")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ImportError("no"), "pip install"),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError"),
        (OSError(25, "Inappropriate ioctl"), "Inappropriate ioctl"),
    ],
)
def test_whatever_textual_image_raises_means_half_cells(
    monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    fake_sys, fake_os = terminal()
    monkeypatch.setattr(module, "sys", fake_sys)
    monkeypatch.setattr(module, "os", fake_os)

    def load() -> str:
        raise error

    monkeypatch.setattr(module, "_load_textual_image", load)
    assert prepare_graphics("auto") == module.Graphics("quadrant")
    found = prepare_graphics("kitty")
    assert (found.mode, reason in found.notice) == ("quadrant", True)


@pytest.mark.parametrize(
    ("chosen", "mode", "wanted"),
    [("kitty", "auto", "kitty"), ("half", "auto", "quadrant"), ("sixel", "kitty", "kitty")],
)
def test_what_the_terminal_can_do(
    monkeypatch: pytest.MonkeyPatch, chosen: str, mode: str, wanted: str
) -> None:
    fake_sys, fake_os = terminal()
    monkeypatch.setattr(module, "sys", fake_sys)
    monkeypatch.setattr(module, "os", fake_os)

    def load() -> str:
        module._still_widgets.update(kitty=FakeStill, sixel=FakeStill)
        return chosen

    monkeypatch.setattr(module, "_load_textual_image", load)
    assert prepare_graphics(mode) == module.Graphics(wanted)


def test_the_real_library_can_be_loaded() -> None:
    """Without a terminal it asks nothing; what it offers is what we use."""
    pytest.importorskip("textual_image")
    code = "from vlmagent.tui.widgets import picture as p; print(p._load_textual_image(), sorted(p._still_widgets))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=True
    )
    assert done.stdout.strip() == "half ['kitty', 'sixel']"


def test_it_is_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def refuse(name: str, *more: Any, **named: Any) -> Any:
        if name.startswith("textual_image"):
            raise ImportError(name)
        return original(name, *more, **named)

    fake_sys, fake_os = terminal()
    monkeypatch.setattr(module, "sys", fake_sys)
    monkeypatch.setattr(module, "os", fake_os)
    monkeypatch.setattr(builtins, "__import__", refuse)
    assert "textual-image is not installed" in prepare_graphics("sixel").notice
