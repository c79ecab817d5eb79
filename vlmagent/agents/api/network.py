"""How an endpoint is reached: through which proxy, trusting which certificates; decided once, before anything is sent.

Deliberately sends nothing. The environment's variables are those that curl reads. Only what would be used is looked
at: a broken proxy for https does not keep anybody from asking a server over http, and addresses of this machine are
asked directly over plain sockets whatever the variables say (desktops set them for all programs alike).
"""

from __future__ import annotations

import importlib.util
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx2

from vlmagent.agents.api.endpoints import without_credentials
from vlmagent.errors import UsageError
from vlmagent.text import harmless

PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")
CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""The first one that is set says which authorities are trusted."""
_HASHED_NAME = re.compile(r"[0-9a-f]{8}\.\d+")
"""How OpenSSL names the files of a folder of certificates; it looks at no others."""


@dataclass(frozen=True, slots=True)
class Route:
    """The way to an endpoint.

    Attributes:
        proxy: None for a direct connection.
        via: words for messages, such as " through the proxy of $HTTP_PROXY (http://proxy:3128)"; "" when direct.
        certificates: what TLS connections trust.
    """

    proxy: httpx2.Proxy | None
    via: str
    certificates: ssl.SSLContext


def find_route(base_url: str, environment: Mapping[str, str] = os.environ) -> Route:
    """The way to ``base_url`` that the environment asks for.

    Raises:
        UsageError: a variable that would be used holds something that cannot work.
    """
    try:
        httpx2.URL(base_url)
    except (
        httpx2.InvalidURL
    ) as error:  # what is valid for urlsplit may have a host's name that DNS could not hold
        raise UsageError(f"Nothing can be asked at {harmless(base_url)}: {harmless(str(error))}.") from None
    url = urlsplit(base_url)
    host = url.hostname or ""
    # decided before certificates: those of a broken setting are only looked at if something on the way speaks TLS
    variable, value = _proxy_setting(url.scheme, host, url.port, environment)
    # A context that trusts nobody costs nothing and is never asked when nothing on the way speaks TLS.
    if url.scheme == "https" or value.lower().startswith("https:"):
        certificates = _certificates(environment)
    else:
        certificates = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if not value:
        return Route(None, "", certificates)
    proxy = _proxy(variable, value, base_url, certificates)
    return Route(proxy, f" through the proxy of {variable} ({without_credentials(value)})", certificates)


def is_this_machine(host: str) -> bool:
    """Whether a host's name or address means this machine: 127.0.0.0/8, ::1, 0.0.0.0, ::, localhost."""
    # a last dot marks a name as complete (DNS): `localhost.` is localhost
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ip_address(name)
    except ValueError:
        return False
    # ::ffff:127.0.0.1, an IPv4 address as an IPv6 socket shows it
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_loopback or address.is_unspecified


def _proxy_setting(
    scheme: str, host: str, port: int | None, environment: Mapping[str, str]
) -> tuple[str, str]:
    """Variable and value of the proxy to use; two empty strings for none."""
    if is_this_machine(host) or _is_excepted(host, port, _setting("NO_PROXY", environment)[1]):
        return "", ""
    # HTTPS_PROXY goes before ALL_PROXY, as in curl
    for name in (f"{scheme}_PROXY", "ALL_PROXY"):
        variable, value = _setting(name.upper(), environment)
        if value:
            # curl takes a proxy without a scheme for an http one
            return f"${variable}", value if "://" in value else f"http://{value}"
    # macOS and Windows keep proxies in the system's settings too; elsewhere this finds nothing new
    # only for the real environment: tests pass their own, and must not see the machine's settings
    if environment is os.environ and not proxy_bypass(host):
        return "the system's settings", getproxies().get(scheme, "")
    return "", ""


def _setting(name: str, environment: Mapping[str, str]) -> tuple[str, str]:
    """A variable as it is spelt and its value. As in curl, small letters come first and an empty value unsets."""
    for spelling in (name.lower(), name):
        if spelling in environment:
            return spelling, environment[spelling].strip()
    return name, ""


def _is_excepted(host: str, port: int | None, no_proxy: str) -> bool:
    """Whether ``NO_PROXY`` names the host: itself, a domain of it, its network (CIDR) or ``*``, with or without port.

    Entries that make no sense except nobody, as everywhere.
    """
    return any(
        _matches(entry.lower(), host.lower(), port) for entry in re.split(r"[,\s]+", no_proxy) if entry
    )


def _matches(entry: str, host: str, port: int | None) -> bool:
    if entry == "*":
        return True
    try:
        # strict=False: 10.1.2.3/8 means the network that the address is in
        return ip_address(host.strip("[]")) in ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        pass  # one of them is a name
    name, colon, wanted = entry.rpartition(":")
    # host:port. An IPv6 address has colons itself, and its port stands behind a bracket
    if colon and wanted.isdigit() and (":" not in name or name.endswith("]")):
        return wanted == str(port) and _matches(name, host, port)
    # `.example.org`, `*.example.org` and `example.org` all mean the domain with everything below
    domain = entry.removeprefix("*").lstrip(".")
    return bool(domain) and (host == domain or host.endswith(f".{domain}"))


def _proxy(variable: str, value: str, base_url: str, certificates: ssl.SSLContext) -> httpx2.Proxy:
    """A proxy as it was written.

    Raises:
        UsageError: no such proxy can be used.
    """
    scheme = value.partition("://")[0].lower()
    problem = ""
    if scheme not in PROXY_SCHEMES:
        problem = f"'{harmless(scheme)}' is none of {', '.join(PROXY_SCHEMES)}"
    elif scheme.startswith("socks") and importlib.util.find_spec("socksio") is None:
        # httpx would raise an ImportError in the first request, long after the start
        problem = "SOCKS proxies need a package that is not installed: pip install 'httpx2[socks]'"
    else:
        try:
            port = urlsplit(value).port  # out of range is a ValueError
            proxy = httpx2.Proxy(value, ssl_context=certificates if scheme == "https" else None)
            # what is only found when the name is looked up: reported here as a mistake in the variable
            host = proxy.url.host
            host.encode("idna")
            # blanks and % in a host are accepted by the URL's parser and by no resolver; port 0 means none
            if host and not re.search(r"[\s%]", host) and port != 0:
                return proxy
        except (httpx2.InvalidURL, ValueError):
            pass  # their texts quote the value, password included
        problem = "it is no URL such as http://proxy:3128"
    name = variable.removeprefix("$")
    raise UsageError(
        f"The environment variable {name} = '{harmless(without_credentials(value))}' names a proxy that cannot be used "
        f"for {base_url}: {problem}. Correct it, unset it, or put the host into NO_PROXY."
    )


def _certificates(environment: Mapping[str, str]) -> ssl.SSLContext:
    """What TLS trusts: what the environment names, else the system's authorities.

    Raises:
        UsageError: the environment names a place where there are no certificates.
    """
    # the first that is set, even if it is broken: falling back silently would trust others than was asked for
    for name in CERTIFICATE_VARIABLES:
        value = environment.get(name, "").strip()
        if value:
            return _trusting(name, value)
    # without the environment: what counts of it was read above
    return httpx2.create_ssl_context(trust_env=False)


def _trusting(name: str, value: str) -> ssl.SSLContext:
    # not ssl.create_default_context(): it also opens what $SSLKEYLOGFILE names, and fails when it cannot
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        # the two names that may be either are those of requests and curl
        if name == "SSL_CERT_DIR" or (name != "SSL_CERT_FILE" and Path(value).is_dir()):
            problem = _folder_problem(value)
            context.load_verify_locations(capath=value)
        else:
            context.load_verify_locations(cafile=value)
            # OpenSSL accepts a file without certificates; every connection would fail later with "unknown issuer"
            problem = "" if context.cert_store_stats()["x509"] else "it holds no certificate"
    except ssl.SSLError:
        problem = "it holds no certificate in PEM format"
    except OSError as error:
        problem = error.strerror or str(error)
    if problem:
        raise UsageError(
            f"The environment variable {name} = '{harmless(value)}' names no certificates to trust: {problem}. "
            "Correct it, or unset it to trust the system's."
        )
    return context


def _folder_problem(folders: str) -> str:
    """Why OpenSSL would find no certificate in a list of folders; "" if it would."""
    found = [Path(folder) for folder in folders.split(os.pathsep) if folder]
    if not any(folder.is_dir() for folder in found):
        return "there is no such folder"
    names = (file.name for folder in found if folder.is_dir() for file in folder.iterdir())
    if any(_HASHED_NAME.fullmatch(name) for name in names):
        return ""
    return "the folder holds no certificates under the names that OpenSSL looks for (see openssl rehash)"
