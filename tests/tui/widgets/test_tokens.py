import functools
import math
import random
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.cells import cell_len
from textual.app import App, ComposeResult

from tests.models.made_tokenizers import KINDS
from tests.store.records import step
from tests.tui.driving import shown, until
from tests.tui.made_episodes import END, tokenizer, transition
from tests.tui.made_runs import NASTY
from vlmagent import paths
from vlmagent.paths import Run
from vlmagent.store.codec import clean_text
from vlmagent.store.reader import StoreReader
from vlmagent.store.rows import TransitionRow
from vlmagent.store.writer import StoreWriter
from vlmagent.tui.data import token_layout
from vlmagent.tui.data.pieces import PieceReader, Pieces, split_output
from vlmagent.tui.data.token_layout import Output, facts, lay_out, legend, level, probability, wrap
from vlmagent.tui.widgets.tokens import Tokens, TokenText
from vlmagent.types import EpisodeStart

TEXTS = (
    "", "a", "plain words", "héllo wörld", "😀", "👨‍👩‍👧 family", "שלום", "\n\n\n", "tab\tand\x1b[31mcolour",
    "日本語のテキスト", '{"action": "+"}', "é" * 300, "� real replacement", "mixed 😀 é � end",
)  # fmt: skip


# Cutting outputs


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("make", [tokenizer, *KINDS])
def test_pieces_are_the_output(text: str, make: Any) -> None:
    made = make()
    ids = made.encode(text).ids
    output = made.decode(ids)
    found = split_output(output, ids, made.decode, made.id_to_token)
    assert found is not None
    assert "".join(found.texts) == output
    assert len(found.texts) == len(ids)


@pytest.mark.parametrize("seed", range(30))
def test_any_ids_are_cut(seed: int) -> None:
    """Random ids write broken characters, special tokens, anything."""
    rng = random.Random(seed)
    made = tokenizer()
    ids = [rng.randrange(made.get_vocab_size()) for _ in range(rng.randrange(0, 600))]
    output = made.decode(ids)
    found = split_output(output, ids, made.decode, made.id_to_token)
    assert found is not None
    assert "".join(found.texts) == output
    assert len(found.texts) == len(ids)


def test_whose_piece_a_character_is() -> None:
    made = tokenizer()
    ids = made.encode("a😀b").ids
    found = split_output("a😀b", ids, made.decode, made.id_to_token)
    assert found is not None
    assert [text for text in found.texts if text] == ["a", "😀", "b"]
    assert found.texts[0] == "a"
    assert found.texts[-2:] == ("😀", "b")
    assert found.names == {}
    end = made.token_to_id(END)
    found = split_output("a", [*made.encode("a").ids, end], made.decode, made.id_to_token)
    assert found == Pieces(("a", ""), {1: END})


def test_every_token_of_a_long_output_is_where_the_whole_prefix_says() -> None:
    made = tokenizer()
    text = "número 😀 says äpfel and [bold] " * 60
    ids = made.encode(text).ids
    found = split_output(text, ids, made.decode)
    assert found is not None
    length = 0
    for k, piece in enumerate(found.texts):
        length += len(piece)
        whole = made.decode(ids[: k + 1])
        if not whole.endswith("�"):
            assert length == len(whole)


def test_another_models_ids_are_not_cut() -> None:
    made = tokenizer()
    assert split_output("abc", made.encode("abd").ids, made.decode) is None
    assert split_output("abc", [10**9], made.decode) is None
    assert split_output("", [5], made.decode) is None

    def broken(_: list[int]) -> str:
        raise OverflowError

    assert split_output("abc", [1], broken) is None


def test_the_tokenizer_of_a_run(tmp_path: Path) -> None:
    row = transition(1, 1, 0).decision.generation
    assert row is not None
    run = Run(tmp_path / "run")
    assert PieceReader(run).split(row.text, row.token_ids) is None
    folder = run.checkpoints / "step-5"
    folder.mkdir(parents=True)
    tokenizer().save(str(folder / "tokenizer.json"))
    reader = PieceReader(run)
    found = reader.split(row.text, row.token_ids)
    assert found is not None
    assert found.names == {len(row.token_ids) - 1: END}
    assert reader.split(row.text, row.token_ids) is found
    assert PieceReader(run, "step-5").split(row.text, row.token_ids) == found
    assert PieceReader(run, "step-gone").split(row.text, row.token_ids) == found
    (run.checkpoints / paths.LATEST).mkdir()
    (run.checkpoints / paths.LATEST / "tokenizer.json").write_text("{ not json")
    assert PieceReader(run).split(row.text, row.token_ids) == found


def test_several_threads_may_ask(tmp_path: Path) -> None:
    run = Run(tmp_path)
    folder = run.checkpoints / paths.LATEST
    folder.mkdir(parents=True)
    tokenizer().save(str(folder / "tokenizer.json"))
    reader, found = PieceReader(run), []
    rows = [transition(k, 1, 0).decision.generation for k in range(1, 30)]
    ask = lambda: found.extend(reader.split(row.text, row.token_ids) for row in rows if row)  # noqa: E731
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 * 29
    assert None not in found


# Laying out


@pytest.mark.parametrize("width", [2, 3, 7, 20, 80])
@pytest.mark.parametrize(
    "text", [*TEXTS, "x" * 500, "one " * 100, "日本" * 90, " " * 300, "a\nb\n", "ab " + "y" * 99 + " z"]
)
def test_lines_hold_everything_once(text: str, width: int) -> None:
    lines = list(wrap(text, width))
    assert "".join(text[start:end] for start, end in lines) == text
    assert all(end > start for start, end in lines)
    for start, end in lines:
        assert cell_len(text[start:end].rstrip()) <= width
        assert "\n" not in text[start : end - 1]


def test_words_stay_together() -> None:
    text = "the quick brown fox"
    assert [text[start:end] for start, end in wrap(text, 10)] == ["the quick ", "brown fox"]
    assert [text[start:end] for start, end in wrap(text, 9)] == ["the quick ", "brown fox"]


def test_a_hundred_kilobytes_are_laid_out_whole() -> None:
    for text in ("x" * 100_000, "word " * 20_000, "日本語" * 33_000, "\n" * 100_000):
        layout = lay_out([text[k : k + 4] for k in range(0, len(text), 4)], {}, 70)
        assert sum(len(span.text) for line in layout.lines for span in line) == len(text)


def test_where_tokens_begin() -> None:
    layout = lay_out(["one ", "two", "", " three\n", "four", ""], {5: "</s>"}, 8)
    assert ["".join(span.text for span in line) for line in layout.lines] == [
        "one two ",
        "three↵",
        "four‹</s",
        ">›",
    ]
    assert layout.first == (0, 0, 0, 0, 2, 2)
    assert [span.token for span in layout.lines[0]] == [0, 1, 3]


def test_levels_and_words() -> None:
    assert [level(math.log(p)) for p in (1.0, 0.96, 0.9, 0.6, 0.3, 0.1, 0.01)] == [0, 0, 1, 2, 3, 4, 5]
    assert level(math.nan) == 0
    assert level(-math.inf) == 5
    assert level(0.5) == 0
    assert [probability(x) for x in (0.0, -1.0, -9.0, -math.inf, math.nan)] == [
        "100.0 %",
        "36.8 %",
        "0.012 %",
        "0 %",
        "unknown",
    ]
    assert "action" in legend().plain


# The widget


def row_of(tmp_path: Path, **more: Any) -> TransitionRow:
    with StoreWriter(tmp_path / "run.db") as writer:
        writer.episode_started(EpisodeStart(1, "train", 0, 1))
        writer.transition(more.pop("made", None) or step(1, **more))
    with StoreReader(tmp_path / "run.db") as reader:
        row = reader.transition(1)
    assert row is not None
    return row


class TokenApp(App[None]):
    def compose(self) -> ComposeResult:
        yield Tokens()


def pieces_of(row: TransitionRow) -> Pieces:
    assert row.token_ids is not None
    return split(row.output, tuple(row.token_ids.tolist()))


@functools.cache
def split(output: str, ids: tuple[int, ...]) -> Pieces:
    """Once for each output: a hundred thousand tokens take seconds."""
    found = split_output(output, list(ids), tokenizer().decode, tokenizer().id_to_token)
    assert found is not None
    return found


async def test_colours_action_and_cursor(tmp_path: Path) -> None:
    row = row_of(tmp_path, made=transition(1, 1, 0))
    app = TokenApp()
    async with app.run_test(size=(60, 16)) as pilot:
        widget, text = app.query_one(Tokens), app.query_one(TokenText)
        widget.show(row, pieces_of(row))
        await pilot.pause()
        plain = shown(text)
        assert "".join(plain.split()).startswith('{↵"thoughts":')
        assert f"‹{END}›" in plain
        assert row.action_start is not None
        count = len(pieces_of(row).texts)
        assert str(widget.border_title) == f"output · {count} tokens, {count - row.action_start} action"
        styles = {}
        for line in range(len(text.laid_out.lines)):
            for span, segment in zip(text.laid_out.lines[line], text.render_line(line), strict=False):
                styles[span.token] = segment.style
        assert not styles[0].underline
        assert styles[row.action_start].underline
        assert styles[0].bgcolor != styles[count - 1].bgcolor
        widget.move(1)
        assert widget.cursor == 0
        await pilot.pause()
        assert next(iter(text.render_line(0))).style.bgcolor != styles[0].bgcolor
        assert "1/" in shown(widget.query_one("#token-facts"))
        widget.move(-1)
        assert widget.cursor == 0
        widget.move_to(-1)
        widget.move(-1)
        assert widget.cursor == count - 1
        widget.move(5)
        assert widget.cursor == count - 1
        assert f"‹{END}›" in shown(widget.query_one("#token-facts"))
        widget.move_to_worst()
        assert widget.cursor == count - 1
        widget.move_to(999)
        assert widget.cursor == count - 1
        widget.show(None)
        await pilot.pause()
        assert widget.cursor == -1
        assert shown(text).strip() == ""


async def test_the_mouse_tells_and_chooses(tmp_path: Path) -> None:
    row = row_of(tmp_path, made=transition(1, 1, 0))
    app = TokenApp()
    heard = []
    async with app.run_test(size=(60, 16)) as pilot:
        widget, text = app.query_one(Tokens), app.query_one(TokenText)
        widget.post_message = lambda message, _send=widget.post_message: (
            heard.append(message),
            _send(message),
        )[1]  # type: ignore[method-assign]
        widget.show(row, pieces_of(row))
        await pilot.pause()
        await pilot.hover(TokenText, offset=(3, 1))
        await until(pilot, lambda: "log p" in shown(widget.query_one("#token-facts")))
        assert widget.cursor == -1
        await pilot.click(TokenText, offset=(0, 0))
        await until(pilot, lambda: widget.cursor == 0)
        await pilot.click(TokenText, offset=(55, 12))
        await pilot.pause()
        assert widget.cursor == 0
        assert text.token_at(-1, -1) in (-1, 0)
        assert [message.token for message in heard if isinstance(message, Tokens.Highlighted)] == [0]


async def test_without_the_tokenizer_there_are_bars(tmp_path: Path) -> None:
    row = row_of(tmp_path, output="a plain output", tokens=150)
    app = TokenApp()
    async with app.run_test(size=(60, 16)) as pilot:
        widget, text = app.query_one(Tokens), app.query_one(TokenText)
        widget.show(row, None)
        await pilot.pause()
        lines = shown(text).splitlines()
        assert lines[0].startswith("a plain output")
        assert "150 tokens, no tokenizer" in shown(text)
        assert sum(character in token_layout.BARS for character in shown(text)) == 150
        assert next(iter(text.render_line(0))).style.bgcolor == text.rich_style.bgcolor
        widget.move_to(149)
        await pilot.pause()
        assert "text unknown" in shown(widget.query_one("#token-facts"))
        assert f"id {row.token_ids[149]}" in shown(widget.query_one("#token-facts"))  # type: ignore[index]


async def test_agents_without_tokens(tmp_path: Path) -> None:
    row = row_of(tmp_path, output="the expert says +", generation=None)
    app = TokenApp()
    async with app.run_test(size=(60, 16)) as pilot:
        widget = app.query_one(Tokens)
        widget.show(row, None)
        await pilot.pause()
        assert "the expert says +" in shown(app.query_one(TokenText))
        assert "no tokens" in str(widget.border_title)
        widget.move(1)
        widget.move_to_worst()
        assert widget.cursor == -1


@pytest.mark.parametrize("size", [(20, 6), (80, 24), (200, 60)])
async def test_nasty_outputs_are_text(tmp_path: Path, size: tuple[int, int]) -> None:
    """Markup, escapes, direction overrides, surrogates, emoji and a hundred kilobytes without a space."""
    made = transition(1, 1, 0, output=clean_text(NASTY))
    row = row_of(tmp_path, made=made)
    app = TokenApp()
    async with app.run_test(size=size) as pilot:
        widget, text = app.query_one(Tokens), app.query_one(TokenText)
        for pieces in (pieces_of(row), None):
            widget.show(row, pieces)
            await pilot.pause()
            everything = "".join(text.render_line(y).text for y in range(text.size.height))
            assert "[red]x[/]" in "".join(everything.split())
            assert not any(
                ord(character) < 32 or character in "\u202e\u202c\u2066" for character in everything
            )
            assert all(text.render_line(y).cell_length == text.size.width for y in range(text.size.height))
            widget.move_to(len(widget.output.ids) - 1)
            await pilot.pause()
            assert text.scroll_offset.y > 10
            shown(widget.query_one("#token-facts"))
            widget.scroll_text(-3)


async def test_the_text_is_wrapped_anew_when_the_size_changes(tmp_path: Path) -> None:
    row = row_of(tmp_path, made=transition(1, 1, 0))
    app = TokenApp()
    async with app.run_test(size=(60, 16)) as pilot:
        app.query_one(Tokens).show(row, pieces_of(row))
        await pilot.pause()
        before = len(app.query_one(TokenText).laid_out.lines)
        await pilot.resize_terminal(24, 16)
        await until(pilot, lambda: len(app.query_one(TokenText).laid_out.lines) > before)
        app.theme = "textual-light"
        await pilot.pause()
        shown(app.query_one(TokenText))


def test_facts_of_a_part_of_a_character() -> None:
    made = tokenizer()
    ids = made.encode("😀").ids
    pieces = split_output("😀", ids, made.decode, made.id_to_token)
    output = Output("😀", tuple(ids), tuple(np.zeros(len(ids))), len(ids), pieces)
    assert "part of a character" in facts(output, 0).plain
    assert "😀" in facts(output, len(ids) - 1).plain
