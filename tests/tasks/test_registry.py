"""Finding tasks by name, with every mistake a user can make."""

import subprocess
import sys
import types
from importlib import metadata
from typing import ClassVar

import pytest

from vlmagent.config import Config
from vlmagent.errors import UsageError
from vlmagent.tasks import registry
from vlmagent.tasks.numberline import NumberLineTask
from vlmagent.tasks.registry import build_task, task_from_config, task_names


class OtherTask(NumberLineTask):
    name: ClassVar[str] = "other"
    env_id: ClassVar[str] = "elsewhere/Other-v3"
    rule_sets: ClassVar[tuple[str, ...]] = ("house", "club")


@pytest.fixture
def plugins(monkeypatch):
    """An installed package with one good and two broken entry points, and its environments' module."""
    module = types.ModuleType("elsewhere_envs")
    module.OtherTask = OtherTask
    monkeypatch.setitem(sys.modules, "elsewhere_envs", module)
    points = [
        metadata.EntryPoint("other", "elsewhere_envs:OtherTask", registry.GROUP),
        metadata.EntryPoint("absent", "no_such_module_at_all:Task", registry.GROUP),
        metadata.EntryPoint("empty", "elsewhere_envs:Nothing", registry.GROUP),
        metadata.EntryPoint(
            "numberline", "elsewhere_envs:OtherTask", registry.GROUP
        ),  # cannot hide a built-in
    ]
    monkeypatch.setattr(metadata, "entry_points", lambda group: points if group == registry.GROUP else [])


def test_built_in():
    assert "numberline" in task_names()
    task = build_task("numberline", cot=False, env={"n_max": 7})
    assert isinstance(task, NumberLineTask)
    assert (task.cot, task.rule_set, task.n_max) == (False, "paper", 7)


def test_from_config():
    task = task_from_config(Config(task="numberline", cot=False, env={"n_max": 3}))
    assert (task.cot, task.rule_set, task.n_max) == (False, "paper", 3)


def test_a_task_without_the_papers_rules_plays_by_its_first_ones(plugins):
    assert task_from_config(Config(task="other")).rule_set == "house"
    assert task_from_config(Config(task="other", rule_set="club")).rule_set == "club"
    with pytest.raises(UsageError, match="Unknown rule_set of the task other 'pub'"):
        task_from_config(Config(task="other", rule_set="pub"))


@pytest.mark.parametrize(
    ("name", "arguments", "parts"),
    [
        (
            "numberlin",
            {},
            ["Unknown task 'numberlin'", "Did you mean 'numberline'?", "Valid choices: numberline"],
        ),
        ("", {}, ["Unknown task ''"]),
        ("numberline", {"env": {"nmax": 3}}, ["Unknown key 'env.nmax'", "Did you mean 'env.n_max'?"]),
        ("numberline", {"env": {"n_max": 0}}, ["env.n_max = 0 is out of range", "at least 1"]),
        ("numberline", {"env": {"n_max": "many"}}, ["env.n_max = 'many' is not valid"]),
        (
            "numberline",
            {"rule_set": "papr"},
            ["rule_set of the task numberline 'papr'", "Did you mean 'paper'?"],
        ),
        ("no_such_module_at_all:X-v0", {}, ["module 'no_such_module_at_all'", "could not be imported"]),
        (
            "vlmagent_envs:vlmagent/Numberline-v0",
            {},
            ["Did you mean 'vlmagent/NumberLine-v0'?", "vlmagent.tasks"],
        ),
        (":", {}, ["could not be imported"]),
        ("vlmagent_envs:", {}, ["Unknown environment with a task ''"]),
        ("..:x", {}, ["could not be imported"]),
    ],
)
def test_mistakes(name, arguments, parts):
    with pytest.raises(UsageError) as caught:
        build_task(name, **arguments)
    for part in parts:
        assert part in str(caught.value)


def test_by_environment_id():
    assert isinstance(build_task("vlmagent_envs:vlmagent/NumberLine-v0"), NumberLineTask)


@pytest.mark.usefixtures("plugins")
def test_other_packages():
    assert task_names()[-3:] == ["absent", "empty", "other"]
    assert task_names().count("numberline") == 1
    assert type(build_task("numberline")) is NumberLineTask
    task = build_task("other")
    assert isinstance(task, OtherTask)
    assert task.rule_set == "house"
    assert isinstance(build_task("elsewhere_envs:elsewhere/Other-v3", rule_set="club"), OtherTask)


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize(
    ("name", "part"), [("absent", "absent = no_such_module_at_all:Task"), ("empty", "elsewhere_envs:Nothing")]
)
def test_a_broken_entry_point_fails_only_when_asked_for(name, part):
    with pytest.raises(UsageError, match=part):
        build_task(name)


def test_nothing_heavy_is_imported():
    code = (
        "import sys; from vlmagent.tasks import registry; registry.build_task('numberline').make_env();"
        "print([name for name in {'torch', 'transformers', 'textual', 'sqlite_utils'} & set(sys.modules)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
