"""Offloaded activations of a step that failed are forgotten; TRL's offloading is played."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import pytest

from tests.train.trainer.test_oom_recovery import TWICE, Small

pytestmark = pytest.mark.torch


class Played(AbstractContextManager[None]):
    """Counts how often a step is offloaded."""

    made: list[Played]

    def __init__(self, _model: Any = None, **_options: Any) -> None:
        self.entered = 0
        Played.made.append(self)

    def __enter__(self) -> None:
        self.entered += 1

    def __exit__(self, *_exception: object) -> None:
        pass


@pytest.fixture
def offloading(monkeypatch):
    """Let runs on the CPU offload all activations; the list has each context that was made."""
    from trl.trainer import sft_trainer

    from modelforge.train.trainer import arguments, offload

    Played.made = []
    monkeypatch.setattr(arguments, "_offload", lambda *_: {"activation_offloading": True})
    monkeypatch.setattr(sft_trainer, "get_act_offloading_ctx_manager", Played)
    monkeypatch.setattr(offload, "get_act_offloading_ctx_manager", Played)
    return Played.made


def test_a_step_that_ran_out_of_memory_is_repeated_without_its_activations(
    bench, offloading, monkeypatch
):
    small = Small(monkeypatch, 2)
    events = bench.work(bench.prepare(**TWICE))
    assert events[-1].kind == "finished", events[-1].data
    assert small.failed == 1
    # Once for the batch of four rows that failed, then twice for each: 3 steps of 2 batches.
    assert [context.entered for context in offloading] == [1, 3 * 2 * 2]


def test_a_trial_of_a_batch_size_offloads_too(bench, offloading):
    events = bench.work(
        bench.prepare(
            memory={"auto_batch_size": True},
            per_device_train_batch_size=1,
            gradient_accumulation_steps=2,
        )
    )
    assert events[-1].kind == "finished", events[-1].data
    assert len(offloading) == 1
    # More than the batches of the training: three steps of two at most.
    assert offloading[0].entered > 6


def test_nothing_is_made_anew_where_nothing_is_offloaded(bench, monkeypatch):
    from modelforge.train.trainer import offload

    def refuse(_model: Any) -> None:
        raise AssertionError("nothing is offloaded")

    monkeypatch.setattr(offload, "get_act_offloading_ctx_manager", refuse)
    small = Small(monkeypatch, 2)
    events = bench.work(bench.prepare(**TWICE))
    assert events[-1].kind == "finished", events[-1].data
    assert small.failed == 1
