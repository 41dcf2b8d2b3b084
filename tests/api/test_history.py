"""Run list, notes, curves, comparison, exports and storage over REST."""

from __future__ import annotations

import pytest
import yaml

from tests.runs.homes import put_run


@pytest.fixture
def runs(home):
    return [put_run(home.root, number, held=[1.0]).id for number in range(3)]


def test_the_list_is_searched_filtered_and_paged(client, runs, home):
    put_run(home.root, 9, name="Broken", ending="failed")
    response = client.get("/api/runs", params={"limit": 2})
    assert [row["id"] for row in response.json()] == runs[:2]
    assert response.headers["x-total-count"] == "4"
    assert response.json()[0]["sizes"]["output"] > 0
    rest = client.get("/api/runs", params={"limit": 2, "before": runs[1]}).json()
    assert [row["name"] for row in rest] == ["run 2", "Broken"]
    assert len(client.get("/api/runs", params={"offset": 3}).json()) == 1
    failed = client.get("/api/runs", params={"state": ["failed", "lost"]}).json()
    assert [row["name"] for row in failed] == ["Broken"]
    assert failed[0]["ending"]["what"] == "Memory ran out."
    assert client.get("/api/runs", params={"query": "broken starter"}).json() == failed
    assert client.get("/api/runs", params={"before": "unknown"}).status_code == 404


@pytest.mark.parametrize(
    "query", [{"limit": -1}, {"state": "x"}, {"sort": "x"}, {"offset": "x"}, {"query": "x" * 501}]
)
def test_an_invalid_query_is_rejected(client, query):
    response = client.get("/api/runs", params=query)
    assert response.status_code == 422
    assert response.json()["problems"][0]["where"].startswith(next(iter(query)))


def test_a_run_is_named_tagged_and_noted(client, runs):
    where = f"/api/runs/{runs[0]}"
    body = client.put(f"{where}/notes", json={"name": "Best", "tags": ["Keep"]}).json()
    assert body == {"name": "Best", "tags": ["keep"], "note": ""}
    client.put(f"{where}/notes", json={"note": "later"})
    run = client.get(where).json()
    assert (run["name"], run["tags"], run["note"]) == ("Best", ["keep"], "later")
    assert [row["id"] for row in client.get("/api/runs", params={"tag": "keep"}).json()] == runs[:1]
    for bad in ({"name": "x" * 200}, {"tags": "x"}, {"colour": "red"}):
        assert client.put(f"{where}/notes", json=bad).status_code == 422
    assert client.put("/api/runs/unknown/notes", json={}).status_code == 404


def test_curves_are_downsampled(client, home):
    run = put_run(home.root, 1, losses=[1 / step for step in range(1, 501)])
    body = client.get(f"/api/runs/{run.id}/curves", params={"points": 20}).json()
    points = body["stages"][0]["trained"]["loss"]
    assert len(points) <= 20
    assert points[0][body["columns"].index("value")] == 1.0
    assert body["stages"][0]["points"] == 500
    assert client.get(f"/api/runs/{run.id}/curves", params={"points": 1}).status_code == 422
    assert client.get("/api/runs/unknown/curves").status_code == 404


def test_runs_are_compared_and_exported(client, runs):
    query = {"runs": ",".join(runs[:2])}
    body = client.get("/api/runs/compare", params=query).json()
    assert [run["id"] for run in body["runs"]] == runs[:2]
    assert body["settings"] == []
    assert len(body["curves"]) == 2
    assert client.get("/api/runs/compare", params={"runs": runs[:2]}).json() == body
    table = client.get("/api/runs/compare.csv", params=query)
    assert table.headers["content-type"].startswith("text/csv")
    assert len(table.text.splitlines()) == 7
    page = client.get("/api/runs/compare.html", params=query)
    assert page.headers["content-disposition"].startswith("attachment")
    assert page.text.startswith("<!doctype html>")
    for bad, status in ((runs[0], 422), (f"{runs[0]},nobody", 404), ("", 422)):
        assert client.get("/api/runs/compare", params={"runs": bad}).status_code == status
    assert client.get("/api/runs/compare").status_code == 422


def test_a_run_is_exported_as_csv_and_recipe(client, runs):
    table = client.get(f"/api/runs/{runs[0]}/numbers.csv")
    assert len(table.text.splitlines()) == 4
    recipe = client.get(f"/api/runs/{runs[0]}/recipe.yaml")
    assert yaml.safe_load(recipe.text) == client.get(f"/api/runs/{runs[0]}").json()["config"]


def test_storage_is_reported_and_freed(client, home):
    done = put_run(home.root, 1, checkpoints=[5])
    torn = put_run(home.root, 2, checkpoints=[5], ending="failed")
    body = client.get("/api/storage").json()
    assert body["kinds"][0]["kind"] == "runs"
    assert {one["kind"]: one["bytes"] for one in body["freeable"]}["checkpoints"] == 5000
    response = client.post("/api/storage/free", json={"kind": "checkpoints", "run": torn.id})
    assert response.status_code == 422
    assert response.json()["problems"][0]["remedy"]
    freed = client.post("/api/storage/free", json={"kind": "checkpoints"})
    assert freed.json() == {"freed": 5000}
    assert not done.checkpoints.exists()
    assert torn.checkpoints.exists()
    assert client.post("/api/storage/free", json={"kind": "models"}).status_code == 422


def test_runs_are_deleted_and_restored(client, home):
    runs = [put_run(home.root, number).id for number in range(2)]
    gone = client.post("/api/deleted-runs", json={"runs": runs}).json()
    assert {run["id"] for run in gone} == set(runs)
    assert client.get("/api/runs").json() == []
    assert client.get("/api/deleted-runs").json() == gone
    restored = client.post("/api/deleted-runs/restore", json={"runs": runs[:1]})
    assert restored.status_code == 204
    assert [run["id"] for run in client.get("/api/runs").json()] == runs[:1]
    assert client.post("/api/storage/free", json={"kind": "deleted"}).json()["freed"] > 0
    response = client.post("/api/deleted-runs/restore", json={"runs": runs[1:]})
    assert response.status_code == 404
    assert client.post("/api/deleted-runs", json={"runs": []}).status_code == 422


def test_stored_files_are_listed_and_deleted(client, home):
    home.uploads.mkdir(parents=True, exist_ok=True)
    (home.uploads / "mine.jsonl").write_text('{"input": "q", "output": "a"}\n')
    body = client.get("/api/storage/stored").json()
    assert [(item["kind"], item["name"], item["uses"]) for item in body] == [
        ("data", "mine.jsonl", 0)
    ]
    asked = {"kind": "data", "names": ["mine.jsonl", "absent.jsonl"]}
    assert client.post("/api/storage/delete", json=asked).status_code == 404
    freed = client.post("/api/storage/delete", json={"kind": "data", "names": ["mine.jsonl"]})
    assert freed.json() == {"freed": body[0]["bytes"]}
    assert client.get("/api/storage/stored").json() == []


def test_a_model_that_is_here_is_not_downloaded(client):
    assert client.get("/api/models/download").json() is None
    response = client.post("/api/models/download", json={"model": "../../etc"})
    assert response.status_code in (404, 422)
    assert client.delete("/api/models/download").status_code == 204
