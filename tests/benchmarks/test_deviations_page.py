"""The page of deviations says what the recipes say."""

import importlib.util
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "deviations_page.py"
spec = importlib.util.spec_from_file_location("deviations_page", SCRIPT)
assert spec is not None
assert spec.loader is not None
page = importlib.util.module_from_spec(spec)
spec.loader.exec_module(page)


def test_the_page_is_up_to_date():
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.filled(text) == text, "run: python benchmarks/deviations_page.py"


def test_every_setting_that_differs_is_in_the_table():
    assert "| `ppo.gamma` | 1 (0.9) | 1 (0.9) | 1 (0.9) | 1 (0.9) | 0.9 |" in page.table()
    assert "`ppo.epochs`" not in page.table()  # 4 everywhere, as the paper's


def test_settings_with_a_reason_exist():
    text = page.PAGE.read_text(encoding="utf-8")
    known = page.settings("numberline")
    named = {word for word in text.split("`") if word.startswith(("ppo.", "rollout.")) and " " not in word}
    assert {word.split(":")[0] for word in named} <= set(known)
