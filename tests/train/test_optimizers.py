"""Every optimizer and every schedule that may be chosen takes its updates."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, get_args

import pytest

from modelforge.config.optimizers import (
    OPTIMIZERS,
    RESULT_SCHEDULES,
    LearningRateSchedule,
    Optim,
)
from modelforge.config.plan.make import PlanContext, make_plan
from modelforge.config.schema.config import TrainingConfig

# Libraries below torch warn of their own deprecations, which are not ours to mend.
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

REQUIRED = {
    "task": "text-generation",
    "model_name": "tiny",
    "dataset": "rows.jsonl",
    "compute_specs": "low_end",
    "use_4bit": False,
}
STARTS_ABOVE_ZERO = "cosine_warmup_with_min_lr"
WSD = {"lr_scheduler_type": "wsd", "warmup_ratio": 0.1}


@pytest.fixture(scope="module")
def loaded(tiny_model: Path) -> Any:
    from modelforge.modeling.providers.huggingface import load

    config = TrainingConfig.from_record(REQUIRED)
    plan = make_plan(config, PlanContext("cpu", str(tiny_model), context=512))
    return load(plan, config, lambda _done, _total: None)


def trainer_for(loaded: Any, folder: Path, **answers: Any) -> Any:
    from datasets import Dataset

    from modelforge.modeling.tokenize.dataset import Tokenized
    from modelforge.runs.layout import RunFolder
    from modelforge.train.job import Job
    from modelforge.train.strategies.sft import build_trainer

    config = TrainingConfig.from_record(REQUIRED | {"max_steps": 20} | answers)
    plan = make_plan(config, PlanContext("cpu", "tiny", context=512))
    rows = Dataset.from_dict({"input_ids": [[1, 5, 2]] * 4, "labels": [[-100, 5, 2]] * 4})
    loaded.model = getattr(loaded.model, "unload", lambda: loaded.model)()
    job = Job(RunFolder(folder), "a try", config, plan, {})
    trainer = build_trainer(job, loaded, Tokenized(rows, None))
    loaded.model = trainer.model
    return trainer


@pytest.mark.parametrize("name", get_args(Optim))
def test_an_optimizer_moves_what_is_trained(loaded, tmp_path, name):
    trainer = trainer_for(
        loaded, tmp_path, optim=name, learning_rate=0.01, max_steps=2, warmup_ratio=0
    )
    learned = [p for p in trainer.model.parameters() if p.requires_grad]
    before = [p.detach().clone() for p in learned]
    trainer.train()
    assert any(not new.equal(old) for new, old in zip(learned, before, strict=True))


def test_what_stands_in_for_an_optimizer_is_one_itself():
    for facts in OPTIMIZERS.values():
        assert {facts.without_cuda, facts.on_mps} <= {"", *OPTIMIZERS}


def test_the_betas_and_epsilon_are_those_of_the_settings(loaded, tmp_path):
    settings = {"beta1": 0.5, "beta2": 0.75, "epsilon": 1e-4}
    trainer = trainer_for(loaded, tmp_path, optim="adamw_torch", optimizer=settings)
    trainer.create_optimizer()
    group = trainer.optimizer.param_groups[0]
    assert (group["betas"], group["eps"]) == ((0.5, 0.75), 1e-4)


def rates(loaded: Any, folder: Path, total: int = 20, **answers: Any) -> list[float]:
    """Return the rate of each update of a run, as a share of the highest asked for."""
    trainer = trainer_for(loaded, folder, optim="sgd", learning_rate=0.5, **answers)
    trainer.create_optimizer_and_scheduler(total)
    found = []
    for _ in range(total):
        found.append(trainer.lr_scheduler.get_last_lr()[0] / 0.5)
        trainer.optimizer.step()
        trainer.lr_scheduler.step()
    return [*found, trainer.lr_scheduler.get_last_lr()[0] / 0.5]


def test_every_schedule_of_transformers_can_be_chosen():
    from transformers import SchedulerType

    assert {schedule.value for schedule in SchedulerType} == set(get_args(LearningRateSchedule))


def test_a_schedule_by_results_follows_the_evaluations_and_is_resumed(bench):
    run = bench.prepare(
        max_steps=8,
        eval_split=0.25,
        eval_steps=2,
        optim="sgd",
        learning_rate=1e-9,  # too low for an improvement above the threshold
        lr_scheduler_type="reduce_lr_on_plateau",
        schedule={"patience": 0},
    )
    events = bench.work(run)
    assert events[-1].kind == "finished"
    # The first evaluation is the best so far; each later one divides the rate by ten.
    assert step_rates(events) == pytest.approx([1e-9] * 4 + [1e-10] * 2 + [1e-11] * 2)
    shutil.rmtree(run.checkpoints / "checkpoint-8")
    resumed = bench.work(run)
    resumed = resumed[max(n for n, event in enumerate(resumed) if event.kind == "started") :]
    assert step_rates(resumed) == pytest.approx([1e-11] * 2)


def test_without_usable_evaluation_rows_the_rate_stays(loaded, tmp_path):
    for name in RESULT_SCHEDULES:
        trainer = trainer_for(loaded, tmp_path, lr_scheduler_type=name)  # has no evaluation rows
        assert trainer.args.lr_scheduler_type == "constant"


def test_greedy_raises_the_rate_while_the_loss_falls(bench):
    run = bench.prepare(
        max_steps=8,
        eval_split=0.25,
        eval_steps=2,
        learning_rate=0.01,
        lr_scheduler_type="greedy",
        schedule={"patience": 0},
        evaluation={"loss_guard": True},
    )
    events = bench.work(run)
    assert events[-1].kind == "finished"
    assert [e.data["best"] for e in events if e.kind == "eval"] == [True] * 4
    raised = [0.01 / 0.95**times for times in range(4) for _ in range(2)]
    assert step_rates(events) == pytest.approx(raised)


def test_the_loss_guard_halves_the_rate_of_a_schedule_by_results():
    import torch
    from transformers.optimization import get_scheduler

    from modelforge.train.callbacks.monitors import _scale_learning_rate

    for name in RESULT_SCHEDULES:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.5)
        scheduler = get_scheduler(name, optimizer)
        assert _scale_learning_rate(scheduler, optimizer, 0.5) == 0.25
        assert scheduler.get_last_lr() == [0.25]


def step_rates(events: list[Any]) -> list[float]:
    """Return the learning rate of every step."""
    return [event.data["learning_rate"] for event in events if event.kind == "step"]


def test_a_warm_up_with_a_final_rate_begins_above_zero(loaded, tmp_path):
    schedule = {"warmup_steps": 5, "final_lr_fraction": 0.2}
    found = rates(loaded, tmp_path, lr_scheduler_type=STARTS_ABOVE_ZERO, schedule=schedule)
    assert found[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert max(found) == pytest.approx(1)
    assert found[19] == pytest.approx(0.2)


@pytest.mark.parametrize(
    "name", sorted(set(get_args(LearningRateSchedule)) - {*RESULT_SCHEDULES, STARTS_ABOVE_ZERO})
)
def test_a_schedule_warms_up_and_never_exceeds_the_rate(loaded, tmp_path, name):
    found = rates(loaded, tmp_path, lr_scheduler_type=name, schedule={"warmup_steps": 5})
    assert found[0] == 0
    assert found[5] == pytest.approx(1)
    assert max(found) == pytest.approx(1)


def test_the_rate_is_whole_until_the_decay_begins(loaded, tmp_path):
    found = rates(loaded, tmp_path, **WSD)
    assert found[2:17] == pytest.approx([1.0] * 15)
    assert found[16:] == pytest.approx([1.0, 0.75, 0.5, 0.25, 0.0])
    half = rates(loaded, tmp_path, **WSD, schedule={"decay_ratio": 0.5})
    assert half[10] == pytest.approx(1)
    assert half[15] == pytest.approx(0.5)
    four = rates(loaded, tmp_path, **WSD, schedule={"decay_steps": 10, "decay_shape": "1-sqrt"})
    assert four[11] == pytest.approx(1 - 0.1**0.5)


@pytest.mark.parametrize(("shape", "half"), [("linear", 0.5), ("cosine", 0.5), ("1-sqrt", 0.29289)])
def test_linear_and_cosine_end_with_a_cooldown_from_where_they_are(loaded, tmp_path, shape, half):
    plain = {"warmup_ratio": 0.1, "lr_scheduler_type": "cosine"}
    schedule = {"decay_steps": 8, "decay_shape": shape}
    found, usual = (
        rates(loaded, tmp_path, **plain, schedule=schedule),
        rates(loaded, tmp_path, **plain),
    )
    assert found[:13] == pytest.approx(usual[:13])
    assert found[16] == pytest.approx(half * usual[12], rel=1e-3)
    assert found[20] == 0
    linear = {"warmup_ratio": 0.1, "lr_scheduler_type": "linear", "schedule": schedule}
    assert rates(loaded, tmp_path, **linear)[16] == pytest.approx(half * 8 / 18, rel=1e-3)


def test_a_cooldown_ends_at_the_final_rate_that_the_schedule_falls_to(loaded, tmp_path):
    plain = {"warmup_ratio": 0.1, "lr_scheduler_type": "cosine"}
    ends = {"final_lr_fraction": 0.2}
    schedule = ends | {"decay_ratio": 0.1}
    found = rates(loaded, tmp_path, **plain, schedule=schedule)
    usual = rates(loaded, tmp_path, **plain, schedule=ends)
    assert found[:19] == pytest.approx(usual[:19])
    assert found[19] == pytest.approx((usual[18] + 0.2) / 2)
    assert found[20] == pytest.approx(0.2)


def test_every_group_of_weights_follows_the_schedule_in_proportion(loaded, tmp_path):
    optimizer = {"adapter_lr": 0.1, "loraplus_ratio": 5}
    for name in ("polynomial", "greedy"):
        trainer = trainer_for(
            loaded, tmp_path, optim="sgd", learning_rate=0.5, optimizer=optimizer,
            lr_scheduler_type=name, schedule={"final_lr_fraction": 0.2}, warmup_ratio=0,
        )  # fmt: skip
        if name == "greedy":
            trainer.args.lr_scheduler_type = name  # there are no evaluation rows
            plan = make_plan(
                TrainingConfig.from_record(
                    REQUIRED | {"lr_scheduler_type": name, "learning_rate": 0.5,
                                "schedule": {"final_lr_fraction": 0.2}}
                ),
                PlanContext("cpu", "tiny", context=512),
            )  # fmt: skip
            trainer.args.lr_scheduler_kwargs = plan.lr_scheduler_kwargs
        trainer.create_optimizer_and_scheduler(10)
        groups = trainer.optimizer.param_groups
        assert [group["lr"] for group in groups] == pytest.approx([0.1, 0.5])
        if name == "greedy":
            scheduler = trainer.lr_scheduler
            assert scheduler.min_lrs == pytest.approx([0.02, 0.1])
            assert scheduler.max_lrs == pytest.approx([1.0, 5.0])
            continue
        for _ in range(10):
            trainer.optimizer.step()
            trainer.lr_scheduler.step()
        assert [group["lr"] for group in groups] == pytest.approx([0.02, 0.1])


def test_the_number_of_cycles_and_the_power_shape_the_schedule(loaded, tmp_path):
    restarts = {"lr_scheduler_type": "cosine_with_restarts", "warmup_ratio": 0}
    four = rates(loaded, tmp_path, **restarts, schedule={"cycles": 4})
    assert [step for step in range(20) if four[step] == pytest.approx(1)] == [0, 5, 10, 15]
    two = rates(loaded, tmp_path, **restarts)
    assert [step for step in range(20) if two[step] == pytest.approx(1)] == [0, 10]
    falls = {"lr_scheduler_type": "polynomial", "warmup_ratio": 0}
    assert rates(loaded, tmp_path, **falls)[10] == pytest.approx(0.5, abs=1e-6)
    squared = rates(loaded, tmp_path, **falls, schedule={"power": 2.0})
    assert squared[10] == pytest.approx(0.25, abs=1e-6)
    ends = {"power": 2.0, "final_lr_fraction": 0.2}
    assert rates(loaded, tmp_path, **falls, schedule=ends)[10] == pytest.approx(0.2 + 0.8 * 0.25)


def test_a_share_of_decay_is_of_the_updates_that_there_really_are(loaded, tmp_path):
    found = rates(loaded, tmp_path, total=10, **WSD)
    assert found[8:] == pytest.approx([1.0, 0.5, 0.0])


@pytest.mark.parametrize("name", ["cosine", "linear", "polynomial", "warmup_stable_decay"])
def test_the_last_rate_is_the_share_asked_for(loaded, tmp_path, name):
    found = rates(loaded, tmp_path, lr_scheduler_type=name, schedule={"final_lr_fraction": 0.2})
    assert found[-1] == pytest.approx(0.2)
    assert min(found[2:]) == pytest.approx(0.2)


def test_noise_on_the_embeddings_changes_what_is_learned_from(loaded, tmp_path):
    def first_loss(**answers: Any) -> float:
        trainer = trainer_for(loaded, tmp_path, max_steps=1, lora_dropout=0, **answers)
        trainer.train()
        return float(trainer.state.log_history[0]["loss"])

    plain = first_loss()
    assert first_loss() == plain
    assert first_loss(trainer={"neftune_noise_alpha": 50}) != plain
