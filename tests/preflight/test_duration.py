"""Duration of a training from nothing: CORE and the texts that it continues."""

from __future__ import annotations

import csv
from dataclasses import replace
from statistics import mean

import pytest

from modelforge.config.sampling import BEGINNINGS
from modelforge.data.core_sizes import CoreTaskSize, core_task_sizes
from modelforge.errors import DataError
from modelforge.preflight.duration import core_seconds, estimate_seconds, sample_seconds
from modelforge.preflight.speed import estimate_step
from modelforge.preflight.trial_run import TrialRunResult
from tests.conftest import ROOT
from tests.modeling.pretraining.test_core import bundle
from tests.preflight.contexts import ROWS, make_context, report_of

NOTHING = {
    "pretraining.enabled": True,
    "model_name": "",
    "adapter.enabled": False,
    "evaluation.core_bundle": "core",
    "max_steps": 100,
}
TASK = CoreTaskSize(rows=200, sequences=4, shots=2, characters=300.0)


@pytest.fixture
def context():
    """A run from nothing with one task of CORE, which is scored at its end."""
    made = make_context(summary=replace(ROWS, rows=5_000)).with_settings(NOTHING)
    return replace(made, core=(TASK,))


def test_core_takes_time_by_its_rows_and_as_often_as_it_is_scored(context):
    once = core_seconds(context)
    assert once > 0
    assert core_seconds(replace(context, core=())) == 0
    twice = replace(context, core=(TASK, TASK))
    assert core_seconds(twice) == pytest.approx(2 * once)
    often = context.with_settings({"evaluation.core_every": 30})
    assert core_seconds(often) == pytest.approx(4 * once)
    deeper = context.with_settings({"pretraining.depth": 12})
    assert core_seconds(deeper) > 2 * once


def test_a_sequence_is_at_most_as_long_as_the_context(context):
    long = replace(context, core=(replace(TASK, shots=500),))
    longer = replace(context, core=(replace(TASK, shots=5_000),))
    assert core_seconds(long) == core_seconds(longer)


def test_the_time_of_a_run_has_core_and_samples_in_it(context):
    whole = estimate_seconds(context)
    without = estimate_seconds(replace(context, core=()))
    assert whole - without == pytest.approx(core_seconds(context))
    silent = context.with_settings({"evaluation.samples": 0})
    assert whole - estimate_seconds(silent) == pytest.approx(sample_seconds(context))


def test_all_beginnings_are_counted(context):
    own = "\n".join(["Once upon a time"] * len(BEGINNINGS))
    same = context.with_settings({"evaluation.sample_prompts": own})
    assert sample_seconds(context) == pytest.approx(sample_seconds(same))
    one = context.with_settings({"evaluation.sample_prompts": "Once upon a time"})
    assert sample_seconds(one) < sample_seconds(context)


def test_a_trial_run_does_not_measure_core_so_its_time_is_added(context):
    trial = TrialRunResult("t", at=1.0, peak_gib=1.0, seconds_per_update=2.0)
    seconds = report_of(replace(context, trial_run=trial)).seconds
    without = report_of(replace(context, trial_run=trial, core=())).seconds
    slower = 2.0 / report_of(context).step_seconds
    assert without >= 200
    assert seconds - without == pytest.approx(slower * core_seconds(context))


def test_the_text_of_a_folder_is_measured(tmp_path):
    bundle(tmp_path)
    sizes = core_task_sizes(tmp_path, 500)
    assert all(size.rows >= 1 and size.characters > 0 for size in sizes)
    assert {size.sequences >= 2 for size in sizes} == {True, False}, "one has no options"
    assert [size.rows for size in core_task_sizes(tmp_path, 1)] == [1] * len(sizes)


def test_a_damaged_file_has_no_size_and_a_missing_one_is_an_error(tmp_path):
    bundle(tmp_path)
    count = len(core_task_sizes(tmp_path, 500))
    file = next((tmp_path / "eval_data").rglob("*.jsonl"))
    file.write_text("{", "utf-8")
    assert len(core_task_sizes(tmp_path, 500)) < count
    file.unlink()
    with pytest.raises(DataError):
        core_task_sizes(tmp_path, 500)


# The shape of bench/pretraining.py.
MEASURED = {
    "pretraining.arch": "nanochat",
    "pretraining.depth": 2,
    "pretraining.aspect_ratio": 128,
    "pretraining.head_dim": 64,
    "pretraining.vocab_size": 2048,
    "pretraining.total_batch_tokens": 16 * 256,
    "per_device_train_batch_size": 16,
    "max_seq_length": 256,
    "gradient_checkpointing": False,
    "optim": "normuon",
    "evaluation.core_bundle": None,
    "evaluation.samples": 0,
}


def test_two_cores_are_as_fast_as_they_were_measured(context):
    with (ROOT / "bench/results/pretraining-speed.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if not row["spoiled"]]
    assert rows
    measured = mean(float(row["app_tokens_per_s"]) for row in rows)
    step = estimate_step(context.with_settings(MEASURED))
    assert step.tokens_per_s == pytest.approx(measured, rel=0.15)


def test_a_run_on_two_cores_takes_as_long_as_it_was_measured(context):
    with (ROOT / "bench/results/pretraining.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] == "evaluation"]
    steps, seconds = int(rows[-1]["step"]), float(rows[-1]["seconds"])
    settings = {**MEASURED, "max_steps": steps, "eval_steps": steps // 10}
    assert estimate_seconds(context.with_settings(settings)) == pytest.approx(seconds, rel=0.15)
