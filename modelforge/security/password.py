"""Password or API key of a server that others can reach."""

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

MIN_LENGTH, MIN_KEY_LENGTH = 8, 16
MAX_ATTEMPTS, WINDOW_S, MAX_ADDRESSES = 10, 60.0, 1024
# Wrong passwords of all addresses in a minute, after which only known addresses may log in.
MAX_ATTEMPTS_OF_ALL = 100


class Password:
    """Checks the password, and limits wrong attempts to ten a minute per address.

    It is given by HTTP Basic, or as the API key of a client of OpenAI's API.

    An attacker may try from many addresses. After a hundred wrong attempts in a minute, only
    addresses that have given the right password before can log in.
    """

    name = "password"
    min_length = MIN_LENGTH
    missing = "This server needs a password."
    remedy = "Enter the password given at its start; any user name is accepted."
    challenge = 'Basic realm="ModelForge", charset="UTF-8"'

    def __init__(self, secret: str, clock: Callable[[], float] = time.monotonic) -> None:
        if len(secret) < self.min_length:
            raise ConfigError(
                Problem(
                    self.name,
                    f"The {self.name} has {len(secret)} characters.",
                    f"Use at least {self.min_length}; other machines can reach this server.",
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
                self.name,
                f"There were too many wrong {self.name}s within a minute.",
                f"Try again in {wait_s} s.",
                {"retry-after": str(wait_s)},
            )
        given = self._given(headers.get("authorization", ""))
        if given is not None:
            if hmac.compare_digest(_digest(given), self._digest):
                _remember(self._known, address, None)
                return None
            self._record_failure(address)
        what = self.missing if given is None else f"The {self.name} is wrong."
        challenge = {"www-authenticate": self.challenge}
        return Rejection(401, self.name, what, self.remedy, challenge)

    def _given(self, header: str) -> str | None:
        """Return the password in an Authorization header, or None."""
        key = _bearer(header)
        return _basic_password(header) if key is None else key

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


class ApiKey(Password):
    """Checks a bearer token in the same way.

    All clients on this computer share an address, so wrong attempts from there are not limited:
    one of them would lock out the others.
    """

    name = "API key"
    min_length = MIN_KEY_LENGTH
    missing = "This server needs an API key."
    remedy = "Send the header `Authorization: Bearer KEY` with the key shown at its start."
    challenge = 'Bearer realm="ModelForge"'

    def __init__(self, secret: str, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(secret, clock)
        if not all("!" <= character <= "~" for character in secret):
            what = "The API key has spaces, line breaks or letters outside of ASCII."
            remedy = "Use letters from A to Z, digits and punctuation: a header carries no others."
            raise ConfigError(Problem(self.name, what, remedy))

    def _given(self, header: str) -> str | None:
        return _bearer(header)

    def _wait_s(self, address: str) -> int:
        try:
            is_local = ipaddress.ip_address(address).is_loopback
        except ValueError:
            is_local = False
        return 0 if is_local else super()._wait_s(address)


def _remember(addresses: OrderedDict[str, Any], address: str, value: Any) -> None:
    """Store the value of an address as the newest, and forget the oldest."""
    addresses[address] = value
    addresses.move_to_end(address)
    while len(addresses) > MAX_ADDRESSES:
        addresses.popitem(last=False)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _bearer(header: str) -> str | None:
    scheme, _, key = header.partition(" ")
    return key.strip() if scheme.lower() == "bearer" else None


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
    if address.version == 6 and not address.is_loopback:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return text
