"""The page on training from nothing, and the speed of a run, from made-up figures."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from modelforge.config.plan.context import PlanContext
from modelforge.config.plan.make import make_plan
from modelforge.config.schema.config import TrainingConfig

BENCH = Path(__file__).parents[2] / "bench"
FIGURES = {
    "pretraining": [
        {"kind": "evaluation", "step": 100.0, "seconds": 60.0, "bits_per_byte": 2.4},
        {"kind": "evaluation", "step": 200.0, "seconds": 110.0, "bits_per_byte": 2.1},
        {"kind": "evaluation", "step": 300.0, "seconds": 170.0, "bits_per_byte": 1.7},
        {"kind": "first step", "seconds": 9.0},
        {"kind": "last step", "seconds": 168.0},
        {"kind": "finished", "seconds": 175.0},
        {"kind": "whole held-out text", "bits_per_byte": 1.5},
        {"kind": "5-gram", "bits_per_byte": 2.0},
        {"kind": "gzip", "bits_per_byte": 2.8},
    ],
    "pretraining-optimizers": [
        {"optimizer": name, "rate": rate, "seed": seed, "step": 9.0, "bits_per_byte": bits + seed,
         "seconds": 3.0, "is_best": is_best}
        for name, bits in (("normuon", 1.0), ("adamw_torch", 2.0))
        for rate, is_best, seeds in ((0.01, 1.0, (1, 2, 3)), (0.03, 0.0, (1,)))
        for seed in seeds
    ],
    "pretraining-speed": [
        {"round": 0.0, "order": "app bare", "other_cores": 0.0, "spoiled": "",
         "app_tokens_per_s": 96.0, "bare_tokens_per_s": 100.0},
    ],
}  # fmt: skip
NAMES = (
    *("pretraining", "pretraining_page", "harness", "rounds", "ngram", "prose"),
    *("peers", "peers.nanochat"),
)


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    import pretraining

    yield pretraining
    for name in NAMES:
        sys.modules.pop(name, None)


@pytest.fixture
def page(bench, monkeypatch, tmp_path):
    """Return a function that returns the page of figures."""
    path = tmp_path / "page.md"
    monkeypatch.setattr(bench.pretraining_page, "PAGE", path)
    monkeypatch.setattr(bench.pretraining_page, "SAMPLE", tmp_path / "sample.txt")

    def write(figures):
        bench.pretraining_page.write({name: figures.get(name, []) for name in FIGURES})
        return path.read_text("utf-8")

    return write


def test_the_page_says_when_the_model_was_better_than_the_n_gram(page):
    text = page(FIGURES)
    assert "| 200 | 110 | 2.100 |" in text
    assert "First evaluation below 2.2: after 110 s" in text
    assert "First evaluation below the n-gram: after 170 s" in text
    assert "needs 25% fewer bits" in text
    assert "| AdamW | 0.01 | 4.000 (3.000 to 5.000) | 3 (3 to 3) |" in text
    assert "- AdamW: 0.01: 3.000, 0.03: 3.000" in text
    assert "the median is 0.96" in text


def test_what_was_not_reached_or_measured_is_not_claimed(page):
    rows = [row for row in FIGURES["pretraining"] if row.get("step") != 300.0]
    rows = [{**row, "bits_per_byte": 3.0} if row["kind"][0] == "w" else row for row in rows]
    text = page({"pretraining": rows})
    assert "below the n-gram: not reached" in text
    assert "needs 50% more bits" in text
    assert "## Tokens per second" not in text
    assert "## Muon" not in text
    assert "Nothing is measured yet." in page({})
    assert "nanochat" not in page({"pretraining-speed": FIGURES["pretraining-speed"]})


def test_speed_leaves_out_the_first_steps(bench):
    slow, fast = [(10.0 * step, 5.0) for step in range(bench.WARM_UP_STEPS)], []
    start = slow[-1][0]
    fast = [(start + 2.0 * step, 4.0) for step in range(1, 6)]
    figures = bench._speed(slow + fast)
    assert figures["tokens_per_s"] == bench.BATCH / 2
    assert figures["tokens"] == bench.BATCH * (bench.WARM_UP_STEPS + 5)
    assert figures["train_loss"] == 4.0


def test_torch_alone_has_the_rates_of_the_app(bench, tmp_path):
    changes = bench.settings((tmp_path / "train.jsonl", tmp_path / "held_out.jsonl"))
    changes["optim"] = "muon"
    plan = make_plan(TrainingConfig(**changes), PlanContext("cpu", "d2"))
    rates = plan.pretraining.rates
    assert bench._bare_rates() == pytest.approx(
        {"matrix": rates.matrix, "embedding": rates.embedding, "head": rates.unembedding}
    )


def test_the_speed_of_nanochat_is_that_of_the_steps_after_the_first(bench):
    line = "step {:05d}/00004 (1.00%) | loss: 3.5 | lrm: 1.00 | dt: {:.2f}ms | tok/sec: 9"
    text = "\n".join(line.format(step, ms) for step, ms in enumerate((90_000, 2000, 1000, 3000)))
    figures = bench.nanochat.figures(text + "\nStep 4 | Validation bpb: 2.5\n", 4000, skipped=1)
    assert figures == {
        "tokens_per_s": 2000.0,
        "tokens": 16_000,
        "train_loss": 3.5,
        "bits_per_byte": 2.5,
    }
