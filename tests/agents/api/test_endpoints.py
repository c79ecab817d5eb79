"""Which endpoint a name means, which key it gets, and what a mistake is answered with."""

import pytest

from vlmagent.agents.api.cost import Budget, estimate
from vlmagent.agents.api.endpoints import (
    Endpoint,
    endpoints,
    find_endpoint,
    read_key,
    without_credentials,
)
from vlmagent.errors import UsageError


def test_every_shipped_endpoint_is_valid_priced_and_needs_a_key():
    assert {"gpt4v", "gemini"} <= set(endpoints())
    for name in endpoints():
        endpoint = find_endpoint(name)
        assert endpoint.priced
        assert endpoint.max_cost is not None
        with pytest.raises(UsageError, match=f"set the environment variable {endpoint.key_variable}"):
            read_key(name, endpoint, {})


def test_a_server_of_ones_own():
    endpoint = find_endpoint("openai:org/llava@v1@http://localhost:8000/v1/")
    assert (endpoint.model, endpoint.base_url) == ("org/llava@v1", "http://localhost:8000/v1")
    assert not endpoint.priced
    assert read_key("x", endpoint, {"OPENAI_API_KEY": "sk-of-openai"}) is None  # never sent elsewhere
    assert read_key("x", endpoint, {"VLMAGENT_API_KEY": " own \n"}) == "own"


def test_a_model_of_openai_itself():
    endpoint = find_endpoint("openai:gpt-x")
    assert endpoint.base_url == "https://api.openai.com/v1"
    assert read_key("x", endpoint, {"OPENAI_API_KEY": "sk-1"}) == "sk-1"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gtp4v", ["Unknown baseline 'gtp4v'", "Did you mean 'gpt4v'", "expert", "openai:MODEL@URL"]),
        ("openai:", ["openai:MODEL@URL"]),
        ("openai:m@localhost", ["openai:MODEL@URL"]),
        ("openai:m@http://", ["not a URL"]),
        ("openai:m@http://user:pass@host/v1", ["no key, user or query"]),
        ("openai:m@http://host/v1?key=1", ["no key, user or query"]),
        ("openai:m@http://host:99999/v1", ["not a URL"]),
        ("openai:m@http://host:port/v1", ["not a URL", "host or port cannot be read"]),
        ("openai:m@http://host:0/v1", ["not a URL", "host or port is missing"]),
        ("openai:m@http://two words/v1", ["not a URL", "a blank"]),
        ("openai:m@http://h/v1\nx", ["not a URL", "a blank"]),
        ("openai:m@http://::1:8000/v1", ["not a URL", "brackets, as in http://[::1]:8000/v1"]),
        ("openai:m@http://[::1/v1", ["not a URL"]),
        ("openai:m@http://a..b/v1", ["not a URL"]),
        ("openai:m@ftp://host/v1", ["begins with http:// or https://"]),
        ("openai:m@host:8000/v1", ["begins with http:// or https://"]),
        ("openai: @http://host/v1", ["openai:MODEL@URL"]),
    ],
)
def test_wrong_names(name, words):
    with pytest.raises(UsageError) as caught:
        find_endpoint(name, others=("expert", "random"))
    for word in words:
        assert word in str(caught.value)


def test_ones_own_file_changes_and_adds(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "gpt4v:\n  model: other\nmine:\n  model: m\n  base_url: http://h/v1\nbad:\n  modle: m\nworse: 3\n"
    )
    assert find_endpoint("gpt4v", file).model == "other"
    assert find_endpoint("gpt4v", file).key_variable == "OPENAI_API_KEY"
    assert find_endpoint("mine", file).key_variable is None
    with pytest.raises(UsageError, match=r"bad\.modle.*'bad\.model'"):
        find_endpoint("bad", file)
    with pytest.raises(UsageError, match="'worse' should hold keys"):
        find_endpoint("worse", file)


@pytest.mark.parametrize("key", ["sk one", "sk-\u2013dash", "sk\nsecond"])
def test_a_key_that_cannot_be_one_is_refused_without_being_quoted(key):
    with pytest.raises(UsageError, match="holds no usable key") as caught:
        read_key("gpt4v", find_endpoint("gpt4v"), {"OPENAI_API_KEY": key})
    assert key not in str(caught.value)


def test_a_budget_is_never_overdrawn():
    budget = Budget(1.0, spent=0.25)
    assert budget.reserve(0.5)
    assert budget.reserve(0.25)
    assert not budget.reserve(0.01)
    assert budget.settle(0.5, 0.1) == 0.1
    assert budget.reserve(0.4)
    assert not budget.reserve(0.01)
    assert budget.spent == pytest.approx(0.35)
    assert all(Budget(None).reserve(1e9) for _ in range(3))


def test_the_estimate():
    priced = Endpoint(
        model="m",
        base_url="http://h/v1",
        input_price=2.0,
        output_price=10.0,
        image_tokens=900,
        max_output_tokens=1000,
    )
    found = estimate(priced, 100, 200, (2.0, 6.0))
    assert (found.low, found.high) == (400, 1200)
    assert found.low_cost == pytest.approx(400 * (1000 * 2 + 100 * 10) / 1e6)
    assert found.high_cost == pytest.approx(1200 * (1000 * 2 + 1000 * 10) / 1e6)
    free = estimate(Endpoint(model="m", base_url="http://h/v1"), 100, 10, (3.0, 2.0))
    assert (free.low, free.high, free.low_cost, free.high_cost) == (20, 30, None, None)


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ("http://h/v1", "http://h/v1/chat/completions"),
        (" http://h/v1/ ", "http://h/v1/chat/completions"),
        ("http://h/v1/chat/completions", "http://h/v1/chat/completions"),
        ("http://h/v1/chat/completions/", "http://h/v1/chat/completions"),
        ("HTTPS://H:8000", "HTTPS://H:8000/chat/completions"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1/chat/completions"),
        ("http://ex\u00e4mple.de/v1", "http://ex\u00e4mple.de/v1/chat/completions"),
    ],
)
def test_what_is_asked_for_each_way_to_write_a_url(written, asked):
    assert find_endpoint(f"openai:m@{written}").url == asked
    assert Endpoint(model="m", base_url=written).url == asked


@pytest.mark.parametrize(
    "url", ["http://me:s3cret@", "http://me:s3cret@h h/", "ftp://me:s3cret@h", "http://me:s3cret@h"]
)
def test_a_password_in_a_url_is_never_shown(url):
    with pytest.raises(UsageError) as caught:
        find_endpoint(f"openai:m@{url}")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://h:1/x", "http://h:1/x"),
        ("http://me:pw@h:1", "http://***@h:1"),
        ("http://me:p@w@h", "http://***@h"),
        ("http://me:p/w@h", "http://***@h"),
        ("me:pw@h:1", "***@h:1"),
        ("http://@h", "http://@h"),
    ],
)
def test_credentials_are_starred_out(url, shown):
    assert without_credentials(url) == shown


def test_the_limit_of_an_answer_from_the_command_line_stands_over_the_endpoints():
    assert find_endpoint("gpt4v", max_output_tokens=7).max_output_tokens == 7
    assert find_endpoint("openai:m@http://h/v1", max_output_tokens=7).max_output_tokens == 7
    assert find_endpoint("openai:m@http://h/v1").max_output_tokens == 1024


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ("{max_tokens: 5}", r"'max_tokens' is set by the program; an answer's limit is max_output_tokens"),
        ("{stream: true}", "'stream' is set by the program"),
        ("{temperature: .nan}", "cannot be written as JSON"),
        ("{since: 2024-01-01}", "cannot be written as JSON"),
    ],
)
def test_what_a_request_may_not_hold(tmp_path, request_, words):
    file = tmp_path / "mine.yaml"
    file.write_text(f"mine:\n  model: m\n  base_url: http://h/v1\n  request: {request_}\n")
    with pytest.raises(UsageError, match=rf"mine\.request: .*{words}"):
        find_endpoint("mine", file)
