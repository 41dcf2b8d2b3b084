"""The benchmark of masked tokens: what it counts, and settings that a run accepts."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from modelforge.config.resolve import Layer, resolve

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    for name in ("growing", "masked_tokens"):
        sys.modules.pop(name, None)
    import masked_tokens

    return masked_tokens


def test_the_settings_of_the_run_are_accepted(bench):
    options = argparse.Namespace(stages=2, steps=20, seed=0)
    config = resolve(Layer("bench", bench.settings(options, [Path("a"), Path("b")]))).config
    assert (config.progressive.objective, config.pretraining.enabled) == ("mlm", True)


@pytest.mark.torch
def test_losses_and_wrong_tokens_are_those_of_the_masked_places(bench):
    import torch

    rows = [torch.arange(20) + 5, torch.arange(40) + 5]
    tokenizer = SimpleNamespace(mask_token_id=1)
    seen = []

    def certain(ids):
        """Know the hidden tokens of the first row alone; the second has those of the first."""
        seen.append(int((ids == 1).sum()))
        truth = torch.nn.functional.one_hot(torch.arange(len(ids)) % 20 + 5, 50)
        return (truth * 1.0 + 1e-9).log().log_softmax(-1)

    losses, wrong = bench.masked(rows, certain, tokenizer)
    assert seen == [count for _, count in losses] == [3, 6]
    assert losses[0][0] == pytest.approx(0, abs=1e-4)
    assert losses[1][0] > 10
    assert wrong[0][0] == 0
    assert 0 < wrong[1][0] <= 6
    found = bench.figures("certain", (losses, wrong), (losses, wrong))
    assert (found["tokens"], found["wrong"]) == (9, round(wrong[1][0] / 9, 4))
