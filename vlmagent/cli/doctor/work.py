"""Checks of what is done with the program: runs and their state, keys of endpoints to compare with."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

from vlmagent import paths
from vlmagent.cli.doctor.findings import Finding, State
from vlmagent.errors import UsageError
from vlmagent.paths import Run
from vlmagent.runs import folders as runs_folders
from vlmagent.runs import status
from vlmagent.text import command

RUNS, KEYS = "Runs", "API keys"
LOOK_SECONDS = 1.0
"""How long runs are looked at; the newest come first."""
NAMED = 3
"""How many runs a line names."""
_found = partial(Finding, RUNS)


def check_runs() -> Iterator[Finding]:
    """How many runs there are, and which have lost their process or a readable database."""
    folders = runs_folders.all_runs()
    states: dict[str, list[Run]] = {}
    # thousands of runs on a slow disk must not hold up the other lines
    deadline = time.monotonic() + LOOK_SECONDS
    seen = 0
    for folder in folders:
        if time.monotonic() > deadline:
            break
        states.setdefault(status.run_state(folder), []).append(folder)
        seen += 1
    yield _found("Runs", State.OK, _counted(len(folders), seen, states))
    if lost := states.get("lost"):
        text = f"The process is gone of {_names(lost)}."
        # the newest one: the most likely to be wanted
        yield _found("Lost", State.PROBLEM, text, command("vlmagent", "train", "--resume", lost[0]))
    if damaged := states.get("damaged"):
        text = f"The database cannot be read of {_names(damaged)}."
        todo = f"`{command('vlmagent', 'runs', 'show', damaged[0])}` says why; restore a copy, or remove the folder."
        yield _found("Damaged", State.PROBLEM, text, todo)


def _counted(total: int, seen: int, states: dict[str, list[Run]]) -> str:
    if not total:
        return f"none yet in {paths.runs_dir()}"
    parts = ", ".join(f"{len(names)} {state}" for state, names in sorted(states.items()))
    newest = "" if seen == total else f" of the newest {seen}"
    return f"{total} in {paths.runs_dir()}:{newest} {parts}"


def _names(runs: list[Run]) -> str:
    more = len(runs) - NAMED
    return ", ".join(run.name for run in runs[:NAMED]) + (f" and {more} more" if more > 0 else "")


def check_keys() -> Iterator[Finding]:
    """Whether the key of each endpoint is set; the key itself is neither shown nor sent anywhere."""
    from vlmagent.agents.api.endpoints import endpoints, find_endpoint, read_key

    # only the shipped endpoints: a user's own file is not known here
    for name in endpoints():
        endpoint = find_endpoint(name)
        found = partial(Finding, KEYS, name)
        if endpoint.key_variable is None:
            yield found(State.OK, f"{endpoint.model} needs no key")
            continue
        variable, asks = endpoint.key_variable, f"--baseline {name} asks {endpoint.model}"
        try:
            key = read_key(name, endpoint)
        except UsageError as error:
            # by its words: there is one kind of error for a key that is missing and one that cannot be used
            unusable = "no usable key" in str(error)
            text = f"{variable} {'holds no usable key' if unusable else 'is not set'} ({endpoint.provider}); {asks}."
            yield found(State.PROBLEM if unusable else State.NOTE, text, f"export {variable}=KEY")
        else:
            yield found(State.OK, f"{variable} is {'set' if key else 'not set, and not needed'}; {asks}")
