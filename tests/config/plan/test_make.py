import json

import pytest

from modelforge.config import TrainingConfig
from modelforge.config.plan.context import ChangeLog, is_native_linux
from modelforge.config.plan.make import Plan, PlanContext, make_plan, releases_memory
from modelforge.config.plan.run_length import run_length
from modelforge.config.plan.training import eval_interval

WSD = "warmup_stable_decay"
FP32 = {"precision": "fp32"}


def total_steps(config, rows, row_tokens=None, length=256):
    context = PlanContext("cuda", "m", train_rows=rows, row_tokens=row_tokens)
    return run_length(config, context, length).steps


@pytest.fixture
def plan(minimal):
    """The plan that answers come to on a ground; both may be changed by name."""

    def come_to(setting_facts=None, **answers):
        facts = {"device": "cuda", "model_path": "m", "compute_capability": (8, 6)}
        return make_plan(
            TrainingConfig(**minimal | answers), PlanContext(**facts | (setting_facts or {}))
        )

    return come_to


def reasons(plan):
    return {change.where: (change.configured, change.used) for change in plan.changes}


def test_a_config_is_never_altered_and_every_change_has_a_reason(plan):
    config_only = plan()
    assert all(change.reason.endswith(".") for change in config_only.changes)
    assert {change.where for change in config_only.changes} == {
        "max_seq_length",
        "bnb_4bit_compute_dtype",
        "optim",
    }


@pytest.mark.parametrize(
    ("answers", "quantization"),
    [
        ({}, "4-bit"),
        ({"use_8bit": True}, "8-bit"),
        ({"use_8bit": True, "use_4bit": False}, "8-bit"),
        ({"use_4bit": False}, "none"),
        ({"quantization": {"scheme": "none"}}, "none"),
        ({"quantization": {"scheme": "bnb-4bit"}}, "4-bit"),
        ({"quantization": {"scheme": "bnb-8bit"}}, "8-bit"),
        ({"quantization": {"scheme": "fp8"}}, "fp8"),
        ({"quantization": {"scheme": "nvfp4"}}, "nvfp4"),
        ({"quantization": {"scheme": "mxfp4"}}, "mxfp4"),
        ({"quantization": {"scheme": "int8-weight-only"}}, "int8-weight-only"),
        ({"strategy": "qlora", "quantization": {"scheme": "fp8-weight-only"}}, "fp8-weight-only"),
        ({"adapter": {"enabled": False}}, "none"),
    ],
)
def test_weights_are_stored_in_the_type_that_is_set(plan, answers, quantization):
    assert plan(**answers).quantization == quantization


@pytest.mark.parametrize("device", ["cuda", "cpu", "mps"])
@pytest.mark.parametrize(
    ("answers", "elsewhere"),
    [
        ({}, "none"),
        ({"use_4bit": True}, "4-bit"),
        ({"strategy": "qlora"}, "4-bit"),
        ({"quantization": {"scheme": "bnb-4bit"}}, "4-bit"),
    ],
)
def test_four_bits_are_the_default_with_an_nvidia_gpu_only(plan, device, answers, elsewhere):
    made = plan({"device": device}, **answers)
    assert made.quantization == ("4-bit" if device == "cuda" else elsewhere)
    is_changed = reasons(made).get("use_4bit") == (True, False)
    assert is_changed == (made.quantization == "none")


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
def test_the_precision_is_the_one_set_or_the_best_available(
    plan, device, capability, answers, precision
):
    setting_facts = {"device": device, "compute_capability": capability}
    assert plan(setting_facts, **answers).precision == precision


@pytest.mark.parametrize(
    ("capability", "answers", "dtype"),
    [
        ((8, 0), {}, "bfloat16"),
        ((7, 5), {}, "float16"),
        ((8, 0), {"bnb_4bit_compute_dtype": "float32"}, "float32"),
        ((8, 0), {"use_4bit": False}, "float16"),
    ],
)
def test_the_compute_type_follows_the_precision_unless_set(plan, capability, answers, dtype):
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
def test_the_length_is_the_one_set_within_the_context_of_the_model(plan, context, answers, length):
    found = plan({"context": context}, **answers)
    assert found.max_length == length
    changed = "max_seq_length" in reasons(found)
    assert changed == (answers.get("max_seq_length") != length)


@pytest.mark.parametrize(
    ("setting_facts", "answers", "used"),
    [
        ({}, {}, "adamw_torch_fused"),
        ({}, {"optim": "paged_adamw_32bit"}, "paged_adamw_32bit"),
        ({}, {"adapter": {"dtype": "bfloat16"}}, "paged_adamw_32bit"),
        ({}, {"adapter": {"enabled": False}}, "paged_adamw_32bit"),
        ({"native_linux": False}, {"adapter": {"enabled": False}}, "adamw_torch_fused"),
        ({"native_linux": False}, {"optim": "paged_adamw_32bit"}, "paged_adamw_32bit"),
    ],
)
def test_the_default_optimizer_pages_only_large_states_and_where_it_can(
    plan, setting_facts, answers, used
):
    found = plan(setting_facts, **answers)
    assert found.optim == used
    assert ("optim" in reasons(found)) == (used != "paged_adamw_32bit")


@pytest.mark.parametrize(
    ("system", "native"),
    [("Linux 6.8.0-31-generic", True), ("Windows 11", False), ("Linux 5.15.1 (WSL)", False)],
)
def test_wsl_and_windows_are_not_native_linux(system, native):
    assert is_native_linux(system) is native
    assert not is_native_linux("Linux", "5.15.167.4-microsoft-standard-WSL2")


@pytest.mark.parametrize(
    ("device", "values", "used"),
    [
        ("cuda", "paged_adamw_32bit", "paged_adamw_32bit"),
        ("cpu", "paged_adamw_32bit", "adamw_torch"),
        ("mps", "paged_adamw_32bit", "adamw_torch"),
        ("cpu", "adamw_8bit", "adamw_8bit"),
        ("mps", "adamw_8bit", "adamw_torch"),
        ("cpu", "sgd", "sgd"),
        ("cuda", "paged_lion_8bit", "paged_lion_8bit"),
        ("cpu", "paged_lion_8bit", "lion_8bit"),
        ("cpu", "paged_lion_32bit", "lion_32bit"),
        ("cpu", "paged_adamw_8bit", "adamw_8bit"),
        ("cpu", "paged_ademamix_32bit", "ademamix"),
        ("mps", "paged_ademamix_8bit", "adamw_torch"),
        ("mps", "lion_8bit", "adamw_torch"),
        ("cpu", "adafactor", "adafactor"),
        ("mps", "adamw_torch_fused", "adamw_torch_fused"),
    ],
)
def test_an_optimizer_the_device_lacks_is_replaced_by_its_like(plan, device, values, used):
    found = plan({"device": device}, optim=values)
    assert found.optim == used
    assert ("optim" in reasons(found)) == (values != used)


def test_packing_leaves_no_lengths_to_group_by(plan):
    assert plan(group_by_length=True).group_by_length
    packed = plan(packing=True)
    assert not packed.group_by_length
    assert reasons(packed)["group_by_length"] == (True, False)
    in_order = plan(group_by_length=True, data={"shuffle": False})
    assert reasons(in_order)["group_by_length"] == (True, False)


def test_a_constant_rate_keeps_its_warm_up(plan):
    assert plan(lr_scheduler_type="constant").lr_scheduler_type == "constant_with_warmup"
    still = plan(lr_scheduler_type="constant", warmup_ratio=0)
    assert still.lr_scheduler_type == "constant"


def test_a_polynomial_rate_ends_below_where_it_starts(plan):
    tiny = plan(lr_scheduler_type="polynomial", learning_rate=5e-8)
    assert 0 < tiny.lr_scheduler_kwargs["lr_end"] < 5e-8
    assert plan().lr_scheduler_kwargs == {}


@pytest.mark.parametrize(
    ("schedule", "values", "used", "kwargs"),
    [
        ("cosine", {}, "cosine", {}),
        ("cosine", {"final_lr_fraction": 0.1}, "cosine_with_min_lr", {"min_lr_rate": 0.1}),
        ("linear", {"final_lr_fraction": 0.5}, "polynomial", {"lr_end": 1e-4, "power": 1.0}),
        ("polynomial", {"final_lr_fraction": 0.5}, "polynomial", {"lr_end": 1e-4, "power": 1.0}),
        ("cosine_with_restarts", {}, "cosine_with_restarts", {"num_cycles": 2}),
        ("cosine_with_min_lr", {}, "cosine_with_min_lr", {"min_lr_rate": 0.1}),
        (
            "cosine_warmup_with_min_lr",
            {"final_lr_fraction": 0.0},
            "cosine_warmup_with_min_lr",
            {"min_lr_rate": 0.0},
        ),
        (
            "reduce_lr_on_plateau",
            {"patience": 3, "final_lr_fraction": 0.5},
            "reduce_lr_on_plateau",
            {"mode": "min", "patience": 3, "min_lr": 1e-4, "eps": 0.0},
        ),
        (
            "greedy",
            {},
            "greedy",
            {"mode": "min", "patience": 1, "min_lr": 0.0, "eps": 0.0, "max_lr": 2e-3},
        ),
        (
            "wsd",
            {},
            "warmup_stable_decay",
            {"num_decay_steps": 0.2, "decay_type": "linear", "min_lr_ratio": 0.0},
        ),
        (
            "wsd",
            {"decay_steps": 7, "decay_shape": "1-sqrt", "final_lr_fraction": 0.25},
            "warmup_stable_decay",
            {"num_decay_steps": 7, "decay_type": "1-sqrt", "min_lr_ratio": 0.25},
        ),
        (
            "cosine",
            {"decay_steps": 7, "decay_shape": "1-sqrt", "final_lr_fraction": 0.25},
            "cosine",
            {"num_decay_steps": 7, "decay_type": "1-sqrt", "min_lr_ratio": 0.25},
        ),
        (
            "linear",
            {"decay_ratio": 0.1},
            "linear",
            {"num_decay_steps": 0.1, "decay_type": "linear", "min_lr_ratio": 0.0},
        ),
        ("linear", {"decay_steps": 0}, "linear", {}),
    ],
)
def test_a_schedule_takes_its_arguments(plan, schedule, values, used, kwargs):
    found = plan(lr_scheduler_type=schedule, schedule=values)
    assert (found.lr_scheduler_type, found.lr_scheduler_kwargs) == (used, kwargs)
    assert ("lr_scheduler_type" in reasons(found)) == (used not in (schedule, WSD))


@pytest.mark.parametrize(
    ("packages", "compiles"),
    [(set(), False), ({"triton", "cc"}, False), ({"triton", "cc", "Python.h"}, True)],
)
def test_kernels_are_compiled_only_with_a_compiler(plan, packages, compiles):
    assert plan({"packages": frozenset(packages)}).compiles_kernels is compiles


def test_a_schedule_by_results_has_no_warm_up_and_raises_a_reward(plan):
    found = plan(lr_scheduler_type="reduce_lr_on_plateau", warmup_ratio=0.5)
    assert found.warmup_steps == 0
    rewarded = plan(lr_scheduler_type="greedy", strategy="rlhf")
    assert rewarded.lr_scheduler_kwargs["mode"] == "max"


def test_the_final_rate_of_a_schedule_that_needs_one_is_named(plan):
    found = reasons(plan(lr_scheduler_type="cosine_with_min_lr"))
    assert found["schedule.final_lr_fraction"] == (0.0, 0.1)


def test_updates_of_warm_up_beat_its_share(plan):
    assert plan(warmup_ratio=0.1, schedule={"warmup_steps": 5}).warmup_steps == 5
    still = plan(lr_scheduler_type="constant", schedule={"warmup_steps": 0})
    assert still.lr_scheduler_type == "constant"


def test_training_every_weight_switches_the_default_four_bit_off_and_says_so(plan):
    whole = plan(adapter={"enabled": False})
    assert whole.trains == "all"
    assert reasons(whole)["use_4bit"] == (True, False)


def test_a_scheme_of_its_own_takes_the_place_of_the_default_four_bit(plan):
    assert reasons(plan(quantization={"scheme": "fp8"}))["use_4bit"] == (True, False)
    assert "use_4bit" not in reasons(plan(quantization={"scheme": "bnb-4bit"}))


def test_alpha_follows_its_ratio_to_the_rank(plan):
    assert plan().lora_alpha == 32
    ratio = plan(lora_r=8, adapter={"alpha_over_r": 2})
    assert ratio.lora_alpha == 16
    assert reasons(ratio)["lora_alpha"] == (32, 16)


def test_the_adapter_is_kept_in_32_bits_unless_set(plan):
    assert plan().adapter_dtype == "float32"
    assert plan(adapter={"dtype": "bfloat16"}).adapter_dtype == "bfloat16"


FLASH = {"model": {"attn_implementation": "flash_attention_2"}}
FLASH_3 = {"model": {"attn_implementation": "flash_attention_3"}}


@pytest.mark.parametrize(
    ("setting_facts", "answers", "used"),
    [
        ({}, {}, "sdpa"),
        ({}, {"model": {"attn_implementation": "eager"}}, "eager"),
        ({"packages": frozenset({"flash_attn"})}, FLASH, "flash_attention_2"),
        ({"packages": frozenset({"flash_attn"})}, FLASH | {"hardware": FP32}, "sdpa"),
        ({}, FLASH, "sdpa"),
        ({"packages": frozenset({"flash_attn"}), "compute_capability": (7, 5)}, FLASH, "sdpa"),
        ({"packages": frozenset({"flash_attn"}), "device": "cpu"}, FLASH, "sdpa"),
        (
            {"packages": frozenset({"flash_attn_interface"}), "compute_capability": (9, 0)},
            FLASH_3,
            "flash_attention_3",
        ),
        ({"packages": frozenset({"flash_attn_interface"})}, FLASH_3, "sdpa"),
    ],
)
def test_flash_attention_is_used_where_card_package_and_precision_allow(
    plan, setting_facts, answers, used
):
    found = plan(setting_facts, **answers)
    assert found.attn_implementation == used
    asked = answers.get("model", {}).get("attn_implementation", "sdpa")
    assert ("model.attn_implementation" in reasons(found)) == (used != asked)


@pytest.mark.parametrize(
    ("batch", "accumulation", "answers", "used", "total"),
    [(1, 4, 2, 4, 40), (1, 4, 3, 6, 40), (2, 1, 8, 4, 80), (3, 1, 2, 2, 26), (8, 1, 8, 1, 80)],
)
def test_an_update_from_rewards_holds_all_answers_to_its_prompts(
    plan, batch, accumulation, answers, used, total
):
    found = plan(
        {"train_rows": 80},
        strategy="rlhf",
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulation,
        trainer={"num_generations": answers},
    )
    assert found.gradient_accumulation_steps == used
    assert found.total_steps == total
    assert ("gradient_accumulation_steps" in reasons(found)) == (used != accumulation)


def test_a_plan_of_an_earlier_release_still_opens(plan):
    old = plan().as_dict()
    for name in ("attn_implementation", "lora_alpha", "adapter_dtype", "trains", "method"):
        del old[name]
    del old["gradient_accumulation_steps"]
    found = Plan.from_dict(old, {"lora_alpha": 8})
    assert (found.lora_alpha, found.gradient_accumulation_steps) == (8, 4)
    assert found.save_steps == (found.eval_steps or 100)


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


def test_packed_rows_share_sequences_so_that_there_are_fewer_updates(plan, minimal):
    packed = TrainingConfig(**minimal | {"packing": True, "gradient_accumulation_steps": 2})
    assert total_steps(packed, 801, 67.5, 256) == 109
    assert total_steps(packed, 801) == 401
    assert total_steps(packed, 801, 5000, 256) >= 401
    setting_facts = {"train_rows": 801, "row_tokens": 67.5}
    assert plan(setting_facts, packing=True, max_seq_length=256).total_steps == 55


def test_compiling_is_left_out_where_nothing_can_compile(plan):
    values = {"trainer": {"torch_compile": True}}
    needed = frozenset({"triton", "cc", "Python.h"})
    assert plan({"packages": needed}, **values).torch_compile
    for name, text in (("triton", "triton"), ("cc", "a C compiler"), ("Python.h", "Python.h")):
        without = plan({"packages": needed - {name}}, **values)
        assert not without.torch_compile
        assert text in without.changes[-1].reason
    assert not plan(**values).torch_compile
    assert "triton" in plan(**values).changes[-1].reason
    on_cpu = {"device": "cpu", "packages": frozenset({"c++", "Python.h"})}
    assert plan(on_cpu, **values).torch_compile
    assert not plan({"device": "mps"}, **values).torch_compile
    assert not plan({"packages": needed}).torch_compile


def test_loading_processes_are_for_many_rows_on_a_card(plan):
    assert plan({"train_rows": 100_000}).num_workers == 2
    assert plan({"train_rows": 100}).num_workers == 0
    assert plan({"train_rows": 100_000, "device": "cpu"}).num_workers == 0
    assert plan(data={"num_workers": 3}).num_workers == 3


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
def test_a_run_evaluates_at_least_once(minimal, answers, total, every):
    config = TrainingConfig(**minimal | answers)
    assert eval_interval(config, total, ChangeLog(config)) == every


@pytest.mark.parametrize(
    ("trainer", "more", "every", "changed"),
    [
        ({}, {}, 20, False),
        ({"save_steps": -1}, {}, -1, False),
        ({"save_steps": 40}, {}, 40, False),
        ({"save_steps": 30}, {}, 40, True),
        ({"save_steps": 1}, {}, 20, True),
        ({"save_steps": 30}, {"evaluation": {"keep_best": False}}, 30, False),
        ({"save_steps": 30}, {"eval_split": 0}, 30, False),
    ],
)
def test_each_checkpoint_falls_on_a_check_where_the_best_is_kept(
    plan, trainer, more, every, changed
):
    found = plan({"train_rows": 1000}, trainer=trainer, eval_steps=20, **more)
    assert found.save_steps == every
    reported = [change for change in found.changes if change.where == "trainer.save_steps"]
    assert bool(reported) == changed
    assert all("(20)" in change.reason for change in reported)


def test_a_plan_survives_the_way_through_json(plan):
    found = plan({"train_rows": 80, "context": 256}, use_8bit=True)
    assert found.changes
    assert Plan.from_dict(json.loads(json.dumps(found.as_dict())), {}) == found


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_a_ceiling_of_the_gpu_means_nothing_without_one_and_the_plan_says_so(plan, device):
    hardware = {"max_gpu_temperature": 80, "max_gpu_power": 250}
    changed = reasons(plan({"device": device}, hardware=hardware))
    assert changed["hardware.max_gpu_temperature"] == (80, None)
    assert changed["hardware.max_gpu_power"] == (250, None)
    assert not any(where.startswith("hardware") for where in reasons(plan(hardware=hardware)))


@pytest.mark.parametrize(
    ("device", "values", "expected"),
    [
        ("cpu", {"gradient_checkpointing": True}, True),
        ("cpu", {"use_4bit": True}, True),
        ("cpu", {}, False),
        ("cuda", {"gradient_checkpointing": True, "use_4bit": True}, False),
    ],
)
def test_memory_is_given_back_only_where_it_was_asked_for(plan, minimal, device, values, expected):
    answers = {"use_4bit": False, "gradient_checkpointing": False} | values
    made = plan({"device": device}, **answers)
    assert releases_memory(TrainingConfig(**minimal | answers), made) is expected


RLHF = {"strategy": "rlhf", "learning_rate": 1e-5}


@pytest.mark.parametrize(
    ("settings", "length"),
    [
        ({"max_seq_length": 256}, 128),
        ({"max_seq_length": 512}, 256),
        ({"max_seq_length": 4096}, 256),
        ({"max_seq_length": 1}, 1),
        ({"max_seq_length": 256, "trainer": {"max_completion_length": 200}}, 200),
        ({"max_seq_length": 256, "trainer": {"max_completion_length": 256}}, 256),
    ],
)
def test_completions_leave_half_of_a_row_to_the_prompt_unless_their_length_is_set(
    plan, settings, length
):
    made = plan(**RLHF, **settings)
    assert made.max_completion_length == length
    changed = length < 256 and "trainer" not in settings
    assert ("trainer.max_completion_length" in reasons(made)) is changed


def test_a_record_of_an_earlier_release_keeps_its_completion_length(plan):
    record = plan(**RLHF).as_dict()
    del record["max_completion_length"]
    config = {"trainer": {"max_completion_length": 77}}
    assert Plan.from_dict(record, config).max_completion_length == 77
    assert Plan.from_dict(record, {}).max_completion_length == 256
