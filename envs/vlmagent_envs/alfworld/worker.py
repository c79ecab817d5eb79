"""One game in a process of its own: ``python -m vlmagent_envs.alfworld.worker FD SETTINGS``.

ALFWorld's libraries are not safe among threads, print as they like and can crash; here they harm one episode at most.
Messages come and go as pickles over the socket ``FD``; the process ends when the other side is gone.
"""

from __future__ import annotations

import json
import sys
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from vlmagent_envs.alfworld.backends import Backend, TextBackend, ThorBackend


def serve(connection: Connection, settings: dict[str, Any]) -> None:
    """Answer ``("reset", game, seed)`` and ``("step", command)`` with ``("reply", Reply)`` or ``("error", text)``."""
    try:
        backend = build(settings)
    except BaseException:  # libraries that are missing a part may exit: the other side should hear why
        connection.send(("error", traceback.format_exc()))
        return
    connection.send(("ready", None))
    try:
        while True:
            name, *arguments = connection.recv()
            if name == "close":
                break
            connection.send(("reply", getattr(backend, name)(*arguments)))
    except (EOFError, BrokenPipeError):
        pass
    except Exception:
        connection.send(("error", traceback.format_exc()))
    finally:
        backend.close()


def build(settings: dict[str, Any]) -> Backend:
    """The backend that the settings ask for."""
    if settings["world"] == "thor":
        return ThorBackend(Path(settings["root"]), int(settings["size"]))
    return TextBackend(planner=bool(settings["planner"]))


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])), json.loads(sys.argv[2]))
