"""The table as the command shows it: leaving the program, and pictures of it."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.tui.driving import shown
from tests.tui.play.made_play import Brain, alone, begin, brains, happens, host, plan, press, table
from vlmagent.cli.main import app as command
from vlmagent.errors import UsageError, VlmAgentError
from vlmagent.play.messages import Died
from vlmagent.runs import folders
from vlmagent.tui.play.screen import PlayScreen
from vlmagent.tui.play_app import PlayApp, photograph_play
from vlmagent.tui.screens.confirm import ConfirmScreen

__all__ = ["brains"]


def text_of(picture: Path) -> str:
    return picture.read_text().replace("&#160;", " ")


async def test_leaving_the_program_in_the_middle_is_asked_about() -> None:
    app = PlayApp(alone("points24"))
    async with app.run_test(size=(80, 24)) as pilot:
        await begin(pilot)
        await press(pilot, "plus")
        await pilot.press("q")
        await happens(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        await pilot.press("escape")
        await happens(pilot, lambda: isinstance(app.screen, PlayScreen))
        assert app.is_running
        await pilot.press("q")
        await happens(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        await pilot.press("y")
        await happens(pilot, lambda: not app.is_running)


async def test_a_queen_that_counts_as_twelve_has_the_key_q() -> None:
    cards = alone("points24", overrides=["env.face_cards=11-12-13"])
    async with host(cards).run_test(size=(80, 24)) as pilot:
        playing = await begin(pilot)
        await press(pilot, "q")
        assert playing.you is not None
        assert playing.you.actions == ("12",)


async def test_the_footer_follows_who_acts(brains: list[Brain]) -> None:
    async with host(plan("points24")).run_test(size=(120, 24)) as pilot:
        await begin(pilot)
        brains[0].load()

        def keys() -> set[str]:
            return {str(key.description) for key in table(pilot).query("FooterKey")}

        await happens(pilot, lambda: "Step" in keys())
        assert "Hint" not in keys()
        await pilot.press("t")
        await happens(pilot, lambda: "Hint" in keys())
        assert "Step" not in keys()
        await pilot.press("x")
        await happens(pilot, lambda: "Hint" not in keys())
        await press(pilot, "plus")
        await happens(pilot, lambda: "Hint" in keys())


async def test_a_death_is_told_where_an_opinion_still_stands(brains: list[Brain]) -> None:
    Brain.choose = lambda _: "+"  # type: ignore[assignment, misc]
    async with host(plan(human=True, hints="on")).run_test(size=(80, 24)) as pilot:
        await begin(pilot)
        brains[0].load()
        await happens(pilot, lambda: "because of +" in shown(table(pilot).query_one("#mind-output")))
        brains[0].say(Died("The process that thinks was ended by SIGKILL."))
        await happens(pilot, lambda: "SIGKILL" in str(list(pilot.app._notifications)))


def test_a_picture_of_the_table(tmp_path: Path) -> None:
    picture = photograph_play(plan("blackjack", human=True, hints="on"), tmp_path / "pictures")
    assert picture == tmp_path / "pictures" / "play.svg"
    text = text_of(picture)
    assert text.startswith("<svg")
    for part in ("blackjack", "you play", "expert", "action", "stand", "thoughts"):
        assert part in text
    assert folders.all_runs() == [], "nobody played"


def test_a_picture_of_an_opponent_that_cannot_think(brains: list[Brain], tmp_path: Path) -> None:
    class Dying(Brain):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)  # type: ignore[arg-type]
            self.say(Died("It ended with code 1."))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vlmagent.tui.play.game.ThinkingProcess", Dying)
        with pytest.raises(VlmAgentError, match="ended with code 1"):
            photograph_play(plan(human=True, hints="on"), tmp_path)
    assert not (tmp_path / "play.svg").exists()


def test_the_command_takes_a_picture(tmp_path: Path) -> None:
    done = CliRunner().invoke(command, ["play", "ezpoints", "--human", "--screenshot", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "vlmagent train ezpoints" in text_of(tmp_path / "out" / "play.svg")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="could not be written"):
        photograph_play(alone("ezpoints"), tmp_path / "file")


async def test_a_session_that_cannot_be_opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    chosen = alone("blackjack")
    (tmp_path / "file").touch()
    monkeypatch.setenv("VLMAGENT_RUNS", str(tmp_path / "file"))
    async with host(chosen).run_test(size=(80, 24)) as pilot:
        await happens(pilot, lambda: isinstance(pilot.app.screen, PlayScreen))
        await happens(
            pilot, lambda: "No folder could be made" in shown(table(pilot).query_one("#play-problem"))
        )
        assert "could not be opened" in shown(table(pilot).query_one("#play-title"))
        await pilot.press("h", "n", "v", "x", "t", "r", "space", "right", "i", "escape")
        await happens(pilot, lambda: not isinstance(pilot.app.screen, PlayScreen))
