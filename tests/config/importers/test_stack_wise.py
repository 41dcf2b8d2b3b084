"""Files of Stack-Wise."""

import pytest

from modelforge.config.importers.read import import_settings
from tests.config.importers.examples import (
    example_files,
    line_of,
    problems_of,
    read_example,
    resolved,
)


def test_every_block_of_the_document_is_there():
    assert len(example_files("stack-wise")) == 21


def test_what_concerns_a_training_here_is_taken():
    recipe = read_example("stack-wise", "document-16").recipe
    assert recipe["per_device_train_batch_size"] == 8
    assert recipe["max_seq_length"] == 512
    assert recipe["max_steps"] == 1000
    assert recipe["logging"]["logging_steps"] == 10


def growth_of(name):
    config = resolved(read_example("stack-wise", name)).config
    group = config.progressive
    return (group.mode, group.stages, group.layers_per_stage, group.trunk), group, config


def test_blocks_become_stages():
    growth, group, config = growth_of("document-01")
    assert growth == ("fused", 3, 4, "frozen")
    assert (group.steps_per_stage, config.max_steps) == (1000, -1)
    assert config.pretraining.layers == 12
    assert growth_of("document-05")[0] == ("blockwise", 3, 4, "frozen")
    assert growth_of("document-18")[0] == ("fused", 1, 4, "frozen")


def test_layerwise_trains_every_layer_in_a_stage_of_its_own():
    growth, group, _ = growth_of("document-04")
    assert growth == ("layerwise", 8, 1, "frozen")
    assert (group.steps_per_stage, group.epochs_per_stage) == (None, 5)


def test_adapters_of_stacks_and_trunk_are_taken():
    growth, group, config = growth_of("document-02")
    assert growth == ("fused", 2, 4, "lora")
    assert (group.stack_rank, group.stack_alpha, group.trunk_rank, group.trunk_alpha) == (
        *(16, 32),
        *(8, 16),
    )
    assert (group.rank_strategy, group.rank_pattern, group.alpha_pattern) == (
        *("pattern", "increasing"),
        "constant",
    )
    assert group.per_stage == "0: 8/16, 1: 16/32, 2: 32/64, 3: 64/128"
    assert config.adapter.enabled is False
    text = (
        "training:\n  progressive:\n    qlora_strategy: variable\n    new_stack_precision: half\n"
    )
    text += "    qlora_configs: {0: {rank: 4, alpha: 8}, 1: {rank: 2, alpha: 4}}\n"
    group = resolved(import_settings(text, "a.yaml", "stack-wise").imported).config.progressive
    assert (group.rank_strategy, group.stages, group.new_layer_dtype) == ("table", 2, "bfloat16")


def test_rates_of_blocks_and_adapters_are_taken():
    config = growth_of("document-07")[2]
    assert (config.optimizer.new_layer_lr, config.optimizer.adapter_lr) == (5e-4, 1e-5)


def test_masks_are_taken_where_tokens_are_masked():
    group = growth_of("document-08")[1]
    assert (group.objective, group.mask_by, group.mask_steps) == ("mlm", "depth", 12)
    assert group.mask_fractions.startswith("0.1, 0.2")
    group = growth_of("document-09")[1]
    assert (group.objective, group.mask_by, group.mask_min, group.mask_max) == (
        *("mlm", "none"),
        *(0.1, 0.99),
    )
    imported = read_example("stack-wise", "document-19")
    assert resolved(imported).config.progressive.objective == "clm"
    assert "mlm for masks" in line_of(imported, "training.time_step_masking").why


def test_attention_in_both_directions_is_that_of_masked_tokens():
    growth, group, config = growth_of("document-12")
    assert growth == ("fused", 1, 16, "frozen")
    assert (group.objective, config.pretraining.n_kv_heads) == ("mlm", 8)


def test_the_trunk_is_quantized_where_there_is_one():
    text = "training:\n  total_blocks: 2\n  block_size: 1\n  quantization_type: fp4\n"
    config = resolved(import_settings(text, "a.yaml", "stack-wise").imported).config
    assert config.progressive.trunk_quantization == "bnb-4bit"
    imported = import_settings(f"model:\n  d_model: 64\n{text}", "a.yaml", "stack-wise").imported
    assert line_of(imported, "training.quantization_type").result == "no-effect"


def test_an_adapter_of_embeddings_needs_a_model_that_grows():
    text = "model:\n  attention_type: mla\n  tokenizer_embedding:\n    adapter_hidden_dim: 64\n"
    imported = import_settings(text, "a.yaml", "stack-wise").imported
    for option in ("model.attention_type", "model.tokenizer_embedding.adapter_hidden_dim"):
        assert line_of(imported, option).result == "refused"
    imported = import_settings(f"{text}training:\n  mode: fused\n", "a.yaml", "stack-wise").imported
    assert imported.recipe["pretraining"]["embedding_adapter_dim"] == 64


MODEL = """
model:
  vocab_size: 4096
  d_model: 512
  n_layers: 4
  n_heads: 8
  n_kv_heads: 2
  d_ff: 1024
  attention_type: gqa
  attention_mode: causal
  use_rope: true
  rope_theta: 500.0
  tie_embeddings: false
  dropout: 0.1
training:
  max_steps: 5
"""


def test_a_model_that_is_described_is_trained_from_nothing():
    imported = import_settings(MODEL, "a.yaml", "stack-wise").imported
    assert not [line.name for line in imported.report if line.result == "refused"]
    config = resolved(imported).config
    group, values = config.pretraining, imported.recipe["pretraining"]
    assert (group.enabled, group.arch, config.model_name) == (True, "llama", "d4")
    assert values == {
        "enabled": True,
        "arch": "llama",
        "vocab_size": 4096,
        "d_model": 512,
        "depth": 4,
        "n_heads": 8,
        "n_kv_heads": 2,
        "d_ff": 1024,
        "rope_theta": 500.0,
        "tie_embeddings": False,
        "dropout": 0.1,
    }
    assert (config.optim, config.optimizer.embedding_lr, config.max_steps) == (
        "adamw_torch",
        None,
        5,
    )


def test_its_own_decisions_about_a_model_are_written_out():
    text = "model:\n  d_model: 512\ntraining:\n  total_blocks: 2\n  block_size: 3\n"
    group = import_settings(text, "a.yaml", "stack-wise").imported.recipe["pretraining"]
    assert (group["depth"], group["tie_embeddings"]) == (6, True)


def test_a_family_gives_its_tokenizer_and_its_embeddings():
    family = "model:\n  vocab_size: 9000\n  tokenizer_embedding:\n    family: gpt2\n"
    text = f"{family}    freeze_embeddings: true\n    adapter_hidden_dim: 64\n"
    imported = import_settings(text, "a.yaml", "stack-wise").imported
    group = imported.recipe["pretraining"]
    assert group["tokenizer"] == "openai-community/gpt2"
    assert group["freeze_embeddings"] is True
    assert line_of(imported, "model.vocab_size").result == "no-effect"
    assert line_of(imported, "model.tokenizer_embedding.adapter_hidden_dim").result == "refused"
    path = f"{family}data:\n  dataset_path: a.txt\n  tokenizer_path: ./own\n"
    recipe = import_settings(path, "a.yaml", "stack-wise").imported.recipe
    assert recipe["pretraining"]["tokenizer"] == "./own"
    assert "model" not in recipe


def test_positions_cannot_be_switched_off():
    imported = import_settings("model:\n  use_rope: false\n", "a.yaml", "stack-wise").imported
    assert line_of(imported, "model.use_rope").result == "refused"


def test_a_precision_is_not_a_quantization():
    recipe = read_example("stack-wise", "document-07").recipe
    assert recipe["hardware"]["precision"] == "fp16"
    assert recipe["quantization"]["scheme"] == "none"


def test_data_has_its_rows():
    recipe = read_example("stack-wise", "document-13").recipe
    assert recipe["data"]["sources"] == [{"path": "./texts/all.json", "samples": 10000}]
    assert recipe["data"]["num_workers"] == 4
    assert recipe["data"]["shuffle"] is True
    in_order = import_settings("data:\n  shuffle: false\n", "a.yaml", "stack-wise").imported.recipe
    assert in_order["data"]["shuffle"] is False
    borrowed = import_settings("data:\n  tokenizer_path: ./gpt2\n", "a.yaml", "stack-wise")
    assert borrowed.imported.recipe["model"]["tokenizer"] == "./gpt2"


@pytest.mark.parametrize(
    ("text", "line", "option"),
    [
        (
            "model:\n  n_layers: 4\ntraining:\n  total_blocks: 2\n  block_size: 4\n",
            2,
            "model.n_layers",
        ),
        ("model:\n  n_heads: 12\n  n_kv_heads: 5\n", 3, "model.n_kv_heads"),
        (
            "training:\n  num_time_steps: 3\n  time_step_mask_fractions: [0.1]\n",
            3,
            "training.time_step_mask_fractions",
        ),
        (
            "training:\n  time_step_mask_fractions: [0.1, 1.5]\n",
            2,
            "training.time_step_mask_fractions",
        ),
        (
            "training:\n  min_mask_fraction: 0.9\n  max_mask_fraction: 0.2\n",
            2,
            "training.min_mask_fraction",
        ),
        (
            "training:\n  total_blocks: 2\n  progressive:\n    qlora_configs: {2: {rank: 4}}\n",
            4,
            "training.progressive.qlora_configs",
        ),
        ("data:\n  use_dummy_data: false\n", 2, "data.use_dummy_data"),
        (
            "model:\n  n_layers: 9\ntraining:\n  block_size: 4\n",
            4,
            "training.block_size",
        ),
        ("training:\n  mode: sideways\n", 2, "training.mode"),
        ("training:\n  batch_size: many\n", 2, "training.batch_size"),
        ("training: 5\nmodel:\n  d_model: 8\n", 1, "training"),
    ],
)
def test_a_contradiction_is_an_error_with_line_and_key(text, line, option):
    problems = problems_of(text, "stack-wise")
    assert [problem.where for problem in problems] == [f"file.yaml, line {line}, {option}"]


@pytest.mark.parametrize("precision", ["nvfp4", "qlora"])
def test_a_precision_that_cannot_be_trained_says_what_instead(precision):
    text = f"training:\n  progressive:\n    new_stack_precision: {precision}\n"
    imported = import_settings(text, "x", "stack-wise").imported
    line = line_of(imported, "training.progressive.new_stack_precision")
    assert line.result == "refused"
    assert ("bfloat16" if precision == "nvfp4" else "trunk_strategy") in line.why


@pytest.mark.parametrize(
    ("option", "note"),
    [
        ("training.qlora_enabled", "The blocks below are frozen, their adapters too"),
        ("training.time_step_masking", "Masks are for bidirectional attention"),
    ],
)
def test_the_production_example_contradicts_itself_in_two_places(option, note):
    assert line_of(read_example("stack-wise", "document-19"), option).why.startswith(note)


@pytest.mark.parametrize(
    ("lines", "level"),
    [
        ("  log_level: WARNING", "warning"),
        ("  log_level: warn", "warning"),
        ("  debug: true", "debug"),
        ("  debug: true\n  log_level: ERROR", "debug"),
    ],
)
def test_the_level_of_the_log_is_taken(lines, level):
    text = f"training:\n{lines}\ndata:\n  dataset_path: a.txt\n"
    recipe = import_settings(text, "file.yaml", "stack-wise").imported.recipe
    assert recipe["logging"]["log_level"] == level
