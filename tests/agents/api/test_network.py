"""The way to an endpoint for every setting of the environment: used, passed over, or refused in one sentence."""

import ssl
from pathlib import Path

import certifi
import pytest

from vlmagent.agents.api.network import find_route, is_this_machine
from vlmagent.errors import UsageError

PROXY = "http://proxy.example:3128"


def proxy_url(base_url: str, **environment: str) -> str | None:
    """The proxy on the way; certificates are not what is tested."""
    route = find_route(base_url, environment)
    return None if route.proxy is None else str(route.proxy.url)


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("localhost", True),
        ("LOCALHOST.", True),
        ("models.localhost", True),
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", True),
        ("::", True),
        ("128.0.0.1", False),
        ("10.0.0.1", False),
        ("::2", False),
        ("localhost.example", False),
        ("notlocalhost", False),
        ("127.0.0.1.example", False),
    ],
)
def test_which_hosts_are_this_machine(host, here):
    assert is_this_machine(host) is here


BROKEN = {
    "ALL_PROXY": "socks://127.0.0.1:1080/",
    "http_proxy": "::::",
    "HTTPS_PROXY": "http://",
    "SSL_CERT_FILE": "/no/such/file",
    "SSL_CERT_DIR": "/no/such/folder",
    "REQUESTS_CA_BUNDLE": "/no/such/bundle",
    "NO_PROXY": "[[[,://",
}


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:8000/v1", "http://localhost/v1", "http://[::1]:8000/v1", "http://127.1.2.3/v1"],
)
def test_this_machine_is_asked_directly_whatever_the_environment_says(url):
    route = find_route(url, BROKEN)
    assert (route.proxy, route.via) == (None, "")


@pytest.mark.parametrize(
    ("environment", "used"),
    [
        ({"HTTP_PROXY": PROXY}, PROXY),
        ({"http_proxy": PROXY}, PROXY),
        ({"ALL_PROXY": PROXY}, PROXY),
        ({"all_proxy": PROXY, "ALL_PROXY": "http://other"}, PROXY),
        ({"HTTP_PROXY": "http://other", "http_proxy": PROXY}, PROXY),
        ({"http_proxy": "", "HTTP_PROXY": PROXY}, None),
        ({"HTTP_PROXY": PROXY, "ALL_PROXY": "socks://broken"}, PROXY),
        ({"HTTPS_PROXY": "nonsense://", "ALL_PROXY": PROXY}, PROXY),
        ({"HTTP_PROXY": "proxy.example:3128"}, PROXY),
        ({"HTTP_PROXY": "  "}, None),
        ({"HTTP_PROXY": PROXY, "NO_PROXY": "*"}, None),
        ({"HTTP_PROXY": PROXY, "no_proxy": "a.example, models.example"}, None),
        ({"HTTP_PROXY": PROXY, "no_proxy": ".models.example"}, None),
        ({"HTTP_PROXY": PROXY, "no_proxy": "*.EXAMPLE"}, None),
        ({"HTTP_PROXY": PROXY, "no_proxy": "models.example:80"}, PROXY),
        ({"HTTP_PROXY": PROXY, "no_proxy": "models.example:8000"}, None),
        ({"HTTP_PROXY": PROXY, "no_proxy": "odels.example,10.0.0.0/8,[[,://"}, PROXY),
    ],
)
def test_which_proxy_is_used(environment, used):
    assert proxy_url("http://models.example:8000/v1", **environment) == used


@pytest.mark.parametrize(
    ("url", "no_proxy", "direct"),
    [
        ("http://10.1.2.3/v1", "10.0.0.0/8", True),
        ("http://10.1.2.3/v1", "10.1.2.3", True),
        ("http://11.1.2.3/v1", "10.0.0.0/8", False),
        ("http://[fd00::5]:1/v1", "fd00::/8", True),
        ("http://[fd00::5]:1/v1", "[fd00::5]:1", True),
        ("http://[fd00::5]:1/v1", "[fd00::5]:2", False),
    ],
)
def test_networks_that_need_no_proxy(url, no_proxy, direct):
    assert (proxy_url(url, http_proxy=PROXY, no_proxy=no_proxy) is None) is direct


def test_a_proxy_is_named_without_its_password():
    route = find_route("http://models.example/v1", {"HTTP_PROXY": "http://me:s3cret@proxy.example:3128"})
    assert route.via == " through the proxy of $HTTP_PROXY (http://***@proxy.example:3128)"
    assert route.proxy is not None
    assert route.proxy.auth == ("me", "s3cret")


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("ALL_PROXY", "socks://127.0.0.1:1080/", "'socks' is none of http, https, socks5, socks5h"),
        ("all_proxy", "socks4://me:s3cret@host:1080", "'socks4' is none of"),
        ("HTTP_PROXY", "ftp://host", "'ftp' is none of"),
        ("HTTP_PROXY", "http://", "no URL such as"),
        ("HTTP_PROXY", "http://me:s3cret@", "no URL such as"),
        ("HTTP_PROXY", "http://me:s3/cret@host:1", "no URL such as"),
        ("HTTP_PROXY", "http://host:99999", "no URL such as"),
        ("HTTP_PROXY", "http://host:port", "no URL such as"),
        ("HTTP_PROXY", "http://[::1", "no URL such as"),
        ("HTTP_PROXY", "http://two words:3128", "no URL such as"),
        ("HTTP_PROXY", "http://host\x1b[31m", "no URL such as"),
        ("HTTP_PROXY", "http://a..b", "no URL such as"),
        ("http_proxy", "::::", "no URL such as"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_refused_in_one_sentence(variable, value, words):
    with pytest.raises(UsageError) as caught:
        find_route("http://models.example/v1", {variable: value})
    text = str(caught.value)
    assert text.startswith(f"The environment variable {variable} = '")
    assert words in text
    assert "s3" not in text
    assert text.isprintable()


def test_socks_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'httpx2\[socks\]'"):
        find_route("http://models.example/v1", {"ALL_PROXY": "socks5://host:1080"})


@pytest.fixture
def garbage(tmp_path: Path) -> Path:
    (tmp_path / "empty.pem").touch()
    (tmp_path / "garbage.pem").write_bytes(b"-----BEGIN CERTIFICATE-----\nnothing\n\xff")
    (tmp_path / "folder").mkdir()
    return tmp_path


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("missing.pem", "No such file or directory"),
        ("empty.pem", "no certificate in PEM format"),
        ("garbage.pem", "no certificate in PEM format"),
        ("x" * 300, "File name too long"),
    ],
)
def test_a_file_of_certificates_that_holds_none(garbage, variable, file, words):
    with pytest.raises(UsageError) as caught:
        find_route("https://models.example/v1", {variable: str(garbage / file)})
    assert str(caught.value).startswith(f"The environment variable {variable} = '{garbage / file}'")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("folder", "words"), [("missing", "there is no such folder"), ("folder", "openssl rehash")]
)
def test_a_folder_of_certificates_that_holds_none(garbage, folder, words):
    with pytest.raises(UsageError, match="SSL_CERT_DIR") as caught:
        find_route("https://models.example/v1", {"SSL_CERT_DIR": str(garbage / folder)})
    assert words in str(caught.value)


def test_a_folder_named_as_file(garbage):
    with pytest.raises(UsageError, match="SSL_CERT_FILE"):
        find_route("https://models.example/v1", {"SSL_CERT_FILE": str(garbage / "folder")})


def authorities(**environment: str) -> int:
    return find_route("https://models.example/v1", environment).certificates.cert_store_stats()["x509_ca"]


def test_the_first_certificates_named_are_trusted(tmp_path):
    many = len(ssl.create_default_context(cafile=certifi.where()).get_ca_certs())
    assert many > 10
    assert authorities(SSL_CERT_FILE=certifi.where(), SSL_CERT_DIR="/no/such/folder") == many
    assert authorities(SSL_CERT_FILE="", REQUESTS_CA_BUNDLE=certifi.where()) == many
    hashed = tmp_path / "0123abcd.0"
    hashed.write_text(Path(certifi.where()).read_text())
    find_route("https://models.example/v1", {"SSL_CERT_DIR": f"/no/such/folder:{tmp_path}"})
    find_route("https://models.example/v1", {"REQUESTS_CA_BUNDLE": str(tmp_path)})


def test_certificates_do_not_matter_where_nothing_speaks_tls():
    find_route("http://models.example/v1", {"SSL_CERT_FILE": "/no/such/file", "http_proxy": PROXY})
    with pytest.raises(UsageError, match="SSL_CERT_FILE"):  # the way to the proxy does
        find_route(
            "http://models.example/v1", {"SSL_CERT_FILE": "/no/such/file", "http_proxy": "https://proxy:1"}
        )


def test_a_file_for_tls_keys_that_cannot_be_written_does_no_harm(monkeypatch):
    monkeypatch.setenv("SSLKEYLOGFILE", "/no/such/folder/keys.log")
    find_route("https://models.example/v1", {"SSL_CERT_FILE": certifi.where()})


def test_a_host_that_no_dns_could_hold():
    with pytest.raises(UsageError, match="Nothing can be asked at"):
        find_route("http://\u2603.net/v1", {})
