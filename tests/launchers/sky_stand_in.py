"""A stand-in for the program `sky` 0.14: one computer as every cluster; jobs really run.

Its state is in the folder of the environment variable SKY. With a file `refuse` it prints its text
and starts no cluster. A job waits while the file `full` exists.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(os.environ["SKY"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--version", action="version", version="skypilot, version 0.14.1")
    commands = parser.add_subparsers(dest="command", required=True)
    add = commands.add_parser("launch")
    for flag in ("--yes", "--fast", "--detach-run"):
        add.add_argument(flag, action="store_true")
    add.add_argument("--cluster", required=True)
    add.add_argument("--idle-minutes-to-autostop", type=int)
    add.add_argument("task", type=Path)
    add = commands.add_parser("exec")
    add.add_argument("--detach-run", action="store_true", required=True)
    add.add_argument("--name")
    add.add_argument("cluster")
    add.add_argument("task", type=Path)
    add = commands.add_parser("cancel")
    add.add_argument("--yes", action="store_true", required=True)
    add.add_argument("cluster")
    add.add_argument("jobs", nargs="+")
    for name in ("status", "queue", "cost-report"):
        add = commands.add_parser(name)
        add.add_argument("--output", choices=["json"], required=True)
        add.add_argument("--refresh", action="store_true")
        add.add_argument("clusters", nargs="*")
    options = parser.parse_args()
    globals()[options.command.replace("-", "_") + "_"](options)


def load(name: str, default: Any) -> Any:
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else default


def save(name: str, value: Any) -> None:
    draft = FOLDER / f".{name}-{os.getpid()}"
    draft.write_text(json.dumps(value))
    draft.replace(FOLDER / f"{name}.json")


def launch_(options: argparse.Namespace) -> None:
    if (FOLDER / "refuse").exists():
        print((FOLDER / "refuse").read_text(), file=sys.stderr)
        raise SystemExit(1)
    task = yaml.safe_load(options.task.read_text())
    idle = options.idle_minutes_to_autostop
    save("clusters", {options.cluster: {"status": "UP", "task": task, "autostop": idle}})
    print("Cluster launched.")


def exec_(options: argparse.Namespace) -> None:
    task = yaml.safe_load(options.task.read_text())
    jobs = load("jobs", [])
    wait = (
        f"while [ -e {FOLDER}/full ]; do sleep 0.05; done; touch {FOLDER}/began-{len(jobs) + 1}; "
    )
    code = f"(set -e; {task['run']}); echo $? > {FOLDER}/code-{len(jobs) + 1}"
    process = subprocess.Popen(
        ["bash", "-c", wait + code], start_new_session=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    save("jobs", [*jobs, {"job_id": len(jobs) + 1, "job_name": options.name, "pid": process.pid}])
    print("Job submitted.")


def status_of(job: dict[str, Any]) -> str:
    code = FOLDER / f"code-{job['job_id']}"
    if job.get("cancelled"):
        return "CANCELLED"
    if code.exists() and code.read_text().strip():
        return "FAILED" if code.read_text().strip() != "0" else "SUCCEEDED"
    try:
        os.kill(job["pid"], 0)
    except OSError:
        return "FAILED_DRIVER"
    return "RUNNING" if (FOLDER / f"began-{job['job_id']}").exists() else "PENDING"


def queue_(options: argparse.Namespace) -> None:
    (cluster,) = options.clusters
    print(f"Fetching the queue of {cluster}")
    if load("clusters", {}).get(cluster, {}).get("status") != "UP":
        print(f"Failed to get the job queue for cluster {cluster!r}.")
        print(json.dumps({}))
        return
    jobs = [{**job, "status": status_of(job)} for job in reversed(load("jobs", []))]
    print(json.dumps({cluster: jobs}, indent=2))


def status_(options: argparse.Namespace) -> None:
    found = load("clusters", {})
    known = [{"name": name, "status": each["status"]} for name, each in found.items()]
    print(json.dumps([each for each in known if each["name"] in options.clusters], indent=2))


def cancel_(options: argparse.Namespace) -> None:
    jobs = load("jobs", [])
    for job in jobs:
        if str(job["job_id"]) in options.jobs:
            job["cancelled"] = True
            os.killpg(job["pid"], signal.SIGTERM)
    save("jobs", jobs)
    time.sleep(0.1)


def cost_report_(_options: argparse.Namespace) -> None:
    records = [{"name": name, "total_cost": 1.234} for name in load("clusters", {})]
    print(json.dumps(records, indent=2))


if __name__ == "__main__":
    main()
