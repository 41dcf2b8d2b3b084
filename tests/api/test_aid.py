"""Aid over REST: the cause, the same run with a remedy, and the bundle."""

from __future__ import annotations

import io
import zipfile

from tests.api.conftest import until_state


def test_a_failure_is_diagnosed_retried_and_bundled(serving, answers):
    client = serving("fails")
    run = client.post("/api/runs", json=answers | {"per_device_train_batch_size": 2}).json()["id"]
    until_state(client, run, "failed")
    told = client.get(f"/api/runs/{run}/diagnosis").json()
    assert (told["code"], told["certain"]) == ("out-of-memory", True)
    assert told["action"]["settings"]["per_device_train_batch_size"] == 1
    again = client.post(f"/api/runs/{run}/retry", params={"request_id": "one"})
    assert again.status_code == 202
    assert again.headers["location"] == f"/api/runs/{again.json()['id']}"
    assert (
        client.post(f"/api/runs/{run}/retry", params={"request_id": "one"}).json() == again.json()
    )
    facts = client.get(f"/api/runs/{again.json()['id']}").json()
    assert facts["config"]["per_device_train_batch_size"] == 1
    until_state(client, again.json()["id"], "failed")
    bundle = client.get(f"/api/runs/{run}/bundle", timeout=30)
    assert bundle.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(bundle.content)) as archive:
        assert f"{run}/diagnosis.json" in archive.namelist()


def test_a_run_that_went_well_has_a_verdict_and_no_diagnosis(serving, answers):
    client = serving("finishes")
    run = client.post("/api/runs", json=answers).json()["id"]
    until_state(client, run, "finished")
    assert client.get(f"/api/runs/{run}").json()["verdict"]["kind"] == "unclear"
    refused = client.get(f"/api/runs/{run}/diagnosis")
    assert (refused.status_code, refused.json()["problems"][0]["where"]) == (404, "run")
    assert client.post(f"/api/runs/{run}/retry").status_code == 422
    for path in ("diagnosis", "bundle"):
        assert client.get(f"/api/runs/nobody/{path}").status_code == 404
