"""The adapter merged into its base model at the end of a run."""

from __future__ import annotations

import json

import pytest

from modelforge.errors import Problem, RunError

pytestmark = pytest.mark.torch
MERGED = {"adapter": {"merge_after_training": True}}


def notes(events):
    return {event.data["code"]: event.data["text"] for event in events if event.kind == "note"}


def logits_of(model, tokenizer):
    import torch

    inputs = tokenizer("What does red number 0 mean?", return_tensors="pt")
    with torch.no_grad():
        return model(**inputs).logits


def test_the_merged_model_answers_as_the_base_model_with_the_adapter(bench):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run = bench.prepare(**MERGED)
    events = bench.work(run)
    assert events[-1].kind == "finished"
    assert events[-1].data["merged"] == "merged"
    phases = [event.data for event in events if event.kind == "phase"]
    assert [phase["done"] for phase in phases if phase["name"] == "merging"][-1] == 100
    tokenizer = AutoTokenizer.from_pretrained(run.merged)
    base = AutoModelForCausalLM.from_pretrained(bench.model)
    before = logits_of(base, tokenizer)
    adapted = logits_of(PeftModel.from_pretrained(base, run.output).eval(), tokenizer)
    merged = logits_of(AutoModelForCausalLM.from_pretrained(run.merged).eval(), tokenizer)
    torch.testing.assert_close(merged, adapted, atol=2e-4, rtol=1e-4)
    assert (merged - before).abs().max() > 1e-2
    assert not run.merged_staged.exists()
    assert run.has_adapter
    # Other programs read the names of Transformers 4.
    assert "rope_theta" in json.loads((run.merged / "config.json").read_text("utf-8"))


def test_a_run_without_the_setting_is_not_merged(bench):
    run = bench.prepare(max_steps=1)
    events = bench.work(run)
    assert not run.merged.exists()
    assert events[-1].data.get("merged") is None


@pytest.mark.parametrize(
    "error",
    [
        RunError(Problem("base model", "It has no weights.", "Choose another one.")),
        OSError(28, "No space left on device"),
        MemoryError(),
    ],
)
def test_a_merge_that_fails_does_not_lose_the_run(bench, monkeypatch, error):
    def fail(_source, target, _progress):
        (target / "half.safetensors").write_bytes(b"half")
        raise error

    monkeypatch.setattr("modelforge.modeling.merging.model.write_merged", fail)
    run = bench.prepare(max_steps=1, **MERGED)
    events = bench.work(run)
    assert events[-1].kind == "finished"
    assert events[-1].data.get("merged") is None
    assert run.has_adapter
    assert not run.merged.exists()
    assert not run.merged_staged.exists()
    assert "could not be merged" in notes(events)["not-merged"]
    assert "Export page" in notes(events)["not-merged"]


@pytest.mark.parametrize(("mode", "ending", "kept"), [("keep", "finished", True),
                                                      ("discard", "stopped", False)])  # fmt: skip
def test_a_stop_ends_the_merge(bench, monkeypatch, mode, ending, kept):
    run = bench.prepare(max_steps=1, **MERGED)

    def stop(_source, _target, progress):
        run.stop.write_text(mode, encoding="utf-8")
        progress(0.5)

    monkeypatch.setattr("modelforge.modeling.merging.model.write_merged", stop)
    events = bench.work(run)
    assert events[-1].kind == ending
    assert run.has_adapter is kept
    assert not run.merged.exists()


def test_a_run_of_all_weights_has_nothing_to_merge(bench):
    settings = {"adapter": {"enabled": False, "merge_after_training": True}}
    run = bench.prepare(max_steps=1, **settings)
    events = bench.work(run)
    assert run.has_model
    assert not run.merged.exists()
    assert "not-merged" not in notes(events)
