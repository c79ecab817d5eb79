"""An expert that explores: it reads what the agent may read, remembers it, and looks where the thing is likely.

ALFWorld's handcoded expert in plain words, with its memory mended: it knows what it holds and what it has delivered
however the commands are called, so that fetching two things works. It sees texts and admissible commands only.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from vlmagent_envs.alfworld.games import Game
from vlmagent_envs.alfworld.household import APPLIANCES, HOLDS, LOOK, PICK_TWO
from vlmagent_envs.alfworld.scene import NAMED, kind_of, natural

_PUT = re.compile(r"(?:move|put) (.+?) (?:to|in/on|into|in|on) (.+)")
_TAKE = re.compile(r"take (.+?) from (.+)")
_TREAT = re.compile(r"(clean|heat|cool) (.+?) with (.+)")
_LISTED = re.compile(r"(?:On the (.+?)|The (.+?) is open\. In it), you see (.*)")
_LIKELY = {kind.lower(): frozenset(thing.lower() for thing in things) for kind, things in HOLDS.items()}


class Explorer:
    """Plays one episode: ``observe`` each state, then ask for ``action``.

    Args:
        game: the goal; nothing else of it is used.
    """

    def __init__(self, game: Game) -> None:
        self._game = game
        self._verb, appliance = APPLIANCES.get(game.task_type, ("", ""))
        self._appliance = appliance.lower()
        self._receptacles: list[str] = []
        self._reach: list[str] = []
        self._looked: set[str] = set()
        self._where: dict[str, str] = {}
        self._treated: set[str] = set()
        self._holding: str | None = None
        self._taken_from = ""
        self._goal_place: str | None = None
        self._here = ""
        self._admissible: Sequence[str] = ()

    @property
    def holding(self) -> str | None:
        """What the agent holds, as far as the texts tell."""
        return self._holding

    @property
    def treated(self) -> bool:
        """Whether what it holds has been cleaned, heated or cooled as the goal asks."""
        return self._holding in self._treated

    def observe(self, command: str | None, feedback: str, admissible: Sequence[str]) -> None:
        """Take in a state.

        Args:
            command: what led to it, None at the start.
            feedback: the game's text.
            admissible: commands that it would accept now.
        """
        self._admissible = admissible
        places = {c.removeprefix("go to ") for c in admissible if c.startswith("go to ")}
        # no command goes where one already is: those of earlier states are kept
        self._receptacles = sorted(places | set(self._receptacles), key=natural)
        examined = {c.removeprefix("examine ") for c in admissible if c.startswith("examine ")}
        self._reach = [name for name in self._receptacles if name in examined]
        if command is not None and "Nothing happens" not in feedback:
            self._remember(command)
        self._look(feedback)

    def action(self) -> str:
        """The next command, one of the admissible ones."""
        chosen = self._deliver() if self._holding else self._fetch()
        return chosen if chosen in self._admissible else self._anything()

    def _remember(self, command: str) -> None:
        """What a command that worked has changed."""
        if command.startswith("go to "):
            self._here = command.removeprefix("go to ")
        elif taken := _TAKE.fullmatch(command):
            self._holding, self._taken_from = taken[1], taken[2]
            self._where.pop(taken[1], None)
            if self._goal_place == taken[2] and not self._delivered(taken[2]):
                self._goal_place = None
        elif put := _PUT.fullmatch(command):
            self._where[put[1]], self._holding = put[2], None
            if self._wanted(put[1]) and kind_of(put[2]) == self._game.target:
                self._goal_place = put[2]
        elif treated := _TREAT.fullmatch(command):
            self._treated.discard(treated[2])  # what is heated after it was cooled is cool no longer
            if treated[1] == self._verb:
                self._treated.add(treated[2])

    def _look(self, feedback: str) -> None:
        """What lies in sight, by the text and by what could be taken."""
        if listed := _LISTED.search(feedback):
            place = listed[1] or listed[2]
            self._looked.add(place)
            # the list is complete, so that what was thought to lie there and is not listed lies elsewhere
            self._where = {thing: at for thing, at in self._where.items() if at != place}
            self._where.update(dict.fromkeys(NAMED.findall(listed[3]), place))
        for command in self._admissible:
            if taken := _TAKE.fullmatch(command):
                self._where[taken[1]] = taken[2]

    def _deliver(self) -> str:
        """With something in the hand: treat it, bring it where it belongs, or put it away."""
        assert self._holding is not None
        if not self._wanted(self._holding):
            return self._put_here() or self._open_here() or self._put_into(self._taken_from)
        if self._game.task_type == LOOK:
            return self._use_lamp()
        if self._verb and self._holding not in self._treated:
            wanted = f"{self._verb} {self._holding} with {self._appliance} "
            here = next((c for c in self._admissible if c.startswith(wanted)), None)
            return here or self._go_to(self._nearest(self._appliance))
        return self._put_into(self._goal_place or self._nearest(self._game.target))

    def _use_lamp(self) -> str:
        here = next((c for c in self._admissible if c.startswith(f"use {self._game.lamp} ")), None)
        return here or self._find(self._game.lamp)

    def _fetch(self) -> str:
        """With empty hands: take a thing of the wanted kind, or go on looking for one."""
        for command in self._admissible:
            taken = _TAKE.fullmatch(command)
            if taken and self._wanted(taken[1]) and not self._delivered(taken[2]):
                return command
        return self._find(self._game.thing)

    def _find(self, kind: str) -> str:
        """Go where one was seen, else open what is closed here, else look at the next likely place."""
        known = [
            at for thing, at in self._where.items() if kind_of(thing) == kind and not self._delivered(at)
        ]
        if known:
            return self._go_to(sorted(known, key=natural)[0])
        return self._open_here(self._looked) or self._go_to(self._next_place(kind))

    def _next_place(self, kind: str) -> str:
        """The next place that was not looked at, likely ones first; all over again when none is left.

        It goes round by name, from where it is: who remembers nothing can learn that from the list of commands.
        """
        left = [name for name in self._receptacles if name not in self._looked and name != self._here]
        if not left:
            self._looked.clear()
            left = [name for name in self._receptacles if name != self._here]
        likely = [name for name in left if kind in _LIKELY.get(kind_of(name), ())]
        candidates = likely or left or [self._here]
        following = [name for name in candidates if self._here and natural(name) > natural(self._here)]
        return (following or candidates)[0]

    def _put_here(self, place: str | None = None) -> str | None:
        """Put what it holds into a place, or into any that can be reached from here; None if that is not possible."""
        puts = [(command, _PUT.fullmatch(command)) for command in self._admissible]
        here = (c for c, put in puts if put and put[1] == self._holding and place in (None, put[2]))
        return next(here, None)

    def _open_here(self, without: Collection[str] = ()) -> str | None:
        """Open what is closed within reach; None if nothing is, but for places ``without``."""
        commands = (f"open {name}" for name in self._reach if name not in without)
        return next((command for command in commands if command in self._admissible), None)

    def _put_into(self, place: str) -> str:
        return self._put_here(place) or self._go_to(place)

    def _go_to(self, place: str) -> str:
        """Go there. Within reach, open it, or else look at it: several places may be reached from one spot."""
        if place not in self._reach:
            return f"go to {place}"
        opening = f"open {place}"
        return opening if opening in self._admissible else f"examine {place}"

    def _nearest(self, kind: str) -> str:
        """The receptacle of a kind: one within reach, else the first."""
        found = [name for name in self._receptacles if kind_of(name) == kind]
        return next((name for name in found if name in self._reach), next(iter(found), self._here))

    def _wanted(self, thing: str) -> bool:
        return kind_of(thing) == self._game.thing

    def _delivered(self, place: str) -> bool:
        """Whether a wanted thing that lies there is where it belongs already."""
        return self._game.task_type == PICK_TWO and place == self._place_for_two()

    def _place_for_two(self) -> str | None:
        """Where both things should come: where one was put or seen, of the right kind."""
        if self._goal_place is None:
            seen = [at for thing, at in self._where.items() if self._wanted(thing)]
            right = [at for at in seen if kind_of(at) == self._game.target]
            self._goal_place = min(right, key=natural) if right else None
        return self._goal_place

    def _anything(self) -> str:
        """A way on when the plan cannot be carried out: look around."""
        return "look" if "look" in self._admissible else self._admissible[0]
