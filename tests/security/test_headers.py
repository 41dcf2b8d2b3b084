"""Security headers and content security policy."""

from __future__ import annotations

import pytest

from modelforge.security.headers import script_hashes
from modelforge.security.middleware import SecurityMiddleware
from tests.security.conftest import OWN_HOST, send_request


def test_cors_headers_of_the_app_are_removed(app):
    from fastapi.middleware.cors import CORSMiddleware

    permissive = CORSMiddleware(app, allow_origins=["*"], allow_credentials=True)
    response = send_request(
        SecurityMiddleware(permissive), headers={"origin": f"http://{OWN_HOST}"}
    )
    assert response.status == 200
    assert not [name for name in response.headers if name.startswith("access-control-")]


@pytest.mark.parametrize(
    ("path", "host"),
    [("/", OWN_HOST), ("/api/runs", OWN_HOST), ("/nowhere", OWN_HOST), ("/", "evil.example")],
)
def test_every_response_has_the_security_headers(protected, path, host):
    headers = send_request(protected, path, headers={"host": host}).headers
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    policy = headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy
    assert "http:" not in policy
    assert "https:" not in policy
    assert "'unsafe-inline'" not in policy.partition("script-src")[2].partition(";")[0]


def test_data_responses_are_not_cached(protected):
    assert send_request(protected, "/api/runs").headers["cache-control"] == "no-store"


def test_the_policy_of_a_page_has_the_hashes_of_its_scripts(app):
    response = send_request(SecurityMiddleware(app, scripts=["added()"]))
    policy = response.headers["content-security-policy"]
    assert script_hashes(b"<script>window.ours=1</script>")[0] in policy
    assert script_hashes(b"<script>added()</script>")[0] in policy
    assert response.body.endswith(b"<p>hello</p>")


def test_external_scripts_need_no_hash():
    assert script_hashes(b'<script type="module" src="x.js"></script>') == []
    assert len(script_hashes(b"<script>a\r\nb</script><SCRIPT data-x>c</SCRIPT >")) == 2
    assert script_hashes(b"<script>a\r\nb</script>") == script_hashes(b"<script>a\nb</script>")


def test_a_stream_is_not_buffered(protected):
    response = send_request(protected, "/api/stream")
    assert [chunk for chunk in response.chunks if chunk] == [b"data: %d\n\n" % n for n in range(3)]
