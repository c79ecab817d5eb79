"""ALFWorld's packages, games and frames, each missing in turn."""

from __future__ import annotations

from packaging.requirements import Requirement

from tests.cli.doctor.made import NOTE, OK, PROBLEM, only, with_versions
from vlmagent.cli.doctor import household, installed
from vlmagent_envs.alfworld import available
from vlmagent_envs.alfworld.available import Lack


def installed_here(monkeypatch, *names: str, tools: bool = True) -> None:
    monkeypatch.setattr(available, "_installed", lambda name: name in names)
    monkeypatch.setattr(available.shutil, "which", lambda tool: tool if tools else None)
    with_versions(monkeypatch, alfworld="0.4.2", textworld="1.7.0")
    wanted = (Requirement("alfworld>=0.4.2,<0.5"), Requirement("textworld>=1.7,<1.8"))
    monkeypatch.setattr(installed, "wanted", lambda: installed.Wanted(">=3.11", (), {"alfworld": wanted}))


def test_the_extra_is_not_installed(monkeypatch):
    installed_here(monkeypatch, tools=False)
    monkeypatch.setattr(available, "too_new", lambda: False)
    extra, tools = household.check_alfworld()
    assert (extra.state, extra.remedy) == (NOTE, installed.install_command("alfworld"))
    assert tools.text == "cmake, make, g++ missing, which the installation builds a planner with."
    installed_here(monkeypatch, "alfworld")
    extra, tools = household.check_alfworld()
    assert (extra.state, extra.text) == (PROBLEM, "Half installed: textworld, fast_downward is missing.")
    assert tools.state is OK


def test_this_python_is_too_new_for_the_extra(monkeypatch):
    installed_here(monkeypatch)
    monkeypatch.setattr(available, "too_new", lambda: True)
    (found,) = household.check_alfworld()
    assert (found.state, found.remedy) == (NOTE, "Use Python 3.11 or 3.12.")


def test_the_extra_in_a_version_that_may_fail(monkeypatch, tmp_path):
    monkeypatch.setenv("ALFWORLD_DATA", str(tmp_path))
    installed_here(monkeypatch, *available.PACKAGES)
    with_versions(monkeypatch, alfworld="0.4.2", textworld="1.6.0")
    found = only(household.check_alfworld(), "alfworld")
    assert (found.state, found.essential) == (PROBLEM, False)
    assert "textworld 1.6.0 may fail" in found.text


def test_the_real_games_are_counted(monkeypatch, tmp_path):
    installed_here(monkeypatch, *available.PACKAGES)
    monkeypatch.setenv("ALFWORLD_DATA", str(tmp_path))
    games = only(household.check_alfworld(), "Real games")
    assert (games.state, games.text) == (NOTE, f"None in {tmp_path}; env.world=tw plays them.")
    assert games.remedy.startswith("alfworld-download\n")
    folders = ("train/a/t1", "train/a/t2", "train/b-movable/t1", "valid_seen/a/t1", "valid_unseen/a/t1")
    for folder in folders:
        (tmp_path / "json_2.1.1" / folder).mkdir(parents=True)
        (tmp_path / "json_2.1.1" / folder / "game.tw-pddl").touch()
    games = only(household.check_alfworld(), "Real games")
    assert games.state is OK
    assert games.text == f"{tmp_path}/json_2.1.1: train 2, valid_seen 1, valid_unseen 1"
    (tmp_path / "json_2.1.1/valid_seen/a/t1/game.tw-pddl").unlink()
    games = only(household.check_alfworld(), "Real games")
    assert (games.state, games.essential) == (PROBLEM, False)
    assert "valid_seen 0" in games.text


def test_what_real_frames_lack(monkeypatch, tmp_path):
    installed_here(monkeypatch, *available.PACKAGES)
    monkeypatch.setenv("ALFWORLD_DATA", str(tmp_path))
    lacks = [
        Lack("the package cv2", "pip install opencv-python", "opencv-python"),
        Lack("an X display", "run Xvfb"),
    ]
    monkeypatch.setattr(available, "lacks_for_thor", lambda games: lacks)
    frames = only(household.check_alfworld(), "Real frames")
    assert (frames.state, frames.text) == (NOTE, "env.world=thor lacks cv2, an X display.")
    assert frames.remedy == f"{installed.installer()} opencv-python\nan X display: run Xvfb"
    monkeypatch.setattr(available, "lacks_for_thor", lambda games: [])
    assert only(household.check_alfworld(), "Real frames").state is OK
