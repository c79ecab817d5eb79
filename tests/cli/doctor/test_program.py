"""Packages missing, out of range, and the command that gets them."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.cli.doctor.made import NOTE, OK, PROBLEM, only, with_versions
from vlmagent.cli.doctor import installed, program


def test_versions_in_range(monkeypatch):
    with_versions(monkeypatch, torch="2.13.0+cu130", peft="0.20.0.dev3")
    found = list(program.check_packages())
    torch = only(found, "torch")
    assert (torch.state, torch.text) == (OK, "2.13.0+cu130 (needs <3,>=2.11)")
    assert only(found, "peft").state is PROBLEM  # a version before 0.20


@pytest.mark.parametrize(
    ("version", "text"),
    [
        (None, "is not installed (needs <3,>=2.11)"),
        ("2.4.1", "is 2.4.1 (needs <3,>=2.11)"),
        ("what?", "is what? (needs <3,>=2.11)"),
    ],
)
def test_torch_missing_or_out_of_range_is_essential(monkeypatch, version, text):
    with_versions(monkeypatch, torch=version)
    torch = only(program.check_packages(), "torch")
    assert (torch.state, torch.text, torch.essential) == (PROBLEM, text, True)
    assert "install" in torch.remedy


def test_a_package_whose_files_are_gone(monkeypatch):
    with_versions(monkeypatch, peft="0.21.0")
    monkeypatch.setattr(installed, "is_absent", lambda name: name == "peft")
    peft = only(program.check_packages(), "peft")
    assert (peft.state, peft.essential) == (PROBLEM, True)
    assert peft.text == "is 0.21.0 without its files (needs <1,>=0.20)"


def test_packages_without_a_line_of_their_own_get_one_when_they_are_wrong(monkeypatch):
    before = only(program.check_packages(), "Others").text.split()[0]
    with_versions(monkeypatch, pyyaml=None)
    found = list(program.check_packages())
    assert only(found, "pyyaml").essential
    assert int(only(found, "Others").text.split()[0]) == int(before) - 1


def test_extras_absent_present_and_out_of_range(monkeypatch):
    with_versions(monkeypatch, deepspeed=None, bitsandbytes="0.47", matplotlib="3.1")
    found = list(program.check_extras())
    assert [one.name for one in found] == ["graphics", "report", "serve", "deepspeed", "quant"]
    deepspeed, quant, report = (only(found, name) for name in ("deepspeed", "quant", "report"))
    assert (deepspeed.state, deepspeed.text) == (
        NOTE,
        "Not installed; adds training on several GPUs or machines.",
    )
    assert deepspeed.remedy == installed.install_command("deepspeed")
    assert (quant.state, quant.text) == (OK, "bitsandbytes 0.47: weights in 8 or 4 bits")
    assert (report.state, report.essential) == (PROBLEM, False)
    assert report.text.startswith("matplotlib 3.1 (needs >=3.9): ")


def test_an_extra_that_this_system_cannot_have(monkeypatch):
    nowhere = (Requirement("deepspeed>=0.19 ; sys_platform == 'no-such-system'"),)
    wanted = installed.Wanted(">=3.11", (), {"deepspeed": nowhere})
    monkeypatch.setattr(installed, "wanted", lambda: wanted)
    assert only(program.check_extras(), "deepspeed").text.startswith("Not to be had on ")


def test_python_out_of_range_and_too_new_for_alfworld(monkeypatch):
    old = (Requirement("alfworld>=0.4 ; python_version < '3'"),)
    wanted = installed.Wanted(">=3.99", (), {"alfworld": old})
    monkeypatch.setattr(installed, "wanted", lambda: wanted)
    python = only(program.check_python(), "Python")
    assert (python.state, python.essential) == (PROBLEM, True)
    assert python.text.endswith("(needs >=3.99)")
    monkeypatch.setattr(installed, "wanted", lambda: installed.Wanted(">=3.11", (), {"alfworld": old}))
    assert "too new for the extra alfworld" in only(program.check_python(), "Python").text


ABOUT = """Metadata-Version: 2.4
Name: vlmagent
Requires-Python: >=3.11
Provides-Extra: quant
Requires-Dist: torch<3,>=2.11
Requires-Dist: bitsandbytes>=0.46; (sys_platform == 'linux') and extra == 'quant'
"""


def test_without_a_checkout_the_metadata_say_what_is_wanted(monkeypatch):
    from email import message_from_string

    monkeypatch.setattr(installed, "checkout_folder", lambda: None)
    monkeypatch.setattr(metadata, "metadata", lambda name: message_from_string(ABOUT))
    wanted = installed.wanted()
    assert wanted.python == ">=3.11"
    assert [one.name for one in wanted.packages] == ["torch"]
    assert [one.name for one in wanted.extras["quant"]] == ["bitsandbytes"]
    assert installed.applies(wanted.extras["quant"][0], "quant") is sys.platform.startswith("linux")


def test_the_command_installs_into_this_python(monkeypatch):
    monkeypatch.setattr(installed, "checkout_folder", lambda: None)
    monkeypatch.setattr(sys, "executable", "/opt/my env/bin/python")
    monkeypatch.setattr(installed.shutil, "which", lambda name: f"/opt/my env/bin/{name}")
    assert installed.install_command("quant") == "pip install 'vlmagent[quant]'"
    monkeypatch.setattr(installed.shutil, "which", lambda name: "/usr/bin/pip")
    assert installed.install_command() == "'/opt/my env/bin/python' -m pip install vlmagent"
    monkeypatch.setattr(installed, "checkout_folder", lambda: Path("/src/vlmagent"))
    assert installed.install_command("quant").endswith(" -m pip install -e '/src/vlmagent[quant]'")
    monkeypatch.setattr(installed.importlib.util, "find_spec", lambda name: None)
    assert installed.installer() == "uv pip install --python '/opt/my env/bin/python'"
