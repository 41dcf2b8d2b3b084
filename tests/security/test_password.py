"""HTTP Basic password and its limit on attempts."""

from __future__ import annotations

from itertools import count

import pytest

from modelforge.errors import ConfigError
from modelforge.security.middleware import SecurityMiddleware
from modelforge.security.password import (
    MAX_ADDRESSES,
    MAX_ATTEMPTS,
    MAX_ATTEMPTS_OF_ALL,
    WINDOW_S,
    ApiKey,
    Password,
)
from tests.security.conftest import basic_auth, send_request


def test_every_route_needs_the_password(app):
    app = SecurityMiddleware(app, password="correct horse")
    for path in ["/", "/api/runs", "/api/stream", "/nowhere"]:
        response = send_request(app, path)
        assert response.status == 401
        assert response.headers["www-authenticate"].startswith("Basic ")
    assert send_request(app, headers=basic_auth("correct horse")).status == 200
    assert send_request(app, headers=basic_auth("correct horse", user="")).status == 200
    # As the clients of OpenAI's API send it.
    key = {"authorization": "Bearer correct horse"}
    assert send_request(app, headers=key).status == 200


@pytest.mark.parametrize(
    "authorization",
    ["Basic", "Basic !!!", "Basic /////w==", "Bearer correct hors", "Basic OmNvcnJlY3QgaG9ycw=="],
)
def test_malformed_and_wrong_credentials_are_rejected(app, authorization):
    app = SecurityMiddleware(app, password="correct horse")
    assert send_request(app, headers={"authorization": authorization}).status == 401


def test_a_short_password_is_a_config_error(app):
    with pytest.raises(ConfigError, match="at least 8"):
        SecurityMiddleware(app, password="short")


def _status(check: Password, password: str, address: str) -> int:
    rejection = check.check({"client": (address, 1)}, basic_auth(password))
    return rejection.status if rejection else 200


def test_an_address_must_wait_after_ten_wrong_passwords():
    now = [0.0]
    check = Password("correct horse", clock=lambda: now[0])
    assert {_status(check, f"guess {n}", "10.0.0.9") for n in range(10)} == {401}
    assert _status(check, "correct horse", "10.0.0.9") == 429
    assert _status(check, "correct horse", "10.0.0.8") == 200
    now[0] = WINDOW_S + 0.1
    assert _status(check, "correct horse", "10.0.0.9") == 200


def test_the_first_wrong_password_is_the_first_to_be_forgotten():
    now = [0.0]
    check = Password("correct horse", clock=lambda: now[0])
    for second in (0.0, *[30.0] * 9):
        now[0] = second
        assert _status(check, "guess", "10.0.0.9") == 401
    assert _status(check, "correct horse", "10.0.0.9") == 429
    now[0] = 60.1
    assert _status(check, "correct horse", "10.0.0.9") == 200


def test_an_ipv6_network_counts_as_one_address():
    check = Password("correct horse", clock=lambda: 0.0)
    for n in range(MAX_ATTEMPTS):
        _status(check, "guess", f"2001:db8::{n + 1}")
    assert _status(check, "correct horse", "2001:db8::ffff") == 429


def test_the_number_of_remembered_addresses_is_bounded():
    seconds = count()
    check = Password("correct horse", clock=lambda: float(next(seconds)))
    for n in range(MAX_ADDRESSES + 50):
        _status(check, "guess", f"10.{n // 65536}.{n // 256 % 256}.{n % 256}")
    assert len(check._failures) == MAX_ADDRESSES


def test_guesses_from_many_addresses_are_limited_together():
    now = [0.0]
    check = Password("correct horse", clock=lambda: now[0])
    assert _status(check, "correct horse", "10.9.9.9") == 200
    statuses = [_status(check, f"guess {n}", f"10.0.{n // 256}.{n % 256}") for n in range(1500)]
    assert statuses.count(401) == MAX_ATTEMPTS_OF_ALL
    assert statuses.count(429) == 1500 - MAX_ATTEMPTS_OF_ALL
    # Who was here before is not locked out; everybody else has to wait.
    assert _status(check, "correct horse", "10.9.9.9") == 200
    assert _status(check, "correct horse", "10.8.8.8") == 429
    now[0] = WINDOW_S + 0.1
    assert _status(check, "correct horse", "10.8.8.8") == 200


def test_an_api_key_is_a_bearer_token_of_at_least_16_characters():
    check = ApiKey("0123456789abcdef")
    for header, accepted in (
        ("Bearer 0123456789abcdef", True),
        ("bearer 0123456789abcdef", True),
        ("Bearer 0123456789abcde", False),
        ("Basic 0123456789abcdef", False),
        ("", False),
    ):
        rejection = check.check({"client": ("10.0.0.9", 1)}, {"authorization": header})
        assert (rejection is None) is accepted, header
    with pytest.raises(ConfigError, match="at least 16"):
        ApiKey("0123456789abcde")


@pytest.mark.parametrize("end", [" ", "\n", "\r", "é", "\x7f", " x"])
def test_an_api_key_that_no_client_can_send_is_refused(end):
    with pytest.raises(ConfigError, match="spaces, line breaks or letters outside of ASCII"):
        ApiKey(f"0123456789abcdef{end}")


def test_wrong_api_keys_are_limited_from_the_network_alone():
    check = ApiKey("0123456789abcdef")

    def status(key: str, address: str) -> int:
        headers = {"authorization": f"Bearer {key}"}
        rejection = check.check({"client": (address, 1)}, headers)
        return rejection.status if rejection else 200

    for address, later in (("10.0.0.9", 429), ("127.0.0.1", 200), ("::1", 200)):
        assert {status("wrong", address) for _ in range(MAX_ATTEMPTS)} == {401}
        assert status("0123456789abcdef", address) == later
