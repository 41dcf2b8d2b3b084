"""Files of Surogate."""

import pytest

from modelforge.config.exporters.facts import Facts
from modelforge.config.exporters.write import export_settings
from modelforge.config.importers.read import import_settings
from modelforge.config.optimizers import full_schedule_name
from modelforge.config.resolve import Layer, resolve
from tests.config.importers.examples import line_of, problems_of, read_example, settings_of

NORMUON = ("muon_momentum", "muon_beta2", "muon_scale", "cautious_weight_decay")
DATA = {"dataset": "text.txt", "compute_specs": "low_end"}
MODEL = "model: acme/oak\nsequence_len: 512\n"


SCRATCH = "model: Qwen/Qwen3-0.6B\nfrom_scratch: true\nlora: false\nsequence_len: 512\n"


def test_from_scratch_is_a_training_from_nothing_with_the_tokenizer_of_the_model():
    imported = import_settings(SCRATCH, "a.yaml", "surogate").imported
    recipe = imported.recipe
    assert recipe["pretraining"] == {
        "enabled": True,
        "arch": "qwen3",
        "tokenizer": "Qwen/Qwen3-0.6B",
        "init_projections_to_zero": False,
        "total_batch_tokens": 2 * 4 * 512,
    }
    assert "model_name" not in recipe
    for option in ("model", "lora"):
        assert line_of(imported, option).result == "no-effect"
    config = resolve(Layer("file", recipe), Layer("you", DATA)).config
    assert (config.model_name, config.optimizer.embedding_lr) == ("d6", None)
    assert config.learning_rate == 2e-4


def test_projections_are_a_setting_of_a_new_model_alone():
    zero = "init_projections_to_zero: true\n"
    recipe = import_settings(SCRATCH + zero, "a.yaml", "surogate").imported.recipe
    assert recipe["pretraining"]["init_projections_to_zero"] is True
    imported = import_settings(MODEL + zero, "a.yaml", "surogate").imported
    assert "from_scratch" in line_of(imported, "init_projections_to_zero").why
    assert "pretraining" not in imported.recipe


@pytest.mark.parametrize(
    "wrong", ["lora: true\n", "datasets: [{path: a, type: preference}]\nlora: false\n"]
)
def test_from_scratch_trains_all_weights_on_text(wrong):
    text = f"{MODEL}from_scratch: true\n{wrong}"
    assert "file.yaml, line 3, from_scratch" in [each.where for each in problems_of(text)]


def test_the_example_of_the_document_becomes_our_settings():
    imported = read_example("surogate", "00-document")
    recipe = imported.recipe
    assert recipe["model_name"] == "acme/pine-0.6b"
    assert recipe["max_seq_length"] == 2048
    assert recipe["lr_scheduler_type"] == "cosine"
    assert recipe["adapter"]["target_modules"] == "q_proj, v_proj"
    assert recipe["quantization"]["scheme"] == "none"
    assert recipe["data"]["sources"] == [
        {
            "path": "acme/chats",
            "type": "conversation",
            "messages_field": "conversations",
            "split": "train",
        }
    ]
    assert line_of(imported, "datasets[0].split").line == 23
    assert line_of(imported, "max_model_len").setting == "model.max_model_len"


def test_what_the_file_leaves_out_has_the_defaults_of_surogate():
    settings = settings_of(MODEL)
    assert settings["num_train_epochs"] == 3
    assert settings["packing"] is True
    assert settings["eval_split"] == 0.1
    assert settings["weight_decay"] == 0.1
    assert settings["trainer.seed"] == 1234
    assert settings["adapter.target_modules"] == "all-linear"


@pytest.mark.parametrize(
    ("lines", "is_on"),
    [
        ("", True),
        ("recompute_block: true\nrecompute_att: false\n", True),
        ("recompute_block: false\n", True),  # recompute_lora is on there, and switches it on
        ("recompute_block: false\nlora: false\n", True),  # parts of layers
    ],
)
def test_parts_that_are_recomputed_are_whole_layers_here(lines, is_on):
    assert settings_of(MODEL + lines)["gradient_checkpointing"] is is_on


def test_nothing_is_recomputed_if_every_part_is_off():
    assert read_example("surogate", "07-full").recipe["gradient_checkpointing"] is False


def test_an_implied_part_is_named():
    text = MODEL + "recompute_block: true\nrecompute_qkv: false\n"
    why = line_of(import_settings(text, "x").imported, "recompute_qkv").why
    assert why.startswith("recompute_block includes it.")


@pytest.mark.parametrize(("gpus", "sharding"), [(1, None), (4, "zero2")])
def test_with_one_gpu_there_is_nothing_to_divide(gpus, sharding):
    found = settings_of(f"{MODEL}gpus: {gpus}\nzero_level: 2\n")
    assert found.get("hardware.sharding") == sharding


@pytest.mark.parametrize(
    ("lines", "setting", "value"),
    [
        ("gpus: 4\n", "hardware.gpus", 4),
        ("gpus: 0\n", "hardware.gpus", 0),
        # Batches are counted for each GPU there, and for all of them here.
        ("gpus: 4\ngradient_accumulation_steps: 2\n", "gradient_accumulation_steps", 8),
        ("gpus: 1\ngradient_accumulation_steps: 2\n", "gradient_accumulation_steps", 2),
        ("gpus: 2\nshard_weights: true\n", "hardware.sharding", "fsdp2"),
        ("gpus: 2\nshard_gradients: true\n", "hardware.sharding", "zero2"),
        ("gpus: 2\nshard_weights: true\nzero_level: 1\n", "hardware.sharding", "zero1"),
        ("parallelism: ddp\n", "hardware.sharding", "ddp"),
        ("sequence_parallel_size: 2\n", "hardware.sequence_parallel_size", 2),
        ("distributed:\n  gpus_per_node: 2\n", "hardware.gpus", 2),
    ],
)
def test_several_gpus_and_what_they_divide(lines, setting, value):
    assert settings_of(MODEL + lines).get(setting) == value


@pytest.mark.parametrize(
    ("lines", "option"),
    [
        ("parallelism: dispatch_pp\n", "parallelism"),
        ("distributed:\n  num_nodes: 2\n", "distributed"),
        ("ep_size: 2\n", "ep_size"),
    ],
)
def test_layers_computers_and_experts_are_not_divided(lines, option):
    assert line_of(import_settings(MODEL + lines, "x").imported, option).result == "refused"


@pytest.mark.parametrize(
    ("lines", "settings"),
    [
        ("rope_scaling: yarn\nmax_model_len: 4096\n", ("yarn", None, 4096)),
        ('rope_scaling: \'{"type": "linear", "factor": 4}\'\n', ("linear", 4.0, None)),
        ("rope_scaling:\n  rope_type: dynamic\n  factor: 2\n", ("dynamic", 2.0, None)),
    ],
)
def test_rope_scaling_is_a_word_or_a_group(lines, settings):
    found = settings_of(MODEL + lines)
    names = ("model.rope_type", "model.rope_factor", "model.max_model_len")
    assert tuple(found.get(name) for name in names) == settings


@pytest.mark.parametrize(
    "scaling", ['{"type": "longrope", "factor": 2}', '{"type": "yarn", "beta_fast": 8}', "llama3"]
)
def test_a_scaling_that_is_not_there_is_refused_as_a_whole(scaling):
    text = f"{MODEL}max_model_len: 4096\nrope_scaling: '{scaling}'\n"
    imported = import_settings(text, "x").imported
    assert line_of(imported, "rope_scaling").result == "refused"
    assert "rope_type" not in imported.recipe["model"]


@pytest.mark.parametrize(
    ("lines", "dtype"),
    [
        ("torch_dtype: bfloat16\n", None),
        ("torch_dtype: bfloat16\nlora: false\n", "bfloat16"),
        ("torch_dtype: bfloat16\nmaster_dtype: fp32\nlora: false\n", "float32"),
    ],
)
def test_the_copy_that_the_optimizer_changes_is_the_one_that_is_kept(lines, dtype):
    assert settings_of(MODEL + lines).get("model.dtype") == dtype


def test_the_chat_template_can_be_off_and_answers_begin_with_a_prefix():
    text = "use_chat_template: false\nresponse_prefix: 'So: '\npadding_side: left\n"
    settings = settings_of(MODEL + text)
    assert settings["data.use_chat_template"] is False
    assert settings["model.response_prefix"] == "So: "
    assert settings["data.padding_side"] == "left"


def test_preferences_are_dpo():
    settings = read_example("surogate", "09-preferences").recipe
    assert settings["strategy"] == "dpo"
    assert settings["trainer"]["preference_beta"] == 0.2
    assert settings["eval_split"] == 0.0
    assert "packing" not in settings


@pytest.mark.parametrize(
    ("lines", "option", "line"),
    [
        ("qlora_bnb: true\nqlora_fp8: true\n", "qlora_fp8", 4),
        ("qlora_fp4: true\nlora: false\n", "qlora_fp4", 3),
        ("offload_quants: true\n", "offload_quants", 3),
        ("persistent_quants: true\n", "persistent_quants", 3),
        ("rope_scaling: yarn\n", "rope_scaling", 3),
        ("qlora_block_size: 100\n", "qlora_block_size", 3),
        ("truncation_strategy: middle\n", "truncation_strategy", 3),
        ("zero_level: 4\n", "zero_level", 3),
        ("lora: yes please\n", "lora", 3),
        ("datasets:\n  - type: auto\n", "datasets[0]", 4),
        (
            "datasets:\n  - path: x\n    system_prompt_type: fixed\n",
            "datasets[0].system_prompt_type",
            5,
        ),
        ("max_length: 0\n", "max_length", 3),
    ],
)
def test_a_contradiction_is_an_error_with_line_and_key(lines, option, line):
    assert [problem.where for problem in problems_of(MODEL + lines)] == [
        f"file.yaml, line {line}, {option}"
    ]


def test_the_shorter_of_two_lengths_is_taken():
    assert settings_of(MODEL + "max_length: 256\n")["max_seq_length"] == 256
    assert settings_of(MODEL + "max_length: 1024\n")["max_seq_length"] == 512


@pytest.mark.parametrize(
    ("value", "optim"),
    [("adamw_8bit", "adamw_8bit"), ("adamw", "adamw_torch"), ("normuon", "normuon")],
)
def test_optimizers(value, optim):
    assert settings_of(f"{MODEL}optimizer: {value}\n").get("optim") == optim


def test_normuon_has_its_options_and_its_defaults():
    text = f"{MODEL}normuon_momentum: 0.9\noptimizer: normuon\nnormuon_cautious_wd: false\n"
    found = settings_of(text)
    assert {name: found[f"optimizer.{name}"] for name in NORMUON} == {
        "muon_momentum": 0.9,
        "muon_beta2": 0.95,
        "muon_scale": "original",
        "cautious_weight_decay": False,
    }
    assert "optimizer.muon_momentum" not in settings_of(f"{MODEL}normuon_momentum: 0.9\n")


@pytest.mark.parametrize(
    ("schedule", "name", "result"),
    [
        ("linear", "linear", "converted"),
        ("cosine", "cosine", "converted"),
        ("wsd", "warmup_stable_decay", "renamed"),
        ("constant", "warmup_stable_decay", "converted"),
    ],
)
def test_a_cooldown_ends_every_schedule(schedule, name, result):
    text = f"{MODEL}lr_scheduler_type: {schedule}\ncooldown_steps: 20\n"
    settings = settings_of(text)
    assert settings["schedule.decay_steps"] == 20
    assert full_schedule_name(settings["lr_scheduler_type"]) == name
    assert line_of(import_settings(text, "file.yaml").imported, "cooldown_steps").result == result


TEXTS = """
  - path: acme/texts
    type: text
    text_field: text
    split: train
    samples: 100000
"""
ORDERS = """
  - path: acme/orders
    type: instruction
    instruction_field: instruction
    input_field: input
    output_field: output
    system_prompt_type: fixed
    system_prompt: You sell tea.
"""
CHATS = """
  - path: acme/chats
    type: conversation
    messages_field: messages
    split: train_sft
"""


@pytest.mark.parametrize(
    ("block", "source"),
    [
        (TEXTS, {"text_field": "text", "samples": 100000}),
        (ORDERS, {"input_field": "input", "system_prompt": "You sell tea."}),
        (CHATS, {"messages_field": "messages", "split": "train_sft"}),
    ],
    ids=["text", "instruction", "conversation"],
)
def test_the_blocks_of_the_document_about_data_import(block, source):
    found = settings_of(f"datasets:{block}", "surogate")["data.sources"]
    assert len(found) == 1
    assert source.items() <= found[0].items()


@pytest.mark.parametrize(
    ("line", "setting", "value"),
    [
        ("log_file: /srv/oak.log", "logging.log_file", "/srv/oak.log"),
        ("aim_repo: aim://there:53800", "logging.repo", "aim://there:53800"),
        ("aim_experiment: boats", "logging.experiment", "boats"),
        ("aim_name: first", "logging.run_name", "first"),
    ],
)
def test_logs_and_trackers_have_their_places_and_names(line, setting, value):
    assert settings_of(f"{MODEL}{line}\n")[setting] == value


@pytest.mark.parametrize("line", ["log_file: train.log", "log_file: /srv/log.jsonl", "aim_repo: ."])
def test_a_place_that_depends_on_the_working_folder_stays_in_the_run_folder(line):
    imported = import_settings(f"{MODEL}{line}\n", "file.yaml").imported
    found = line_of(imported, line.partition(":")[0])
    assert found.result == "no-effect"
    assert "whole path" in found.why


def test_options_of_its_own_engine_are_kept_for_it():
    text = "model: m\ndatasets: [{path: a, type: text}]\nuse_zero_copy: true\nlmhead_chunks: 4\n"
    imported = import_settings(text + "use_fused_rope: false\n", "f", "surogate").imported
    kept = imported.recipe["hardware"]["engine_options"]
    assert kept == "use_zero_copy: true\nlmhead_chunks: 4"
    lines = {line.name: line for line in imported.report}
    assert lines["lmhead_chunks"].setting == "hardware.engine_options"
    assert lines["lmhead_chunks"].why.endswith("It is kept for the engine surogate.")
    assert lines["use_fused_rope"].result == "no-effect"
    again = export_settings(
        Facts(resolve(Layer("i", {**imported.recipe, "compute_specs": "low_end"})).config),
        "surogate",
    )
    assert "lmhead_chunks: 4" in again.text
