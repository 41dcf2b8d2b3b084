"""Settings for other systems over REST."""

from __future__ import annotations

import ast
import io
import json
import zipfile


def test_settings_become_a_file_and_a_report(client, settings):
    body = {"to": "trl", "settings": settings}
    answer = client.post("/api/export-settings", json=body)
    assert answer.status_code == 200
    exported = answer.json()
    assert exported["title"] == "TRL"
    assert "max_steps: 5" in exported["text"]
    assert exported["command"] == "trl sft --config FILE"
    results = {line["setting"]: line["result"] for line in exported["report"]}
    assert results["max_steps"] == "written"


def test_a_script_is_checked_as_a_run_is(client, settings):
    body = {"to": "script", "settings": settings}
    ast.parse(client.post("/api/export-settings", json=body).json()["text"])
    missing = {"to": "script", "settings": {**settings, "dataset": "/nowhere.jsonl"}}
    assert client.post("/api/export-settings", json=missing).status_code == 404


def test_what_cannot_be_exported_is_refused(client, settings):
    unknown = client.post("/api/export-settings", json={"to": "other", "settings": settings})
    assert unknown.status_code == 422
    wrong = client.post("/api/export-settings", json={"to": "trl", "settings": {"lora_r": 0}})
    assert "lora_r" in {problem["where"] for problem in wrong.json()["problems"]}
    no_run = {"to": "trl", "run": "20260101-000000-0000"}
    assert client.post("/api/export-settings", json=no_run).status_code == 404


def test_an_archive_has_the_file_and_its_rows(client, settings):
    body = {"to": "trl", "settings": settings, "rows": True}
    answer = client.post("/api/export-settings/archive", json=body)
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        names = sorted(archive.namelist())
        folder = names[0].partition("/")[0]
        assert answer.headers["content-disposition"].endswith(f'"{folder}.zip"')
        (rows,) = [name for name in names if name.endswith(".jsonl")]
        text = archive.read(next(name for name in names if name.endswith(".yaml"))).decode()
        # The file reads the rows that are beside it.
        assert rows.rpartition("/")[2] in text
        assert json.loads(archive.read(rows).splitlines()[0])
    wrong = {"to": "trl", "settings": {"lora_r": 0}}
    assert client.post("/api/export-settings/archive", json=wrong).status_code == 422
    missing = {"to": "trl", "run": "20260101-000000-0000"}
    assert client.post("/api/export-settings/archive", json=missing).status_code == 404
