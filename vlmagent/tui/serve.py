"""The dashboard in a browser, through ``textual-serve``: a page on loopback that shows what a terminal would.

Each tab gets a dashboard of its own, a process like ``vlmagent tui``. Whoever can talk to it can stop runs and read
files, so it listens on loopback alone and asks for a token that only the printed address has: other people of this
machine, and other pages in the same browser, cannot reach it.
"""

from __future__ import annotations

import hmac
import logging
import secrets
import shlex
import socket
import sys
from collections.abc import Callable
from typing import Any

from vlmagent.errors import UsageError
from vlmagent.paths import Run

HOST = "127.0.0.1"
PORT = 8000
PORTS_TRIED = 20
"""From ``PORT`` on, where none was asked for."""
COOKIE = "vlmagent-token"
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
    server = make_server(run, free_port(port), secrets.token_urlsafe(16))
    say(f"The dashboard is at {server.address}")
    say("Each tab is a dashboard of its own. ctrl-c ends them; runs go on.")
    say(
        f"From another machine: ssh -L {server.port}:{HOST}:{server.port} THIS-MACHINE, then the same address there."
    )
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
                tried.bind((HOST, port))
            except (OSError, OverflowError) as error:
                problem = error
                continue
            return int(tried.getsockname()[1])
    asked = f"port {wanted}" if wanted is not None else f"any of the ports {PORT} to {PORT + PORTS_TRIED - 1}"
    raise UsageError(f"The dashboard cannot listen on {asked}: {problem}. Choose another with --port.")


def make_server(run: Run | None, port: int, token: str) -> Any:
    """The server, which ``serve`` starts; ``address`` is what to open.

    Args:
        token: whoever shows it may see the dashboard.
    """
    from aiohttp import web
    from textual_serve.server import Server

    # no terminal's own graphics: a page draws characters
    words = [
        sys.executable,
        "-m",
        "vlmagent",
        "tui",
        *([] if run is None else [str(run)]),
        "--images",
        "half",
    ]

    class DashboardServer(Server):
        """Lets in whoever knows the token."""

        address = f"http://{HOST}:{port}/?token={token}"

        def initialize_logging(self) -> None:
            """Only what is wrong; the address was printed."""
            logging.basicConfig(level=logging.WARNING, format="%(message)s")

        async def on_startup(self, app: web.Application) -> None:
            """Nothing: the greeting of the package names a command and not an address."""

        async def handle_index(self, request: web.Request) -> web.StreamResponse:
            """The page, and a cookie with which it may ask for the rest."""
            if not _same(request.query.get("token", ""), token) and not self._known(request):
                raise web.HTTPForbidden(
                    text="Open the address that `vlmagent tui --serve` printed: it has a token."
                )
            response: web.StreamResponse = await super().handle_index(request)
            response.set_cookie(COOKIE, token, httponly=True, samesite="Strict")
            return response

        async def handle_websocket(self, request: web.Request) -> web.WebSocketResponse:
            """A dashboard's process, for pages of this server alone."""
            # browsers tell which page asks; one of another server on this machine would send the cookie along
            own = request.headers.get("Origin") in (None, f"http://{request.host}")
            if not own or not self._known(request):
                raise web.HTTPForbidden
            return await super().handle_websocket(request)

        async def handle_download(self, request: web.Request) -> web.StreamResponse:
            """A file that a dashboard offers."""
            if not self._known(request):
                raise web.HTTPForbidden
            return await super().handle_download(request)

        def _known(self, request: web.Request) -> bool:
            return _same(request.cookies.get(COOKIE, ""), token)

    return DashboardServer(shlex.join(words), HOST, port, "vlmagent")


def _same(given: str, token: str) -> bool:
    # compared in the same time whatever is wrong with it
    return hmac.compare_digest(given.encode(), token.encode())
