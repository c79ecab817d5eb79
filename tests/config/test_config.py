"""Recipes: every shipped one parses, and every mistake is answered with the key, the value and the way out."""

import pytest
import yaml

from tests.conftest import SMALL
from vlmagent import paths
from vlmagent.cli.recipe import TrainRequest, build_config
from vlmagent.config import (
    Config,
    ModelConfig,
    available_configs,
    dump_config,
    find_config,
    load_config,
    merge,
    parse_overrides,
)
from vlmagent.config.validation import validate
from vlmagent.errors import UsageError
from vlmagent.tasks.registry import task_from_config


@pytest.mark.parametrize("name", available_configs())
def test_every_shipped_config_parses_and_opens_with_its_command(name):
    path = find_config(name)
    assert path.read_text().startswith("# vlmagent ")
    config = load_config(path)
    assert task_from_config(config).name == config.task


def test_there_are_shipped_configs():
    assert "numberline" in available_configs()
    assert paths.config_dir().is_dir()


def test_dumped_config_reads_back_equal(tmp_path):
    config = Config.model_validate(SMALL)
    (tmp_path / "c.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "c.yaml") == config


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        ("ppo.lr=fast", ["ppo.lr", "'fast'", "number"]),
        ("ppo.lr=-1", ["ppo.lr = -1", "more than 0", "at most 1"]),
        ("ppo.lrr=1", ["Unknown key 'ppo.lrr'", "'ppo.lr'"]),
        ("pppo.lr=1", ["Unknown key 'pppo'", "'ppo'"]),
        ("lr=1", ["Unknown key 'lr'", "Valid keys here"]),
        ("ppo.epochs=2.5", ["ppo.epochs", "2.5"]),
        ("store.journal_mode=wall", ["'wall'", "'wal' or 'delete'"]),
        ("ppo.steps_per_update=500", ["500", "multiple", "32"]),
        ("ppo.env_steps=100", ["100", "one update"]),
        ("model.tiny.image_size=61", ["image_size = 61", "multiple of 12"]),
        ("ppo=3", ["ppo = 3"]),
        ("ppo.stop_when.success=99", ["ppo.stop_when.success = 99", "at least 0 and at most 1"]),
        ("ppo.stop_when.episodes=0", ["ppo.stop_when.episodes = 0", "at least 1"]),
        ("ppo.stop_when.sucess=1", ["Unknown key 'ppo.stop_when.sucess'", "'ppo.stop_when.success'"]),
        ("ppo.value_coef=.inf", ["ppo.value_coef = inf", "finite"]),
        ("sft.weight_decay=.nan", ["sft.weight_decay = nan"]),
    ],
)
def test_bad_values_are_explained(pair, words):
    with pytest.raises(UsageError) as caught:
        load_config(find_config("numberline"), parse_overrides([pair]))
    for word in words:
        assert word in str(caught.value)


def test_two_mistakes_are_told_at_once():
    with pytest.raises(UsageError) as caught:
        validate(Config, {"task": "numberline", "seed": -1, "cott": True})
    assert "seed = -1" in str(caught.value)
    assert "'cot'" in str(caught.value)


def test_a_missing_key_is_named():
    with pytest.raises(UsageError, match="'task' is missing"):
        validate(Config, {})


def test_overrides():
    assert parse_overrides(["ppo.lr=1e-4", "cot=false", "env.n_max=7", "model.name=tiny"]) == {
        "ppo": {"lr": 1e-4},
        "cot": False,
        "env": {"n_max": 7},
        "model": {"name": "tiny"},
    }


def test_what_is_quoted_is_text():
    quoted = {
        pair: parse_overrides([pair])["env"]["word"]
        for pair in ('env.word="12"', "env.word='1e-4'", "env.word=12")
    }
    assert list(quoted.values()) == ["12", "1e-4", 12]


def test_quantised_weights_need_adapters():
    config = load_config(find_config("numberline"), {"model": {"name": "some/model", "quantization": "4bit"}})
    with pytest.raises(UsageError, match=r"quantization = 4bit .* set model\.lora\.enabled=true"):
        config.model.check_trainable()


@pytest.mark.parametrize("pair", ["nonsense", "=3", "a..b=1", ".a=1", "a=[1", ""])
def test_nonsense_overrides(pair):
    with pytest.raises(UsageError, match="--set"):
        parse_overrides([pair])


def test_a_key_cannot_be_value_and_section():
    with pytest.raises(UsageError, match="cannot be a section"):
        parse_overrides(["ppo=1", "ppo.lr=1"])


def test_merge_keeps_what_is_not_overridden():
    assert merge({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 9}}) == {"a": {"b": 9, "c": 2}, "d": 3}


def test_unknown_config_names_the_nearest():
    with pytest.raises(UsageError, match="Did you mean 'numberline'"):
        find_config("numberlin")


@pytest.mark.parametrize(
    ("text", "words"),
    [("a: [1", "not valid YAML"), ("- 1", "holds list"), ("\x00", "not valid YAML"), ("", "holds NoneType")],
)
def test_broken_files(tmp_path, text, words):
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=words):
        load_config(path)


def test_every_field_has_a_docstring():
    def sections(model):
        yield model
        for field in model.model_fields.values():
            if isinstance(field.annotation, type) and hasattr(field.annotation, "model_fields"):
                yield from sections(field.annotation)

    for section in sections(Config):
        for name, field in section.model_fields.items():
            assert field.description, f"{section.__name__}.{name}"


def test_learning_rate_keeps_its_type_through_yaml():
    assert isinstance(yaml.safe_load(dump_config(Config(task="numberline")))["ppo"]["lr"], float)


class TestPrecision:
    """Whole weights in bfloat16 would hardly move: refused where a training begins, not where a run is read."""

    def test_refused_with_the_remedy(self):
        config = ModelConfig(name="owner/model", dtype="bfloat16")
        with pytest.raises(UsageError, match=r"model\.dtype=float32, or model\.lora\.enabled=true"):
            config.check_trainable()

    @pytest.mark.parametrize(
        "settings",
        [
            {"name": "owner/model", "dtype": "bfloat16", "lora": {"enabled": True}},
            {"name": "owner/model", "dtype": "float32"},
            {"name": "owner/model"},
            {"name": "tiny", "dtype": "bfloat16"},  # it is float32 whatever is set
        ],
    )
    def test_what_can_learn(self, settings):
        ModelConfig.model_validate(settings).check_trainable()

    def test_training_asks_before_anything_is_opened(self):
        half = [
            "model.dtype=bfloat16",
            "model.lora.enabled=false",
        ]  # recipes for pretrained models have adapters
        with pytest.raises(UsageError, match="most weights would never move"):
            build_config(TrainRequest("numberline", None, half, "owner/model"), fetch=False)
        build_config(TrainRequest("numberline", None, half, "owner/model"), fetch=False, trains=False)
