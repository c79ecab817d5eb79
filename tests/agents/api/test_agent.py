"""Baselines behind an API as the command evaluates them: resumed, cut short by the budget, never telling the key."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.agents.api.openai_server import (
    Server,
    action,
    cuts,
    document,
    in_turn,
    no_choices,
    raw,
    refuses,
    says,
    status,
)
from vlmagent import paths
from vlmagent.agents.api.client import ApiStoppedError
from vlmagent.agents.api.cost import Budget
from vlmagent.cli.main import app
from vlmagent.config import Config
from vlmagent.errors import UsageError
from vlmagent.evaluation.evaluate import EvaluationPlan, evaluate, find_earlier
from vlmagent.evaluation.jobs import EvalRequest, resolve_jobs
from vlmagent.evaluation.systems import baseline_system, estimate_cost
from vlmagent.store.reader import StoreReader
from vlmagent.tasks.registry import build_task, task_from_config

pytestmark = pytest.mark.usefixtures("forked_programs")

KEY = "sk-planted-4f1d9c77e2"


@pytest.fixture
def server():
    with Server().running() as running:
        yield running


@pytest.fixture
def endpoints_file(server, tmp_path: Path) -> Path:
    """An entry whose requests cost 0.01 $ each."""
    file = tmp_path / "endpoints.yaml"
    file.write_text(
        f"local:\n  model: m\n  base_url: {server.url}\n  key_variable: LOCAL_KEY\n  input_price: 0\n"
        "  output_price: 1000\n  max_output_tokens: 10\n  concurrency: 2\n  attempts: 2\n  backoff: 0.01\n"
    )
    return file


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("LOCAL_KEY", KEY)


def plan(file: Path, folder: Path, episodes: int, budget: Budget | None = None) -> EvaluationPlan:
    config = Config(task="numberline")
    task = task_from_config(config)
    system = baseline_system("local", task, extra=file, budget=budget)
    return EvaluationPlan(config, task, system, episodes=episodes, seed=0, folder=folder)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "vlmagent", "eval", "numberline", *arguments]


def run_eval(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=120)


def vlmagent(*arguments: str) -> subprocess.CompletedProcess[str]:
    return run_eval("--baseline", "local", *arguments)


def test_every_episode_ends_with_a_result_or_a_recorded_error(server, endpoints_file, tmp_path):
    """Whatever the server does in between; a failed request costs its own episode alone."""
    bad = [
        status(429, headers={"Retry-After": "0"}),
        status(500),
        cuts,
        refuses,
        no_choices,
        raw(b"{"),
        says("{'action' broken"),
        says("x" * 2_000_000),
        status(503),
        status(503),
        status(503),
    ]
    server.answer = in_turn(action("+"), *bad, then=action("+"))
    wanted = plan(endpoints_file, tmp_path / "evaluations", 12)
    result = evaluate(wanted).result
    wanted.system.close()
    assert result.errors >= 1
    assert result.episodes + result.errors == 12
    assert (result.refusals, result.cut, result.empty) == (1, 0, 1)  # the empty one has no choices
    assert result.requests == len(server.requests)
    with StoreReader(Path(result.database)) as reader:
        answers, failures = reader.answers(), reader.failures()
        episodes = reader.episodes(split="eval", limit=-1)
        broken = {reader.transition(id_).episode_id for id_ in failures}
    assert {e.ended for e in episodes} <= {"terminated", "truncated"}
    assert len(broken) == result.errors
    assert sorted(failures.values()) == sorted(row.error for row in answers if row.error)
    assert "an answer of more than 1,000,000 bytes" in failures.values()
    assert len({row.key for row in answers}) == len(answers)


def test_pictures_and_the_papers_prompt_are_sent(server, endpoints_file, tmp_path):
    import base64
    import io

    from PIL import Image

    wanted = plan(endpoints_file, tmp_path / "evaluations", 1)
    evaluate(wanted)
    wanted.system.close()
    request = server.requests[0]
    assert request.prompt.startswith("You are playing a game called number line.")
    head, data = request.picture.split(",", 1)
    assert head == "data:image/png;base64"
    picture = Image.open(io.BytesIO(base64.b64decode(data)))
    assert (picture.format, picture.size) == ("PNG", (300, 300))


def test_results_say_how_many_answers_were_cut_empty_or_refused(server):
    """And a draft, whether in thinking never closed or in a field of its own, is never executed."""
    draft = json.dumps({"thoughts": "a draft", "action": "-"})
    thought = document({"content": None, "reasoning_content": draft}, finish="length")
    drafts = [raw(thought), says(f"<think>{draft}", finish="length"), says(f"<think>{draft}")]
    others = [says(""), raw(document({"content": None, "tool_calls": [{}]}, finish="tool_calls")), refuses]
    chosen = says(f'<think>As asked, {draft}</think>{{"thoughts": "up", "action": "+"}}')
    server.answer = in_turn(*drafts, *others, then=chosen)
    url = f"openai:m@{server.url}"
    arguments = ["eval", "numberline", "--baseline", url, "--episodes", "8", "--max-output-tokens", "77"]
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 0, shown.stderr
    sentence = (
        "of the answers 1 refused, 2 empty, 3 cut off at the limit of tokens (--max-output-tokens raises it); "
        "their actions were drawn at random."
    )
    assert sentence in " ".join(shown.stdout.split())
    assert {request.body["max_tokens"] for request in server.requests} == {77}
    asked = len(server.requests)

    again = CliRunner().invoke(app, [*arguments, "--resume", "--json"])  # it is finished: nothing is asked
    (result,) = json.loads(again.stdout)["results"]
    assert (result["refusals"], result["empty"], result["cut"]) == (1, 2, 3)
    assert len(server.requests) == asked
    with StoreReader(Path(result["database"])) as reader:
        steps = reader.transitions_after(0, -1)
    assert {step.action for step in steps if step.legal_output} == {"+"}
    assert sum(not step.legal_output for step in steps) == 6
    assert result["legal_rate"] == pytest.approx(1 - 6 / len(steps))

    assert sentence in CliRunner().invoke(app, [*arguments, "--resume", "--markdown"]).stdout
    heads, values = CliRunner().invoke(app, [*arguments, "--resume", "--csv"]).stdout.splitlines()[:2]
    line = dict(zip(heads.split(","), values.split(","), strict=True))
    assert (line["refusals"], line["empty"], line["cut"]) == ("1", "2", "3")


def test_another_limit_of_answers_is_another_system_and_asked_anew(server):
    arguments = ["eval", "numberline", "--baseline", f"openai:m@{server.url}", "--episodes", "1", "--resume"]
    for limit in ("77", "78", "77"):
        assert CliRunner().invoke(app, [*arguments, "--max-output-tokens", limit]).exit_code == 0
    limits = [request.body["max_tokens"] for request in server.requests]
    assert sorted(limits) == limits
    assert set(limits) == {77, 78}


def rows(database: Path) -> list[tuple]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return connection.execute(
            "SELECT id, episode_id, step, prompt, output, action FROM transitions"
        ).fetchall()


def stored_answers(folder: Path) -> int:
    try:
        (database,) = folder.glob("*.db")
        with StoreReader(database) as reader:
            return len(reader.answers())
    except Exception:  # not there yet, or only just being made
        return 0


NOWHERE = "openai:m@http://127.0.0.1:9/v1"


@pytest.mark.parametrize(
    ("environment", "baseline", "code", "words"),
    [
        (
            {"ALL_PROXY": "socks://127.0.0.1:1/", "SSL_CERT_FILE": "/no/such/file"},
            NOWHERE,
            1,
            "No answer from http://127.0.0.1:9/v1/chat/completions: no connection: connection refused",
        ),
        (
            {"ALL_PROXY": "socks://me:s3cret@h:1/"},
            "openai:m@http://h.invalid/v1",
            2,
            "ALL_PROXY = 'socks://***@h:1/'",
        ),
        (
            {"SSL_CERT_FILE": "/no/such/file"},
            "openai:m@https://h.invalid/v1",
            2,
            "SSL_CERT_FILE = '/no/such/file'",
        ),
        ({"VLMAGENT_API_KEY": "s3cret\nline"}, NOWHERE, 2, "VLMAGENT_API_KEY holds no usable key"),
    ],
)
def test_a_mistake_is_told_in_one_sentence(environment, baseline, code, words, monkeypatch):
    for name in (
        "http_proxy",
        "HTTP_PROXY",
        "https_proxy",
        "HTTPS_PROXY",
        "all_proxy",
        "NO_PROXY",
        "no_proxy",
    ):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    result = run_eval("--baseline", baseline, "--episodes", "2")
    assert result.returncode == code
    (error,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert words in error
    assert "Traceback" not in result.stderr
    assert "s3cret" not in result.stderr


def test_a_limit_of_api_answers_needs_an_api():
    with pytest.raises(UsageError, match="--max-output-tokens 5 limits the answers of an API"):
        resolve_jobs(EvalRequest(tasks=["numberline"], baselines=["expert"], max_output_tokens=5))


def test_nothing_is_asked_twice_after_a_kill(server, endpoints_file, tmp_path, monkeypatch):
    """kill -9 after seven answers; the rest is asked once, and it ends like one left alone."""
    arguments = ["--endpoints", str(endpoints_file), "--episodes", "8", "--json"]
    monkeypatch.setenv("VLMAGENT_RUNS", str(tmp_path / "alone"))
    alone = json.loads(vlmagent(*arguments).stdout)["results"][0]
    asked = len(server.requests)
    assert asked > 12

    monkeypatch.setenv("VLMAGENT_RUNS", str(tmp_path / "killed"))
    server.requests.clear()
    server.answer = lambda request: (action("+") if request.number < 7 else server.hold)(request)
    folder = tmp_path / "killed" / paths.EVALUATIONS
    local = command("--baseline", "local", *arguments)
    process = subprocess.Popen(local, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 90
    while stored_answers(folder) < 7:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()

    server.requests.clear()
    server.answer = action("+")
    resumed = vlmagent(*arguments, "--resume")
    (result,) = json.loads(resumed.stdout)["results"]
    assert len(server.requests) == asked - 7
    same = ("episodes", "success", "mean_return", "legal_rate", "mean_length", "requests", "cost")
    assert {name: result[name] for name in same} == {name: alone[name] for name in same}
    (database,) = folder.glob("*.db")
    assert rows(database) == rows(Path(alone["database"]))

    server.requests.clear()
    again = json.loads(vlmagent(*arguments, "--resume").stdout)["results"][0]  # it is finished
    assert server.requests == []
    assert again["success"] == result["success"]


def test_the_budget_stops_the_evaluation_to_the_request_and_a_higher_one_continues(
    server, endpoints_file, tmp_path
):
    folder = tmp_path / "evaluations"
    short = plan(endpoints_file, folder, 8, Budget(0.055))
    with pytest.raises(ApiStoppedError, match=r"0\.0500 of 0\.0550"):
        evaluate(short)
    short.system.close()
    assert len(server.requests) == 5
    more = plan(endpoints_file, folder, 8, Budget(0.075))
    earlier = find_earlier(more)
    assert earlier is not None
    with pytest.raises(ApiStoppedError, match=r"0\.0700 of 0\.0750"):
        evaluate(more, resume=earlier)
    more.system.close()
    assert len(server.requests) == 7
    enough = plan(endpoints_file, folder, 8, Budget(10))
    result = evaluate(enough, resume=earlier).result
    enough.system.close()
    assert result.requests == len(server.requests)
    assert result.cost == pytest.approx(0.01 * result.requests)


def test_an_outage_stops_and_nothing_of_it_counts(server, endpoints_file, tmp_path):
    """What failed while the endpoint was down is asked again."""
    server.answer = in_turn(*[action("+")] * 4, then=status(500))
    folder = tmp_path / "evaluations"
    with endpoints_file.open("a") as file:
        file.write("  max_failures: 2\n")
    broken = plan(endpoints_file, folder, 6)
    with pytest.raises(ApiStoppedError, match="2 requests in a row"):
        evaluate(broken)
    broken.system.close()
    server.answer = action("+")
    mended = plan(endpoints_file, folder, 6)
    result = evaluate(mended, resume=find_earlier(mended)).result
    mended.system.close()
    assert (result.episodes, result.errors) == (6, 0)


def everything_under(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())


@pytest.mark.parametrize("leak", ["error", "answer", "refused"])
def test_the_key_reaches_no_log_database_or_error_text(server, endpoints_file, tmp_path, monkeypatch, leak):
    monkeypatch.setenv("VLMAGENT_RUNS", str(tmp_path / "runs"))

    def tell(request) -> None:
        """Send back what came: some servers do."""
        shown = request.headers["Authorization"]
        if leak == "answer":
            says(f'{shown} {{"action": "+"}}')(request)
        else:
            status(401 if leak == "refused" else 500, f"bad header {shown}")(request)

    server.answer = tell
    result = vlmagent("--endpoints", str(endpoints_file), "--episodes", "3")
    assert server.requests[0].headers["Authorization"] == f"Bearer {KEY}"
    shown = result.stdout + result.stderr
    assert KEY not in shown
    assert "Traceback" not in shown
    assert (result.returncode == 0) == (leak == "answer")
    if leak == "refused":
        assert "HTTP 401: bad header Bearer [key]" in shown
    stored = everything_under(tmp_path / "runs")
    assert b"numberline" in stored
    assert KEY.encode() not in stored


def test_without_a_key_nothing_is_asked(server, endpoints_file, tmp_path, monkeypatch):
    monkeypatch.delenv("LOCAL_KEY")
    result = vlmagent("--endpoints", str(endpoints_file))
    assert result.returncode == 2
    assert "LOCAL_KEY" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert server.requests == []
    assert not (tmp_path / "runs").exists()


def test_a_budget_without_prices_is_refused(server):
    result = run_eval("--baseline", f"openai:m@{server.url}", "--max-cost", "1")
    assert result.returncode == 2
    assert "--max-cost needs prices" in result.stderr
    assert server.requests == []


def test_the_price_is_told_before_and_the_budget_ends_it(server, endpoints_file):
    result = vlmagent("--endpoints", str(endpoints_file), "--episodes", "8", "--max-cost", "0.05")
    assert result.returncode == 1
    assert "requests, about" in result.stderr
    assert "budget 0.05 $" in result.stderr
    assert "The budget is spent: 0.0500 of 0.0500 $" in result.stderr
    assert len(server.requests) == 5


def test_forecast_lies_between_good_and_poor_play(endpoints_file):
    from vlmagent.agents.api.endpoints import find_endpoint

    endpoint = find_endpoint("local", endpoints_file)
    found = estimate_cost(build_task("numberline"), endpoint, 200, 0)
    assert 200 < found.low < 600 < found.high < 2000
    assert 0 < found.low_cost < found.high_cost
