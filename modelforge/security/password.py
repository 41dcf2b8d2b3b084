"""Password check of a server that other machines can reach."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from typing import Any

from starlette.types import Scope

from modelforge.errors import ConfigError, Problem
from modelforge.security.rejection import Rejection

MIN_LENGTH = 8
MAX_ATTEMPTS, WINDOW_S, MAX_ADDRESSES = 10, 60.0, 1024
# Wrong passwords of all addresses in a minute, after which only known addresses may log in.
MAX_ATTEMPTS_OF_ALL = 100


class Password:
    """Checks HTTP Basic credentials, and limits wrong attempts to ten a minute per address.

    An attacker may try from many addresses. After a hundred wrong attempts in a minute, only
    addresses that have given the right password before can log in.
    """

    def __init__(self, secret: str, clock: Callable[[], float] = time.monotonic) -> None:
        if len(secret) < MIN_LENGTH:
            raise ConfigError(
                Problem(
                    "password",
                    f"The password has {len(secret)} characters.",
                    f"Use at least {MIN_LENGTH}; other machines can reach this server.",
                )
            )
        self._digest = _digest(secret)
        self._clock = clock
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()
        self._all_failures: deque[float] = deque(maxlen=MAX_ATTEMPTS_OF_ALL)
        self._known: OrderedDict[str, None] = OrderedDict()

    def check(self, scope: Scope, headers: Mapping[str, str]) -> Rejection | None:
        """Reject a request without the right password, or after too many wrong attempts."""
        address = _client_address(scope)
        wait_s = self._wait_s(address)
        if wait_s > 0:
            return Rejection(
                429,
                "password",
                "There were too many wrong passwords within a minute.",
                f"Try again in {wait_s} s.",
                {"retry-after": str(wait_s)},
            )
        password = _basic_password(headers.get("authorization", ""))
        if password is not None:
            if hmac.compare_digest(_digest(password), self._digest):
                _remember(self._known, address, None)
                return None
            self._record_failure(address)
        return Rejection(
            401,
            "password",
            "This server needs a password." if password is None else "The password is wrong.",
            "Enter the password given at its start; any user name is accepted.",
            {"www-authenticate": 'Basic realm="ModelForge", charset="UTF-8"'},
        )

    def _wait_s(self, address: str) -> int:
        limited = [self._failures.get(address)]
        if address not in self._known:
            limited.append(self._all_failures)
        # A full deque holds the newest attempts; the first one has to leave the window.
        first = [times[0] for times in limited if times and len(times) == times.maxlen]
        return max(0, math.ceil(max(first) + WINDOW_S - self._clock())) if first else 0

    def _record_failure(self, address: str) -> None:
        times = self._failures.get(address) or deque(maxlen=MAX_ATTEMPTS)
        for each in (times, self._all_failures):
            each.append(self._clock())
        _remember(self._failures, address, times)


def _remember(addresses: OrderedDict[str, Any], address: str, value: Any) -> None:
    """Store the value of an address as the newest, and forget the oldest."""
    addresses[address] = value
    addresses.move_to_end(address)
    while len(addresses) > MAX_ADDRESSES:
        addresses.popitem(last=False)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _basic_password(header: str) -> str | None:
    scheme, _, credentials = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(credentials, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _client_address(scope: Scope) -> str:
    """Return the client's address. IPv6 clients have a whole /64, so it counts as one."""
    client = scope.get("client")
    text = client[0] if client else ""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return text
    if address.version == 6:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return text
