"""Check the Host and the Origin of a request."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

import psutil
from starlette.types import Scope

from modelforge.security.rejection import Rejection

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
OWN_SITES = frozenset({"same-origin", "none"})
# Gradio has paths with side effects on GET.
UNSAFE_PREFIX = "/gradio_api"
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::(\d{1,5}))?", re.ASCII)
_DEFAULT_PORTS = {"http": "80", "https": "443"}


def check_host(headers: Mapping[str, str], allowed: Collection[str]) -> Rejection | None:
    """Reject a Host that is neither loopback nor allowed, to prevent DNS rebinding."""
    hosts = [headers.get("host", "")]
    if "x-forwarded-host" in headers:
        # Gradio builds URLs from this header, so it is checked as well.
        hosts += [part.strip() for part in headers["x-forwarded-host"].split(",")]
    for host in hosts:
        if not _is_allowed(host, allowed):
            return Rejection(
                403,
                "Host",
                f"The address {_shortened(host)} is not a name of this server.",
                "Open it as 127.0.0.1 or localhost, or under a name given at its start.",
            )
    return None


def check_origin(scope: Scope, headers: Mapping[str, str]) -> Rejection | None:
    """Reject a request from another site's page. Following a link from there is allowed."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site in OWN_SITES:
        return None
    if site is None and (origin is None or _same_host(origin, headers.get("host", ""))):
        return None
    if site is not None and _is_link(scope, headers):
        return None
    return Rejection(
        403,
        "Origin",
        f"The request comes from another site ({_shortened(origin or site or '')}).",
        "Use the page of this server, or a client that sends no Origin.",
    )


def local_host_names() -> set[str]:
    """Return the host names and addresses of this machine in its networks."""
    name = socket.gethostname().lower()
    names = {name, f"{name.split('.')[0]}.local"}
    for addresses in psutil.net_if_addrs().values():
        for address in addresses:
            if address.family in {socket.AF_INET, socket.AF_INET6}:
                names.add(address.address.partition("%")[0].lower())
    return names


def _is_allowed(host: str, allowed: Collection[str]) -> bool:
    match = _HOST.fullmatch(host.lower())
    if match is None:
        return False
    name = match[1] or match[2]
    if name == "localhost" or name in allowed:
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _is_link(scope: Scope, headers: Mapping[str, str]) -> bool:
    return (
        scope["type"] == "http"
        and scope["method"] in SAFE_METHODS
        and headers.get("sec-fetch-mode") == "navigate"
        and headers.get("sec-fetch-dest") == "document"
        and not scope["path"].startswith(UNSAFE_PREFIX)
    )


def _same_host(origin: str, host: str) -> bool:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    default_port = _DEFAULT_PORTS.get(parts.scheme)
    if default_port is None or parts.path or parts.query or "@" in parts.netloc:
        return False
    return _with_port(parts.netloc, default_port) == _with_port(host, default_port)


def _with_port(host: str, default_port: str) -> str:
    host = host.lower()
    return host if re.search(r":\d+$", host) else f"{host}:{default_port}"


def _shortened(text: str) -> str:
    return repr(text[:80])
