import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.play.made import EASY, config, first_state, plan_play
from vlmagent.errors import UsageError
from vlmagent.paths import Run
from vlmagent.play.plan import Continuation, SessionPlan, plan_run
from vlmagent.play.session import THEM, YOU, PlaySession
from vlmagent.play.table import Moment
from vlmagent.runs import folders, status
from vlmagent.seeding import EVALUATION_BIT, play_episode_seed
from vlmagent.store.reader import StoreReader
from vlmagent.store.rows import TransitionRow
from vlmagent.tasks.registry import build_task
from vlmagent.types import Decision, Generation, ParsedAction


def right(moment: Moment) -> str:
    """The expert's move in NumberLine."""
    return "+" if moment.state["current"] < moment.state["target"] else "-"


def play_to_the_end(session: PlaySession) -> Moment:
    moment = session.moments[YOU]
    while moment.end is None:
        found = session.choose(right(moment))
        assert found is not None
        moment = found
    return moment


def rows(database: Path, episode: int) -> list[TransitionRow]:
    with StoreReader(database) as reader:
        return reader.transitions(episode)


def human(task: str = "numberline", **more: object) -> SessionPlan:
    return plan_play(task, human=True, seed=EASY, **more)  # type: ignore[arg-type]


def test_a_person_plays_an_episode_to_its_end() -> None:
    session = PlaySession(human())
    (begun,) = session.moments
    assert begun.seed == play_episode_seed(EASY, 0) < EVALUATION_BIT
    wrong = "-" if right(begun) == "+" else "+"
    moved = session.choose(wrong)
    assert moved is not None
    assert (moved.steps[0].action, moved.steps[0].actor, moved.steps[0].reward) == (wrong, "human", -1.0)
    ended = play_to_the_end(session)
    assert ended.end is not None
    assert (ended.end.ended, ended.end.goal, ended.end.success) == ("terminated", True, False)
    assert ended.episode_return == ended.end.episode_return == 0.0
    assert ended.state["current"] == ended.state["target"]
    assert not np.array_equal(ended.observation.image, begun.observation.image), "the final picture is shown"
    assert session.choose("+") is None, "the episode is over"
    assert session.begin()[YOU].seed == play_episode_seed(EASY, 1)
    session.close()
    with StoreReader(session.database) as reader:
        run, episode = reader.run(), reader.episode(1)
        steps = reader.transitions(1)
    assert run is not None
    assert (run.task, run.status, run.seed) == ("numberline", "done", EASY)
    assert episode is not None
    assert (episode.split, episode.seed, episode.length) == ("play", begun.seed, len(ended.steps))
    assert [row.actor for row in steps] == ["human"] * len(steps)
    assert [row.id for row in steps] == [row.step + 1 for row in steps]
    assert steps[0].prompt == begun.prompt


def test_every_step_is_in_the_file_before_it_is_returned() -> None:
    session = PlaySession(human("points24"))
    for count, token in enumerate(("1", "+", "("), start=1):
        moment = session.choose(token)
        assert moment is not None
        with sqlite3.connect(session.database) as connection:
            assert connection.execute("SELECT count(*), max(action) FROM transitions").fetchone()[0] == count
    session.close()


KILLED = """
import os, sys
from vlmagent.play.plan import PlayRequest, plan_session
from vlmagent.play.session import PlaySession
session = PlaySession(plan_session(PlayRequest("points24", human=True, seed=3)))
print(session.database, flush=True)
for action in ["1", "+", "2", "*", "("]:
    print("shown", len(session.choose(action).steps), flush=True)
sys.stdin.readline()
"""


def test_killed_in_the_middle() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )
    assert process.stdout is not None
    database = Path(process.stdout.readline().strip())
    shown = [process.stdout.readline().split()[1] for _ in range(5)]
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert shown == ["1", "2", "3", "4", "5"]
    assert [row.action for row in rows(database, 1)] == ["1", "+", "2", "*", "("]
    assert [row.actor for row in rows(database, 1)] == ["human"] * 5
    with StoreReader(database) as reader:
        assert reader.image(rows(database, 1)[4].image_sha256).shape == (300, 300, 3)
    assert status.run_state(Run(database.parent)) == "lost"


def test_the_cards_own_rules() -> None:
    session = PlaySession(human("ezpoints"))
    state = session.moments[YOU].state
    absent = next(str(n) for n in range(1, 11) if n not in state["numbers"])
    refused = session.choose(absent)
    assert refused is not None
    assert (refused.steps[-1].reward, refused.observation.state_text, refused.state["illegal"]) == (
        -1.0,
        "",
        True,
    )
    assert session.choose("-") is None, "EZPoints has no minus"
    written = session.choose(str(state["numbers"][0]))
    assert written is not None
    assert written.observation.state_text == str(state["numbers"][0])
    session.close()


def test_two_tables_share_a_log() -> None:
    session = PlaySession(plan_play("numberline", versus=True, opponent="expert", seed=EASY))
    you, them = session.moments
    assert (you.seed, you.state) == (them.seed, them.state)
    first = session.choose(right(you))
    decision = Decision("p", '{"action": "+"}', "", ParsedAction("+", True, "+", None), actor="model step-8")
    where = (them.seed, them.actions)
    moved = session.take(THEM, decision, where)
    assert first is not None
    assert moved is not None
    assert moved.actors == ("model step-8",)
    assert session.take(THEM, decision, where) is None, "that state has passed"
    play_to_the_end(session)
    session.close()
    assert [row.env_index for row in rows(session.database, 1)] == [0] * len(rows(session.database, 1))
    (theirs,) = rows(session.database, 2)
    assert (theirs.id, theirs.env_index, theirs.actor, theirs.output) == (
        2,
        1,
        "model step-8",
        '{"action": "+"}',
    )


def test_the_models_numbers_are_kept() -> None:
    session = PlaySession(plan_play("numberline", opponent="expert", seed=EASY))
    tokens = Generation("x", np.array([5, 6]), np.array([-0.5, -0.25], np.float32), 1, 0.75)
    parsed = ParsedAction("+", False, "", None)
    decision = Decision("p", "x", "", parsed, -0.5, -0.5, -0.25, tokens, actor="model step-8")
    moment = session.moments[YOU]
    session.take(YOU, decision, (moment.seed, moment.actions))
    session.close()
    (row,) = rows(session.database, 1)
    assert (row.value, row.logprob, row.legal_output) == (0.75, -0.5, False)
    assert row.token_ids is not None
    assert row.token_ids.tolist() == [5, 6]


def test_again_deals_the_same() -> None:
    session = PlaySession(human())
    first = session.moments[YOU]
    play_to_the_end(session)
    again = session.begin(again=True)[YOU]
    assert (again.seed, again.state, again.number, again.steps) == (first.seed, first.state, 2, ())
    assert session.begin()[YOU].seed == play_episode_seed(EASY, 1)
    session.close()


def test_where_the_log_goes() -> None:
    run = folders.create_run(config())
    one, two = (PlaySession(plan_run(run, "human")) for _ in range(2))
    for session in (one, two):
        assert session.database.parent == run.plays
        session.choose("+")
        session.close()
    assert one.database != two.database
    assert not run.database.exists(), "a trainer's own database is never touched"
    alone = PlaySession(human(opponent="expert"))
    assert alone.database.parent.name.endswith("-numberline-play")
    assert status.run_state(Run(alone.database.parent)) == "running"
    alone.choose("+")
    alone.close()
    assert status.run_state(Run(alone.database.parent)) == "done"


def test_nothing_played_leaves_nothing() -> None:
    run = folders.create_run(config())
    PlaySession(plan_run(run, "human")).close()
    assert not run.plays.exists()
    PlaySession(human(opponent="expert")).close()
    assert folders.all_runs() == [run] or [found.resolve() for found in folders.all_runs()] == [run]


def test_a_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plan = human()
    (tmp_path / "file").touch()
    monkeypatch.setenv("VLMAGENT_RUNS", str(tmp_path / "file"))
    with pytest.raises(UsageError, match="No folder could be made"):
        PlaySession(plan)


def test_playing_on_from_a_logged_state() -> None:
    run = folders.create_run(config())
    first = PlaySession(plan_run(run, "human"))
    begun = first.moments[YOU]
    for _ in range(2):  # back and forth, so that there is more to play
        first.choose("-" if right(first.moments[YOU]) == "+" else "+")
    state = first.moments[YOU].state
    ended = play_to_the_end(first)
    first.close()
    start = Continuation(first.database, 1, 2)
    second = PlaySession(plan_run(run, "human", start=start))
    (moment,) = second.moments
    assert (moment.seed, moment.state, moment.actions) == (begun.seed, state, ended.actions[:2])
    assert moment.actors == ("human",)
    play_to_the_end(second)
    second.close()
    logged, again = rows(first.database, 1), rows(second.database, 1)
    assert [row.action for row in again] == [row.action for row in logged]
    assert [row.image_sha256 for row in again] == [row.image_sha256 for row in logged]
    with pytest.raises(UsageError, match="not logged"):
        PlaySession(plan_run(run, "human", start=Continuation(first.database, 99, 1)))


def test_playing_on_where_the_environment_changed() -> None:
    run = folders.create_run(config())
    first = PlaySession(plan_run(run, "human"))
    play_to_the_end(first)
    first.close()
    with sqlite3.connect(first.database) as connection:
        connection.execute("UPDATE transitions SET reward = 5")
    steps = len(rows(first.database, 1))
    with pytest.raises(UsageError, match="does not repeat itself"):
        PlaySession(plan_run(run, "human", start=Continuation(first.database, 1, steps)))
    assert list(run.plays.glob("*.db")) == [first.database]
    PlaySession(plan_run(run, "human", start=Continuation(first.database, 1, 0))).close()
    assert list(run.plays.glob("*.db")) == [first.database]


def test_the_steps_of_a_training_run_are_marked_as_logged() -> None:
    run = folders.create_run(config())
    first = PlaySession(plan_run(run, "human"))
    first.choose("-" if right(first.moments[YOU]) == "+" else "+")
    first.close()
    with sqlite3.connect(first.database) as connection:
        connection.execute("UPDATE transitions SET actor = NULL")
    second = PlaySession(plan_run(run, "human", start=Continuation(first.database, 1, 1)))
    assert second.moments[YOU].actors == ("logged",)
    second.choose("+")
    second.close()
    assert [row.actor for row in rows(second.database, 1)] == ["logged", "human"]


def test_the_expert() -> None:
    session = PlaySession(human())
    assert session.expert(session.moments[YOU]) == right(session.moments[YOU])

    def fails(*_: object) -> str:
        raise NotImplementedError

    session.task.expert_action = fails  # type: ignore[method-assign]
    assert session.expert(session.moments[YOU]) is None
    session.close()


def test_seeds_of_play() -> None:
    assert play_episode_seed(3, 0) == play_episode_seed(3, 0) != play_episode_seed(3, 1)
    state = first_state("numberline", EASY)
    assert abs(int(str(state["target"])) - int(str(state["current"]))) >= 2
    assert build_task("numberline").name == "numberline"
