import pytest

from tests.play.made import config, make_run, plan_play
from vlmagent import paths
from vlmagent.config import load_config
from vlmagent.errors import UsageError
from vlmagent.paths import Run
from vlmagent.play.plan import (
    Opponent,
    find_opponent,
    plan_run,
    run_config,
)
from vlmagent.play.session import PlaySession
from vlmagent.runs import folders
from vlmagent.training.saved import newest_checkpoint


def mark(run: Run, *steps: int) -> None:
    """Folders that look like checkpoints from outside."""
    for step in steps:
        folder = run.checkpoints / f"step-{step}"
        folder.mkdir(parents=True)
        (folder / paths.TRAINER).touch()


def test_without_any_run() -> None:
    plan = plan_play("numberline", human=True)
    assert (plan.mode, plan.opponent, plan.run, plan.hints) == ("human", None, None, "ask")
    assert "vlmagent train numberline" in plan.advice
    assert "--opponent expert" in plan.advice
    for versus in (False, True):
        with pytest.raises(UsageError, match=r"no run of the task 'numberline'.*--opponent expert"):
            plan_play("numberline", versus=versus)
    stands_in = plan_play("numberline", opponent="expert")
    assert (stands_in.mode, stands_in.opponent) == ("watch", Opponent(baseline="expert"))


def test_seeds() -> None:
    assert plan_play("blackjack", human=True, seed=5).seed == 5
    assert len({plan_play("blackjack", human=True).seed for _ in range(5)}) > 1


def test_the_newest_run_of_the_task_with_a_checkpoint() -> None:
    old, new = folders.create_run(config()), folders.create_run(config())
    other = folders.create_run(config("blackjack"))
    mark(other, 0)
    waiting = plan_play("numberline", human=True)
    assert waiting.opponent is None
    assert waiting.run in (old, new)
    assert "no checkpoint yet" in waiting.advice
    mark(old, 0)
    assert plan_play("numberline").opponent == Opponent(run=old)
    assert find_opponent(waiting) == (Opponent(run=old) if waiting.run == old else None)
    mark(new, 512)
    assert plan_play("numberline", run=new.name).run == new


def test_wrong_usage() -> None:
    run = folders.create_run(config("blackjack"))
    with pytest.raises(UsageError, match="Did you mean 'numberline'"):
        plan_play("numberlin")
    with pytest.raises(UsageError, match="exclude each other"):
        plan_play("numberline", human=True, versus=True)
    with pytest.raises(UsageError, match="Did you mean 'ask'"):
        plan_play("numberline", human=True, hints="aks")
    with pytest.raises(UsageError, match=r"Unknown opponent 'exprt'. Did you mean 'expert'\?.* run, expert"):
        plan_play("numberline", opponent="exprt")
    with pytest.raises(UsageError, match="trained on 'blackjack', not on 'numberline'"):
        plan_play("numberline", run=run.name)
    with pytest.raises(UsageError, match="has no checkpoint yet"):
        plan_play("blackjack", human=True, run=run.name)
    with pytest.raises(UsageError, match="There is no run 'zzz'"):
        plan_play("blackjack", run="zzz")
    with pytest.raises(UsageError, match="n_max"):
        plan_play("numberline", human=True, overrides=["env.n_max=-1"])


def test_overrides_and_the_runs_own_rules() -> None:
    run = folders.create_run(config().model_copy(update={"env": {"n_max": 9}}))
    mark(run, 0)
    assert plan_play("numberline").config.env == {"n_max": 9}
    assert plan_play("numberline", overrides=["env.n_max=7"]).config.env == {"n_max": 7}
    assert plan_play("numberline", opponent="expert").run is None
    assert plan_play("numberline", opponent="expert", run=run.name).config.env == {"n_max": 9}


def test_from_the_dashboard() -> None:
    run = folders.create_run(config())
    assert plan_run(run, "human").opponent is None
    with pytest.raises(UsageError, match="has no checkpoint yet"):
        plan_run(run, "watch")
    mark(run, 0)
    assert plan_run(run, "versus").opponent == Opponent(run=run)


def test_a_session_of_its_own_is_no_run_to_play_beside() -> None:
    session = PlaySession(plan_play("numberline", human=True, seed=1))
    session.choose("+")
    session.close()
    own = Run(session.database.parent)
    assert own in [found.resolve() for found in folders.all_runs()]
    assert plan_play("numberline", human=True).run is None
    assert run_config(own, {}).task == "numberline"
    assert plan_run(own, "human").config == session.plan.config
    own.database.write_bytes(b"broken" * 1000)
    with pytest.raises(UsageError, match="cannot be played"):
        run_config(own, {})


def test_a_real_checkpoint_is_found() -> None:
    run = make_run()
    assert load_config(run.config_file).task == "numberline"
    assert newest_checkpoint(run) == run.checkpoints / "step-0"
