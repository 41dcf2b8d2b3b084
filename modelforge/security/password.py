"""The password of a server that others can reach."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping

from starlette.types import Scope

from modelforge.errors import ConfigError, Problem
from modelforge.security.rejection import Refusal

SHORTEST = 8
TRIES, WINDOW_S, REMEMBERED = 10, 60.0, 1024


class Password:
    """Asks for the password by HTTP Basic, and for patience after ten wrong ones a minute."""

    def __init__(self, secret: str, clock: Callable[[], float] = time.monotonic) -> None:
        if len(secret) < SHORTEST:
            raise ConfigError(
                Problem(
                    "password",
                    f"It has {len(secret)} characters.",
                    f"Use at least {SHORTEST}; this server can be reached by others.",
                )
            )
        self._digest = _digest(secret)
        self._clock = clock
        self._wrong: OrderedDict[str, deque[float]] = OrderedDict()

    def refuse(self, scope: Scope, headers: Mapping[str, str]) -> Refusal | None:
        """Refuse without the right password, and for a while after too many wrong ones."""
        address = _address(scope)
        waiting = self._waiting(address)
        if waiting > 0:
            return Refusal(
                429,
                "password",
                f"{TRIES} wrong passwords within a minute.",
                f"Try again in {waiting} s.",
                {"retry-after": str(waiting)},
            )
        given = _given(headers.get("authorization", ""))
        if given is not None:
            if hmac.compare_digest(_digest(given), self._digest):
                return None
            self._note(address)
        return Refusal(
            401,
            "password",
            "This server needs its password." if given is None else "The password is wrong.",
            "Give the password it was started with; any user name will do.",
            {"www-authenticate": 'Basic realm="ModelForge", charset="UTF-8"'},
        )

    def _waiting(self, address: str) -> int:
        wrong = self._wrong.get(address)
        if wrong is None or len(wrong) < TRIES:
            return 0
        return max(0, -int(-(wrong[0] + WINDOW_S - self._clock()) // 1))

    def _note(self, address: str) -> None:
        self._wrong.setdefault(address, deque(maxlen=TRIES)).append(self._clock())
        self._wrong.move_to_end(address)
        while len(self._wrong) > REMEMBERED:
            self._wrong.popitem(last=False)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _given(header: str) -> str | None:
    scheme, _, coded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(coded, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _address(scope: Scope) -> str:
    """Return who knocks; IPv6 neighbours count as one, since each has a whole network."""
    client = scope.get("client")
    text = client[0] if client else ""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return text
    if address.version == 6:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return text
