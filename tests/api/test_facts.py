"""Facts, checks and uploads over REST."""

from __future__ import annotations

import json

import pytest

from modelforge.api.schemas.preflight import Preflight
from modelforge.api.schemas.system import MachineInfo, ProfileInfo, SampleInfo
from modelforge.config.json_schema import json_schema
from modelforge.config.profiles import load_profiles
from modelforge.data.sources.library import load_samples
from modelforge.forge import Forge
from tests.api.conftest import until_state


def test_the_server_says_that_it_is_there(client):
    said = client.get("/api/health").json()
    assert said["status"] == "ok"
    assert said["active"] is None


def test_the_schema_is_the_one_of_the_settings(client):
    assert client.get("/api/schema").json() == json_schema()


def test_the_machine_comes_with_the_profile_that_suits_it(client):
    said = client.get("/api/machine", params={"refresh": True}).json()
    assert said["profile"] in {"low_end", "mid_range", "high_end"}
    assert said["reason"].endswith(".")


def test_profiles_and_samples_are_listed(client):
    assert [each["name"] for each in client.get("/api/profiles").json()] == [
        "low_end", "mid_range", "high_end",
    ]  # fmt: skip
    listed = client.get("/api/samples").json()
    assert len(listed) == len(load_samples()) > 0
    assert all(each["dataset"] == f"sample:{each['name']}" for each in listed)


def test_no_fact_is_lost_on_the_way_out(home, answers):
    """A field that a room adds must be added to the answer too."""
    from modelforge.config.resolve import Layer

    forge = Forge(home)
    assert set(forge.machine.current().as_dict()) <= set(MachineInfo.model_fields)
    assert set(forge.preflight.check(Layer("body", answers)).as_dict()) <= set(
        Preflight.model_fields
    )
    for profile in load_profiles().values():
        assert set(profile.as_dict()) <= set(ProfileInfo.model_fields)
    for sample in load_samples():
        assert set(sample.as_dict()) <= set(SampleInfo.model_fields)


def test_a_good_body_is_checked_with_memory_and_plan_and_nothing_is_made(client, answers, home):
    answer = client.post("/api/preflight", json=answers)
    said = answer.json()
    assert answer.status_code == 200, said
    assert said["ready"] is True
    assert {part["name"] for part in said["memory"]} >= {"weights", "adapter", "optimizer"}
    assert said["plan"]["total_steps"] == 5
    assert not list(home.runs.glob("2*"))


def test_what_would_be_quicker_is_told_and_taking_all_of_it_leaves_nothing(client, answers):
    slow = answers | {"gradient_checkpointing": True, "per_device_train_batch_size": 1}
    levers = client.post("/api/preflight", json=slow).json()["levers"]
    assert any(lever["times"] > 1.1 and not lever["on"] for lever in levers)
    found = client.post("/api/recommended", json=slow).json()["answers"]
    assert found["gradient_checkpointing"] is False
    assert client.post("/api/recommended", json=slow | found).json() == {"answers": {}}
    quick = client.post("/api/preflight", json=slow | found).json()
    assert quick["tokens_per_s"] > client.post("/api/preflight", json=slow).json()["tokens_per_s"]
    assert client.post("/api/recommended", json=slow | {"lora_r": 0}).status_code == 422


def test_a_bad_body_is_answered_with_every_problem(client, answers):
    answer = client.post("/api/preflight", json=answers | {"lora_r": 0, "optim": "magic"})
    assert answer.status_code == 422
    assert [each["where"] for each in answer.json()["problems"]] == ["lora_r", "optim"]


def test_model_and_data_that_are_missing_are_told_together(client, answers):
    body = answers | {"model_name": "/no/model", "dataset": "/no/rows.csv"}
    answer = client.post("/api/preflight", json=body)
    assert answer.status_code == 422
    assert [each["where"] for each in answer.json()["problems"]] == ["model_name", "dataset"]


def test_an_upload_is_looked_at_and_can_be_trained_on(client, answers, rows):
    name = {"filename": "mine.jsonl"}
    taken = client.post("/api/datasets", params=name, content=rows.read_bytes())
    assert taken.status_code == 201, taken.text
    said = taken.json()
    assert said["rows"] == 40
    assert said["mapping"]["kind"] == "pair"
    body = answers | {"dataset": said["dataset"]}
    assert client.post("/api/preflight", json=body).status_code == 200


def test_a_large_upload_is_streamed(client):
    line = json.dumps({"input": "q" * 500, "output": "a" * 500}).encode() + b"\n"
    pieces = (line * 100 for _ in range(50))
    taken = client.post("/api/datasets", params={"filename": "big.jsonl"}, content=pieces)
    assert taken.status_code == 201, taken.text
    assert taken.json()["rows"] == 5000


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
def test_a_file_that_cannot_be_used_is_refused_and_not_kept(client, home, name, content):
    refused = client.post("/api/datasets", params={"filename": name}, content=content)
    assert refused.status_code == 422
    assert refused.json()["problems"][0]["what"]
    assert not [path for path in home.uploads.glob("*") if path.is_file()]


def test_the_name_of_an_upload_never_leaves_the_folder(client, home, rows):
    name = "../../../evil.jsonl"
    taken = client.post("/api/datasets", params={"filename": name}, content=rows.read_bytes())
    assert taken.json()["dataset"] == "evil.jsonl"
    assert (home.uploads / "evil.jsonl").is_file()


def test_an_upload_without_a_name_is_refused_in_words(client):
    refused = client.post("/api/datasets", content=b"x")
    assert refused.status_code == 422
    assert refused.json()["problems"][0]["where"] == "filename"


def test_what_nobody_foresaw_is_one_sentence_and_the_rest_is_in_the_log(client, home, answers):
    run_id = client.post("/api/runs", json=answers).json()["id"]
    log = home.runs / run_id / "worker.log"
    client.post(f"/api/runs/{run_id}/stop")
    until_state(client, run_id, "stopped")
    log.unlink()
    log.mkdir()  # what no code of ours expects
    broken = client.get(f"/api/runs/{run_id}/log")
    assert broken.status_code == 500
    assert "Traceback" not in broken.text
    assert str(home.logs / "server.log") in broken.json()["problems"][0]["remedy"]
    assert "IsADirectoryError" in (home.logs / "server.log").read_text("utf-8")


def test_another_site_cannot_post(client, answers):
    headers = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    assert client.post("/api/runs", json=answers, headers=headers).status_code == 403
    assert client.get("/api/runs").json() == []


def test_a_body_beyond_the_limit_is_refused(client, answers):
    assert client.post("/api/runs", json=answers | {"x": "y" * 2**20}).status_code == 413
