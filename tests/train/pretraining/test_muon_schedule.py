"""Momentum and weight decay of Muon over a training from nothing."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.torch


def test_momentum_rises_in_three_hundred_steps():
    from modelforge.train.pretraining.muon_schedule import momentum_at

    assert [momentum_at(step, 0.95) for step in (0, 150, 300, 900)] == pytest.approx(
        [0.85, 0.90, 0.95, 0.95]
    )
    assert momentum_at(0, 0.8) == momentum_at(300, 0.8) == pytest.approx(0.8)


def test_weight_decay_falls_to_zero():
    from modelforge.train.pretraining.muon_schedule import decay_at

    assert [decay_at(step, 400, 0.2) for step in (0, 100, 400)] == pytest.approx([0.2, 0.15, 0.0])


def test_only_matrices_get_them():
    from transformers import TrainerState

    from modelforge.train.pretraining.muon_schedule import MuonSchedule

    class Groups:
        param_groups = [  # noqa: RUF012
            {"momentum": 0.95, "weight_decay": 0.2},
            {"betas": (0.8, 0.95), "weight_decay": 0.0},
        ]

    state = TrainerState(global_step=150, max_steps=300)
    MuonSchedule(0.95, 0.2).on_step_begin(None, state, optimizer=Groups())
    assert Groups.param_groups == [
        {"momentum": pytest.approx(0.9), "weight_decay": pytest.approx(0.1)},
        {"betas": (0.8, 0.95), "weight_decay": 0.0},
    ]
