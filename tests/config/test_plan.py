import json

import pytest

from modelforge.config import TrainingConfig
from modelforge.config.plan import Ground, Plan, eval_every, make_plan, total_steps


@pytest.fixture
def plan(minimal):
    """The plan that answers come to on a ground; both may be changed by name."""

    def come_to(ground=None, **answers):
        facts = {"device": "cuda", "model_path": "m", "compute_capability": (8, 6)}
        return make_plan(TrainingConfig(**minimal | answers), Ground(**facts | (ground or {})))

    return come_to


def reasons(plan):
    return {change.where: (change.said, change.used) for change in plan.changes}


def test_a_config_is_never_altered_and_every_change_has_a_reason(plan):
    config_only = plan()
    assert all(change.reason.endswith(".") for change in config_only.changes)
    assert {change.where for change in config_only.changes} == {
        "max_seq_length",
        "bnb_4bit_compute_dtype",
    }


@pytest.mark.parametrize(
    ("answers", "quantization"),
    [
        ({}, "4-bit"),
        ({"use_8bit": True}, "8-bit"),
        ({"use_8bit": True, "use_4bit": False}, "8-bit"),
        ({"use_4bit": False}, "none"),
    ],
)
def test_weights_are_kept_as_was_said(plan, answers, quantization):
    assert plan(**answers).quantization == quantization


def test_eight_bit_alone_switches_the_default_four_bit_off_and_says_so(plan):
    assert reasons(plan(use_8bit=True))["use_4bit"] == (True, False)


@pytest.mark.parametrize(
    ("device", "capability", "answers", "precision"),
    [
        ("cuda", (8, 0), {}, "bf16"),
        ("cuda", (7, 5), {}, "fp16"),
        ("cuda", None, {}, "fp16"),
        ("cpu", None, {}, "fp32"),
        ("mps", None, {}, "fp32"),
        ("cuda", (8, 0), {"fp16": True}, "fp16"),
        ("cuda", (7, 5), {"bf16": True}, "bf16"),
        ("cuda", (8, 0), {"fp16": False, "bf16": False}, "fp32"),
        ("cuda", (8, 0), {"hardware": {"precision": "fp32"}}, "fp32"),
        ("cuda", (8, 0), {"fp16": False, "hardware": {"precision": "bf16"}}, "bf16"),
    ],
)
def test_the_precision_is_the_one_said_or_the_best_there_is(
    plan, device, capability, answers, precision
):
    ground = {"device": device, "compute_capability": capability}
    assert plan(ground, **answers).precision == precision


@pytest.mark.parametrize(
    ("capability", "answers", "dtype"),
    [
        ((8, 0), {}, "bfloat16"),
        ((7, 5), {}, "float16"),
        ((8, 0), {"bnb_4bit_compute_dtype": "float32"}, "float32"),
        ((8, 0), {"use_4bit": False}, "float16"),
    ],
)
def test_the_compute_type_follows_the_precision_unless_said(plan, capability, answers, dtype):
    assert plan({"compute_capability": capability}, **answers).bnb_4bit_compute_dtype == dtype


@pytest.mark.parametrize(
    ("context", "answers", "length"),
    [
        (None, {}, 512),
        (None, {"compute_specs": "mid_range"}, 2048),
        (None, {"compute_specs": "high_end"}, 4096),
        (256, {}, 256),
        (8192, {"max_seq_length": -1}, 512),
        (8192, {"max_seq_length": 1024}, 1024),
        (512, {"max_seq_length": 1024}, 512),
    ],
)
def test_the_length_is_the_one_said_within_what_the_model_reads(plan, context, answers, length):
    found = plan({"context": context}, **answers)
    assert found.max_length == length
    changed = "max_seq_length" in reasons(found)
    assert changed == (answers.get("max_seq_length") != length)


@pytest.mark.parametrize(
    ("device", "said", "used"),
    [
        ("cuda", "paged_adamw_32bit", "paged_adamw_32bit"),
        ("cpu", "paged_adamw_32bit", "adamw_torch"),
        ("mps", "paged_adamw_32bit", "adamw_torch"),
        ("cpu", "adamw_8bit", "adamw_8bit"),
        ("mps", "adamw_8bit", "adamw_torch"),
        ("cpu", "sgd", "sgd"),
    ],
)
def test_an_optimizer_the_device_lacks_is_replaced_by_its_like(plan, device, said, used):
    found = plan({"device": device}, optim=said)
    assert found.optim == used
    assert ("optim" in reasons(found)) == (said != used)


def test_packing_leaves_no_lengths_to_group_by(plan):
    assert plan(group_by_length=True).group_by_length
    packed = plan(packing=True)
    assert not packed.group_by_length
    assert reasons(packed)["group_by_length"] == (True, False)


def test_a_constant_rate_keeps_its_warm_up(plan):
    assert plan(lr_scheduler_type="constant").lr_scheduler_type == "constant_with_warmup"
    still = plan(lr_scheduler_type="constant", warmup_ratio=0)
    assert still.lr_scheduler_type == "constant"


def test_a_polynomial_rate_ends_below_where_it_starts(plan):
    tiny = plan(lr_scheduler_type="polynomial", learning_rate=5e-8)
    assert 0 < tiny.lr_scheduler_kwargs["lr_end"] < 5e-8
    assert plan().lr_scheduler_kwargs == {}


def test_a_whole_run_of_warm_up_is_that_many_updates(plan):
    assert plan({"train_rows": 80}, warmup_ratio=1.0).warmup_steps == 20
    assert plan(warmup_ratio=0.1).warmup_steps == 0.1
    assert 0.9 < plan(warmup_ratio=1.0).warmup_steps < 1


@pytest.mark.parametrize(
    ("answers", "rows", "total"),
    [
        ({}, 80, 20),
        ({}, 81, 21),
        ({}, 1, 1),
        ({"num_train_epochs": 3}, 81, 63),
        ({"per_device_train_batch_size": 4}, 80, 5),
        ({"max_steps": 7, "num_train_epochs": 9}, 80, 7),
        ({"max_steps": 7}, None, 7),
        ({}, None, None),
    ],
)
def test_updates_are_counted_as_the_trainer_counts_them(minimal, answers, rows, total):
    assert total_steps(TrainingConfig(**minimal | answers), rows) == total


@pytest.mark.parametrize(
    ("answers", "total", "every"),
    [
        ({}, 1000, 100),
        ({}, 30, 30),
        ({"eval_steps": 10}, 30, 10),
        ({"eval_split": 0}, 30, None),
        ({}, None, 100),
    ],
)
def test_a_check_comes_at_least_once(minimal, answers, total, every):
    assert eval_every(TrainingConfig(**minimal | answers), total) == every


def test_a_plan_survives_the_way_through_json(plan):
    found = plan({"train_rows": 80, "context": 256}, use_8bit=True)
    assert found.changes
    assert Plan.from_dict(json.loads(json.dumps(found.as_dict()))) == found
