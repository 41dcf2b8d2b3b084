"""The benchmark of growing: what it trains beside a grown model, and its sentence."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def growing(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    sys.modules.pop("growing", None)
    import growing

    return growing


OPTIONS = argparse.Namespace(stages=2, steps=20, rate=1e-3, seed=0)
FILES = Path("rows.jsonl"), Path("held.jsonl")


def test_the_other_ways_have_the_flops_of_the_grown_model(growing):
    grown = growing.settings("grown", OPTIONS, FILES, 0.0)
    assert grown["progressive"] == {"enabled": True, "stages": 2, "steps_per_stage": 20}
    lora = growing.settings("lora", OPTIONS, FILES, 5e12)
    assert lora["trainer"]["target_flops"] == 5e12
    assert lora["adapter"]["merge_after_training"] is True
    at_once = growing.settings("at once", OPTIONS, FILES, 5e12)["progressive"]
    assert (at_once["stages"], at_once["layers_per_stage"]) == (1, 2)


def test_rows_of_the_usual_sample_become_messages(growing):
    for each in growing.read_sample("units")[:3]:
        asked, answered = growing.messages(each)
        assert asked == {"role": "user", "content": each["instruction"]}
        assert answered == {"role": "assistant", "content": each["output"]}


@pytest.mark.parametrize(
    ("lower", "noise", "meaning"),
    [(0.2, 0.0, "growing was better"), (-0.2, 0.0, "lora was better"),
     (0.0, 0.4, "no difference is shown")],
)  # fmt: skip
def test_the_sentence_says_which_way_was_better(growing, lower, noise, meaning):
    other = [(20.0 + n % 3, 10) for n in range(20)]
    grown = [(loss - 10 * lower + noise * (-1) ** n, 10) for n, (loss, _) in enumerate(other)]
    sentence = growing.sentence(grown, other, "lora")
    assert sentence.endswith(f"{meaning}.")
    assert f"by {lower:.3f}" in sentence.replace("by -0.000", "by 0.000")
