"""A run that ends when its task is learnt: which episodes count, that it resumes exactly, who takes it as complete."""

from pathlib import Path

import pytest

from tests.conftest import SMALL
from tests.training.test_train import COLUMNS, assert_same, new_run, rows, stop_after, transitions
from vlmagent.config import load_config
from vlmagent.config.sections import StopConfig
from vlmagent.evaluation.report.sources import RunSource
from vlmagent.paths import Run
from vlmagent.runs import launch
from vlmagent.runs.follow import Goal, RunView
from vlmagent.runs.status import Heartbeats
from vlmagent.store.reader import StoreReader
from vlmagent.store.study import EndedEpisode, ended_episodes
from vlmagent.training.learnt import LearntWatch, Progress
from vlmagent.training.loop import PpoLoop
from vlmagent.training.rollout import Rollout
from vlmagent.training.saved import find_checkpoint
from vlmagent.training.train import train
from vlmagent.tui.data.catalogue import summarise


def ended(won: str, first: int = 1) -> list[EndedEpisode]:
    """Episodes that end after ``first`` and each 10th env step from there; ``1`` is one that succeeded."""
    return [EndedEpisode(first + 10 * n, one == "1", 0.0) for n, one in enumerate(won)]


def test_the_bar_is_asked_of_the_last_episodes_and_of_no_fewer():
    progress = Progress(StopConfig(success=0.75, episodes=4))
    progress.take(ended("111"))
    assert not progress.learnt
    progress.take(ended("0"))
    assert progress.learnt
    progress.take(ended("0"))
    assert not progress.learnt
    progress.take(ended("0" * 50 + "1101"))
    assert progress.learnt
    assert progress.words == "success 75.0 % of the last 4 episodes (bar 75 %)"


@pytest.mark.parametrize(("bar", "episodes"), [(0.99, 400), (0.995, 400), (0.9, 10), (0.29, 100), (1.0, 7)])
def test_a_bar_that_is_met_exactly_is_met(bar: float, episodes: int):
    won = round(bar * episodes)
    progress = Progress(StopConfig(success=bar, episodes=episodes))
    progress.take(ended("1" * won + "0" * (episodes - won)))
    assert progress.learnt
    progress.take(ended("0"))
    assert not progress.learnt


def test_without_a_bar_nothing_is_ever_learnt():
    progress = Progress(StopConfig(episodes=2))
    progress.take(ended("1111"))
    assert not progress.learnt


def test_the_first_passing_of_each_bar_is_told_once():
    progress = Progress(StopConfig())
    assert progress.take(ended("0" * 20 + "1" * 79)) == {}  # 99 episodes are no window
    # from here 100 + n episodes have ended, of which n zeros have left the window
    passed = progress.take(ended("1" * 15, first=1000))
    assert passed == {"learnt/steps_to_90": 1000 + 10 * 10}
    passed = progress.take(ended("0" * 4 + "1" * 100, first=5000))
    assert passed == {"learnt/steps_to_95": 5000 + 10 * 4, "learnt/steps_to_99": 5000 + 10 * 102}
    assert progress.take(ended("0" * 100 + "1" * 100)) == {}


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run without a bar: three updates of 32 steps."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("alone")
        patch.setenv("VLMAGENT_CACHE", str(folder / "cache"))
        run = new_run(folder, "run")
        assert train(run, lambda: False) == "done"
        return run


@pytest.fixture(scope="module")
def stop_when(left_alone: Run) -> dict[str, float]:
    """A bar that is reached in the second update, by the episodes of the first and the second."""
    with StoreReader(left_alone.database) as reader:
        won = [episode.success for episode in ended_episodes(reader, updates=(1, 2))]
    assert any(won), "this machine's numbers have no success in two updates: choose another seed"
    return {"success": sum(won) / len(won), "episodes": len(won)}


def learning(folder: Path, name: str, stop_when: dict[str, float], **changes: object) -> Run:
    return new_run(folder, name, ppo={**SMALL["ppo"], "stop_when": stop_when}, **changes)


def said(run: Run) -> list[str]:
    return [text for (text,) in rows(run, "SELECT text FROM events WHERE text LIKE 'learnt%' ORDER BY id")]


def first_64(run: Run) -> list[tuple]:
    """Logged steps of two updates, advantages included."""
    return rows(run, f"SELECT {COLUMNS} FROM transitions WHERE id <= 64 ORDER BY id")


def test_a_run_ends_where_its_task_is_learnt_and_goes_on_when_told(
    left_alone: Run, tmp_path: Path, stop_when: dict[str, float]
):
    run = learning(tmp_path, "run", stop_when)
    assert train(run, lambda: False) == "done"
    assert transitions(run) == first_64(left_alone)
    assert find_checkpoint(run).name == "step-64"
    share, bar, episodes = (stop_when[key] for key in ("success", "success", "episodes"))
    assert said(run) == [
        f"learnt: success {100 * share:.1f} % of the last {episodes} episodes (bar {100 * bar:g} %) "
        "after 64 env steps; PPO ends here"
    ]
    # everybody who compares with a goal
    view = RunView(run)
    view.refresh()
    view.close()
    assert (view.goal, view.fraction) == (Goal(64, 64, 2), 1.0)
    shown = summarise(run, Heartbeats())
    assert (shown.state, shown.env_steps, shown.goal_steps) == ("done", 64, 64)
    assert RunSource(run, load_config(run.config_file)).end == 64
    # nothing is left to do
    assert train(run, lambda: False) == "done"
    assert len(transitions(run)) == 64
    assert said(run)[1].startswith("learnt already: success ")
    # neither rates nor weights know of the bar: it goes on like a run that never had one
    launch.update_config(run, ["ppo.stop_when.success=0"])
    assert train(run, lambda: False) == "done"
    assert_same(run, left_alone)
    assert len(said(run)) == 2


@pytest.mark.parametrize("calls", [5, 9, 13, 15])
def test_a_run_that_was_stopped_ends_at_the_same_update(
    left_alone: Run, tmp_path: Path, stop_when: dict[str, float], calls: int
):
    run = learning(tmp_path, "run", stop_when)
    assert train(run, stop_after(calls)) == "stopped"
    assert train(run, lambda: False) == "done"
    assert transitions(run) == first_64(left_alone)
    assert len(said(run)) == 1


def test_a_run_that_was_killed_before_it_saved_ends_at_the_same_update(
    left_alone: Run, tmp_path: Path, stop_when: dict[str, float], monkeypatch: pytest.MonkeyPatch
):
    """Its episodes and metrics are all logged, two updates beyond the newest checkpoint; nothing counts twice."""
    run = learning(tmp_path, "run", stop_when, checkpoint={"every": 3})
    original = PpoLoop._save

    def dying(self, state):
        if state.update_index == 2:
            raise MemoryError("killed")
        original(self, state)

    with monkeypatch.context() as patch:
        patch.setattr(PpoLoop, "_save", dying)
        with pytest.raises(MemoryError):
            train(run, lambda: False)
    assert find_checkpoint(run).name == "step-0"
    assert said(run) == []
    assert train(run, lambda: False) == "done"
    assert find_checkpoint(run).name == "step-64"
    assert transitions(run) == first_64(left_alone)
    assert len(said(run)) == 1


def test_a_bar_that_is_set_later_throws_no_logged_step_away(
    left_alone: Run, tmp_path: Path, stop_when: dict[str, float], monkeypatch: pytest.MonkeyPatch
):
    run = new_run(tmp_path, "run", checkpoint={"every": 3})
    original, count = Rollout.step, iter(range(10**9))

    def dying(self, update_index=0):
        if next(count) == 18:
            raise MemoryError("killed")
        return original(self, update_index)

    with monkeypatch.context() as patch:
        patch.setattr(Rollout, "step", dying)
        with pytest.raises(MemoryError):
            train(run, lambda: False)
    assert len(transitions(run)) == 72
    # reached after update 2, but eight steps of update 3 are logged: it is learnt from first
    launch.update_config(run, [f"ppo.stop_when.{key}={value}" for key, value in stop_when.items()])
    assert train(run, lambda: False) == "done"
    assert_same(run, left_alone)


def test_a_look_takes_each_update_once(left_alone: Run, stop_when: dict[str, float]):
    stop = StopConfig.model_validate(stop_when)
    step_by_step, at_once = LearntWatch(left_alone.database, stop), LearntWatch(left_alone.database, stop)
    assert step_by_step.after(0, 0).words is None
    assert step_by_step.after(1, 32).words is None
    # the bar is reached, but the log goes on
    assert step_by_step.after(2, 64).words is None
    assert step_by_step.after(3, 96) == at_once.after(3, 96)
