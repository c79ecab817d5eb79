"""Inside the pseudo terminal of the dashboard's benchmark: the dashboard itself, watched and used.

    python benchmarks/dashboard_probe.py watch REPORT [RUN --screen train|episodes|runs]
    python benchmarks/dashboard_probe.py tour REPORT RUN

``watch`` notes how late the event loop is woken, and by how much the garbage collector holds it up, until it is
told to end; without a run, of an event loop that does nothing else: what the machine itself is late. ``tour``
presses keys as somebody would who looks through a large run, and notes the seconds until each answer is drawn.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vlmagent.paths import Run

PROBE_SECONDS = 0.01
START_SECONDS = 3.0
LONGEST_WAIT = 60.0
SEARCHES = ("number", "n12", "variant17", '"equal reached" plus', "nowhere")


class Watch:
    """How late an event loop is, and how long the collector takes, from some seconds after the start on."""

    def __init__(self, begun: Callable[[], object]) -> None:
        self._begun = begun
        self.late: list[float] = []
        self.collecting: list[float] = []
        self.longest = 0.0
        self._began = self._used = self._collects = 0.0

    async def run(self) -> None:
        """For ever."""
        await asyncio.sleep(START_SECONDS)  # starting is measured by itself
        self._time_callbacks()
        self._begun()
        gc.callbacks.append(self._collector)
        self._began, self._used = time.monotonic(), time.process_time()
        while True:
            wanted = time.perf_counter() + PROBE_SECONDS
            await asyncio.sleep(PROBE_SECONDS)
            self.late.append(time.perf_counter() - wanted)

    def _time_callbacks(self) -> None:
        """Measure each callback of the loop in processor time, which other programs do not prolong."""
        run = asyncio.events.Handle._run

        def timed(handle: asyncio.Handle) -> None:
            began = time.thread_time()
            run(handle)
            self.longest = max(self.longest, time.thread_time() - began)

        asyncio.events.Handle._run = timed  # type: ignore[method-assign]

    def _collector(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._collects = time.thread_time()
        else:
            self.collecting.append(time.thread_time() - self._collects)

    def report(self) -> dict[str, float]:
        """Seconds; those of the ``longest`` callback and of ``collecting`` are processor time."""
        late = sorted(self.late) or [float("nan")]
        seconds = max(1e-9, time.monotonic() - self._began)
        return {
            "worst": late[-1],
            "p99": late[int(0.99 * len(late))],
            "longest": self.longest,
            "collecting": max(self.collecting, default=0.0),
            "processor": (time.process_time() - self._used) / seconds,
            "memory": peak_memory(),
        }


def peak_memory() -> float:
    """The most memory this process had so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def watch(run: Run | None, screen: str, begun: Callable[[], object]) -> dict[str, float]:
    """Until SIGTERM; ``begun`` is called when the start is over."""
    watched, stop = Watch(begun), asyncio.Event()
    watching = asyncio.ensure_future(watched.run())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    if run is None:
        await stop.wait()
    else:
        app = application(run, screen)
        showing = asyncio.ensure_future(app.run_async())
        await stop.wait()
        report = watched.report()  # closing waits for threads, and nobody sees a frame of it
        app.exit()
        await showing
        watching.cancel()
        return report
    watching.cancel()
    return watched.report()


def application(run: Run, screen: str) -> Any:
    """The dashboard as the command makes it, with ``screen`` on top."""
    from vlmagent.tui.app import VlmAgentApp
    from vlmagent.tui.messages import OpenEpisodes

    app = VlmAgentApp(None if screen == "runs" else run, "half")
    if screen == "episodes":
        app.call_later(lambda: app.open_episodes(OpenEpisodes(run)))
    return app


class Tour:
    """Uses the dashboard like a person in a hurry.

    Attributes:
        seconds: until the answer was drawn, by what was done; the slowest of several.
    """

    def __init__(self, pilot: Any) -> None:
        self._pilot, self._app = pilot, pilot.app
        self.seconds: dict[str, float] = {}

    async def run(self) -> None:
        """From the charts to the list, through it, and to replays."""
        await self._until(lambda: self._app.screen.query("ChartGrid") and self._app.screen.points.updates)
        await self._do("open the list of episodes", "e", self._listed)
        for _ in range(30):
            await self._do("a page down", "pagedown", self._page_after(self._table.cursor_row))
        await self._do("to the end of what was read", "end", self._page_after(self._table.cursor_row))
        for key, name in (
            ("o", "another order"),
            ("a", "largest advantages"),
            ("l", "lowest log-probs"),
            ("f", ""),
        ):
            for _ in range(4 if key == "o" else 1):
                await self._do(name or "successes among them", key, self._another_view(self._app.screen.view))
        for text in SEARCHES:
            await self._search(text)
        await self._replay()

    async def _search(self, text: str) -> None:
        """Seconds from the last letter typed."""
        screen = self._app.screen
        await self._pilot.press("slash")
        await self._take(
            f"search: {text}", lambda: _type(screen.entry, text), lambda: screen.feed.shown.text == text
        )
        await self._pilot.press("escape")
        await self._until(lambda: not screen.feed.shown.text)

    async def _replay(self) -> None:
        await self._do("open a replay", "enter", self._pictured)
        for _ in range(5):
            before = self._app.screen.episode_id
            await self._do("next episode", "n", lambda before=before: self._app.screen.episode_id != before)

    @property
    def _table(self) -> Any:
        return self._app.screen.table

    def _listed(self) -> bool:
        return bool(self._app.screen.query("EpisodesTable")) and self._table.row_count > 0

    def _pictured(self) -> bool:
        return (
            bool(self._app.screen.query("Tokens")) and self._app.screen.query_one("Picture").image is not None
        )

    def _page_after(self, row: int) -> Callable[[], bool]:
        return lambda: self._table.cursor_row > row or self._table.cursor_row == self._table.row_count - 1

    def _another_view(self, view: Any) -> Callable[[], bool]:
        return lambda: view != self._app.screen.view == self._app.screen.feed.shown

    async def _do(self, name: str, key: str, done: Callable[[], object]) -> None:
        await self._take(name, lambda: self._app.simulate_key(key), done)

    async def _take(self, name: str, act: Callable[[], object], done: Callable[[], object]) -> None:
        began = time.perf_counter()
        act()
        await self._until(done)
        self.seconds[name] = max(self.seconds.get(name, 0.0), time.perf_counter() - began)
        await asyncio.sleep(0.05)

    async def _until(self, done: Callable[[], object]) -> None:
        """Until it is so, and drawn."""
        deadline = time.monotonic() + LONGEST_WAIT
        while not done():
            if time.monotonic() > deadline:
                raise TimeoutError
            await asyncio.sleep(0.002)
        drawn = asyncio.Event()
        self._app.screen.call_after_refresh(drawn.set)
        await drawn.wait()


def _type(entry: Any, text: str) -> None:
    entry.value = text


async def tour(run: Run) -> dict[str, float]:
    """What it took, and the memory at the end."""
    made: dict[str, float] = {}

    async def drive(pilot: Any) -> None:
        taken = Tour(pilot)
        try:
            await taken.run()
        finally:
            made.update(taken.seconds)
            pilot.app.exit()

    await application(run, "train").run_async(auto_pilot=drive)
    return {**made, "memory": peak_memory()}


def main() -> None:
    """Write the report as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("verb", choices=("watch", "tour"))
    parser.add_argument("report", type=Path)
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("--screen", choices=("train", "episodes", "runs"), default="train")
    chosen = parser.parse_args()
    run = None if chosen.run is None else Run(chosen.run)
    if chosen.verb == "watch":
        work = watch(run, chosen.screen, chosen.report.touch)
    elif run is None:
        parser.error("tour wants a run")
    else:
        work = tour(run)
    chosen.report.write_text(json.dumps(asyncio.run(work)))


if __name__ == "__main__":
    main()
