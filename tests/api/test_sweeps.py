"""Sweeps over REST, with stand-in workers."""

from __future__ import annotations

import pytest

pytest.importorskip("optuna")
pytestmark = pytest.mark.filterwarnings("default")

VARY = {"vary": ["learning_rate=1e-5..1e-3", "lora_r=8,16"], "budget_s": 36_000}


def test_a_sweep_is_started_listed_followed_and_stopped(serving, settings):
    client = serving("obeys")
    started = client.post("/api/sweeps", json=settings | {"max_steps": 8}, params=VARY)
    assert started.status_code == 202, started.text
    sweep = started.json()
    assert [each["name"] for each in sweep["dimensions"]] == ["learning_rate", "lora_r"]
    assert (sweep["trials"], sweep["is_over"], sweep["total_steps"]) == ([], False, 8)
    assert [each["id"] for each in client.get("/api/sweeps").json()] == [sweep["id"]]
    serving.forge.tend()
    (trial,) = client.get(f"/api/sweeps/{sweep['id']}").json()["trials"]
    assert trial["run"] == client.get("/api/runs").json()[0]["id"]
    assert trial["values"]["lora_r"] == 16  # the user's own
    assert trial["on"] == "here"
    assert client.delete(f"/api/sweeps/{sweep['id']}").status_code == 409
    assert client.post(f"/api/sweeps/{sweep['id']}/stop").status_code == 200


@pytest.mark.parametrize(
    ("change", "status", "where"),
    [
        ({"vary": ["learning_rate=1..1"]}, 422, "learning_rate"),
        ({"budget_s": 1}, 422, "budget"),
        ({"budget_s": -1}, 422, "budget_s"),
        ({"on": ["here", "nowhere"]}, 404, "target"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused(serving, settings, change, status, where):
    client = serving("obeys")
    refused = client.post("/api/sweeps", json=settings | {"max_steps": 8}, params=VARY | change)
    assert refused.status_code == status
    assert refused.json()["problems"][0]["where"] == where
    assert client.get("/api/sweeps").json() == []
    assert client.get("/api/sweeps/none").status_code == 404
