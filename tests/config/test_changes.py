"""What of a config may change when a run goes on: every key is decided on, and refused with its reason."""

from collections.abc import Iterator

import pytest
from pydantic import BaseModel

from tests.conftest import SMALL
from vlmagent.config import Config, merge
from vlmagent.config.changes import (
    RULES,
    Change,
    Standing,
    When,
    check_changes,
    differences,
    rule_of,
    steps_in_all,
)
from vlmagent.errors import UsageError

NOT_BEGUN = Standing(begun=False, saved=0, logged=0)


def leaf_keys(model: type[BaseModel] = Config, prefix: str = "") -> Iterator[str]:
    """Every key that a config has, by the models that define it."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from leaf_keys(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name


def config(**changes: object) -> Config:
    return Config.model_validate(merge(SMALL, changes))


@pytest.mark.parametrize("key", leaf_keys())
def test_every_key_is_decided_on(key: str) -> None:
    rule = rule_of(key)
    assert rule.when in When
    assert bool(rule.why) == (rule.when is not When.ANY)


def test_no_rule_is_for_nothing() -> None:
    keys = list(leaf_keys())
    assert [
        name for name in RULES if not any(key == name or key.startswith(f"{name}.") for key in keys)
    ] == []
    with pytest.raises(KeyError, match=r"no rule for 'ppo\.brand_new'"):
        rule_of("ppo.brand_new")


def test_differences_are_found_leaf_by_leaf() -> None:
    old = config(env={"n_max": 5, "deep": {"er": 1}})
    new = config(env={"n_max": 7, "deep": {"er": 1}, "holdout": 0.5}, ppo={"lr": 5e-5}, cnn={"hidden": [8]})
    assert differences(old, new) == [
        Change("env.n_max", 5, 7),
        Change("cnn.hidden", [512, 512], [8]),
        Change("ppo.lr", 0.0002, 5e-05),
        Change("env.holdout", None, 0.5),
    ]
    assert [str(change) for change in differences(old, new)] == [
        "env.n_max 5 -> 7",
        "cnn.hidden [512, 512] -> [8]",
        "ppo.lr 0.0002 -> 5e-05",
        "env.holdout null -> 0.5",
    ]
    assert differences(old, old) == []


def refused(new: Config, standing: Standing, old: Config | None = None) -> str:
    with pytest.raises(UsageError) as error:
        check_changes("the run r", old or config(), new, standing)
    return str(error.value)


def allowed(new: Config, standing: Standing) -> list[str]:
    return [change.key for change in check_changes("the run r", config(), new, standing)]


def test_what_is_fixed_is_refused_with_both_values_and_the_reason() -> None:
    text = refused(config(seed=5, model={"tiny": {"width": 64}}), Standing(True, 32, 48))
    assert text.splitlines() == [
        "seed = 5 cannot be set on the run r, which has 0: its samples, episodes and first weights were drawn with the "
        "old value. Leave it out, or start a new run with it.",
        "model.tiny.width = 64 cannot be set on the run r, which has 32: the weights it has were made with the old "
        "value. Leave it out, or start a new run with it.",
    ]


def test_before_anything_was_trained_only_task_and_agent_are_fixed() -> None:
    assert allowed(config(seed=5, rollout={"num_envs": 8}), NOT_BEGUN) == ["seed", "rollout.num_envs"]
    assert "task = ezpoints cannot be set" in refused(config(task="ezpoints"), NOT_BEGUN)
    assert "agent = cnn cannot be set" in refused(config(agent="cnn"), NOT_BEGUN)


@pytest.mark.parametrize("change", [{"rollout": {"temperature": 1.0}}, {"ppo": {"steps_per_update": 16}}])
def test_what_sampled_an_update_may_change_between_two(change: dict[str, object]) -> None:
    new = config(**change)
    assert len(allowed(new, Standing(True, 32, 32))) == 1
    text = refused(new, Standing(True, 32, 36))
    assert "the update that it has begun to collect" in text
    assert "(4 steps are logged beyond step-32)" in text


def test_what_learnt_may_change_while_no_later_update_was_sampled() -> None:
    new = config(ppo={"lr": 5e-5})
    for logged in (32, 36, 64):
        assert allowed(new, Standing(True, 32, logged)) == ["ppo.lr"]
    text = refused(new, Standing(True, 32, 68))
    assert "(36 steps are logged beyond step-32)" in text
    assert text.endswith("Continue without it, stop the run once it has caught up, and set it then.")


def test_where_the_log_cannot_be_read_only_what_needs_none_changes() -> None:
    unknown = Standing(True, 32, None)
    assert allowed(config(model={"threads": 2}), unknown) == ["model.threads"]
    for change in ({"ppo": {"lr": 5e-5}}, {"rollout": {"temperature": 1.0}}):
        assert "Continue it once without a change" in refused(config(**change), unknown)


@pytest.mark.parametrize(
    ("old", "new", "fine"),
    [("/a/llava", "/b/llava", True), ("tiny", "/b/llava", False), ("/a/llava", "tiny", False)],
)
def test_a_model_may_only_be_moved(old: str, new: str, fine: bool) -> None:
    before, after = (config(model={"name": name}) for name in (old, new))
    if fine:
        assert check_changes("the run r", before, after, Standing(True, 32, 32)) == [
            Change("model.name", old, new)
        ]
    else:
        assert f"model.name = {new} cannot be set" in refused(after, Standing(True, 32, 32), before)


@pytest.mark.parametrize(
    ("env_steps", "done", "total"),
    [
        (96, 0, 96),
        (100, 0, 96),
        (96, 32, 96),
        (96, 96, 96),
        (128, 96, 128),
        (64, 96, 96),
        (0, 0, 0),
        (100, 40, 72),
    ],
)
def test_env_steps_are_counted_not_updates(env_steps: int, done: int, total: int) -> None:
    assert steps_in_all(config(ppo={"env_steps": env_steps}), done) == total


def test_a_goal_below_what_is_logged_is_refused() -> None:
    text = refused(config(ppo={"env_steps": 64}), Standing(True, 64, 72))
    assert text == (
        "ppo.env_steps = 64 is less than the run r has done: 72 steps. With ppo.steps_per_update = 32 it must be at "
        "least 96."
    )
    assert allowed(config(ppo={"env_steps": 64}), Standing(True, 64, 64)) == ["ppo.env_steps"]
