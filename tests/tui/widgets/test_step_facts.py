from dataclasses import replace
from pathlib import Path

import pytest

from tests.tui.made_episodes import make_episodes
from vlmagent.paths import Run
from vlmagent.store.reader import StoreReader
from vlmagent.tui.data.step_text import step_facts, thought_weight


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_episodes(tmp_path / "a-run", 5)


def test_facts_in_little_and_much_room(run: Run) -> None:
    with StoreReader(run.database) as reader:
        steps = reader.transitions(5)
    for width, names in ((43, ("return so far", "advantage")), (42, ("so far", "adv."))):
        lines = step_facts(steps, 2, 0.5, width).plain.split("\n")
        assert all(name in "\n".join(lines) for name in names)
        assert len(lines) == 6
        assert all(len(line) <= width for line in lines)
    cut = replace(steps[0], bootstrap_value=0.75, value=None, logprob=None)
    text = step_facts([cut], 0, 0.5).plain
    assert "V of what follows +0.75" in text
    assert "log p =" not in text


def test_weights_of_thoughts(run: Run) -> None:
    with StoreReader(run.database) as reader:
        row = reader.run()
    assert row is not None
    assert thought_weight(row) == 0.5
    assert thought_weight(None) is None
    for text in ("{}", "[]", "not json", '{"ppo": {"thought_weight": null}}'):
        assert thought_weight(replace(row, config_json=text)) is None


def test_who_decided(run: Run) -> None:
    with StoreReader(run.database) as reader:
        step = reader.transitions(4)[0]
    assert step_facts([step], 0).plain.split("\n")[0] == "action +  legal"
    played = replace(step, actor="[b]model\x1b[0m step-512", legal_output=False)
    line = step_facts([played], 0).plain.split("\n")[0]
    assert line.startswith("action +  drawn (illegal)  by [b]model")
    assert "\x1b" not in line
