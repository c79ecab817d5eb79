import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.play.made import EASY, config, plan_play
from tests.play.test_session import play_to_the_end, right
from vlmagent.cli.main import app as command
from vlmagent.errors import UsageError
from vlmagent.paths import Run
from vlmagent.play.plan import plan_run
from vlmagent.play.samples import export_sft
from vlmagent.play.session import YOU, PlaySession
from vlmagent.runs import folders
from vlmagent.tasks.registry import build_task
from vlmagent.types import Decision, ParsedAction


@pytest.fixture
def run() -> Run:
    """A run beside which a person played two episodes, the first one without a wrong step."""
    run = folders.create_run(config())
    session = PlaySession(plan_run(run, "human"))
    play_to_the_end(session)
    session.begin()
    session.choose("-" if right(session.moments[YOU]) == "+" else "+")
    play_to_the_end(session)
    session.close()
    return run


def records(out: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads((out / "data.json").read_text())
    return found


def test_what_a_person_played(run: Run, tmp_path: Path) -> None:
    exported = export_sft(run, tmp_path / "out")
    found = records(tmp_path / "out")
    (database,) = run.plays.glob("*.db")
    with sqlite3.connect(database) as connection:
        steps = connection.execute(
            "SELECT action, prompt, episode_id FROM transitions ORDER BY id"
        ).fetchall()
        seeds = dict(connection.execute("SELECT id, seed FROM episodes").fetchall())
    assert exported.samples == len(found) == len(steps)
    assert (exported.actors, exported.left_out) == ({"human"}, [])
    task = build_task("numberline")
    image, state = task.make_env().reset(seed=seeds[1])
    first = found[0]
    assert first["conversations"] == [
        {"from": "human", "value": f"<image>\n{task.prompt(task.observe(image, state))}"},
        {"from": "gpt", "value": task.expert_response(state, steps[0][0])},
    ]
    written = np.asarray(Image.open(tmp_path / "out" / str(first["image"])))
    assert np.array_equal(written, image)
    for record, (action, prompt, _) in zip(found, steps, strict=True):
        turns = record["conversations"]
        assert isinstance(turns, list)
        assert turns[0]["value"] == f"<image>\n{prompt}"
        assert json.loads(turns[1]["value"])["action"] == action


def test_only_successes(run: Run, tmp_path: Path) -> None:
    assert (
        export_sft(run, tmp_path / "all").samples
        > export_sft(run, tmp_path / "good", successes=True).samples
        > 0
    )


def test_a_card_that_is_not_held_is_left_out(tmp_path: Path) -> None:
    session = PlaySession(plan_play("ezpoints", human=True, seed=EASY))
    numbers = session.moments[YOU].state["numbers"]
    absent = next(str(n) for n in range(1, 11) if n not in numbers)
    for action in (absent, str(numbers[0]), "="):
        session.choose(action)
    session.close()
    assert export_sft(Run(session.database.parent), tmp_path / "out").samples == 2
    answers = [json.loads(record["conversations"][1]["value"]) for record in records(tmp_path / "out")]  # type: ignore[index]
    assert [answer["action"] for answer in answers] == [str(numbers[0]), "="]


def test_a_models_own_words(tmp_path: Path) -> None:
    session = PlaySession(plan_play("numberline", opponent="expert", seed=EASY))
    for legal in (False, True):
        output = f'{{"thoughts": "mine", "action": "{"+" if legal else "?"}"}}'
        moment = session.moments[YOU]
        decision = Decision(
            moment.prompt, output, "mine", ParsedAction("+", legal, "", None), actor="model step-8"
        )
        session.take(YOU, decision, (moment.seed, moment.actions))
    session.close()
    run = Run(session.database.parent)
    with pytest.raises(UsageError, match=r"no step played by 'human'. Those who played: model"):
        export_sft(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    for actor in ("model", "all"):
        assert export_sft(run, tmp_path / actor, actor=actor).samples == 1
        (record,) = records(tmp_path / actor)
        assert record["conversations"][1]["value"] == '{"thoughts": "mine", "action": "+"}'  # type: ignore[index]


def test_sessions_that_cannot_be_used(run: Run, tmp_path: Path) -> None:
    (database,) = run.plays.glob("*.db")
    (run.plays / "broken.db").write_bytes(b"nonsense" * 1000)
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE transitions SET reward = 7 WHERE episode_id = 1")
    exported = export_sft(run, tmp_path / "out")
    assert exported.samples > 0
    assert len(exported.left_out) == 2
    assert any("gave 7 in step 1" in reason for reason in exported.left_out)
    assert any("not a SQLite database" in reason for reason in exported.left_out)


def test_the_command(run: Run, tmp_path: Path) -> None:
    def invoke(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(command, ["runs", "export", run.name, *arguments])
        return done.exit_code, done.output + str(done.exception or "")

    code, said = invoke("--as", "sft", "--out", str(tmp_path / "out"))
    assert code == 0, said
    assert f"{len(records(tmp_path / 'out'))} samples written" in said
    assert "not an empty folder" in invoke("--as", "sft", "--out", str(tmp_path / "out"))[1]
    assert "Did you mean 'sft'" in invoke("--as", "stf")[1]
    code, said = invoke("--out", str(tmp_path / "copy"))
    assert code == 0, said
    assert len(list((tmp_path / "copy" / "plays").glob("*.db"))) == 1
