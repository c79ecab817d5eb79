"""The server behind ``vlmagent tui --serve``; needs the extra ``serve``, so only ``serve`` imports it, and late."""

from __future__ import annotations

import hmac
import logging
import shlex
import sys

from aiohttp import web
from textual_serve.server import Server

from vlmagent.paths import Run

COOKIE = "vlmagent-token"


class DashboardServer(Server):
    """Shows the dashboard to whoever knows the token.

    Args:
        run: the run to open at once; None begins with the list.
        token: comes with the address, then as a cookie.

    Attributes:
        address: what to open.
    """

    def __init__(self, run: Run | None, host: str, port: int, token: str) -> None:
        words = [sys.executable, "-m", "vlmagent", "tui", *([] if run is None else [str(run)])]
        # no terminal's own graphics: a page draws characters
        super().__init__(shlex.join([*words, "--images", "half"]), host, port, "vlmagent")
        self.address = f"http://{host}:{port}/?token={token}"
        self._token = token

    def initialize_logging(self) -> None:
        """Only what is wrong; the address was printed."""
        logging.basicConfig(level=logging.WARNING, format="%(message)s")

    async def on_startup(self, app: web.Application) -> None:
        """Nothing: the greeting of the package names a command and not an address."""

    async def handle_index(self, request: web.Request) -> web.StreamResponse:
        """The page, and a cookie with which it may ask for the rest."""
        if not self._is_token(request.query.get("token", "")) and not self._is_known(request):
            raise web.HTTPForbidden(
                text="Open the address that `vlmagent tui --serve` printed: it has a token."
            )
        response: web.StreamResponse = await super().handle_index(request)
        response.set_cookie(COOKIE, self._token, httponly=True, samesite="Strict")
        return response

    async def handle_websocket(self, request: web.Request) -> web.WebSocketResponse:
        """A dashboard's process, for pages of this server alone."""
        # browsers tell which page asks; one of another server on this machine would send the cookie along
        own = request.headers.get("Origin") in (None, f"http://{request.host}")
        if not own or not self._is_known(request):
            raise web.HTTPForbidden
        return await super().handle_websocket(request)

    async def handle_download(self, request: web.Request) -> web.StreamResponse:
        """A file that a dashboard offers."""
        if not self._is_known(request):
            raise web.HTTPForbidden
        return await super().handle_download(request)

    def _is_known(self, request: web.Request) -> bool:
        return self._is_token(request.cookies.get(COOKIE, ""))

    def _is_token(self, given: str) -> bool:
        # compared in the same time whatever is wrong with it
        return hmac.compare_digest(given.encode(), self._token.encode())
