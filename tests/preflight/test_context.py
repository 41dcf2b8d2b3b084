"""The facts that a plan is made from: the device and the GPU that the settings name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from modelforge.preflight.context import build_plan_context
from tests.preflight.contexts import CARD, LAPTOP, STARTER, WORKSTATION, make_context

OLD_CARD = replace(CARD, index=1, compute_capability=(7, 5))
TWO_CARDS = replace(WORKSTATION, gpus=[CARD, OLD_CARD])


@pytest.mark.parametrize(
    ("machine", "hardware", "device", "capability"),
    [
        (LAPTOP, {}, "cpu", None),
        (TWO_CARDS, {}, "cuda", CARD.compute_capability),
        (TWO_CARDS, {"gpu_index": 1}, "cuda", (7, 5)),
        (TWO_CARDS, {"device": "cpu"}, "cpu", CARD.compute_capability),
        (LAPTOP, {"device": "mps"}, "mps", None),
    ],
)
def test_a_run_is_planned_for_the_device_that_is_set(machine, hardware, device, capability):
    config = make_context(LAPTOP, hardware=hardware).config
    facts = build_plan_context(config, machine, STARTER)
    assert (facts.device, facts.compute_capability) == (device, capability)
