"""Which address was called, and which page called it."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

import psutil
from starlette.types import Scope

from modelforge.security.rejection import Refusal

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
OURSELVES = frozenset({"same-origin", "none"})
# Addresses of Gradio's that do something even when they are only read.
NOT_FOR_LINKS = "/gradio_api"
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::(\d{1,5}))?", re.ASCII)
_DEFAULT_PORT = {"http": "80", "https": "443"}


def refuse_host(headers: Mapping[str, str], listed: Collection[str]) -> Refusal | None:
    """Refuse a name that is neither loopback nor listed: a foreign name may be rebound to us."""
    named = [headers.get("host", "")]
    if "x-forwarded-host" in headers:
        # Gradio builds addresses from it, so it has to be one of ours as well.
        named += [part.strip() for part in headers["x-forwarded-host"].split(",")]
    for name in named:
        if not _is_ours(name, listed):
            return Refusal(
                403,
                "Host",
                f"The address {_short(name)} is none of this server's names.",
                "Open it as 127.0.0.1 or localhost, or under a name it was started with.",
            )
    return None


def refuse_site(scope: Scope, headers: Mapping[str, str]) -> Refusal | None:
    """Refuse what another site's page sends; following a plain link from there is fine."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site in OURSELVES:
        return None
    if site is None and (origin is None or _same_host(origin, headers.get("host", ""))):
        return None
    if site is not None and _is_link(scope, headers):
        return None
    return Refusal(
        403,
        "Origin",
        f"The request comes from another site ({_short(origin or site or '')}).",
        "Use the page of this server, or a program that sends no Origin.",
    )


def own_hosts() -> set[str]:
    """Return the names and addresses under which other machines know this one."""
    name = socket.gethostname().lower()
    found = {name, f"{name.split('.')[0]}.local"}
    for addresses in psutil.net_if_addrs().values():
        for address in addresses:
            if address.family in {socket.AF_INET, socket.AF_INET6}:
                found.add(address.address.partition("%")[0].lower())
    return found


def _is_ours(host: str, listed: Collection[str]) -> bool:
    match = _HOST.fullmatch(host.lower())
    if match is None:
        return False
    name = match[1] or match[2]
    if name == "localhost" or name in listed:
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _is_link(scope: Scope, headers: Mapping[str, str]) -> bool:
    return (
        scope["type"] == "http"
        and scope["method"] in SAFE
        and headers.get("sec-fetch-mode") == "navigate"
        and headers.get("sec-fetch-dest") == "document"
        and not scope["path"].startswith(NOT_FOR_LINKS)
    )


def _same_host(origin: str, host: str) -> bool:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    default = _DEFAULT_PORT.get(parts.scheme)
    if default is None or parts.path or parts.query or "@" in parts.netloc:
        return False
    return _with_port(parts.netloc, default) == _with_port(host, default)


def _with_port(host: str, default: str) -> str:
    bare = host.lower()
    return bare if re.search(r":\d+$", bare) else f"{bare}:{default}"


def _short(text: str) -> str:
    return repr(text[:80])
