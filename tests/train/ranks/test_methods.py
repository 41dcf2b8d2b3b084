"""Each method that several GPUs train has the losses of one."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from modelforge.runs.events import read_events
from tests.train.pretraining.conftest import book, from_nothing
from tests.train.test_resume_methods import seq2seq, span

pytestmark = [pytest.mark.torch, pytest.mark.slow]
__all__ = ["book", "from_nothing"]
PAIRS = [
    {"prompt": f"What is {n}?", "chosen": f"It is {n}.", "rejected": "Who knows?"}
    for n in range(16)
]
# Sixteen rows fill each step.
STEPS = {
    "max_steps": 5,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 4,
    "lora_dropout": 0.0,
    "learning_rate": 1e-3,
    "evaluation": {"generated_rows": 0},
}
TWO = {"device": "cpu", "gpus": 2}


def losses(run, kind: str = "step") -> list[float]:
    return [record.data["loss"] for record in read_events(run.events)[0] if record.kind == kind]


def train_on_two(runs: list[Any]) -> None:
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for run in runs:
        run.ranks.mkdir()
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=2,
        run_id="several",
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=str(runs[0].ranks)),
    )
    script = Path(__file__).parent / "several.py"
    elastic_launch(config, sys.executable)(str(script), *(str(run.path) for run in runs))


def without_dropout(model: Path, folder: Path) -> Path:
    """Copy a model that draws no random numbers: each process would draw others."""
    shutil.copytree(model, folder, dirs_exist_ok=True)
    config = json.loads((folder / "config.json").read_text())
    names = ("dropout_rate", "hidden_dropout_prob", "attention_probs_dropout_prob")
    config |= {name: 0.0 for name in names if name in config}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def prepared(bench, tmp_path, tiny_rewriter, tiny_reader, from_nothing):
    """Return the folder of a run of a method, with these settings."""
    rows = bench.rows

    def prepare(method: str, **settings: Any) -> Any:
        bench.rows = rows

        def write_rows(rows: list[dict[str, Any]]) -> Path:
            path = tmp_path / f"{method}.jsonl"
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
            return path

        if method == "pretraining":
            return from_nothing(max_steps=6, **settings)
        own: dict[str, Any] = {}
        if method in ("seq2seq", "span"):
            make = {"seq2seq": seq2seq, "span": span}[method]
            models = [
                without_dropout(model, tmp_path / model.name)
                for model in (tiny_rewriter, tiny_reader)
            ]
            own = make(bench, write_rows, *models)
        elif method in ("dpo", "orpo"):
            loss = {"trainer": {"preference_loss": "orpo"}} if method == "orpo" else {}
            bench.rows = write_rows(PAIRS)
            own = {"strategy": "dpo", **loss}
        elif method == "qlora":
            own = {"use_4bit": True, "strategy": "qlora"}
        return bench.prepare(**{**own, **STEPS, **settings})

    return prepare


@pytest.mark.parametrize(
    "methods",
    [("dpo", "orpo", "qlora"), ("seq2seq", "span", "pretraining")],
    ids=["of-decoders", "others"],
)
def test_each_method_has_the_losses_of_one_process(bench, prepared, methods):
    alone, both = [], []
    for method in methods:
        alone.append(prepared(method))
        bench.work(alone[-1])
        both.append(prepared(method, hardware=TWO))
    train_on_two(both)
    for name, one, two in zip(methods, alone, both, strict=True):
        ending = read_events(two.events)[0][-1]
        assert ending.kind == "finished", (name, ending.data)
        for kind in ("step", "eval"):
            assert losses(two, kind) == pytest.approx(losses(one, kind), abs=1e-4), (name, kind)
        assert len(losses(two)) >= 5
