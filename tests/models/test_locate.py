"""Names of models: folders, adapters, the hub; wrong ones are told in a sentence, without a download."""

import json
from pathlib import Path

import huggingface_hub
import pytest

from vlmagent.errors import UsageError
from vlmagent.models.locate import base_of, check_model, is_hub_name, is_pretrained, locate

HUB = "some-owner/some-model.v1-7b"


class GatedRepoError(Exception):
    """Named as the hub's own."""


class RepositoryNotFoundError(Exception):
    """Named as the hub's own."""


def whole(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"")
    return folder


@pytest.fixture
def no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_args, **_kwargs):
        raise OSError("not in the cache")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", missing)


def test_hub_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert is_hub_name(HUB)
    for name in ("tiny", "/abs/folder", "./a/b", "../a", "a/b/c", "~/model", "a/", "."):
        assert not is_hub_name(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "some-owner").mkdir()
    (tmp_path / HUB).mkdir()
    assert not is_hub_name(HUB), "a folder here goes first"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionError("Name or service not known"), "could not be reached"),
        (RepositoryNotFoundError("404"), "knows no such model"),
        (GatedRepoError("403"), "asks for an agreement"),
    ],
)
def test_a_hub_name_that_cannot_be_fetched(no_cache, monkeypatch, error, words):
    def refuse(*_args, **_kwargs):
        raise error

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", refuse)
    with pytest.raises(UsageError, match=words) as caught:
        check_model(HUB)
    text = str(caught.value)
    assert HUB in text
    assert "\n" not in text


def test_downloading_that_fails(no_cache):
    with pytest.raises(UsageError, match="could not be fetched"):
        locate(HUB)


def test_a_model_fetched_before_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = whole(tmp_path / "snapshot")

    def download(name, *, allow_patterns, local_files_only=False, **_kwargs):
        assert name == HUB
        assert local_files_only, "the network was asked"
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(
        huggingface_hub.HfApi, "model_info", lambda *_a, **_k: pytest.fail("the hub was asked")
    )
    check_model(HUB)
    assert locate(HUB) == folder


def test_half_a_download_is_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = whole(tmp_path / "snapshot")
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    complete = whole(tmp_path / "complete")

    def download(_name, *, local_files_only=False, **_kwargs):
        return str(folder if local_files_only else complete)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert locate(HUB) == complete


def test_folders_and_adapters(tmp_path: Path):
    base = whole(tmp_path / "base")
    assert locate(str(base)) == base.resolve()
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
    with pytest.raises(UsageError, match="adapter without its weights"):
        check_model(str(adapter))
    (adapter / "adapter_model.safetensors").write_bytes(b"")
    check_model(str(adapter))
    (base / "config.json").unlink()
    with pytest.raises(UsageError, match="is no checkpoint"):
        check_model(str(adapter))


def test_which_models_come_from_elsewhere(tmp_path: Path):
    assert is_pretrained(HUB)
    assert not is_pretrained("tiny")
    assert is_pretrained(str(whole(tmp_path)))
    (tmp_path / "value_head.json").write_text("{}")
    assert not is_pretrained(str(tmp_path))


class TestBases:
    """Which model an adapter is opened on: where it says, or where ``model.name`` says that it is now."""

    @staticmethod
    def adapter(folder: Path, base: str) -> Path:
        folder.mkdir(parents=True)
        (folder / "adapter_config.json").write_text(
            json.dumps({"peft_type": "LORA", "base_model_name_or_path": base})
        )
        (folder / "adapter_model.safetensors").write_bytes(b"")
        return folder

    @pytest.mark.parametrize(
        ("stored", "wanted", "chosen"),
        [
            ("old", None, "old"),
            ("old", "tiny", "old"),
            ("old", "new", "new"),  # said now counts for more
            ("gone", "new", "new"),
            ("old", "gone", "old"),  # a relative path of another working directory
            ("old", HUB, "old"),  # a path that looks like a name on the hub
            ("gone", HUB, HUB),
            (HUB, None, HUB),
            (HUB, "new", "new"),
            (HUB, "other/model", "other/model"),
            ("old", "adapter", "old"),  # the adapter itself
            ("old", "parent", "new"),  # an adapter that was trained further, on its own base
        ],
    )
    def test_chosen(self, stored: str, wanted: str | None, chosen: str, tmp_path: Path):
        def place(name: str | None) -> str | None:
            return name if name is None or "/" in name or name == "tiny" else str(tmp_path / name)

        for name in ("old", "new"):
            whole(tmp_path / name)
        folder = self.adapter(tmp_path / "adapter", str(place(stored)))
        self.adapter(tmp_path / "parent", str(tmp_path / "new"))
        assert base_of(folder, place(wanted)) == place(chosen)

    def test_nowhere(self, tmp_path: Path):
        folder = self.adapter(tmp_path / "adapter", str(tmp_path / "gone"))
        for wanted in (None, str(tmp_path / "gone too")):
            with pytest.raises(UsageError, match=r"gone', which is not there\. .*--set model\.name=NEW"):
                base_of(folder, wanted)
        with pytest.raises(UsageError, match=r"base_model_name_or_path in .*adapter_config\.json"):
            check_model(str(folder))

    @pytest.mark.parametrize("kind", ["PROMPT_TUNING", "IA3", "LOHA", "TRAINABLE_TOKENS"])
    def test_other_types_of_adapters(self, kind: str, tmp_path: Path):
        folder = self.adapter(tmp_path / "adapter", str(whole(tmp_path / "base")))
        settings = json.loads((folder / "adapter_config.json").read_text())
        (folder / "adapter_config.json").write_text(json.dumps({**settings, "peft_type": kind}))
        with pytest.raises(UsageError, match=f"adapter of the type {kind}"):
            check_model(str(folder))
