import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.store.records import step
from vlmagent.cli import attach
from vlmagent.config import Config
from vlmagent.paths import Run
from vlmagent.runs import daemon, folders, status
from vlmagent.store.writer import StoreWriter
from vlmagent.types import EpisodeEnd, EpisodeStart

CONFIG = Config(task="numberline")
NASTY = "[red]x[/] \x1b[31mANSI\x1b[0m \x07\u202e\ud800 😀\n[bold" + "y" * 100_000


@pytest.fixture(autouse=True)
def _runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLMAGENT_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(attach, "POLL_SECONDS", 0.02)


def console(*, terminal: bool, width: int = 80) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=width, height=24, color_system=None)


def printed(of: Console) -> str:
    assert isinstance(of.file, io.StringIO)
    return of.file.getvalue()


@contextlib.contextmanager
def writer_of(run: Run) -> Any:
    with StoreWriter(run.database) as writer:
        writer.start_run(run.name, "numberline", "tiny", json.dumps(CONFIG.model_dump(mode="json")), 0)
        writer.set_status("running")
        yield writer


def sft(writer: StoreWriter) -> None:
    writer.event("phase", "phase: sft (6400 samples)")
    for number in (1, 2, 3):
        writer.metrics(number, 0, {"sft/loss": 2.0 / number, "sft/samples": 32.0 * number})
        time.sleep(0.002)


def rl(writer: StoreWriter, output: str = '{"action": "+"}', thoughts: str = "3 is less than 5") -> None:
    writer.event("phase", "phase: rl (29 updates)")
    for update in (1, 2):
        writer.episode_started(EpisodeStart(update, "train", 0, update))
        writer.transition(step(update, episode_id=update, output=output, thoughts=thoughts))
        writer.episode_ended(EpisodeEnd(update, 1, 1.0, update == 2, True, "terminated"))
        writer.commit()
        writer.metrics(
            update,
            512 * update,
            {
                "rollout/success": update / 2,
                "rollout/return": -1.5,
                "rollout/legal_rate": 0.987,
                "rollout/thought_logprob": -2.0,
                "rollout/action_logprob": float("nan"),
                "rollout/env_steps_per_second": 100.0,
                "ppo/kl": 0.0123,
                "ppo/clip_fraction": 0.25,
            },
        )
    writer.event("warning", "update 2: 1 optimiser steps skipped (not finite)")


def test_sft_with_time_left() -> None:
    run = folders.create_run(CONFIG)
    view = attach.RunView(run)
    view.refresh()
    assert view.state == "starting"
    with daemon.daemon_session(run), writer_of(run) as writer:
        sft(writer)
        writer.flush()
        view.refresh()
        assert view.state == "running"
        assert view.phase == "sft"
        assert view.counts == (96, 6400)
        assert view.seconds_left > 0
        out = console(terminal=True)
        out.print(attach.picture(view, out))
        assert "96 of 6,400 SFT samples" in printed(out)
        assert "0.67" in printed(out)
    view.close()


@pytest.mark.parametrize("width", [40, 80, 200])
def test_rl_fits_and_shows_everything(width: int) -> None:
    run = folders.create_run(CONFIG)
    with daemon.daemon_session(run), writer_of(run) as writer:
        sft(writer)
        rl(writer)
        writer.flush()
        view = attach.RunView(run)
        view.refresh()
        assert view.env_steps == 2
        assert view.recent == (0.5, 2)
        assert view.seconds_left == pytest.approx((14848 - 2) / 100)
        out = console(terminal=True, width=width)
        out.print(attach.picture(view, out))
        text = printed(out)
        assert all(len(line) <= width for line in text.splitlines())
        if width >= 80:
            for part in ("reinforcement learning", "50.0 % of the last 2", "98.7 %", "0.0123",
                         "3 is less than 5", "skipped", "100.0",
                         "2 of 14,848 env steps", "2 min 28 s left", "▅█"):  # fmt: skip
                assert part in text, part
            assert len(text.splitlines()) <= 24
        view.close()


def coloured(system: Any, width: int = 80, height: int = 24, encoding: str = "utf-8") -> Console:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
    return Console(file=file, force_terminal=True, width=width, height=height, color_system=system)


def shown(view: attach.RunView, of: Console) -> list[str]:
    of.print(attach.picture(view, of))
    assert isinstance(of.file, io.TextIOWrapper)
    return of.file.buffer.getvalue().decode(of.file.encoding).splitlines()  # type: ignore[attr-defined]


def test_the_picture_stands_beside_the_thoughts_where_it_can() -> None:
    run = folders.create_run(CONFIG)
    with daemon.daemon_session(run), writer_of(run) as writer:
        rl(writer)
        writer.flush()
        view = attach.RunView(run)
        view.refresh()
        lines = shown(view, coloured("truecolor"))
        assert len(lines) <= 24
        # the pictures of the test are wider than high
        assert 4 <= len([line for line in lines if "▀" in line]) <= 24 - attach.OTHER_ROWS
        assert any("▀" in line and "3 is less than 5" in line for line in lines)
        large = shown(view, coloured("256", 120, 50))
        assert 10 <= len([line for line in large if "▀" in line]) <= attach.PICTURE_ROWS
        for plain in (
            coloured(None), coloured("standard"), coloured("truecolor", 50), coloured("truecolor", 80, 20),
            coloured("truecolor", encoding="latin-1"),
        ):  # fmt: skip
            assert not any("▀" in line for line in shown(view, plain))
        view.close()


def test_it_says_where_the_run_is_and_how_to_come_back() -> None:
    run = folders.create_run(CONFIG)
    with daemon.daemon_session(run), writer_of(run) as writer:
        rl(writer)
        writer.flush()
        view = attach.RunView(run)
        view.refresh()
        lines = [line.strip() for line in shown(view, coloured(None, 200))]
        assert str(run) in lines
        assert f"vlmagent runs attach {run.name}" in lines
        view.close()


def test_model_output_is_only_text() -> None:
    run = folders.create_run(CONFIG)
    with daemon.daemon_session(run), writer_of(run) as writer:
        rl(writer, output=NASTY, thoughts=NASTY)
        writer.event("error", NASTY)
        writer.flush()
        view = attach.RunView(run)
        view.refresh()
        out = console(terminal=True)
        out.print(attach.picture(view, out))
        text = printed(out)
        assert "\x1b" not in text
        assert "\x07" not in text
        assert "\u202e" not in text
        assert "[red]x[/]" in text
        assert len(text.splitlines()) <= 24
        view.close()


def test_lines_without_a_terminal() -> None:
    run = folders.create_run(CONFIG)
    out = console(terminal=False)

    def train() -> None:
        with writer_of(run) as writer:
            sft(writer)
            writer.flush()
            time.sleep(0.2)
            rl(writer, NASTY)
            writer.set_status("done")

    with daemon.daemon_session(run):
        thread = threading.Thread(target=train)
        thread.start()
        attach.CLOSING_SECONDS, before = 0.0, attach.CLOSING_SECONDS
        try:
            assert attach.attach(run, out) == "done"
        finally:
            attach.CLOSING_SECONDS = before
        thread.join()
    lines = printed(out).splitlines()
    assert "\x1b" not in printed(out)
    assert lines[0] == "phase: sft (6400 samples)"
    assert any(line.startswith("sft ") and "/6400 samples" in line for line in lines)
    assert [line[:35] for line in lines if line.startswith("update ")] == [
        "update 1/29  env_steps 512/14848  s", "update 2/29  env_steps 1024/14848  ",
    ]  # fmt: skip
    assert "warning: update 2: 1 optimiser steps skipped (not finite)" in lines
    assert lines[-1] == "Training done after 2 env steps."


@pytest.mark.parametrize("terminal", [False, True])
def test_failed_tells_why_and_where(terminal: bool) -> None:
    run = folders.create_run(CONFIG)
    with writer_of(run) as writer:
        writer.set_status("failed", "The disk [/] is full.")
    out = console(terminal=terminal, width=300)
    assert attach.attach(run, out) == "failed"
    assert "The run failed: The disk [/] is full." in printed(out)
    assert f"Log: {run.log}" in printed(out)


def test_lost_shows_the_end_of_the_log() -> None:
    run = folders.create_run(CONFIG)
    run.log.write_text("Killed [bold]by somebody\n")
    with writer_of(run):
        pass
    out = console(terminal=False)
    assert attach.attach(run, out) == "lost"
    assert "its process is gone" in printed(out)
    assert "Killed [bold]by somebody" in printed(out)


def test_a_database_that_breaks_meanwhile() -> None:
    run = folders.create_run(CONFIG)
    run.database.write_bytes(b"nonsense" * 500)
    out = console(terminal=True)
    assert attach.attach(run, out) == "damaged"
    assert "not a SQLite database" in " ".join(printed(out).split())


WATCH = """
import sys
from pathlib import Path
from rich.console import Console
from vlmagent.cli.attach import attach
from vlmagent.paths import Run
print("state", attach(Run(Path(sys.argv[1])), Console(stderr=True)), flush=True)
"""


def test_ctrl_c_detaches() -> None:
    run = folders.create_run(CONFIG)
    with daemon.daemon_session(run), writer_of(run) as writer:
        sft(writer)
        writer.flush()
        watcher = subprocess.Popen(
            [sys.executable, "-c", WATCH, str(run)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert watcher.stderr is not None
        assert watcher.stdout is not None
        assert "phase: sft" in watcher.stderr.readline()
        os.kill(watcher.pid, signal.SIGINT)
        assert watcher.wait(30) == 0
        assert watcher.stdout.read() == "state detached\n"
        assert status.run_state(run) == "running"


@pytest.mark.parametrize(
    ("values", "bars"),
    [
        ([], ""),
        ([0.0, 1.0], "▁█"),
        ([0.5, float("nan"), 2.0, -1.0], "▅ █▁"),
        ([0.0, 0.0, 1.0, 1.0, 1.0], "▁██"),
    ],
)
def test_sparkline(values: list[float], bars: str) -> None:
    assert attach.sparkline(values, 4 if len(values) < 5 else 3) == bars


def test_words() -> None:
    assert [attach.duration(s) for s in (0.4, 59, 61, 3600 + 5 * 60)] == [
        "0 s",
        "59 s",
        "1 min 01 s",
        "1 h 05 min",
    ]
    assert [attach.number(x) for x in (float("nan"), 0.0, 0.0123, 1.5, 172.31)] == [
        "-",
        "0.00",
        "0.0123",
        "1.50",
        "172.3",
    ]
    ascii_console = Console(file=io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert attach.ascii_only(ascii_console)
    assert attach.sparkline([0.0, 1.0], 4, ascii_=True) == "_#"
    assert attach.plain("é😀", ascii_console, 10) == "??"
