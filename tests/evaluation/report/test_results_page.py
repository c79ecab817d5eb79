"""docs/results.md says what the records beside it say."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "results_page.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("results_page", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_filled_from_its_records(script, tmp_path: Path):
    page = script.PAGE.read_text(encoding="utf-8")
    text, missing = script.filled(page, tmp_path / "results")
    assert missing == []
    assert text == page, "records or tables changed: run python benchmarks/results_page.py"
    assert text.count("<!-- end -->") == 6


def test_words_are_left_alone_and_what_is_missing_is_told(
    script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(script, "RECORDS", tmp_path / "docs" / "records")
    monkeypatch.setattr(script, "DOCS", tmp_path / "docs")
    page = "words\n<!-- table3 -->\nold\n<!-- end -->\nmore words\n"
    text, missing = script.filled(page, tmp_path / "results")
    assert text.startswith("words\n<!-- table3 -->\n\n| success % | NumberLine | EZPoints |")
    assert text.endswith("<!-- end -->\nmore words\n")
    assert "old" not in text
    assert "table3: numberline: RL with CoT, seed 0, not trained" in missing
