"""The phase of a training by its losses; told once, and only when it has changed for good."""

from __future__ import annotations

import json
import math
import random
from dataclasses import asdict

import pytest

from modelforge.train.callbacks.loss_phase import (
    MIN_LOSSES,
    LossPhaseTracker,
    classify_phase,
    phase_message,
)


def noisy(values, noise=0.05, seed=0):
    rng = random.Random(seed)
    return [value + rng.gauss(0, noise) for value in values]


FALLING = [1 + 2 * math.exp(-n / 40) for n in range(100)]
FLAT = [1.0] * 100
RISING = [1 + n / 50 for n in range(100)]


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(
    ("losses", "phase"), [(FALLING, "converging"), (FLAT, "plateau"), (RISING, "diverging")]
)
def test_a_phase_is_seen_through_noise(losses, phase, seed):
    assert classify_phase(noisy(losses, seed=seed), warm=False) == phase


def test_a_loss_that_begins_to_jump_is_unstable():
    calm, wild = noisy(FLAT[:50], 0.02), noisy(FLAT[:50], 0.8)
    assert classify_phase([*calm, *wild], warm=False) == "unstable"
    # A loss that has always jumped, as with one row a batch, is not.
    assert classify_phase(noisy(FLAT, 0.4), warm=False) == "plateau"


def test_a_few_losses_have_no_phase():
    assert classify_phase(FALLING[: MIN_LOSSES - 1], warm=False) is None
    assert classify_phase([], warm=False) is None
    assert classify_phase(FLAT[:20], warm=False) is None
    assert classify_phase(RISING, warm=True) == "warm-up"


def phases_of(losses, warm=0):
    phases, names = LossPhaseTracker(), []
    for number, loss in enumerate(losses):
        if begun := phases.add(loss, warm=number < warm):
            names.append(begun[0])
    return names


@pytest.mark.parametrize("seed", range(10))
def test_each_phase_is_reported_once(seed):
    course = [*FALLING, *FLAT, *FLAT]
    names = phases_of(noisy(course, 0.05, seed), warm=10)
    assert names == ["converging", "plateau"]


@pytest.mark.parametrize("seed", range(10))
def test_phases_do_not_alternate(seed):
    rng = random.Random(seed)
    walk, level = [], 2.0
    for _ in range(1000):
        level = max(0.5, level + rng.gauss(0, 0.02))
        walk.append(level + rng.gauss(0, 0.2))
    assert len(phases_of(walk)) <= 20


def test_the_tracker_resumes_from_a_checkpoint():
    course = noisy([*FALLING, *FLAT, *FLAT])
    whole = phases_of(course)
    first = LossPhaseTracker()
    names = [begun[0] for loss in course[:130] if (begun := first.add(loss, warm=False))]
    second = LossPhaseTracker(**json.loads(json.dumps(asdict(first))))
    names += [begun[0] for loss in course[130:] if (begun := second.add(loss, warm=False))]
    assert names == whole


def test_every_phase_has_a_message():
    phases = LossPhaseTracker()
    begun = None
    for loss in FALLING:
        begun = phases.add(loss, warm=False) or begun
    assert begun is not None
    phase, way = begun
    assert phase_message(phase, way, 100).startswith("Converging: the loss falls, from ")
