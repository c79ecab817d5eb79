"""The process that thinks: loads a checkpoint or a baseline, answers one question at a time, streams what it writes.

Run as ``python -m vlmagent.play.server FD`` with one end of a ``multiprocessing`` pipe. Ends when the other end is
closed. Knows nothing of sessions or screens; the only part of ``play`` that imports torch.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

from vlmagent.config import Config
from vlmagent.errors import VlmAgentError, explain
from vlmagent.paths import Run
from vlmagent.play.messages import (
    Begin,
    Decided,
    Event,
    Finished,
    Forget,
    Judged,
    Loading,
    Ready,
    Refused,
    Reload,
    Request,
    Think,
    Writing,
)
from vlmagent.tasks.parsing import with_action
from vlmagent.tasks.registry import task_from_config
from vlmagent.training.plan.hardware import usable_cores
from vlmagent.types import Decision

# times that a checkpoint is looked for while a trainer replaces the newest one
ATTEMPTS = 3
# added to the process's priority, of 0 to 19: the screen and a training go first
NICENESS = 5
WRITING_SECONDS = 0.1
"""An output that grows is shown this often: a small model writes faster than a screen should draw."""
# the other end is gone: there is nobody to answer, and no failure to be told
_PIPE_GONE = (EOFError, ConnectionError)


class ForgottenError(Exception):
    """The question being answered is no longer of interest."""


class Mind(Protocol):
    """Whoever thinks."""

    actor: str

    def load(self, server: Server) -> bool:
        """Get ready, or look for something newer; returns whether anything changed."""

    def decide(self, question: Think, server: Server) -> Decision:
        """The decision; the output is streamed on the way."""

    def judge(self, question: Think, decision: Decision) -> Mapping[str, float] | None:
        """The probability of each legal action, or None where there are no probabilities."""


class Server:
    """Reads requests from ``connection`` and answers them in order."""

    def __init__(self, connection: Connection[Any, Any]) -> None:
        self._connection = connection
        self._inbox: deque[Request] = deque()
        self._answering: int | None = None

    def serve(self) -> None:
        """Until the pipe is closed."""
        with contextlib.suppress(*_PIPE_GONE):
            # the first message says who is to think; everything that takes long comes after it
            mind = _mind(self._connection.recv())
            self._load(mind)
            while True:
                # what arrived while the last question was answered comes first
                request = self._inbox.popleft() if self._inbox else self._connection.recv()
                if isinstance(request, Reload):
                    self._load(mind)
                elif isinstance(request, Think):
                    self._answer(mind, request)

    def say(self, event: Event) -> None:
        """Send one event."""
        self._connection.send(event)

    def listen(self) -> None:
        """Take in what has arrived meanwhile.

        Raises:
            ForgottenError: the question being answered is no longer wanted.
        """
        # called between tokens: a question that is no longer wanted is dropped within one
        while self._connection.poll():
            request = self._connection.recv()
            if isinstance(request, Forget):
                if request.number == self._answering:
                    raise ForgottenError
            else:
                self._inbox.append(request)

    def _load(self, mind: Mind) -> None:
        try:
            changed = mind.load(self)
        except _PIPE_GONE:
            # before the general clause: without a pipe `Refused` could not be sent either
            raise
        except Exception as error:
            self.say(Refused(explain(error)))
        else:
            self.say(Ready(mind.actor, changed))

    def _answer(self, mind: Mind, question: Think) -> None:
        self._answering = question.number
        problem = ""
        try:
            decision = replace(mind.decide(question, self), actor=mind.actor)
            self.say(Decided(question.number, decision))
            self.listen()  # the person may have moved on: the probabilities cost as much as the decision did
            probabilities = mind.judge(question, decision)
            if probabilities is not None:
                self.say(Judged(question.number, probabilities))
        except ForgottenError:
            pass
        except _PIPE_GONE:
            raise
        except Exception as error:
            problem = explain(error)
        self._answering = None
        # always, however it ended: the asker waits for it before the next question
        self.say(Finished(question.number, problem))


class BaselineMind:
    """A system that needs no training."""

    def __init__(self, config: Config, name: str) -> None:
        self.config = config
        self.actor = name
        self._agent: Any = None

    def load(self, server: Server) -> bool:
        """Build it."""
        from vlmagent.evaluation.systems import baseline_system

        changed, self._agent = (
            self._agent is None,
            baseline_system(self.actor, task_from_config(self.config)).agent,
        )
        return changed

    def decide(self, question: Think, server: Server) -> Decision:
        """Its action."""
        decision: Decision = self._agent.act([question.observation], [question.state], question.seed)[0]
        return decision

    def judge(self, question: Think, decision: Decision) -> Mapping[str, float] | None:
        """Baselines have no probabilities."""
        return None


class CheckpointMind:
    """The newest checkpoint of a run."""

    def __init__(self, config: Config, run: Run) -> None:
        self.config = config
        self.run = run
        self.actor = "model"
        self._task = task_from_config(config)
        self._agent: Any = None
        self._loaded: tuple[str, float] | None = None

    def load(self, server: Server) -> bool:
        """Open the newest checkpoint unless it is the one that is open."""
        server.say(Loading("importing the libraries", 1, 3))
        import torch

        from vlmagent import paths
        from vlmagent.training.saved import find_checkpoint

        # one core is left to the screen, which has to answer keys meanwhile
        torch.set_num_threads(self.config.model.threads or max(1, usable_cores() - 1))
        for attempt in range(1, ATTEMPTS + 1):
            folder = find_checkpoint(self.run)
            try:
                # the name alone would not tell a run that was started over and has reached the same step again
                identity = folder.name, (folder / paths.TRAINER).stat().st_mtime
                if identity == self._loaded:
                    return False
                self._open(folder, server)
            except (OSError, VlmAgentError):
                # the folder is gone: only then is it worth looking again
                if attempt == ATTEMPTS or folder.is_dir():  # else the trainer has replaced it by a newer one
                    raise
                continue
            self._loaded, self.actor = identity, f"model {folder.name}"
            break
        return True

    def _open(self, folder: Path, server: Server) -> None:
        from vlmagent.evaluation.systems import checkpoint_system

        server.say(Loading(f"opening {folder.name}", 2, 3))
        self._agent = checkpoint_system(self.config, self._task, folder).agent

    def decide(self, question: Think, server: Server) -> Decision:
        """A sampled output."""

        said = 0.0

        def look(text: str) -> None:
            nonlocal said
            # the text is whole each time, so leaving some out loses nothing
            if time.monotonic() - said >= WRITING_SECONDS:
                said = time.monotonic()
                server.say(Writing(question.number, text))
            server.listen()

        self._agent.on_text = look
        decision: Decision = self._agent.act([question.observation], [question.state], question.seed)[0]
        return decision

    def judge(self, question: Think, decision: Decision) -> Mapping[str, float] | None:
        """Each action's share in the probability of the outputs that name one."""
        from vlmagent.models.action_probs import action_probs

        agent, actions = self._agent, question.observation.legal_actions
        if self.config.agent == "cnn":
            shares: Mapping[str, float] = agent.action_probs(question.observation)
            return shares
        # the thoughts as they are, each action in place of the one that was chosen: how likely they are compared, given
        # the thoughts
        outputs = [with_action(decision.output, action) for action in actions]
        state = agent.policy.encode(decision.prompt, question.observation.image)
        found = action_probs(agent.policy, state, outputs, temperature=agent.temperature)
        return dict(zip(actions, found.tolist(), strict=True))


def _mind(begin: Begin) -> Mind:
    if begin.baseline is not None:
        return BaselineMind(begin.config, begin.baseline)
    assert begin.run is not None
    return CheckpointMind(begin.config, Run(Path(begin.run)))


if __name__ == "__main__":
    with contextlib.suppress(OSError):  # thinking can wait, keys cannot
        os.nice(NICENESS)
    Server(Connection(int(sys.argv[1]))).serve()
