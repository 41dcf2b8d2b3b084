"""The context length in the plan: what "auto" chooses from the rows, and what is said of it."""

from __future__ import annotations

import pytest

from modelforge.config import TrainingConfig
from modelforge.config.plan.make import Plan, PlanContext, make_plan
from modelforge.config.resolve import Layer, resolve
from modelforge.errors import ConfigError


@pytest.fixture
def plan(minimal):
    """The plan of a model that reads 1,000 tokens, on rows whose longest has `longest`."""

    def come_to(longest=None, max_seq_length=None, context=1000, **model):
        settings = minimal | {"model": model, "max_seq_length": max_seq_length}
        facts = PlanContext("cpu", "m", context=context, longest_row=longest)
        return make_plan(TrainingConfig(**settings), facts)

    return come_to


def scaling(plan):
    return plan.rope_type, plan.rope_factor, plan.max_model_len, plan.max_length


def reason(plan, where):
    return next(change.reason for change in plan.changes if change.where == where)


def test_auto_takes_the_smallest_whole_factor_that_holds_the_longest_row(plan):
    made = plan(2_600, rope_type="yarn")
    assert scaling(made) == ("yarn", 3.0, 3_000, 2_624)
    assert reason(made, "model.rope_factor") == (
        "The longest row has about 2,600 tokens. The model reads 1,000 tokens."
    )


def test_auto_is_at_most_six(plan):
    made = plan(20_000, rope_type="linear")
    assert scaling(made) == ("linear", 6.0, 6_000, 6_000)
    assert "largest factor that is chosen is 6" in reason(made, "model.rope_factor")


def test_auto_scales_nothing_where_the_rows_fit(plan):
    made = plan(900, rope_type="yarn")
    assert scaling(made)[:3] == ("none", 1.0, None)
    assert "Nothing has to be scaled" in reason(made, "model.rope_type")


def test_rows_that_are_cut_need_no_more_than_they_keep(plan):
    assert scaling(plan(20_000, 1_800, rope_type="yarn")) == ("yarn", 2.0, 2_000, 1_800)


def test_a_length_that_is_asked_for_is_reached_beyond_six(plan):
    made = plan(1_200, rope_type="dynamic", max_model_len=7_500)
    assert scaling(made) == ("dynamic", 8.0, 7_500, 1_216)
    assert "7,500 tokens" in reason(made, "model.rope_factor")
    assert reason(made, "max_seq_length") == (
        "Rope scaling extends the context length to 7,500 tokens. "
        "The longest row has about 1,200 tokens."
    )


def test_a_factor_that_is_set_is_used_with_the_whole_context(plan):
    assert scaling(plan(100, rope_type="yarn", rope_factor=2.5)) == ("yarn", 2.5, 2_500, 2_500)


def test_a_factor_that_does_not_reach_the_length_says_so(plan):
    made = plan(rope_type="yarn", rope_factor=2, max_model_len=5_000)
    assert scaling(made)[:3] == ("yarn", 2.0, 2_000)
    assert reason(made, "model.max_model_len") == "1,000 tokens of the model times 2."


def test_without_scaling_the_length_is_a_limit_of_rows(plan):
    assert scaling(plan(max_model_len=300)) == ("none", 1.0, None, 300)
    assert plan(max_seq_length=400, max_model_len=300).max_length == 300


def test_nothing_is_scaled_where_the_context_is_unknown(plan):
    made = plan(2_000, context=None, rope_type="yarn")
    assert scaling(made)[:3] == ("none", 1.0, None)
    assert "unknown" in reason(made, "model.rope_type")


def test_the_text_auto_leaves_the_factor_to_the_rows(minimal):
    layer = Layer("form", minimal | {"model.rope_type": "yarn", "model.rope_factor": "auto"})
    assert resolve(layer).config.model.rope_factor is None


def test_a_factor_needs_a_scaling(minimal):
    with pytest.raises(ValueError, match=r"The factor is 2, but the rope scaling is none"):
        TrainingConfig(**minimal, model={"rope_factor": 2})


@pytest.mark.parametrize(
    ("precision", "adapter", "dtype", "used"),
    [
        ("bf16", True, "auto", "bfloat16"),
        ("bf16", True, "float32", "float32"),
        ("fp32", True, "bfloat16", "bfloat16"),
        ("bf16", False, "auto", "float32"),
        ("bf16", False, "bfloat16", "bfloat16"),
        ("fp16", False, "bfloat16", "float32"),
    ],
)
def test_weights_have_their_own_number_format(minimal, precision, adapter, dtype, used):
    config = TrainingConfig(
        **minimal,
        adapter={"enabled": adapter},
        model={"dtype": dtype},
        hardware={"precision": precision},
    )
    made = make_plan(config, PlanContext("cuda", "m", compute_capability=(8, 6)))
    assert made.weights_dtype == used
    assert {change.where for change in made.changes} & {"model.dtype"} == (
        {"model.dtype"} if dtype not in ("auto", used) else set()
    )


def test_a_plan_of_an_earlier_release_has_the_dtype_that_it_had(plan):
    stored = plan().as_dict()
    for name in ("dtype", "rope_type", "rope_factor", "max_model_len"):
        del stored[name]
    read = Plan.from_dict({**stored, "precision": "bf16"}, {})
    assert (read.weights_dtype, read.rope_type) == ("bfloat16", "none")


def test_trained_weights_in_float16_are_refused(minimal):
    with pytest.raises((ConfigError, ValueError), match="gradients underflow"):
        TrainingConfig(**minimal, adapter={"enabled": False}, model={"dtype": "float16"})
