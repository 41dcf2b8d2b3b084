"""Records, parts of epochs, tokens and FLOPs as the length of a run, and which of them rules."""

from __future__ import annotations

import pytest

from modelforge.config.plan.context import ModelFlops, PlanContext
from modelforge.config.plan.make import make_plan
from modelforge.config.plan.run_length import Epoch
from modelforge.config.resolve import Layer, resolve
from modelforge.config.schema.config import TrainingConfig
from modelforge.errors import ConfigError

ROWS = 1000
# 8 rows per step, 125 steps per epoch.
EIGHT = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}


@pytest.fixture
def plan(minimal):
    """The plan of a run on a thousand rows of 100 tokens."""

    def made(facts=None, **settings):
        known = {"train_rows": ROWS, "row_tokens": 100.0, "model_flops": ModelFlops(9e8, 1e6)}
        context = PlanContext("cuda", "m", **known | (facts or {}))
        return make_plan(TrainingConfig(**minimal | EIGHT | settings), context)

    return made


def reason_of(plan, name):
    return next((each for each in plan.changes if each.where == name), None)


@pytest.mark.parametrize(
    ("settings", "steps", "epochs"),
    [
        ({"data": {"records_to_sample": 1000}}, 125, 1),
        ({"data": {"records_to_sample": 250}}, 32, 0.25),
        ({"data": {"records_to_sample": 2500}}, 313, 2.5),
        ({"data": {"records_to_sample": 8}}, 1, 0.008),
        ({"data": {"records_to_sample": 9}}, 2, 0.009),
        ({"data": {"records_to_sample": "auto"}}, 3125, 25),
        ({"trainer": {"fractional_epochs": 0.5}}, 63, 0.5),
        ({"trainer": {"fractional_epochs": 1.2}}, 150, 1.2),
        ({"trainer": {"target_tokens": 100_000}}, 125, 1),
        ({"trainer": {"target_tokens": 150_000}}, 188, 1.5),
        # A token of a row of 100 has 9e8 + 100 * 1e6 operations.
        ({"trainer": {"target_flops": 1e14}}, 125, 1),
        ({"trainer": {"target_flops": 3e14}}, 375, 3),
    ],
)
def test_every_measure_is_counted_in_steps_and_epochs(plan, settings, steps, epochs):
    made = plan(**settings)
    assert made.total_steps == steps
    assert made.epochs == pytest.approx(epochs)
    group = next(iter(settings))
    name = f"{group}.{next(iter(settings[group]))}"
    assert made.length_by == name
    change = reason_of(made, "num_train_epochs")
    assert (change.configured, change.used) == (1, pytest.approx(epochs))
    assert name in change.reason
    assert f"{steps:,} steps" in change.reason


def test_the_last_step_of_an_epoch_may_be_short():
    epoch = Epoch(rows=10, sequences=10, per_step=8, steps=2)
    # 8 + 2 rows, then 8 of the next epoch.
    assert [epoch.steps_for(rows / 10) for rows in (1, 8, 9, 10, 11, 18, 20)] == [
        *(1, 1, 2, 2, 3, 3, 4)
    ]
    thirds = Epoch(rows=3, sequences=3, per_step=1, steps=3)
    assert [thirds.steps_for(n / 3) for n in range(1, 10)] == list(range(1, 10))


def test_packed_records_are_counted_in_rows(plan):
    packed = plan(packing=True, max_seq_length=500, data={"records_to_sample": 500})
    whole = plan(packing=True, max_seq_length=500)
    assert whole.total_steps == 26
    assert packed.total_steps == 13
    assert packed.epochs == 0.5


def test_the_first_measure_of_the_order_rules_and_the_others_are_named(plan):
    data = {"records_to_sample": 500}
    trainer = {"target_flops": 1e14, "target_tokens": 5000, "fractional_epochs": 0.1}
    order = ("max_steps", "trainer.target_flops", "trainer.target_tokens",
             "data.records_to_sample", "trainer.fractional_epochs")  # fmt: skip
    for index, ruling in enumerate(order):
        left = order[index:]
        made = plan(
            max_steps=40 if "max_steps" in left else -1,
            data=data if "data.records_to_sample" in left else {},
            trainer={n: v for n, v in trainer.items() if f"trainer.{n}" in left},
        )
        assert made.length_by == ruling
        for other in left[1:]:
            change = reason_of(made, other)
            assert change.used is None
            assert change.reason.startswith(f"{ruling} decides the length of the run")
        assert reason_of(made, ruling) is None
    assert made.total_steps == 13


def test_automatic_records_are_25_000_and_the_plan_says_so(plan):
    change = reason_of(plan(data={"records_to_sample": "AUTO"}), "data.records_to_sample")
    assert (change.configured, change.used) == ("auto", 25_000)
    assert change.reason == "auto is 25,000 records."


def test_without_rows_the_length_is_unknown_and_nothing_is_said(plan):
    made = plan({"train_rows": None}, data={"records_to_sample": 500})
    assert made.total_steps is None
    assert reason_of(made, "num_train_epochs") is None
    without_shape = plan({"model_flops": None}, trainer={"target_flops": 1e14})
    assert without_shape.total_steps is None


def test_an_old_recipe_trains_as_before(plan):
    assert plan(num_train_epochs=3).total_steps == 375
    assert plan(num_train_epochs=3).length_by == "num_train_epochs"
    assert plan(max_steps=7).total_steps == 7
    assert not {change.where for change in plan(max_steps=7).changes} & {
        *("num_train_epochs", "learning_rate", "data.records_to_sample")
    }
    assert plan(learning_rate=3e-5).learning_rate == 3e-5


@pytest.mark.parametrize(
    ("facts", "settings", "rate"),
    [
        ({}, {}, 5e-4),
        ({"model_type": "mistral"}, {}, 1e-4),
        ({"model_type": "mixtral"}, {"strategy": "qlora"}, 1e-4),
        ({}, {"adapter": {"enabled": False}}, 2e-5),
        ({}, {"strategy": "dpo"}, 5e-6),
        ({}, {"strategy": "dpo", "adapter": {"enabled": False}}, 5e-7),
    ],
)
def test_the_automatic_rate_follows_strategy_and_family(plan, facts, settings, rate):
    schedule = {"auto_learning_rate": True, "final_lr_fraction": 0.1}
    made = plan(facts, learning_rate=0.9, schedule=schedule, lr_scheduler_type="linear", **settings)
    assert made.learning_rate == rate
    assert made.lr_scheduler_kwargs["lr_end"] == pytest.approx(rate / 10)
    change = reason_of(made, "learning_rate")
    assert (change.configured, change.used) == (0.9, rate)
    assert change.reason.startswith("Chosen automatically: ")


@pytest.mark.parametrize(
    ("value", "what", "remedy"),
    [
        (0, "0 is too small.", "Enter a whole number of 1 or more, or auto, or leave it empty."),
        ("2.5", "2.5 is not a whole number.", None),
        ("many", "'many' is not a number.", None),
        ([1], "A list of 1 is not a number.", None),
    ],
)
def test_records_are_a_number_or_auto(minimal, value, what, remedy):
    with pytest.raises(ConfigError) as refused:
        resolve(Layer("form", minimal | {"data.records_to_sample": value}))
    (problem,) = refused.value.problems
    assert problem.where == "data.records_to_sample"
    assert problem.what == what
    assert remedy in (None, problem.remedy)


@pytest.mark.parametrize(("value", "kept"), [("1200", 1200), ("auto", "auto"), ("", None)])
def test_records_are_read_from_text(minimal, value, kept):
    found = resolve(Layer("form", minimal | {"data.records_to_sample": value})).config
    assert found.data.records_to_sample == kept
    again = TrainingConfig.from_record(found.explicit_values())
    assert again.data.records_to_sample == kept


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"strategy": "rlhf", "trainer": {"target_tokens": 5}}, "trainer.target_tokens"),
        ({"strategy": "rlhf", "trainer": {"target_flops": 5}}, "trainer.target_flops"),
        ({"strategy": "dpo", "trainer": {"target_flops": 5}}, "trainer.target_flops"),
    ],
)
def test_what_cannot_be_counted_is_refused(minimal, settings, where):
    with pytest.raises(ConfigError) as refused:
        resolve(Layer("form", minimal | settings))
    assert [problem.where for problem in refused.value.problems] == [where]


def test_automatic_records_grow_with_the_rope_factor(plan):
    model = {"rope_type": "yarn", "rope_factor": 3.0}
    made = plan({"context": 512}, data={"records_to_sample": "auto"}, model=model)
    change = reason_of(made, "data.records_to_sample")
    assert change.used == 75_000
    assert change.reason == "auto is 25,000 records, times the RoPE factor 3."
    assert made.epochs == 75
