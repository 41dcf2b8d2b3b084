"""`POST /api/import`: files of other systems over REST."""

from __future__ import annotations

import time

import pytest

from modelforge.config.recipe import MAX_BYTES

SUROGATE = "model: acme/pine\nsample_packing: true\nlora_rank: 8\n"


def problems(response):
    assert response.status_code == 422, response.text
    return response.json()["problems"]


def test_a_file_becomes_a_recipe_and_a_report(client):
    found = client.post("/api/import", json={"text": SUROGATE, "name": "theirs.yaml"}).json()
    assert found["system"] == "surogate"
    assert found["title"] == "Surogate"
    assert found["recipe"]["lora_r"] == 8
    assert [line["line"] for line in found["report"] if not line["is_default"]] == [1, 2, 3]
    assert client.get("/api/runs").json() == []


def test_a_command_line_and_a_named_system(client):
    body = {"text": "--learning_rate 1e-4 --max_steps 3", "system": "trl"}
    assert client.post("/api/import", json=body).json()["recipe"]["max_steps"] == 3


def test_the_systems_are_listed(client):
    systems = client.get("/api/import/systems").json()
    assert len(systems) == 9
    assert {"name": "llama-factory", "title": "LLaMA-Factory"} in systems
    for system in systems:
        body = {"text": "learning_rate: 0.5", "system": system["name"]}
        assert client.post("/api/import", json=body).json()["system"] == system["name"]


def test_files_beside_the_file_are_not_read(client, tmp_path):
    (tmp_path / "dataset_info.json").write_text('{"me": {"file_name": "x"}}', "utf-8")
    text = f"model_name_or_path: a\nstage: sft\ndataset: me\ndataset_dir: {tmp_path}\ntemplate: b\n"
    report = client.post("/api/import", json={"text": text}).json()["report"]
    line = next(line for line in report if line["name"] == "dataset[0]")
    assert line["result"] == "refused"
    assert "not available" in line["why"]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (f"{SUROGATE}lora_rank: 9\n", "line 4"),
        (f"{SUROGATE}qlora_bnb: true\nqlora_fp4: true\n", "qlora_"),
        ("a: " + "[" * 5000, "line 1"),
        ("a: &x [1]\nb: *x\n", "line 2"),
        (
            "a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: &d [*c,*c]\n",
            "line 2",
        ),
        ("a: !!python/object/apply:os.system [ls]\n", "line 1"),
        ("a: \x00\n", "the file"),
        ("a: \ud800\n".encode("utf-8", "surrogatepass").decode("utf-8", "replace"), "the file"),
        ("", "the file"),
        ("trl sft --a 'b", "the file"),
    ],
    ids=[
        *("duplicate", "contradiction", "nesting", "alias", "many-aliases", "tag", "null"),
        *("text", "empty", "quote"),
    ],
)
def test_what_cannot_be_read_is_named(client, text, where):
    found = problems(client.post("/api/import", json={"text": text}))
    assert any(where in problem["where"] for problem in found)
    assert all(problem["remedy"] for problem in found)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"text": 5},
        {"text": SUROGATE, "system": "keras"},
        {"text": SUROGATE, "folder": "/etc"},
        {"text": SUROGATE, "name": "x" * 500},
    ],
)
def test_a_wrong_body_is_refused(client, body):
    assert client.post("/api/import", json=body).status_code == 422


def test_a_long_text_is_refused(client):
    body = {"text": "a" * (MAX_BYTES + 1)}
    assert client.post("/api/import", json=body).status_code in (413, 422)


@pytest.mark.parametrize(
    "text",
    [
        "python -m scripts.base_train " + "--a=1 " * 100_000,
        "".join(f"lora_rang{n}: 1\n" for n in range(5_000)),
        "{" * 20_000,
    ],
    ids=["command", "options", "braces"],
)
def test_a_large_text_is_answered_soon(client, text):
    start = time.monotonic()
    assert client.post("/api/import", json={"text": text, "system": "surogate"}).status_code == 422
    assert time.monotonic() - start < 10


def test_a_lone_surrogate_is_refused(client):
    response = client.post(
        "/api/import",
        content=rb'{"text": "model: \ud800\nlora: true"}',
        headers={"Content-Type": "application/json"},
    )
    assert response.status_code == 422
