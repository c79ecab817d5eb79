"""The dashboard in a browser: who knows the token sees it and can use it, nobody else."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from tests.tui.made_runs import make_run
from vlmagent.errors import UsageError
from vlmagent.tui import serve

pytest.importorskip("textual_serve", reason="the extra 'serve' is not installed")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
COOKIE = "vlmagent-token"
SECONDS = 60.0


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Of a dashboard that is served in a process of its own."""
    run = make_run(tmp_path / "runs" / "first")
    command = [
        sys.executable,
        "-m",
        "vlmagent",
        "tui",
        str(run),
        "--serve",
        "--port",
        str(serve.free_port(0)),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            found = re.search(r"http://\S+", process.stderr.readline())
            assert found is not None
            wait_for(found[0])
            yield found[0]
        finally:
            process.terminate()
            assert process.wait(30) == 0


def wait_for(address: str) -> None:
    host, port = re.findall(r"//([\d.]+):(\d+)", address)[0]
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        with socket.socket() as tried:
            if tried.connect_ex((host, int(port))) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("nothing listens")


def status(address: str, **headers: str) -> int:
    try:
        with urlopen(Request(address, headers=headers)) as answer:
            return int(answer.status)
    except HTTPError as error:
        return error.code


def test_only_who_knows_the_token_gets_in(address: str):
    page, _, query = address.partition("?")
    token = query.removeprefix("token=")
    assert len(token) > 20
    known = {"Cookie": f"{COOKIE}={token}"}
    assert status(address) == 200
    assert status(page, **known) == 200
    assert status(page) == status(f"{page}?token=guess") == status(f"{page}ws") == 403
    assert status(f"{page}download/x") == 403
    # a page of another server on this machine: the browser sends the cookie along and says who asks
    assert status(f"{page}ws", Origin="http://127.0.0.1:1", **known) == 403


async def test_a_page_draws_the_dashboard_and_sends_keys(address: str):
    """What the page's script does, without a browser."""
    import aiohttp

    page, _, query = address.partition("?")
    cookie = {"Cookie": f"{COOKIE}={query.removeprefix('token=')}"}
    async with (
        aiohttp.ClientSession(headers=cookie) as session,
        session.ws_connect(f"{page}ws?width=100&height=30") as connection,
    ):
        await until(connection, "success")
        await connection.send_str(json.dumps(["stdin", "?"]))
        await until(connection, "escape closes")


async def until(connection: Any, words: str) -> None:
    """Wait for ``words`` among what is drawn, escape sequences left out."""
    text = ""
    async with asyncio.timeout(SECONDS):
        async for message in connection:
            if isinstance(message.data, bytes):
                text += re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", message.data.decode(errors="replace"))
            if words in text:
                return
    raise AssertionError(text[-2000:])


@pytest.mark.skipif(CHROMIUM is None, reason="no browser here")
async def test_in_a_browser(address: str, tmp_path: Path):
    playwright = pytest.importorskip("playwright.async_api")
    async with playwright.async_playwright() as started:
        browser = await started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = await browser.new_page(viewport={"width": 1200, "height": 700})
        await page.goto(address)
        await page.wait_for_selector("body.-first-byte", timeout=SECONDS * 1000)
        before = await settled(page)
        assert len(set(before)) > 50  # a picture, not one colour
        await page.click(".xterm-screen, canvas")
        await page.keyboard.press("?")
        after = await settled(page, other_than=before)
        assert after != before
        await browser.close()


async def settled(page: Any, other_than: bytes | None = None) -> bytes:
    """A picture of the page that stays as it is from one look to the next."""
    deadline, last = time.monotonic() + SECONDS, b""
    while time.monotonic() < deadline:
        await page.wait_for_timeout(500)
        shot: bytes = await page.screenshot()
        if shot == last != other_than:
            return shot
        last = shot
    raise AssertionError("the page never stood still")


def test_a_port_that_is_taken():
    with socket.socket() as taken:
        taken.bind((serve.LOOPBACK, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"cannot listen on port {port}.*--port"):
            serve.free_port(port)
        assert serve.free_port(None) != port


def test_without_the_package(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "textual_serve.server", None)
    with pytest.raises(UsageError, match=r"pip install 'vlmagent\[serve\]'"):
        serve.serve_dashboard(None, None, print)
