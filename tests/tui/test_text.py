from rich.cells import cell_len
from rich.text import Text

from tests.tui.made_runs import NASTY
from vlmagent.text import duration, harmless, number, percent, sparkline
from vlmagent.tui.text import safe, safe_cell, safe_line, safe_text, told_apart


def is_harmless(text: str) -> bool:
    return not any(character in text for character in "\x1b\x07\r\u202e\u202c\ud800")


def test_offsets_stay_valid() -> None:
    assert len(harmless(NASTY)) == len(NASTY)
    assert harmless("a\x1bb\tc\u200fd\ud800") == "a·b c·d·"
    assert harmless("a\nb") == "a b"
    assert harmless("a\nb\x00", lines=True) == "a\nb·"
    assert harmless("😀 é ש") == "😀 é ש"


def test_blocks_keep_lines_and_say_what_is_missing() -> None:
    text = safe_text(NASTY).plain
    assert is_harmless(text)
    assert text.startswith("[red]x[/] ·[31mANSI")
    assert "\n[boldyyy" in text
    assert text.endswith("more characters)")
    assert len(text) < 21_000
    assert safe("abc", 3) == "abc"


def test_lines_and_cells_are_one_line() -> None:
    line, cell = safe_line(NASTY, 50), safe_cell(NASTY, 50, style="red")
    assert isinstance(cell, Text)
    for text in (line.plain, cell.plain):
        assert is_harmless(text)
        assert "\n" not in text
        assert text.endswith("…")
        assert "[red]x[/]" in text
    assert len(line.plain) == 50
    assert cell_len(cell.plain) == 50


def test_names_that_begin_alike_are_told_apart() -> None:
    names = ["20260102-100000-blackjack", "20260102-113000-blackjack", "mine"]
    assert told_apart(names, 10) == ["…00000-blackjack", "…13000-blackjack", "mine"]
    assert told_apart(names, 40) == names
    assert told_apart(["abcdefgh", "abcdefgh"], 4) == ["abcdefgh", "abcdefgh"]
    assert told_apart(["abcdefgh", "xbcdefgh"], 4) == ["abcdefgh", "xbcdefgh"]
    assert told_apart([], 4) == []


def test_words() -> None:
    values = {float("nan"): "-", 0.0: "0.00", 0.0123: "0.0123", 1.5: "1.50", 172.31: "172.3"}
    assert {value: number(value) for value in values} == values
    assert [number(x) for x in (-3e-5, 2e-12, 5e-5)] == ["-3e-5", "2e-12", "0.0001"]
    assert percent(0.5) == "50.0 %"
    assert duration(3 * 86400 + 3600) == "3 d 1 h"
    assert sparkline([0.0, 1.0], 4) == "▁█"
