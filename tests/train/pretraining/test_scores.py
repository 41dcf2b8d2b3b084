"""A run from nothing with all of its scores."""

from __future__ import annotations

import json

import pytest

from modelforge.runs.events import iter_events
from modelforge.runs.timeline import Timeline

# Libraries below torch warn of their own deprecations.
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


def test_a_run_is_scored_while_it_trains(bench, from_nothing, tmp_path):
    folder = tmp_path / "core"
    (folder / "eval_data").mkdir(parents=True)
    row = {"context": "Ships at", "continuation": "night"}
    (folder / "eval_data" / "words.jsonl").write_text(json.dumps(row) + "\n", "utf-8")
    task = {"label": "w", "icl_task_type": "language_modeling", "dataset_uri": "words.jsonl"}
    (folder / "core.yaml").write_text(json.dumps({"icl_tasks": [task]}), "utf-8")
    (folder / "eval_meta_data.csv").write_text("Eval Task,Random baseline\nw,0\n", "utf-8")
    asked = {"core_bundle": str(folder), "core_every": 5, "sample_every": 4, "samples": 1}
    run = from_nothing(evaluation={**asked, "sample_prompts": "Ships at"})
    events = bench.work(run)
    assert events[-1].kind == "finished", events[-1].data
    assert events[-1].data["eval_bits_per_byte"] > 0
    timeline = Timeline().add_all(iter_events(run.events))
    assert [event.step for event in timeline.core_scores] == [5, 8]
    assert [event.step for event in timeline.answers] == [0, 4, 8]
    assert timeline.stage.last("bits_per_byte") == pytest.approx(
        timeline.stage.last_eval("bits_per_byte"), rel=0.5
    )
    step = [event.data for event in events if event.kind == "step"][-1]
    assert step["tokens_so_far"] == 8 * 8 * 32
    assert step["flops_so_far"] > 6 * step["tokens_so_far"]
