"""The process that thinks, for real: over its pipe, with a checkpoint of a tiny random policy."""

import itertools
import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from tests.play.made import add_checkpoint, config, make_run
from vlmagent import paths
from vlmagent.paths import Run
from vlmagent.play.client import ThinkingProcess
from vlmagent.play.messages import (
    Decided,
    Died,
    Event,
    Finished,
    Forget,
    Judged,
    Loading,
    Ready,
    Refused,
    Reload,
    Think,
    Writing,
)
from vlmagent.tasks.registry import build_task

pytestmark = pytest.mark.usefixtures("forked_programs")

SECONDS = 300.0


class Ear:
    """Collects events."""

    def __init__(self) -> None:
        self.heard: queue.Queue[Event] = queue.Queue()

    def until(self, kind: type[Event]) -> list[Event]:
        """Everything up to the first event of a kind."""
        found = [self.heard.get(timeout=SECONDS)]
        while not isinstance(found[-1], kind):
            assert not isinstance(found[-1], Died), found[-1]
            found.append(self.heard.get(timeout=SECONDS))
        return found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    before = os.environ.get("VLMAGENT_RUNS")
    os.environ["VLMAGENT_RUNS"] = str(tmp_path_factory.mktemp("runs"))
    made = make_run()
    yield made
    if before is None:
        del os.environ["VLMAGENT_RUNS"]
    else:
        os.environ["VLMAGENT_RUNS"] = before


def question(number: int, task: str = "numberline", seed: int = 5) -> Think:
    built = build_task(task)
    image, state = built.make_env().reset(seed=3)
    return Think(number, built.observe(image, state), dict(state), seed)


def test_a_checkpoint_thinks(run: Run) -> None:
    ear = Ear()
    process = ThinkingProcess(config(), run, None, ear.heard.put)
    try:
        loading = ear.until(Ready)
        assert [type(event) for event in loading] == [Loading, Loading, Ready]
        assert loading[-1] == Ready("model step-0", True)
        process.send(question(1))
        events = ear.until(Finished)
        texts = [event.text for event in events if isinstance(event, Writing)]
        (decided,) = [event for event in events if isinstance(event, Decided)]
        (judged,) = [event for event in events if isinstance(event, Judged)]
        decision = decided.decision
        assert decision.actor == "model step-0"
        assert decision.generation is not None
        assert decision.generation.value is not None
        assert 1 <= len(texts) <= len(decision.generation.token_ids)
        assert all(later.startswith(text.rstrip("\ufffd")) for text, later in itertools.pairwise(texts))
        assert decision.output.startswith(texts[-1].rstrip("\ufffd"))
        assert list(judged.probabilities) == ["+", "-"]
        assert sum(judged.probabilities.values()) == pytest.approx(1.0)
        assert events[-1] == Finished(1)

        process.send(question(2))
        again = next(event for event in ear.until(Finished) if isinstance(event, Decided))
        assert again.decision.output == decision.output, "one seed, one answer"

        process.send(replace(question(3), observation=None))  # type: ignore[arg-type]
        assert "AttributeError" in str(ear.until(Finished)[-1])

        process.send(question(4))
        process.send(Forget(4))
        process.send(Reload())
        assert ear.until(Ready)[-1] == Ready("model step-0", False)
        add_checkpoint(run, env_steps=64, seed=2)
        process.send(Reload())
        assert ear.until(Ready)[-1] == Ready("model step-64", True)

        os.kill(process.pid, signal.SIGKILL)
        died = ear.until(Died)[-1]
        assert died == Died("The process that thinks was ended by SIGKILL.")
        process.send(question(5))
    finally:
        process.close()
        process.close()


def test_forgetting_ends_an_answer_early(run: Run) -> None:
    ear = Ear()
    long = config().model_copy(
        update={"rollout": config().rollout.model_copy(update={"max_new_tokens": 4096})}
    )
    process = ThinkingProcess(long, run, None, ear.heard.put)
    try:
        ear.until(Ready)
        process.send(question(1))
        first = ear.until(Writing)
        process.send(Forget(1))
        rest = ear.until(Finished)
        assert not any(isinstance(event, Judged) for event in [*first, *rest])
        assert rest[-1] == Finished(1)
    finally:
        process.close()


def test_a_broken_checkpoint_is_said(run: Run, tmp_path: Path) -> None:
    broken = Run(tmp_path / "run")
    folder = broken.checkpoints / "step-8"
    folder.mkdir(parents=True)
    (folder / paths.TRAINER).write_text("{}")
    ear = Ear()
    process = ThinkingProcess(config(), broken, None, ear.heard.put)
    try:
        refused = ear.until(Refused)[-1]
        assert isinstance(refused, Refused)
        assert "is no checkpoint" in refused.words
    finally:
        process.close()


def test_the_expert_needs_no_torch() -> None:
    ear = Ear()
    process = ThinkingProcess(config("points24"), None, "expert", ear.heard.put)
    try:
        assert ear.until(Ready)[-1] == Ready("expert", True)
        process.send(question(1, "points24"))
        events = ear.until(Finished)
        assert [type(event) for event in events] == [Decided, Finished]
        assert isinstance(events[0], Decided)
        assert events[0].decision.actor == "expert"
        assert '"action"' in events[0].decision.output
    finally:
        process.close()
    code = (
        "import sys, vlmagent.play.server as server\n"
        "from tests.play.made import config\n"
        "server.BaselineMind(config(), 'expert').load(None)\n"
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_last_words() -> None:
    ear = Ear()
    process = ThinkingProcess(config("blackjack"), None, "no such baseline", ear.heard.put)
    refused = ear.until(Refused)[-1]
    assert isinstance(refused, Refused)
    assert "no such baseline" in refused.words
    process.close()


def test_it_ends_with_the_session() -> None:
    """A session that is killed leaves no process behind."""
    code = (
        "import sys, time\n"
        "from tests.play.made import config\n"
        "from vlmagent.play.client import ThinkingProcess\n"
        "process = ThinkingProcess(config(), None, 'expert', lambda event: print(type(event).__name__, flush=True))\n"
        "print(process.pid, flush=True)\n"
        "sys.stdin.readline()"
    )
    session = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert session.stdout is not None
    words = [session.stdout.readline().strip() for _ in range(2)]
    pid = int(next(word for word in words if word.isdecimal()))
    assert "Ready" in words
    os.kill(session.pid, signal.SIGKILL)
    session.wait()
    session.stdout.close()
    deadline = time.monotonic() + SECONDS
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)
