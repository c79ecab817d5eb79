"""Run as one of several processes: DeepSpeed's engine beside a local one on the whole batch, stage by stage.

Prints ``equal STAGE`` in the first process for each stage of the command line that agreed throughout.
"""

import copy
import json
import math
import sys

import torch
import torch.distributed as dist
from torch import nn

from vlmagent.models.logprob import Scores
from vlmagent.training.distributed.group import Group, join, leave
from vlmagent.training.distributed.zero_config import complete, read_zero_config
from vlmagent.training.engines.deepspeed import DeepSpeedEngine
from vlmagent.training.engines.local import LocalEngine

CLIP, DECAY = 0.5, 0.1
ROWS = 4  # per process


class Net(nn.Module):
    """A body, a part that never learns, and a critic that reads the body without teaching it. Odd sizes, so that no
    parameter divides evenly among two."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.frozen = nn.Linear(8, 8).requires_grad_(False)
            self.body = nn.Sequential(nn.Linear(8, 33), nn.Tanh())
            self.out = nn.Linear(33, 5)
            self.head = nn.Sequential(nn.Linear(33, 7), nn.ReLU(), nn.Linear(7, 1))

    def score(self, x: torch.Tensor) -> Scores:
        hidden = self.body(self.frozen(x))
        logprobs = torch.log_softmax(self.out(hidden), -1)
        mask = torch.ones_like(logprobs, dtype=torch.bool)
        return Scores(logprobs, logprobs.exp(), mask, self.head(hidden.detach()).squeeze(-1))

    def groups(self) -> list[dict]:
        policy = [*self.body.parameters(), *self.out.parameters()]
        return [{"params": policy, "lr": 1e-2}, {"params": list(self.head.parameters()), "lr": 3e-2}]


def loss_of(scores: Scores, target: torch.Tensor) -> torch.Tensor:
    policy = (scores.token_logprobs - target).pow(2).mean()
    return policy + (scores.values - target[:, 0]).pow(2).mean()


def out_of_memory(_gradient: torch.Tensor) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


class Pair:
    """The same network twice: divided among the processes, and whole."""

    def __init__(self, stage: int, group: Group) -> None:
        settings = read_zero_config(f"zero{stage}")
        if stage == 3:  # divide small parameters too
            settings["zero_optimization"]["stage3_param_persistence_threshold"] = 0
        self.settings, self.group = complete(settings, 2), group
        self.net, self.whole = Net(), Net()
        self.engine = self.make_engine()
        self.local = LocalEngine(self.whole.groups(), CLIP, DECAY)

    def make_engine(self) -> DeepSpeedEngine:
        return DeepSpeedEngine(self.net, self.net.score, self.net.groups(), self.settings, CLIP, DECAY)

    def accumulate(self, seed: int, factor: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
        """Two micro-batches of this process's rows; returns all rows."""
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(ROWS * self.group.world, 8, generator=generator)
        target = torch.randn(ROWS * self.group.world, 5, generator=generator)
        first = self.group.rank * ROWS
        for start in (first, first + 2):
            rows = slice(start, start + 2)
            loss = loss_of(self.engine.score(x[rows]), target[rows])
            self.engine.backward(loss * 0.5 * factor)
        return x, target

    def update(self, seed: int) -> None:
        x, target = self.accumulate(seed)
        norm = self.engine.step()
        self.local.backward(loss_of(self.whole.score(x), target))
        assert math.isclose(norm, self.local.step(), rel_tol=1e-5)

    def broken_update(self, seed: int) -> None:
        """One process's loss is infinite: nobody steps."""
        self.accumulate(seed, math.inf if self.group.rank == 0 else 1.0)
        assert not math.isfinite(self.engine.step())

    def broken_off_update(self, seed: int) -> None:
        """One process runs out of memory on its way back, where the others do not need it: it tries again alone."""
        if self.group.rank == 1:
            scores = self.engine.score(torch.zeros(2, 8))
            scores.token_logprobs.register_hook(out_of_memory)
            try:
                self.engine.backward((scores.values.sum() + scores.token_logprobs.sum()) * 7)
            except torch.OutOfMemoryError:
                self.engine.discard()
            else:
                raise AssertionError("nothing was broken off")
        self.update(seed)

    def reopen(self) -> None:
        """Another engine on the same network, once the first has left it."""
        state = copy.deepcopy(self.group.share(self.engine.state_dict()))
        self.engine.close()
        assert not any(hasattr(parameter, "ds_tensor") for parameter in self.net.parameters())
        with torch.no_grad():
            self.net.score(torch.zeros(self.group.rank + 1, 8))
        self.engine = self.make_engine()
        self.engine.load_state_dict(state)

    def restart(self) -> None:
        for engine in (self.engine, self.local):
            engine.restart(2e-2)

    def discarded_update(self, seed: int) -> None:
        self.accumulate(seed)
        self.engine.discard()

    def freeze(self, frozen: bool) -> None:
        for engine in (self.engine, self.local):
            engine.freeze(0, frozen)

    def reload(self) -> None:
        """A new engine from what the old one saved, through JSON and one process, as a checkpoint does it."""
        state = copy.deepcopy(self.group.share(self.engine.state_dict()))
        json.dumps(state["param_groups"])
        with self.engine.whole():
            weights = {name: value.clone() for name, value in self.net.state_dict().items()}
        self.net = Net()
        self.net.load_state_dict(weights)
        self.engine = self.make_engine()
        self.engine.load_state_dict(state)

    def move_to_local(self) -> None:
        """Another local engine takes over the divided one's state: one process continues what several began."""
        state = copy.deepcopy(self.group.share(self.engine.state_dict()))
        self.local = LocalEngine(self.whole.groups(), CLIP, DECAY)
        self.local.load_state_dict(state)

    def assert_equal(self) -> None:
        with self.engine.whole(), torch.no_grad():
            for ours, theirs in zip(self.net.parameters(), self.whole.parameters(), strict=True):
                torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
        ours, theirs = self.engine.state_dict(), self.local.state_dict()
        assert ours["param_groups"] == theirs["param_groups"]
        if self.group.rank == 0:
            torch.testing.assert_close(ours["state"], dict(theirs["state"]), atol=1e-5, rtol=0)
        else:
            assert not ours["state"]


def compare(stage: int, group: Group) -> None:
    pair = Pair(stage, group)
    pair.freeze(True)
    pair.update(0)
    pair.update(1)
    pair.assert_equal()
    pair.freeze(False)
    for engine in (pair.engine, pair.local):
        engine.set_lr_factor(0.5)
    pair.update(2)
    pair.broken_update(3)
    pair.assert_equal()
    pair.discarded_update(4)
    pair.update(5)
    pair.assert_equal()
    pair.reload()
    pair.move_to_local()
    with pair.engine.whole(), torch.no_grad():
        pair.net.score(torch.zeros(group.rank + 1, 8))  # as often and as much as each likes
    pair.update(6)
    pair.assert_equal()
    if stage < 2:
        assert not pair.engine.averages_each_pass
        pair.broken_off_update(7)
        pair.assert_equal()
    pair.reopen()
    pair.update(8)
    pair.assert_equal()
    pair.restart()
    pair.freeze(True)
    pair.update(9)
    pair.freeze(False)
    pair.update(10)
    pair.assert_equal()


if __name__ == "__main__":
    torch.set_num_threads(1)
    joined = join("cpu")
    for name in sys.argv[1:]:
        compare(int(name), joined)
        dist.barrier()
        if joined.rank == 0:
            print("equal", name, flush=True)
    leave()
