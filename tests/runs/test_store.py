"""Run folders are made whole or not at all, and ids lead nowhere else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from modelforge.errors import BusyError, NotFoundError, RunError
from modelforge.paths import Home
from modelforge.runs.atomic_files import read_json
from modelforge.runs.states import RunState
from modelforge.runs.store import ID, STALE_S, NewRun, Store

ROOT = Path(__file__).parents[2]


def visible(stage):
    return sorted(path.name for path in stage.home.runs.iterdir() if path.is_dir())


def test_a_run_holds_what_was_asked_and_found(stage):
    run = stage.new_run(
        name="Persona",
        config={"lora_r": 8},
        origins={"lora_r": "form"},
        plan={"device": "cpu"},
        report={"findings": []},
        dataset={"rows": 3},
        request_id="r1",
    )
    record = read_json(run.config)
    assert record["format"] == 1
    assert record["id"] == run.id
    assert record["name"] == "Persona"
    assert record["config"] == {"lora_r": 8}
    assert record["origins"] == {"lora_r": "form"}
    assert record["plan"] == {"device": "cpu"}
    assert record["dataset"] == {"rows": 3}
    assert record["request_id"] == "r1"
    assert abs(record["created"] - time.time()) < 60
    assert read_json(run.preflight) == {"findings": []}
    assert read_json(run.environment)["packages"]["psutil"]
    assert ID.fullmatch(run.id)
    assert visible(stage) == [run.id]


def test_the_run_of_a_request_is_found(stage):
    run = stage.new_run(request_id="r1")
    other = stage.new_run(request_id="r2")
    assert other != run
    assert Store(stage.home).find_request("r1") == run
    assert Store(stage.home).find_request("r2") == other
    assert Store(stage.home).find_request("r3") is None


def test_many_threads_create_different_runs(stage):
    created = []
    threads = [
        threading.Thread(target=lambda: created.append(stage.new_run().id)) for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(created)) == 20
    assert visible(stage) == sorted(created)


def test_runs_are_listed_newest_first(stage):
    runs = [stage.new_run() for _ in range(3)]
    for age, run in enumerate(runs):
        record = read_json(run.config)
        run.config.write_text(json.dumps(record | {"created": 1000.0 + age}))
    assert stage.store.list() == runs[::-1]


def test_what_is_no_run_is_not_listed(stage):
    run = stage.new_run()
    (stage.home.runs / "notes").mkdir()
    (stage.home.runs / "file.txt").write_text("hello")
    (stage.home.runs / "broken-run").mkdir()
    (stage.home.runs / "broken-run" / "config.json").write_text("{")
    assert stage.store.list() == [run]


def test_there_are_no_runs_in_a_new_home(stage):
    assert stage.store.list() == []


def test_a_thousand_runs_are_listed_at_once(stage):
    for number in range(1000):
        folder = stage.home.runs / f"20260101-000000-{number:04x}"
        folder.mkdir(parents=True)
        record = {"created": float(number), "config": {"dataset": "x" * 500}}
        (folder / "config.json").write_text(json.dumps(record))
    store = Store(stage.home)
    store.list()
    begun = time.perf_counter()
    runs = store.list()
    assert time.perf_counter() - begun < 0.5
    assert len(runs) == 1000
    assert runs[0].id.endswith("03e7")


@pytest.mark.parametrize(
    "run_id",
    [
        "../x",
        "..",
        ".",
        "",
        "a/b",
        "a\\b",
        "/etc",
        "..%2fx",
        ".start.lock",
        "C:x",
        "x\n",
        "x\0y",
        "a" * 300,
        "nul..",
        "20260101-000000-ab12",
    ],
)
def test_an_id_that_is_no_run_is_not_found(stage, run_id):
    (stage.home.root / "x").mkdir(parents=True)
    (stage.home.root / "x" / "config.json").write_text("{}")
    stage.new_run()
    assert not stage.store.exists(run_id)
    for act in (stage.store.get, stage.store.delete):
        with pytest.raises(NotFoundError) as caught:
            act(run_id)
        assert len(str(caught.value)) < 300
    assert (stage.home.root / "x").exists()


@pytest.mark.skipif(os.name == "nt", reason="links need a right of their own on Windows")
def test_a_link_out_of_the_home_is_no_run(stage, tmp_path):
    stage.new_run()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "config.json").write_text("{}")
    (stage.home.runs / "linked").symlink_to(outside, target_is_directory=True)
    with pytest.raises(NotFoundError):
        stage.store.delete("linked")
    assert (outside / "config.json").exists()


def test_a_deleted_run_leaves_nothing(stage, run):
    run.output.mkdir()
    (run.output / "adapter_model.safetensors").write_bytes(b"weights")
    stage.store.delete(run.id)
    assert visible(stage) == []
    assert stage.store.list() == []


def test_a_run_that_goes_on_is_not_deleted(stage, run):
    supervisor = stage.playing("obeys")
    supervisor.start(run)
    with pytest.raises(BusyError) as caught:
        stage.store.delete(run.id)
    assert caught.value.holder == run.id
    stage.until_state(supervisor, run, RunState.RUNNING)
    supervisor.stop(run)
    stage.until_state(supervisor, run, RunState.STOPPED)
    stage.store.delete(run.id)
    assert visible(stage) == []


def test_what_a_dead_server_left_half_made_is_swept(stage):
    for name in (".new-old", ".gone-old", ".new-fresh"):
        (stage.home.runs / name).mkdir(parents=True)
        (stage.home.runs / name / "config.json").write_text("{")
        if name.endswith("old"):
            long_ago = time.time() - 2 * STALE_S
            os.utime(stage.home.runs / name, (long_ago, long_ago))
    run = stage.new_run()
    assert visible(stage) == sorted([".new-fresh", run.id])
    assert stage.store.list() == [run]


def test_a_home_that_is_a_file_is_refused_in_words(tmp_path):
    (tmp_path / "runs").write_text("not a folder")
    with pytest.raises(RunError) as caught:
        Store(Home(tmp_path)).create(NewRun("x"))
    assert caught.value.problems[0].remedy


REFUSED = """
import os, resource, sys
from pathlib import Path
from modelforge.errors import RunError
from modelforge.paths import Home
from modelforge.runs.store import NewRun, Store
store = Store(Home(Path(sys.argv[1])))
store.create(NewRun("x"))
if sys.argv[2] == "full":
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
else:
    os.chmod(store._runs, 0o555)
    if os.geteuid() == 0:  # whom no right stops
        os.seteuid(65534)
try:
    store.create(NewRun("x", config={"dataset": "x" * 5000}))
except RunError as error:
    print(error.problems[0].what, error.problems[0].remedy)
"""


@pytest.mark.skipif(os.name == "nt", reason="limits and rights of POSIX")
@pytest.mark.parametrize(("how", "words"), [("full", "full"), ("forbidden", "not allowed")])
def test_a_disk_that_takes_no_more_leaves_nothing_half_created(stage, how, words):
    command = [sys.executable, "-c", REFUSED, str(stage.home.root), how]
    done = subprocess.run(
        command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=30
    )
    stage.home.runs.chmod(0o755)
    assert words in done.stdout, done.stderr
    assert len(visible(stage)) == 1


def test_a_run_is_announced_before_anybody_can_see_it(stage):
    heard = []
    run = stage.new_run(announce=lambda run_id: heard.append((run_id, stage.store.exists(run_id))))
    assert heard == [(run.id, False)]
