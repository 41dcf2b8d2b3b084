"""Runs with real adapters on small models, and their exports in this process."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

from modelforge.data.checks.summary import summarize
from modelforge.forge import Forge
from modelforge.paths import Home
from modelforge.runs.exports import ExportFolder, ExportRecord, ExportRequest
from modelforge.runs.layout import RunFolder
from modelforge.services.exports.service import stem_of
from tests.services.exports.conftest import put_trained

TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
COLOURS = ("red", "blue", "green", "amber", "violet", "teal", "pink", "black")


def put_rows(folder: Path) -> dict[str, Any]:
    """Write a data file and return its entry in the record of a run."""
    path = folder / "rows.jsonl"
    rows = [
        {"input": f"What does {colour} number {n} mean?", "output": f"{colour} means {n}."}
        for n, colour in enumerate(COLOURS * 5)
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    summary = summarize(path)
    mapping = summary.mapping.as_dict()
    return {"path": str(path), "sha256": summary.sha256, "rows": summary.rows, "mapping": mapping}


def put_tuned(
    home: Path,
    base: Path,
    number: int = 1,
    *,
    seed: int = 0,
    auto: str = "AutoModelForCausalLM",
    lora: dict[str, Any] | None = None,
    dataset: dict[str, Any] | None = None,
    **more: Any,
) -> RunFolder:
    """Put a finished run with a LoRA adapter of random weights into a home."""
    import torch
    import transformers
    from peft import LoraConfig, get_peft_model

    run = put_trained(home, base, number, **more)
    record = json.loads(run.config.read_text("utf-8"))
    record["dataset"] = dataset or record["dataset"]
    run.config.write_text(json.dumps(record), "utf-8")
    if more.get("whole"):
        return run
    shutil.rmtree(run.output)
    torch.manual_seed(seed)
    model = getattr(transformers, auto).from_pretrained(base, dtype="auto")
    settings = {"r": 4, "target_modules": "all-linear", "task_type": "CAUSAL_LM"} | (lora or {})
    tuned = get_peft_model(model, LoraConfig(**settings))
    for name, weight in tuned.named_parameters():
        if "lora_" in name:
            weight.data.normal_(std=0.05)
    tuned.save_pretrained(run.output, save_embedding_layers=False)
    for name in TOKENIZER:
        if (base / name).is_file():
            shutil.copy(base / name, run.output / name)
    if getattr(model, "generation_config", None) is not None:
        model.generation_config.save_pretrained(run.output)
    return run


def prepared(forge: Forge, request: ExportRequest) -> ExportFolder:
    """Return the folder of an export as the service leaves it for the exporter."""
    sources = forge.exports._finder.find(request)
    name = sources.name
    stem = stem_of(name, request.run)
    record = ExportRecord(request, name, stem, time.time(), facts=sources.facts())
    return forge.exports._create(record)


def exported(home: Path, request: ExportRequest) -> ExportFolder:
    """Do an export in this process and return its folder."""
    from modelforge.export.run import run_export

    folder = prepared(Forge(Home(home)), request)
    run_export(folder)
    return folder
