import threading
from typing import Any

from textual.app import App

from tests.tui.driving import until
from vlmagent.errors import UsageError
from vlmagent.tui.background import attempt


async def test_what_it_returns_comes_from_another_thread() -> None:
    app: App[Any] = App()
    async with app.run_test():
        assert await attempt(app, lambda: threading.current_thread() is threading.main_thread()) is False


async def test_an_error_is_shown_and_never_obeyed() -> None:
    def fails() -> int:
        raise UsageError("no such [red]thing[/] \x1b[31m " + "x" * 1000)

    app: App[Any] = App()
    async with app.run_test(notifications=True) as pilot:
        assert await attempt(app, fails) is None
        await until(pilot, lambda: app.screen.query("Toast"))
        toast = str(app.screen.query_one("Toast").render())
        assert "no such [red]thing[/]" in toast
        assert "\x1b" not in toast
        assert len(toast) < 500
