"""Comparisons of a growing model, with stand-in workers: made once, read or refused."""

from __future__ import annotations

import dataclasses
import sys

import pytest

from modelforge.config.plan.growth_comparison import Way
from modelforge.config.resolve import Layer
from modelforge.errors import ConfigError, NotFoundError
from modelforge.forge import Forge
from modelforge.paths import Home
from modelforge.runs.atomic_files import read_json, write_json
from modelforge.runs.progress.evaluation_losses import (
    EvaluationLosses,
    read_evaluation_losses,
    write_evaluation_losses,
)
from modelforge.runs.states import RunState
from modelforge.services.evaluations.growth_comparisons import GrowthComparison, sentence
from tests.services.test_runs import ACTORS, until


@pytest.fixture
def forge(home_with_starter, monkeypatch):
    monkeypatch.setenv("MODELFORGE_ACTOR_PACE", "0")
    forge = Forge(Home(home_with_starter), worker=[sys.executable, str(ACTORS / "trains.py")])
    yield forge
    forge.close()


def finished(forge, **group):
    """Return the id of a run that has grown a model."""
    values = {
        "task": "text-generation",
        "model_name": "starter",
        "dataset": "sample:captain",
        "compute_specs": "low_end",
        "progressive": {"enabled": True, "stages": 2, "steps_per_stage": 6, **group},
    }
    run = forge.runs.start(Layer("you", values))
    until(lambda: forge.runs.state(run) is RunState.FINISHED, "it ends")
    return run


def of(forge, run, way):
    return next(each for each in forge.growth_comparisons.comparisons(run) if each.way is way)


def test_both_ways_train_for_the_same_flops_and_are_compared(forge):
    run = finished(forge)
    flops = forge.runs.view(run).plan.flops
    assert [
        (each.way, each.run, each.why_not) for each in forge.growth_comparisons.comparisons(run)
    ] == [(Way.LORA, None, ""), (Way.AT_ONCE, None, "")]
    for way in Way:
        other = forge.growth_comparisons.add(run, way)
        assert forge.growth_comparisons.add(run, way) == other
        assert of(forge, run, way).state is RunState.QUEUED
        forge.queue.start_next()
        until(lambda other=other: forge.runs.state(other) is RunState.FINISHED, "it ends")
        plan = forge.runs.view(other).plan
        # A step of this plan is 1/12 of the FLOPs at least.
        assert plan.flops == pytest.approx(flops, rel=0.1)
    assert len(forge.runs.views()) == 3
    lora, at_once = forge.growth_comparisons.comparisons(run)
    ours = forge.runs.view(run).growth
    # The actor plays 2.4 less 0.2 for each stage.
    assert at_once.lower_by == pytest.approx(0.2)
    assert at_once.better == "growing"
    assert lora.before == pytest.approx(ours.base_loss)
    assert lora.low <= lora.lower_by <= lora.high
    assert forge.growth_comparisons.comparisons(lora.run) == []
    with pytest.raises(ConfigError, match="does not grow"):
        forge.growth_comparisons.add(lora.run, Way.LORA)


def test_losses_of_other_rows_are_not_compared(forge):
    run = finished(forge)
    other = forge.growth_comparisons.add(run, Way.LORA)
    forge.queue.start_next()
    until(lambda: forge.runs.state(other) is RunState.FINISHED, "it ends")
    folder = forge.runs.folder(other)
    losses = read_evaluation_losses(folder)
    for change in (
        {"rows": "others"},
        {"after": losses.after[:-1]},
        {"after": [(loss, 2) for loss, _ in losses.after]},
    ):
        write_evaluation_losses(folder, dataclasses.replace(losses, **change))
        found = of(forge, run, Way.LORA)
        assert "other rows" in found.why_not
        assert found.lower_by is None


def test_what_cannot_be_compared_is_refused_and_creates_nothing(forge):
    run = finished(forge, stages=1)
    folder = forge.runs.folder(run)
    assert "at once" in of(forge, run, Way.AT_ONCE).why_not
    losses = read_evaluation_losses(folder)
    write_evaluation_losses(folder, EvaluationLosses(losses.rows, [], losses.after[:5]))
    assert "5 evaluation batches" in of(forge, run, Way.LORA).why_not
    folder.evaluation_losses.unlink()
    assert "no evaluation rows" in of(forge, run, Way.LORA).why_not
    with pytest.raises(ConfigError, match="no evaluation rows"):
        forge.growth_comparisons.add(run, Way.LORA)
    with pytest.raises(NotFoundError):
        forge.growth_comparisons.add("20260101-000000-0000", Way.LORA)
    assert len(forge.runs.views()) == 1


def test_a_run_with_settings_of_another_version_is_not_compared(forge):
    run = finished(forge)
    config = forge.runs.folder(run).config
    record = read_json(config)
    record["config"]["of_another_version"] = 3
    write_json(config, record)
    assert forge.growth_comparisons.comparisons(run) == []
    with pytest.raises(ConfigError, match="of_another_version"):
        forge.growth_comparisons.add(run, Way.LORA)


GAINED = "LoRA with the same FLOPs lowered it by 0.300."
NO_DIFFERENCE = "The difference of −0.050 (−0.200 to 0.100) may be chance: no difference is shown."
CASES = [
    (
        {"before": 2.4, "loss": 2.1, "lower_by": 0.15, "low": 0.1, "high": 0.2},
        "growing",
        f"{GAINED} Growing was better by 0.150 (0.100 to 0.200).",
    ),
    (
        {"before": 2.4, "loss": 2.1, "lower_by": -0.15, "low": -0.2, "high": -0.1},
        "other",
        f"{GAINED} LoRA was better by 0.150 (0.100 to 0.200).",
    ),
    (
        {"before": 2.4, "loss": 2.1, "lower_by": -0.05, "low": -0.2, "high": 0.1},
        "no-difference",
        f"{GAINED} {NO_DIFFERENCE}",
    ),
    (
        {"before": 2.4, "loss": 2.5, "lower_by": 0.1},
        "unknown",
        "LoRA with the same FLOPs raised it by 0.100. Too few evaluation rows for an interval.",
    ),
    (
        {"loss": 2.5, "lower_by": 0.1},
        "unknown",
        "LoRA with the same FLOPs reached 2.500. Too few evaluation rows for an interval.",
    ),
]


@pytest.mark.parametrize(("values", "better", "text"), CASES)
def test_the_interval_says_which_way_was_better(values, better, text):
    found = GrowthComparison(way=Way.LORA, **values)
    assert found.better == better
    assert sentence(found, 2) == text


def test_the_other_way_is_named_with_its_layers():
    found = GrowthComparison(way=Way.AT_ONCE, **CASES[1][0])
    assert sentence(found, 6).startswith("Training all 6 layers at once with the same FLOPs")
    assert "All at once was better by 0.150" in sentence(found, 6)
    assert sentence(GrowthComparison(way=Way.AT_ONCE), 6) == ""
