"""The dashboard in a browser, through ``textual-serve``: a page on loopback that shows what a terminal would.

Each tab gets a dashboard of its own, a process like ``vlmagent tui``. Whoever can talk to it can stop runs and read
files, so it listens on loopback alone and asks for a token that only the printed address has: other people of this
machine, and other pages in the same browser, cannot reach it.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable

from vlmagent.errors import UsageError
from vlmagent.paths import Run

LOOPBACK = "127.0.0.1"
PORT = 8000
PORTS_TRIED = 20
"""From ``PORT`` on, where none was asked for."""
INSTALL = "pip install 'vlmagent[serve]'"


def serve_dashboard(run: Run | None, port: int | None, say: Callable[[str], None]) -> None:
    """Serve the dashboard until ctrl-c.

    Args:
        run: the run to open at once; None begins with the list.
        port: to listen on; None for the first free one from ``PORT`` on.
        say: prints a line.

    Raises:
        UsageError: the package is missing, or the port is taken.
    """
    _need_package()
    from vlmagent.tui.web import DashboardServer

    server = DashboardServer(run, LOOPBACK, free_port(port), secrets.token_urlsafe(16))
    say(f"The dashboard is at {server.address}")
    say("Each tab is a dashboard of its own. ctrl-c ends them; runs go on.")
    forward = f"ssh -L {server.port}:{LOOPBACK}:{server.port} THIS-MACHINE"
    say(f"From another machine: {forward}, then the same address there.")
    server.serve()


def _need_package() -> None:
    """Refuse where the extra is not installed."""
    try:
        import textual_serve.server  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"Showing the dashboard in a browser needs textual-serve, which is not installed ({error}): {INSTALL}"
        ) from None


def free_port(wanted: int | None) -> int:
    """A port on which nothing listens.

    Raises:
        UsageError: something does.
    """
    choices = range(PORT, PORT + PORTS_TRIED) if wanted is None else [wanted]
    for port in choices:
        with socket.socket() as tried:
            # as the server itself will do it: a port that was in use seconds ago is free
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                tried.bind((LOOPBACK, port))
            except (OSError, OverflowError) as error:
                problem = error
                continue
            return int(tried.getsockname()[1])
    asked = f"port {wanted}" if wanted is not None else f"any of the ports {PORT} to {PORT + PORTS_TRIED - 1}"
    raise UsageError(f"The dashboard cannot listen on {asked}: {problem}. Choose another with --port.")
