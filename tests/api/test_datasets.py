"""Datasets over REST."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def upload(client, rows):
    """An upload of forty good rows, one duplicate and one without completion."""
    lines = rows.read_text("utf-8")
    lines += lines.splitlines()[0] + "\n" + json.dumps({"input": "q", "output": ""}) + "\n"
    response = client.post(
        "/api/datasets", params={"filename": "mine.jsonl"}, content=lines.encode()
    )
    assert response.status_code == 201, response.text
    return response.json()


def test_an_upload_is_listed_before_the_samples(client, upload):
    listed = client.get("/api/datasets").json()
    assert listed[0]["name"] == "mine.jsonl"
    assert listed[0]["kind"] == "upload"
    assert "sample:captain" in [item["name"] for item in listed]


def test_a_dataset_is_summarized_by_name(client, upload):
    assert client.get("/api/datasets/mine.jsonl").json() == upload
    sample = client.get("/api/datasets/sample:captain").json()
    assert sample["dataset"] == "sample:captain"
    assert sample["rows"] > 0


def test_the_preview_has_raw_and_parsed_rows(client, upload):
    address = "/api/datasets/mine.jsonl/preview"
    shown = client.get(address, params={"first": 3, "after": 39}).json()
    assert [row["line"] for row in shown["rows"]] == [40, 41, 42]
    assert shown["rows"][0]["raw"] == {"input": "Question 39?", "output": "Answer 39."}
    assert shown["rows"][2]["reads"] is None
    assert client.get(address, params={"first": 0}).status_code == 422


def test_columns_are_mapped_by_parameter(client):
    table = "frage,reply\n" + "\n".join(f"was {n}?,das {n}" for n in range(12))
    name = {"filename": "odd.csv"}
    assert client.post("/api/datasets", params=name, content=table.encode()).status_code == 422
    table = table.replace("frage,reply", "input,output,frage,reply").replace("\nwas", "\nx,y,was")
    assert client.post("/api/datasets", params=name, content=table.encode()).status_code == 201
    fields = json.dumps({"instruction_field": "frage", "output_field": "reply"})
    shown = client.get("/api/datasets/odd.csv/preview", params={"source": fields}).json()
    assert shown["rows"][0]["reads"]["messages"][0]["content"] == "was 0?"


def test_source_fields_cannot_change_the_path(client, upload, rows):
    fields = {"source": json.dumps({"path": str(rows)})}
    assert client.get("/api/datasets/mine.jsonl", params=fields).json() == upload


def test_a_broken_file_can_be_kept_checked_and_repaired(client):
    rows = [json.dumps({"input": f"q{n}", "output": f"a{n}"}) for n in range(12)]
    broken = "\n".join([*rows, '{"input": "q", "output": "a",}', '{"input": "cut']).encode()
    name = {"filename": "broken.jsonl"}
    assert client.post("/api/datasets", params=name, content=broken).status_code == 422
    kept = client.post("/api/datasets", params=name | {"keep": True}, content=broken)
    assert kept.status_code == 201
    assert kept.json()["findings"][0]["level"] == "blocker"
    body = client.get("/api/datasets/broken.jsonl/findings").json()
    assert body["trainable"] is False
    assert any(item["repair"] for item in body["files"][0]["findings"])
    refused = client.post("/api/datasets/broken.jsonl/repair")
    assert refused.status_code == 422
    assert "would lose 1 of 14 rows: line 14" in refused.json()["problems"][0]["what"]
    allowed = {"allow_removal": True}
    copy = client.post("/api/datasets/broken.jsonl/repair", json=allowed).json()[0]
    assert (copy["fixed"], copy["removed"], copy["removed_lines"]) == (1, 1, [14])
    assert client.get(f"/api/datasets/{copy['dataset']}/findings").json()["trainable"] is True


@pytest.mark.parametrize("source", ["no json", "[1]", '{"colour": "red"}', '{"weight": 0}'])
def test_invalid_source_fields_are_rejected(client, upload, source):
    response = client.get("/api/datasets/mine.jsonl/preview", params={"source": source})
    assert response.status_code == 422
    assert response.json()["problems"][0]["what"]


def test_findings_have_places_and_statistics(client, upload):
    body = client.get("/api/datasets/mine.jsonl/findings").json()
    assert body["trainable"] is True
    found = {item["code"]: item for item in body["files"][0]["findings"]}
    assert found["duplicate-rows"]["count"] == 1
    assert found["duplicate-rows"]["places"][0][0] == 41
    assert found["empty-answer"]["places"][0][0] == 42
    assert body["files"][0]["stats"]["rows"] >= 41


def test_a_repaired_copy_is_listed_and_the_original_is_unchanged(client, upload, home):
    before = (home.uploads / "mine.jsonl").read_bytes()
    response = client.post("/api/datasets/mine.jsonl/repair", json={"allow_removal": True})
    assert response.status_code == 201, response.text
    copy = response.json()[0]
    assert (home.uploads / "mine.jsonl").read_bytes() == before
    assert client.get(f"/api/datasets/{copy['dataset']}").json()["rows"] == 40
    only = client.post(
        "/api/datasets/mine.jsonl/repair", json={"codes": ["empty-answer"], "allow_removal": True}
    )
    assert set(only.json()[0]["changes"]) <= {"empty-answer"}


def test_tokens_need_an_existing_model(client, upload):
    response = client.post("/api/datasets/mine.jsonl/tokens")
    assert response.status_code == 404
    assert response.json()["problems"][0]["where"] == "model_name"
    wrong = client.post("/api/datasets/mine.jsonl/tokens", json={"data": {"loss_on": "none"}})
    assert wrong.json()["problems"][0]["where"] == "data.loss_on"


def test_tokens_accept_the_settings_of_a_run(serving, model, rows):
    client = serving("obeys", warm_worker="answers")
    name = {"filename": "mine.jsonl"}
    assert client.post("/api/datasets", params=name, content=rows.read_bytes()).is_success
    body = {"model_name": str(model), "max_seq_length": 77}
    response = client.post("/api/datasets/mine.jsonl/tokens", params={"count": 2}, json=body)
    assert response.status_code == 200, response.text
    assert response.json()["totals"] == {"masked": 0}


def test_uploads_can_be_deleted_and_samples_cannot(client, upload, home):
    assert client.delete("/api/datasets/mine.jsonl").status_code == 204
    assert not (home.uploads / "mine.jsonl").exists()
    assert client.delete("/api/datasets/mine.jsonl").status_code == 404
    assert client.delete("/api/datasets/sample:captain").status_code == 422


@pytest.mark.parametrize("name", ["..%2F..%2Frun.json", "absent.csv", "%00", "a" * 300])
@pytest.mark.parametrize("part", ["", "/preview", "/findings"])
def test_a_name_cannot_be_a_path(client, name, part):
    assert client.get(f"/api/datasets/{name}{part}").status_code == 404


def test_settings_for_a_dataset_have_the_small_body_limit(client, upload):
    body = {"model_name": "x" * 2**21}
    assert client.post("/api/datasets/mine.jsonl/tokens", json=body).status_code == 413


def test_a_dataset_in_use_is_not_deleted(client, settings, upload):
    run_id = client.post("/api/runs", json=settings | {"dataset": "mine.jsonl"}).json()["id"]
    response = client.delete("/api/datasets/mine.jsonl")
    assert response.status_code == 409
    assert response.json()["holder"] == run_id
    client.post(f"/api/runs/{run_id}/stop")
