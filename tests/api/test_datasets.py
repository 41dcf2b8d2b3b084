"""Data sets over REST: kept, listed, shown, examined, repaired and deleted."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def taken(client, rows):
    """An upload of forty good rows, one copy and one without an answer."""
    lines = rows.read_text("utf-8")
    lines += lines.splitlines()[0] + "\n" + json.dumps({"input": "q", "output": ""}) + "\n"
    answer = client.post("/api/datasets", params={"filename": "mine.jsonl"}, content=lines.encode())
    assert answer.status_code == 201, answer.text
    return answer.json()


def test_an_upload_is_listed_before_the_samples(client, taken):
    listed = client.get("/api/datasets").json()
    assert listed[0]["name"] == "mine.jsonl"
    assert listed[0]["kind"] == "upload"
    assert "sample:captain" in [each["name"] for each in listed]


def test_a_data_set_is_looked_at_by_name(client, taken):
    assert client.get("/api/datasets/mine.jsonl").json() == taken
    sample = client.get("/api/datasets/sample:captain").json()
    assert sample["dataset"] == "sample:captain"
    assert sample["rows"] > 0


def test_rows_are_shown_raw_and_read(client, taken):
    address = "/api/datasets/mine.jsonl/preview"
    shown = client.get(address, params={"first": 3, "after": 39}).json()
    assert [row["line"] for row in shown["rows"]] == [40, 41, 42]
    assert shown["rows"][0]["raw"] == {"input": "Question 39?", "output": "Answer 39."}
    assert shown["rows"][2]["reads"] is None
    assert client.get(address, params={"first": 0}).status_code == 422


def test_columns_are_mapped_by_hand(client):
    table = "frage,reply\n" + "\n".join(f"was {n}?,das {n}" for n in range(12))
    name = {"filename": "odd.csv"}
    assert client.post("/api/datasets", params=name, content=table.encode()).status_code == 422
    table = table.replace("frage,reply", "input,output,frage,reply").replace("\nwas", "\nx,y,was")
    assert client.post("/api/datasets", params=name, content=table.encode()).status_code == 201
    fields = json.dumps({"instruction_field": "frage", "output_field": "reply"})
    shown = client.get("/api/datasets/odd.csv/preview", params={"source": fields}).json()
    assert shown["rows"][0]["reads"]["messages"][0]["content"] == "was 0?"


def test_a_path_among_the_fields_leads_nowhere_else(client, taken, rows):
    fields = {"source": json.dumps({"path": str(rows)})}
    assert client.get("/api/datasets/mine.jsonl", params=fields).json() == taken


def test_a_broken_file_is_kept_when_asked_and_can_be_examined_and_repaired(client):
    rows = [json.dumps({"input": f"q{n}", "output": f"a{n}"}) for n in range(12)]
    broken = "\n".join([*rows, '{"input": "q", "output": "a",}', '{"input": "cut']).encode()
    name = {"filename": "broken.jsonl"}
    assert client.post("/api/datasets", params=name, content=broken).status_code == 422
    kept = client.post("/api/datasets", params=name | {"keep": True}, content=broken)
    assert kept.status_code == 201
    assert kept.json()["findings"][0]["level"] == "blocker"
    said = client.get("/api/datasets/broken.jsonl/findings").json()
    assert said["trainable"] is False
    assert any(each["repair"] for each in said["files"][0]["findings"])
    copy = client.post("/api/datasets/broken.jsonl/repair").json()[0]
    assert client.get(f"/api/datasets/{copy['dataset']}/findings").json()["trainable"] is True


@pytest.mark.parametrize("source", ["no json", "[1]", '{"colour": "red"}', '{"weight": 0}'])
def test_fields_that_are_wrong_are_refused_in_words(client, taken, source):
    refused = client.get("/api/datasets/mine.jsonl/preview", params={"source": source})
    assert refused.status_code == 422
    assert refused.json()["problems"][0]["what"]


def test_every_finding_comes_with_its_lines_and_the_numbers(client, taken):
    said = client.get("/api/datasets/mine.jsonl/findings").json()
    assert said["trainable"] is True
    found = {each["code"]: each for each in said["files"][0]["findings"]}
    assert found["duplicate-rows"]["count"] == 1
    assert found["duplicate-rows"]["places"][0][0] == 41
    assert found["empty-answer"]["places"][0][0] == 42
    assert said["files"][0]["stats"]["rows"] >= 41


def test_a_repaired_copy_joins_the_list_and_the_original_stays(client, taken, home):
    before = (home.uploads / "mine.jsonl").read_bytes()
    answer = client.post("/api/datasets/mine.jsonl/repair")
    assert answer.status_code == 201, answer.text
    copy = answer.json()[0]
    assert (home.uploads / "mine.jsonl").read_bytes() == before
    assert client.get(f"/api/datasets/{copy['dataset']}").json()["rows"] == 40
    only = client.post("/api/datasets/mine.jsonl/repair", json={"codes": ["empty-answer"]})
    assert set(only.json()[0]["changes"]) <= {"empty-answer"}


def test_tokens_of_a_model_that_is_absent_are_refused_in_words(client, taken):
    refused = client.post("/api/datasets/mine.jsonl/tokens")
    assert refused.status_code == 404
    assert refused.json()["problems"][0]["where"] == "model_name"
    wrong = client.post("/api/datasets/mine.jsonl/tokens", json={"data": {"loss_on": "none"}})
    assert wrong.json()["problems"][0]["where"] == "data.loss_on"


def test_tokens_take_the_settings_of_a_run(serving, model, rows):
    client = serving("obeys", spare="answers")
    name = {"filename": "mine.jsonl"}
    assert client.post("/api/datasets", params=name, content=rows.read_bytes()).is_success
    body = {"model_name": str(model), "max_seq_length": 77}
    answer = client.post("/api/datasets/mine.jsonl/tokens", params={"count": 2}, json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["totals"] == {"masked": 0}


def test_an_upload_is_deleted_and_a_sample_is_not(client, taken, home):
    assert client.delete("/api/datasets/mine.jsonl").status_code == 204
    assert not (home.uploads / "mine.jsonl").exists()
    assert client.delete("/api/datasets/mine.jsonl").status_code == 404
    assert client.delete("/api/datasets/sample:captain").status_code == 422


@pytest.mark.parametrize("name", ["..%2F..%2Frun.json", "absent.csv", "%00", ".", "a" * 300])
@pytest.mark.parametrize("part", ["", "/preview", "/findings"])
def test_names_lead_nowhere_but_to_the_list(client, name, part):
    answer = client.get(f"/api/datasets/{name}{part}")
    assert answer.status_code in (404, 400) or answer.json() == client.get("/api/datasets").json()


def test_settings_sent_to_a_data_set_have_the_small_limit(client, taken):
    body = {"model_name": "x" * 2**21}
    assert client.post("/api/datasets/mine.jsonl/tokens", json=body).status_code == 413


def test_a_data_set_that_is_being_trained_on_is_not_deleted(client, answers, taken):
    run_id = client.post("/api/runs", json=answers | {"dataset": "mine.jsonl"}).json()["id"]
    refused = client.delete("/api/datasets/mine.jsonl")
    assert refused.status_code == 409
    assert refused.json()["holder"] == run_id
    client.post(f"/api/runs/{run_id}/stop")
