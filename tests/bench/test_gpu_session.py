"""The GPU session, with the commands of its steps replaced."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from bench.gpu_session import ROOT, STEPS, Step, run_session
from bench.gpu_steps import gpu_tests
from bench.gpu_steps.record import Record, read_record

MOST_FILES, MOST_SECONDS = 8, 9 * 60
GOOD = """
import sys
from pathlib import Path
from bench.gpu_steps.record import Record
Record(Path(sys.argv[1])).keep(value=1.5, rows=[{"a": 1, "b": "x|y"}])
"""
CRASH = "import os; print('before the crash', flush=True); os.abort()"
# Starts a process in a session of its own, as the app starts a worker, and hangs.
HANG = """
import subprocess, sys, time
from pathlib import Path
from bench.gpu_steps.record import Record
command = [sys.executable, "-c", "import time; time.sleep(600)"]
child = subprocess.Popen(command, start_new_session=True)
Record(Path(sys.argv[1])).keep(child=child.pid)
time.sleep(600)
"""


def _step(name: str, code: str, limit_s: float = 60.0) -> Step:
    return Step(name, name.capitalize(), limit_s, (sys.executable, "-c", code))


def _states(outcomes) -> dict[str, str]:
    return {outcome.name: outcome.state for outcome in outcomes}


def test_a_step_that_hangs_or_crashes_is_recorded_and_the_next_one_runs(tmp_path):
    steps = [_step("hang", HANG, 10.0), _step("crash", CRASH), _step("good", GOOD)]
    outcomes = run_session(steps, tmp_path, 300.0, play=True)
    assert _states(outcomes) == {"hang": "timed out", "crash": "failed", "good": "done"}
    hang, crash, good = outcomes
    assert hang.seconds >= 10.0
    child = hang.results["child"]
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE
    assert crash.code
    assert "before the crash" in crash.output
    assert good.results["value"] == 1.5
    session = json.loads((tmp_path / "session.json").read_text(encoding="utf-8"))
    assert [step["state"] for step in session["steps"]] == ["timed out", "failed", "done"]
    page = (tmp_path / "session.md").read_text(encoding="utf-8")
    assert "| Hang | timed out |" in page
    assert "| 1 | x\\|y |" in page
    assert len(list(tmp_path.iterdir())) <= MOST_FILES


def test_the_session_ends_in_time_and_names_the_steps_it_skips(tmp_path):
    began = time.monotonic()
    steps = [_step("long", "import time; time.sleep(600)"), _step("late", GOOD)]
    outcomes = run_session(steps, tmp_path, 6.0, play=True)
    assert time.monotonic() - began < 300.0
    assert _states(outcomes) == {"long": "timed out", "late": "skipped"}
    assert "The time of the session has run out." in (tmp_path / "session.md").read_text("utf-8")


@pytest.mark.skipif(os.name != "posix", reason="Windows has no signals between processes")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_children_and_keeps_the_results_so_far(tmp_path, number):
    code = f"""
import sys
from bench import gpu_session
from bench.gpu_session import Step
steps = [("good", {GOOD!r}), ("hang", {HANG!r}), ("late", {GOOD!r})]
gpu_session.STEPS = [Step(name, name, 300.0, (sys.executable, "-c", code)) for name, code in steps]
sys.exit(gpu_session.main(["--out", {str(tmp_path)!r}, "--play"]))
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment)
    deadline = time.monotonic() + 120.0
    try:
        while not (records := list(tmp_path.glob("*/hang.json"))) or not read_record(records[0]):
            assert process.poll() is None
            assert time.monotonic() < deadline, "the second step has not begun"
            time.sleep(0.1)
        process.send_signal(number)
        assert process.wait(60) == 1
    finally:
        process.kill()
    session = json.loads((tmp_path / "session.json").read_text(encoding="utf-8"))
    assert [step["state"] for step in session["steps"]] == ["done", "stopped", "skipped"]
    child = session["steps"][1]["results"]["child"]
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE
    assert "The session was stopped." in (tmp_path / "session.md").read_text(encoding="utf-8")


def test_a_command_that_does_not_exist_is_a_failed_step(tmp_path):
    missing = Step("missing", "Missing", 10.0, (str(tmp_path / "missing"),))
    assert _states(run_session([missing], tmp_path, 60.0, play=True)) == {"missing": "failed"}


def test_the_steps_are_programs_that_fit_into_nine_minutes():
    assert len(STEPS) == 10
    assert sum(step.limit_s for step in STEPS) <= MOST_SECONDS
    for step in STEPS:
        module = step.command[2]
        assert (ROOT / (module.replace(".", "/") + ".py")).is_file()


def test_a_step_finds_no_network_and_a_home_of_its_own(tmp_path):
    code = """
import os, sys
from pathlib import Path
from bench.gpu_steps.record import Record
names = ("HF_HUB_OFFLINE", "CUDA_VISIBLE_DEVICES", "MODELFORGE_HOME")
Record(Path(sys.argv[1])).keep(**{name: os.environ.get(name) for name in names})
"""
    [outcome] = run_session([_step("look", code)], tmp_path, 60.0, play=True)
    assert outcome.results["HF_HUB_OFFLINE"] == "1"
    assert outcome.results["CUDA_VISIBLE_DEVICES"] == ""
    assert not Path(outcome.results["MODELFORGE_HOME"]).exists()  # removed with the session
    assert outcome.results["MODELFORGE_HOME"] != os.environ["MODELFORGE_HOME"]


def test_a_record_keeps_the_error_of_one_figure_and_the_others(tmp_path, capsys):
    record = Record(tmp_path / "step.json")
    assert record.measure("bad", lambda: 1 / 0) is None
    assert record.measure("good", lambda: 2) == 2
    assert read_record(record.path) == {"bad": "ZeroDivisionError: division by zero", "good": 2}


PASSES, FAILS = "def test_{0}():\n    pass\n", "def test_{0}():\n    raise ValueError('broken')\n"
DIES = "import os\ndef test_{0}():\n    os._exit(3)\n"


@pytest.mark.parametrize("dies", [False, True])
def test_tests_run_in_processes_and_outcomes_are_kept(tmp_path, dies):
    """The real runner of pytest processes, on files of its own; it needs no xdist."""
    texts = [PASSES.format("a"), FAILS.format("b"), (DIES if dies else PASSES).format("c")]
    names = []
    for number, text in enumerate(texts):
        file = tmp_path / f"test_{number}.py"
        file.write_text(text, encoding="utf-8")
        names.append(f"{file}::test_{'abc'[number]}")
    code = f"""
import sys
from pathlib import Path
from bench.gpu_steps import gpu_tests
from bench.gpu_steps.record import Record
gpu_tests.PYTEST = (sys.executable, *"-m pytest -q -p no:cacheprovider -p no:xdist".split())
sys.exit(not gpu_tests.run({names!r}, Record(Path(sys.argv[1]))))
"""
    [outcome] = run_session([_step("tests", code, 200.0)], tmp_path / "out", 300.0, play=True)
    assert outcome.state == "failed"
    counts = outcome.results["counts"]
    assert (counts["passed"], counts["failed"]) == (1 if dies else 2, 1)
    assert counts["not run"] == int(dies)
    assert "broken" in outcome.results["failed"][0]["reason"]


def test_every_gpu_test_is_found_and_a_broken_file_is_named(tmp_path):
    record = Record(tmp_path / "step.json")
    files = [str(file) for file in sorted((ROOT / "tests" / "gpu").glob("test_*.py"))]
    ids = gpu_tests.collect(files, record)
    assert "collection" not in record.values
    assert {name.split("::")[0].rpartition("/")[2] for name in ids} >= {
        *("test_card.py", "test_formats.py", "test_matrix.py", "test_unsloth.py")
    }
    broken = tmp_path / "test_broken.py"
    broken.write_text("import nothing_of_this_name\n", encoding="utf-8")
    gpu_tests.collect([str(broken)], record)
    assert "nothing_of_this_name" in record.values["collection"]


def test_the_added_packages_are_pinned_as_they_were_tested():
    def pins(name: str) -> dict[str, str]:
        lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
        return dict(line.split("==") for line in lines if "==" in line and line[0] != "#")

    added, tested = pins("requirements-gpu.txt"), pins("constraints.txt")
    assert {"trl", "datasets", "bitsandbytes", "pydantic"} <= set(added)
    assert added.items() <= tested.items()
    assert "torch" not in added


def test_the_session_needs_no_package_before_its_first_step():
    code = (
        "import bench.gpu_session, sys; print({'torch', 'pydantic', 'psutil'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "set()"
