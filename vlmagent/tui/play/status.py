"""How a session of play stands, in lines of text: title, last step, score, and what leaving would cost.

Deliberately reads nothing and knows no widget: it is handed a game.
"""

from __future__ import annotations

from textual.content import Content

from vlmagent.play.table import Moment
from vlmagent.text import percent
from vlmagent.tui.data.playback import Playback
from vlmagent.tui.data.step_text import cut_off, signed
from vlmagent.tui.play.game import Game
from vlmagent.tui.text import counted, fitted, safe_line, safe_text

QUIET = "$foreground-muted"


def outcome_words(moment: Moment) -> str:
    """How an episode stands, in a few words."""
    steps = counted(len(moment.steps), "step")
    if moment.end is None:
        return f"◐ {steps} so far, return {signed(moment.episode_return)}"
    word = "✓ success" if moment.end.success else "✗ no success"
    parts = [word, f"return {signed(moment.episode_return)} in {steps}", cut_off(moment.end.ended)]
    return ", ".join(filter(None, parts))


def player_name(actor: str) -> str:
    """An actor as the person at the keys sees it."""
    return "you" if actor == "human" else actor


def opponent_name(game: Game) -> str:
    """Whoever plays against the person."""
    return game.desk.actor or (game.opponent.name if game.opponent else "")


def leaving_question(game: Game) -> Content | None:
    """What to ask before an episode that somebody has begun is left; None where leaving loses nothing."""
    you = game.you
    # both tables or none count for the score
    waits = game.versus and game.over and not game.settled
    # an episode that the opponent plays can be left: nobody's moves are lost
    begun = game.seat == "human" and you is not None and bool(you.steps) and not game.over
    if not (begun or waits):
        return None
    who = f"{opponent_name(game)} is still playing this episode" if waits else "This episode is not over"
    return safe_text(f"{who}; unfinished episodes do not count.")


def title_line(game: Game, you: Moment, width: int) -> Content:
    """Task and players, then the numbers, which stay whole in ``width`` cells while names are cut."""
    who = "you play" if game.seat == "human" else f"{opponent_name(game)} plays"
    if game.versus:
        who = f"you against {opponent_name(game)}"
    facts = Content.assemble(
        f"  episode {you.number} · step {len(you.steps)} · return {signed(you.episode_return)}",
        (f"  seed {you.seed}", QUIET),
    )
    task = safe_line(game.plan.config.task, 30, style="bold")
    # numbers are whole in any case; the players' names get what is left
    room = width - task.cell_length - 2 - facts.cell_length
    return Content.assemble(task, "  ", fitted(who, room, most=44, style="$primary"), facts)


def last_line(game: Game, you: Moment, turn: str, width: int) -> Content:
    """The last step, or how the episode ended.

    Args:
        turn: see ``whose_turn``.
        width: cells there are; a long action is cut so that the reward stays.
    """
    if you.end is not None:
        colour = "$success" if you.end.success else "$error"
        waits = "n: next episode" if game.settled else f"{opponent_name(game)} is still playing"
        return Content.assemble((outcome_words(you), f"bold {colour}"), (f"   {waits}", QUIET))
    if not you.steps:
        return Content.styled(turn, QUIET)
    step = you.steps[-1]
    # said by an environment of an action that is legal in its form but not in its state: a card that is not held, say
    refused = "  (not possible here)" if you.state.get("illegal") is True else ""
    # made first: the action gets the cells that it leaves
    reward = Content.assemble(
        "  reward ", (f"{signed(step.reward)}{refused}", _colour(step.reward)), (f"   {turn}", QUIET)
    )
    done = fitted(f"{player_name(step.actor)}: {step.action}", width - reward.cell_length, most=60)
    return Content.assemble(done, reward)


def _colour(reward: float) -> str:
    if reward > 0:
        return "$success"
    return "$error" if reward < 0 else QUIET


def whose_turn(game: Game, playback: Playback) -> str:
    """Who is to act, and while that is the opponent, what the keys do about it."""
    if game.seat == "human":
        return "your turn"
    return "playing" if playback.playing else "paused: → steps, space plays"


def score_line(game: Game, playback: Playback) -> Content:
    """Success, return and agreement so far."""
    parts: list[Content | tuple[str, str]] = []
    for player, record in game.score.records.items():
        parts += [
            safe_line(player_name(player), 24, style="bold"),
            (f" {record.successes}/{record.episodes}", "$success"),
            (f" return {signed(record.mean_return)}   ", QUIET),
        ]
    same, compared = game.alike
    if compared:
        parts.append((f"alike {same}/{compared} ({percent(same / compared)})   ", QUIET))
    them = game.them
    if them is not None and them.end is None:
        parts.append((f"{opponent_name(game)} is at step {len(them.steps)}", QUIET))
    if game.seat == "opponent":
        parts.append((f"{playback.speed:g} steps/s", QUIET))
    return Content.assemble(*parts) if parts else Content.styled("no episode has ended yet", QUIET)
