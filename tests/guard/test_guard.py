"""Who may come in: names, sites, sizes, passwords, and what every answer carries."""

from __future__ import annotations

import base64
import json

import pytest

from modelforge.errors import ConfigError
from modelforge.security.headers import script_hashes
from modelforge.security.middleware import Guard, Limit, own_hosts
from modelforge.security.password import REMEMBERED, TRIES, WINDOW_S, Password
from tests.guard.conftest import finish, knock

OURS = "127.0.0.1:7860"
EVIL = "https://evil.example"
LINK = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.1:7860", "127.8.9.1:1", "localhost", "LOCALHOST:80", "[::1]", "[::1]:1"],
)
def test_every_loopback_name_is_let_in(guarded, host):
    assert knock(guarded, headers={"host": host}).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "", "evil.example", "evil.example:7860", "127.0.0.1.evil.example", "localhost.evil.example",
        "evil.localhost", "0.0.0.0:7860", "192.168.1.5", "127.1", "2130706433", "0x7f.0.0.1",
        "localhost@evil.example", "127.0.0.1:7860, evil.example", "[::2]", "[::1", "localhost:99x",
        "localhost/..", "testserver", "localhost\t", "l\u00f6calhost",
    ],
)  # fmt: skip
def test_every_other_name_is_refused(guarded, host):
    # A tab at the end is trimmed as HTTP demands; everything else is taken as it stands.
    expected = 200 if host.strip() == "localhost" else 403
    assert knock(guarded, headers={"host": host}).status == expected


def test_two_host_headers_are_refused(guarded):
    pairs = [("host", OURS), ("host", "evil.example")]
    assert knock(guarded, headers=pairs).status == 403


def test_a_forwarded_host_must_be_ours_too(guarded):
    assert knock(guarded, headers={"x-forwarded-host": "evil.example"}).status == 403
    assert knock(guarded, headers={"x-forwarded-host": "localhost"}).status == 200


def test_a_listed_name_is_let_in_under_any_port(plain):
    app = Guard(plain, hosts=["Forge.lan"])
    assert knock(app, headers={"host": "forge.lan:7860"}).status == 200
    assert knock(app, headers={"host": "other.lan"}).status == 403


def test_the_names_of_this_machine_are_found():
    assert "127.0.0.1" in own_hosts()


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site", "origin": f"http://{OURS}"},
        {**LINK, "sec-fetch-dest": "document"},
        {"sec-fetch-site": "nonsense"},
        {"sec-fetch-site": ""},
        {"origin": EVIL},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "http://127.0.0.1"},
        {"origin": f"http://x@{OURS}"},
        {"origin": "file://"},
        {"origin": "http://[::1"},
    ],
)
def test_nothing_another_site_sends_is_done(plain, guarded, method, headers):
    answer = knock(guarded, "/api/act", method=method, headers=headers)
    assert answer.status == 403
    assert plain.state.done == []
    assert set(json.loads(answer.body)["error"]) == {"where", "what", "remedy"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "none"},
        {"origin": f"http://{OURS}"},
        {"origin": f"HTTP://{OURS}"},
        {"origin": "http://localhost", "host": "localhost:80"},
        {"origin": "https://localhost", "host": "localhost"},
    ],
)
def test_our_own_page_and_plain_programs_may_act(plain, guarded, headers):
    assert knock(guarded, "/api/act", method="POST", headers=headers).status == 200
    assert len(plain.state.done) == 1


def test_another_site_may_link_to_a_page_but_not_embed_or_fetch_it(guarded):
    assert knock(guarded, headers={**LINK, "sec-fetch-dest": "document"}).status == 200
    assert knock(guarded, headers={**LINK, "sec-fetch-dest": "iframe"}).status == 403
    image = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}
    assert knock(guarded, "/api/runs", headers=image).status == 403
    assert knock(guarded, "/api/runs", headers={"origin": EVIL}).status == 403


def test_a_preflight_from_another_site_is_refused_and_nothing_is_granted(guarded):
    headers = {"origin": EVIL, "access-control-request-method": "DELETE"}
    answer = knock(guarded, "/api/act", method="OPTIONS", headers=headers)
    assert answer.status == 403
    assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_what_the_app_grants_to_other_sites_is_taken_back(plain):
    from fastapi.middleware.cors import CORSMiddleware

    generous = CORSMiddleware(plain, allow_origins=["*"], allow_credentials=True)
    answer = knock(Guard(generous), headers={"origin": f"http://{OURS}"})
    assert answer.status == 200
    assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize(
    ("headers", "welcome"),
    [
        ({"host": OURS, "origin": f"http://{OURS}"}, True),
        ({"host": OURS}, True),
        ({"host": "evil.example", "origin": "http://evil.example"}, False),
        ({"host": OURS, "origin": EVIL}, False),
        ({"host": OURS, "sec-fetch-site": "cross-site"}, False),
    ],
)
def test_a_socket_is_opened_for_our_own_page_only(plain, guarded, headers, welcome):
    assert finish(_socket(guarded, headers)) == (
        "websocket.accept" if welcome else "websocket.close"
    )
    assert bool(plain.state.done) is welcome


def test_a_socket_needs_the_password_too(plain):
    app = Guard(plain, password="correct horse")
    assert finish(_socket(app, {"host": OURS})) == "websocket.close"
    assert finish(_socket(app, {"host": OURS, **_basic("correct horse")})) == "websocket.accept"


async def _socket(app, headers) -> str:
    sent = []
    scope = {
        "type": "websocket",
        "path": "/socket",
        "raw_path": b"/socket",
        "query_string": b"",
        "root_path": "",
        "scheme": "ws",
        "subprotocols": [],
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 7860),
        "state": {},
    }
    incoming = [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1000}]

    async def receive():
        return incoming.pop(0)

    async def send(message):
        sent.append(message["type"])

    await app(scope, receive, send)
    return sent[0]


def test_an_announced_body_past_the_limit_is_refused_unread(plain, guarded):
    headers = {"content-length": str(2**20 + 1)}
    assert knock(guarded, "/api/act", method="POST", headers=headers).status == 413
    assert plain.state.done == []


@pytest.mark.parametrize("path", ["/api/act", "/api/json"])
def test_a_body_that_grows_past_the_limit_is_refused_on_the_way(plain, guarded, path):
    pieces = [b"x" * 2**18] * 5
    headers = {"content-type": "application/json"}
    answer = knock(guarded, path, method="POST", body=pieces, headers=headers)
    assert answer.status == 413
    assert "1.0 MiB" in json.loads(answer.body)["error"]["what"]
    assert plain.state.done == []


def test_a_body_at_the_limit_passes(guarded):
    headers = {"content-length": str(2**20)}
    answer = knock(guarded, "/api/act", method="POST", headers=headers, body=[b"x" * 2**20])
    assert answer.status == 200


def test_uploads_have_a_limit_of_their_own(plain):
    app = Guard(plain, limits=[Limit("/api/datasets", 3_000_000), Limit("/", 10)])
    pieces = [b"x" * 1_000_000]
    assert knock(app, "/api/datasets", method="POST", body=pieces * 3).status == 200
    assert knock(app, "/api/datasets", method="POST", body=pieces * 4).status == 413
    assert knock(app, "/api/act", method="POST", body=[b"x" * 11]).status == 413


@pytest.mark.parametrize("length", ["-1", "1e3", "ten", "9" * 400, "\u0662"])
def test_a_length_that_is_no_sensible_number_is_refused(plain, guarded, length):
    headers = {"content-length": length.encode().decode("latin-1")}
    assert knock(guarded, "/api/act", method="POST", headers=headers).status in {400, 413}
    assert plain.state.done == []


def _basic(password: str, user: str = "me") -> dict[str, str]:
    coded = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"authorization": f"Basic {coded}"}


def test_with_a_password_every_route_asks_for_it(plain):
    app = Guard(plain, password="correct horse")
    for path in ["/", "/api/runs", "/api/stream", "/nowhere"]:
        answer = knock(app, path)
        assert answer.status == 401
        assert answer.headers["www-authenticate"].startswith("Basic ")
    assert knock(app, headers=_basic("correct horse")).status == 200
    assert knock(app, headers=_basic("correct horse", user="")).status == 200


@pytest.mark.parametrize(
    "authorization",
    ["Basic", "Basic !!!", "Basic /////w==", "Bearer correct horse", "Basic OmNvcnJlY3QgaG9ycw=="],
)
def test_a_wrong_password_in_any_shape_is_refused(plain, authorization):
    app = Guard(plain, password="correct horse")
    assert knock(app, headers={"authorization": authorization}).status == 401


def test_a_short_password_is_refused_at_once(plain):
    with pytest.raises(ConfigError, match="at least 8"):
        Guard(plain, password="short")


def _try(gate: Password, password: str, address: str) -> int:
    refusal = gate.refuse({"client": (address, 1)}, _basic(password))
    return refusal.status if refusal else 200


def test_after_ten_wrong_passwords_an_address_has_to_wait():
    now = [0.0]
    gate = Password("correct horse", clock=lambda: now[0])
    assert {_try(gate, f"guess {n}", "10.0.0.9") for n in range(TRIES)} == {401}
    assert _try(gate, "correct horse", "10.0.0.9") == 429
    assert _try(gate, "correct horse", "10.0.0.8") == 200
    now[0] = WINDOW_S + 0.1
    assert _try(gate, "correct horse", "10.0.0.9") == 200


def test_neighbours_in_one_ipv6_network_count_as_one():
    gate = Password("correct horse", clock=lambda: 0.0)
    for n in range(TRIES):
        _try(gate, "guess", f"2001:db8::{n + 1}")
    assert _try(gate, "correct horse", "2001:db8::ffff") == 429


def test_the_memory_of_wrong_passwords_is_bounded():
    gate = Password("correct horse", clock=lambda: 0.0)
    for n in range(REMEMBERED + 50):
        _try(gate, "guess", f"10.{n // 65536}.{n // 256 % 256}.{n % 256}")
    assert len(gate._wrong) == REMEMBERED


@pytest.mark.parametrize(
    ("path", "host"), [("/", OURS), ("/api/runs", OURS), ("/nowhere", OURS), ("/", "evil.example")]
)
def test_every_answer_carries_the_security_headers(guarded, path, host):
    headers = knock(guarded, path, headers={"host": host}).headers
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    policy = headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy
    assert "http:" not in policy
    assert "https:" not in policy
    assert "'unsafe-inline'" not in policy.partition("script-src")[2].partition(";")[0]


def test_data_is_not_stored_by_the_browser(guarded):
    assert knock(guarded, "/api/runs").headers["cache-control"] == "no-store"


def test_a_page_names_the_hashes_of_its_own_scripts(plain):
    answer = knock(Guard(plain, scripts=["added()"]))
    policy = answer.headers["content-security-policy"]
    assert script_hashes(b"<script>window.ours=1</script>")[0] in policy
    assert script_hashes(b"<script>added()</script>")[0] in policy
    assert answer.body.endswith(b"<p>hello</p>")


def test_scripts_with_an_address_need_no_hash():
    assert script_hashes(b'<script type="module" src="x.js"></script>') == []
    assert len(script_hashes(b"<script>a\r\nb</script><SCRIPT data-x>c</SCRIPT >")) == 2
    assert script_hashes(b"<script>a\r\nb</script>") == script_hashes(b"<script>a\nb</script>")


def test_a_stream_passes_piece_by_piece(guarded):
    answer = knock(guarded, "/api/stream")
    assert [piece for piece in answer.pieces if piece] == [b"data: %d\n\n" % n for n in range(3)]


def test_a_browser_that_asks_for_a_page_is_told_in_one_line(guarded):
    headers = {"host": "evil.example", "accept": "text/html,*/*"}
    answer = knock(guarded, headers=headers)
    assert answer.headers["content-type"].startswith("text/plain")
    assert b"evil.example" in answer.body
