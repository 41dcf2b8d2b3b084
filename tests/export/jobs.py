"""Jobs of exporters, made by hand: a run with an adapter in a home, and its record."""

from __future__ import annotations

import json
import shutil

from modelforge.export.job import Job
from modelforge.runs.atomic_files import write_json
from modelforge.runs.exports import ExportFolder, ExportRecord, ExportRequest
from modelforge.runs.jobs import StepWriter
from tests.runs.homes import put_run


def put_trained_run(home, trained, number=0, **settings):
    """Put a run into a home whose result is the adapter of `trained`, with its tokenizer."""
    run = put_run(home, number, result=False, held=(2.5, 1.5), **settings)
    record = json.loads(run.config.read_text("utf-8"))
    record["plan"]["model_path"] = str(trained.base)
    write_json(run.config, record)
    shutil.copytree(trained.adapter, run.output)
    trained.tokenizer.save_pretrained(run.output)
    write_json(run.output / "generation_config.json", {"eos_token_id": [2, 0]})
    return run


def make_job(home, runs, trained, format, **request):
    """Return the job of an export of runs, the first with its own adapter, and its steps."""
    folder = ExportFolder(home / "exports" / "20260101-000000-0000")
    folder.staged.mkdir(parents=True)
    facts = {
        "run_folder": str(runs[0].path),
        "base_path": str(trained.base),
        "base_name": trained.base.name,
        "adapters": [
            {"run": run.id, "name": run.id, "path": str(run.output), "weight": 1.0} for run in runs
        ],
    }
    asked = ExportRequest(runs[0].id, format, **request)
    record = ExportRecord(asked, "support desk", "support-desk", 0.0, facts=facts)
    write_json(folder.record_file, record.as_dict())
    return Job.read(folder), StepWriter(folder.events)
