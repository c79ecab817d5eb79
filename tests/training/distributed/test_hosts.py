import importlib.util
from pathlib import Path

import pytest
import torch

from tests.conftest import SMALL
from vlmagent.config import Config, load_config
from vlmagent.errors import UsageError
from vlmagent.training.distributed.hosts import check_distributed, distributed_overrides, read_hostfile


def test_options_become_settings(tmp_path: Path):
    hostfile = tmp_path / "hosts"
    hostfile.write_text("# ours\nnode1 slots=4\nnode2  slots=8  # the big one\n\n")
    assert read_hostfile(hostfile) == {"node1": 4, "node2": 8}
    assert distributed_overrides(None, None, None, None) == []
    assert distributed_overrides(None, 2, None, "zero3") == [
        *("distributed.deepspeed=zero3", "distributed.processes=2"),
        *("distributed.hostfile=null", "model.device=cpu"),
    ]
    assert distributed_overrides(None, None, hostfile, None) == [
        "distributed.processes=12",
        f"distributed.hostfile={hostfile}",
    ]


def test_options_that_contradict_each_other(tmp_path: Path):
    with pytest.raises(UsageError, match="--gpus and --processes exclude each other"):
        distributed_overrides(2, 2, None, None)


def test_more_gpus_than_there_are(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert "model.device=cuda" in distributed_overrides(1, None, None, None)
    with pytest.raises(UsageError, match=r"torch sees 1 here\. --processes 2"):
        distributed_overrides(2, None, None, None)
    assert "distributed.processes=2" in distributed_overrides(2, None, None, None, must_exist=False)


@pytest.mark.parametrize("text", ["", "node1", "node1 slots=0", "node1 slots=2\nnode1 slots=2", "slots=2"])
def test_broken_hostfiles(tmp_path: Path, text: str):
    (tmp_path / "hosts").write_text(text)
    with pytest.raises(UsageError, match=r"slots=N|'node1 slots=8'"):
        read_hostfile(tmp_path / "hosts")


def test_what_several_processes_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config = Config.model_validate({**SMALL, "distributed": {"processes": 2}})
    check_distributed(Config.model_validate(SMALL))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"vlmagent\[deepspeed\]"):
        check_distributed(config)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    check_distributed(config)
    (tmp_path / "hosts").write_text("node1 slots=4\n")
    wrong = {"processes": 2, "hostfile": str(tmp_path / "hosts")}
    with pytest.raises(UsageError, match=r"has 4 slots, but distributed\.processes = 2"):
        check_distributed(Config.model_validate({**SMALL, "distributed": wrong}))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"distributed": {"processes": 3}}, "rollout.num_envs = 4 must be a multiple"),
        (
            {"distributed": {"processes": 4}, "ppo": {**SMALL["ppo"], "minibatch_size": 6}},
            "ppo.minibatch_size = 6 must be a multiple",
        ),
        ({"distributed": {"processes": 2}, "agent": "cnn"}, "trains in one process, not 2"),
    ],
)
def test_shares_are_equal(tmp_path: Path, changes: dict, said: str):
    import yaml

    (tmp_path / "c.yaml").write_text(yaml.safe_dump({**SMALL, **changes}))
    with pytest.raises(UsageError, match=said):
        load_config(tmp_path / "c.yaml")
