"""System information, preflight, uploads and errors over REST."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest

from modelforge.config.json_schema import json_schema
from modelforge.config.profiles import load_profiles
from modelforge.data.sources.library import Sample, load_samples
from modelforge.hardware.machine import Machine
from modelforge.preflight import Report
from tests.api.conftest import until_state


def test_health_returns_ok(client):
    body = client.get("/api/health").json()
    assert body["status"] == "ok"
    assert body["active"] is None


def test_schema_returns_the_settings(client):
    assert client.get("/api/schema").json() == json_schema(load_profiles())


def test_machine_includes_the_matching_profile(client):
    body = client.get("/api/machine", params={"refresh": True}).json()
    assert body["profile"] in load_profiles()
    assert body["reason"].endswith(".")


def test_profiles_and_samples_are_listed(client):
    assert [item["name"] for item in client.get("/api/profiles").json()] == list(load_profiles())
    listed = client.get("/api/samples").json()
    assert len(listed) == len(load_samples()) > 0
    assert all(item["dataset"] == f"sample:{item['name']}" for item in listed)


def test_responses_have_every_field_of_the_services(client, settings):
    machine = client.get("/api/machine").json()
    assert {field.name for field in fields(Machine)} | {"device", "practice"} <= machine.keys()
    checked = client.post("/api/preflight", json=settings).json()
    assert {field.name for field in fields(Report)} | {"ready", "blocked", "plan"} <= checked.keys()
    for profile in client.get("/api/profiles").json():
        assert {"name", "answers", "models", "practice"} <= profile.keys()
    for sample in client.get("/api/samples").json():
        assert {field.name for field in fields(Sample)} == sample.keys()


def test_the_result_of_preflight_is_a_page_too(client, settings):
    response = client.post("/api/preflight/report", json=settings)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/html")
    assert "attachment" in response.headers["content-disposition"]
    assert "Ready to train" in response.text
    wrong = client.post("/api/preflight/report", json=settings | {"lora_r": 0})
    assert "Not ready" in wrong.text


def test_preflight_returns_memory_and_plan_and_creates_nothing(client, settings, home):
    response = client.post("/api/preflight", json=settings)
    body = response.json()
    assert response.status_code == 200, body
    assert body["ready"] is True
    assert {part["name"] for part in body["memory"]} >= {"weights", "adapter", "optimizer"}
    assert body["plan"]["total_steps"] == 5
    assert not list(home.runs.glob("2*"))


def test_recommended_settings_are_faster_and_complete(client, settings):
    slow = settings | {"gradient_checkpointing": True, "per_device_train_batch_size": 1}
    speedups = client.post("/api/preflight", json=slow).json()["levers"]
    assert any(speedup["times"] > 1.1 and not speedup["on"] for speedup in speedups)
    found = client.post("/api/recommended", json=slow).json()["answers"]
    assert found["gradient_checkpointing"] is False
    assert client.post("/api/recommended", json=slow | found).json() == {"answers": {}}
    quick = client.post("/api/preflight", json=slow | found).json()
    assert quick["tokens_per_s"] > client.post("/api/preflight", json=slow).json()["tokens_per_s"]
    assert client.post("/api/recommended", json=slow | {"lora_r": 0}).status_code == 422


def test_preflight_returns_every_problem(client, settings):
    response = client.post("/api/preflight", json=settings | {"lora_r": 0, "optim": "magic"})
    assert response.status_code == 422
    assert [item["where"] for item in response.json()["problems"]] == ["lora_r", "optim"]


def test_missing_model_and_data_are_reported_together(client, settings):
    body = settings | {"model_name": "/no/model", "dataset": "/no/rows.csv"}
    response = client.post("/api/preflight", json=body)
    assert response.status_code == 422
    assert [item["where"] for item in response.json()["problems"]] == ["model_name", "dataset"]


def test_an_upload_can_be_used_for_training(client, settings, rows):
    name = {"filename": "mine.jsonl"}
    upload = client.post("/api/datasets", params=name, content=rows.read_bytes())
    assert upload.status_code == 201, upload.text
    body = upload.json()
    assert body["rows"] == 40
    assert body["mapping"]["kind"] == "pair"
    body = settings | {"dataset": body["dataset"]}
    assert client.post("/api/preflight", json=body).status_code == 200


def test_a_large_upload_is_streamed(client):
    line = json.dumps({"input": "q" * 500, "output": "a" * 500}).encode() + b"\n"
    chunks = (line * 100 for _ in range(50))
    upload = client.post("/api/datasets", params={"filename": "big.jsonl"}, content=chunks)
    assert upload.status_code == 201, upload.text
    assert upload.json()["rows"] == 5000


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.exe", b"x"),
        ("rows.csv", b""),
        ("rows.jsonl", b"{broken"),
        ("", b"x"),
        ("../..", b"x"),
    ],
)
def test_an_unusable_file_is_rejected_and_deleted(client, home, name, content):
    response = client.post("/api/datasets", params={"filename": name}, content=content)
    assert response.status_code == 422
    assert response.json()["problems"][0]["what"]
    assert not [path for path in home.uploads.glob("*") if path.is_file()]


def test_an_upload_stays_in_its_folder(client, home, rows):
    name = "../../../evil.jsonl"
    upload = client.post("/api/datasets", params={"filename": name}, content=rows.read_bytes())
    assert upload.json()["dataset"] == "evil.jsonl"
    assert (home.uploads / "evil.jsonl").is_file()


def test_an_upload_without_name_is_rejected(client):
    response = client.post("/api/datasets", content=b"x")
    assert response.status_code == 422
    assert response.json()["problems"][0]["where"] == "filename"


def test_an_unexpected_error_is_logged_without_traceback_in_the_response(client, home, settings):
    run_id = client.post("/api/runs", json=settings).json()["id"]
    log = home.runs / run_id / "worker.log"
    client.post(f"/api/runs/{run_id}/stop")
    until_state(client, run_id, "stopped")
    log.unlink()
    log.mkdir()  # an unexpected error for the code
    broken = client.get(f"/api/runs/{run_id}/log")
    assert broken.status_code == 500
    assert "Traceback" not in broken.text
    assert str(home.logs / "server.log") in broken.json()["problems"][0]["remedy"]
    assert "IsADirectoryError" in (home.logs / "server.log").read_text("utf-8")


def test_another_site_cannot_post(client, settings):
    headers = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    assert client.post("/api/runs", json=settings, headers=headers).status_code == 403
    assert client.get("/api/runs").json() == []


def test_a_body_above_the_limit_is_rejected(client, settings):
    assert client.post("/api/runs", json=settings | {"x": "y" * 2**20}).status_code == 413


def test_a_run_with_the_hash_of_another_plan_is_refused(client, settings):
    seen = client.post("/api/preflight", json=settings).json()["plan_hash"]
    other = client.post("/api/runs", json=settings | {"lora_r": 4}, params={"plan_hash": seen})
    assert other.status_code == 422
    assert other.json()["problems"][0]["where"] == "plan_hash"
    assert client.get("/api/runs").json() == []
    assert client.post("/api/runs", json=settings, params={"plan_hash": seen}).status_code == 202
