"""The dial of a training from nothing: what each depth means on this machine."""

from __future__ import annotations

import pytest

from modelforge.config.resolve import Layer
from modelforge.forge import Forge
from modelforge.paths import Home
from modelforge.services.pretraining.dial import DialPoint, with_measured_speed

SENTENCE = "The miller walked to the river and counted the stones that lay in the cold water. "


@pytest.fixture
def forge(tmp_path):
    made = Forge(Home(tmp_path / "home"), warm_worker=["true"])
    yield made
    made.close()


@pytest.fixture
def text(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("\n\n".join(SENTENCE * 40 for _ in range(60)), "utf-8")
    return str(file)


def layer(dataset, **more):
    stated = {"dataset": dataset, "compute_specs": "low_end", "pretraining.enabled": True}
    return Layer("form", {**stated, **more})


def test_a_deeper_model_is_larger_and_takes_longer(forge, text):
    points = forge.dial.read(layer(text), depths=(2, 4, 8)).points
    assert [each.depth for each in points] == [2, 4, 8]
    for name in ("parameters", "tokens", "flops", "memory_gib", "seconds"):
        values = [getattr(each, name) for each in points]
        assert None not in values, name
        assert values == sorted(set(values)), (name, values)


def test_the_depth_of_the_settings_has_no_effect(forge, text):
    first = forge.dial.read(layer(text), depths=(2, 4))
    second = forge.dial.read(layer(text, **{"pretraining.depth": 12}), depths=(2, 4))
    assert first is second


def test_another_vocabulary_makes_another_dial(forge, text):
    small = forge.dial.read(layer(text), depths=(2,)).points[0]
    large = forge.dial.read(layer(text, **{"pretraining.vocab_size": 32768}), depths=(2,)).points[0]
    assert large.parameters > small.parameters


def test_settings_that_cannot_be_used_give_unknown_values(forge):
    points = forge.dial.read(layer("/nowhere/at/all.txt"), depths=(2, 4)).points
    assert [each.seconds for each in points] == [None, None]


def test_a_measured_depth_gives_the_others_its_speed():
    points = [
        DialPoint(depth=2, flops=1e12, seconds=50.0, seconds_basis="estimated"),
        DialPoint(depth=4, flops=1e13, seconds=100.0, seconds_basis="trial_run"),
        DialPoint(depth=6, flops=1e14, seconds=9.0, seconds_basis="estimated"),
        DialPoint(depth=8),
    ]
    found = with_measured_speed(points)
    assert [each.seconds for each in found] == [10.0, 100.0, 1000.0, None]
    assert [each.seconds_basis for each in found[:3]] == ["trial_run"] * 3


def test_without_a_measurement_the_estimates_stay():
    points = [DialPoint(depth=2, flops=1e12, seconds=50.0, seconds_basis="estimated")]
    assert with_measured_speed(points) == points
