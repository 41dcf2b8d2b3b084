"""REST of the API server; the chat process is an actor."""

from __future__ import annotations

import socket

import httpx
import pytest

from tests.api.conftest import actor, until


@pytest.fixture
def api(serving, model):
    client = serving("obeys")
    serving.forge.serving._client._command = actor("talks")
    return client


def test_a_model_is_served_and_stopped(api, model):
    assert api.get("/api/serving").json()["state"] == "off"
    assert api.get("/api/serving/key").status_code == 404
    started = api.post("/api/serving", json={"what": str(model), "port": 0, "idle_minutes": 5})
    assert started.status_code == 202, started.text
    until(lambda: api.get("/api/serving").json()["state"] == "on", "The model was not loaded.")
    view = api.get("/api/serving").json()
    assert view["idle_minutes"] == 5
    shown = api.get("/api/serving/key")
    assert shown.headers["cache-control"] == "no-store"
    key = shown.json()["key"]
    assert key not in str(view)
    assert "openai" in shown.json()["python"]
    headers = {"authorization": f"Bearer {key}"}
    assert httpx.get(f"{view['address']}/models", headers=headers).status_code == 200
    again = api.post("/api/serving", json={"what": str(model), "port": 0})
    assert (again.status_code, again.json()["holder"]) == (409, "serving")
    assert api.delete("/api/serving").json()["state"] == "off"


def test_a_port_in_use_and_odd_values_are_refused(api, model):
    with socket.create_server(("127.0.0.1", 0)) as other:
        body = {"what": str(model), "port": other.getsockname()[1]}
        refused = api.post("/api/serving", json=body)
    assert refused.status_code == 409
    assert "another program uses it" in refused.json()["problems"][0]["what"]
    assert api.post("/api/serving", json={"what": "no-such-run"}).status_code == 404
    for odd in ({}, {"what": ""}, {"what": 5}, {"what": "x", "port": 10**9}):
        assert api.post("/api/serving", json=odd).status_code in (404, 422), odd


def test_rest_does_not_open_the_server_to_the_network(api, model):
    body = {"what": str(model), "port": 0, "host": "0.0.0.0"}
    assert api.post("/api/serving", json=body).status_code == 422
