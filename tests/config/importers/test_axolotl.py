"""Files of Axolotl."""

import pytest

from tests.config.importers.examples import line_of, problems_of, read_example, settings_of

MODEL = "base_model: acme/oak\nmicro_batch_size: 2\nsequence_len: 512\n"


@pytest.mark.parametrize(
    ("name", "strategy", "adapter", "loss"),
    [
        ("01-lora", "sft", True, None),
        ("02-qlora", "qlora", True, None),
        ("03-full", "sft", False, None),
        ("04-dpo", "dpo", True, "sigmoid"),
        ("05-kto", "dpo", True, "kto"),
        ("06-orpo", "dpo", True, "orpo"),
        ("09-pretraining", "sft", False, None),
    ],
)
def test_methods(name, strategy, adapter, loss):
    recipe = read_example("axolotl", name).recipe
    assert recipe["strategy"] == strategy
    assert recipe["adapter"]["enabled"] is adapter
    assert recipe.get("trainer", {}).get("preference_loss") == loss


def test_an_option_without_a_value_is_left_out():
    imported = read_example("axolotl", "03-full")
    assert line_of(imported, "lora_r").why == "It is empty, as if it were left out."
    assert imported.recipe["lora_r"] == 8  # the default of Axolotl
    assert line_of(imported, "wandb_project").result == "no-effect"


def test_data_sets_have_their_columns():
    sources = read_example("axolotl", "10-two-sources").recipe["data"]["sources"]
    assert sources[0] == {
        "path": "a.jsonl",
        "instruction_field": "ask",
        "input_field": "more",
        "output_field": "reply",
    }
    assert sources[1] == {"path": "acme/chats", "subset": "en", "type": "conversation"}


def test_preferences_have_their_columns():
    source = read_example("axolotl", "04-dpo").recipe["data"]["sources"][0]
    assert source["type"] == "preference"
    assert source["prompt_field"] == "talk"
    assert source["chosen_field"] == "chosen"


@pytest.mark.parametrize(
    ("value", "setting", "result"),
    [
        ("num_epochs: 2.0", "num_train_epochs", 2),
        ("warmup_steps: 0.1", "warmup_ratio", 0.1),
        ("cosine_min_lr_ratio: 0.1", "schedule.final_lr_fraction", 0.1),
        ("cosine_min_lr_ratio: 1.0", "lr_scheduler_type", "constant_with_warmup"),
        ("optimizer: adamw_bnb_8bit", "optim", "adamw_8bit"),
        ("attn_implementation: xformers", "model.attn_implementation", "sdpa"),
        ("attn_implementation: flex_attention", "model.attn_implementation", None),
        ("flash_attention: true", "model.attn_implementation", "flash_attention_2"),
        ("train_on_inputs: true", "data.loss_on", "all"),
        ("gradient_checkpointing: offload", "gradient_checkpointing", True),
        ("val_set_size: 300", "eval_split", None),
        ("wandb_project: oak", "logging.report_to", "wandb"),
        ("optimizer: muon", "optim", "muon"),
        ("embedding_lr: 1.0e-05", "optimizer.unembedding_lr", 1e-5),
        ("learning_rate: 2.0e-4\nembedding_lr_scale: 0.1", "optimizer.embedding_lr", 2e-5),
        ("embedding_lr_scale: 0.1", "optimizer.embedding_lr", None),
        ("loraplus_lr_ratio: 16", "optimizer.loraplus_ratio", 16),
        ("loraplus_lr_embedding: 1.0e-6", "optimizer.embedding_lr", None),
        ("excess_length_strategy: drop", "data.truncation_strategy", "delete"),
    ],
)
def test_values_are_converted(value, setting, result):
    found = settings_of(f"{MODEL}{value}\n").get(setting)
    assert found == (pytest.approx(result) if isinstance(result, float) else result)


@pytest.mark.parametrize(
    ("lines", "option", "line"),
    [
        ("load_in_4bit: true\nload_in_8bit: true\n", "load_in_8bit", 5),
        ("adapter: qlora\nload_in_4bit: false\n", "adapter", 4),
        ("bf16: true\nfp16: true\n", "fp16", 5),
        ("rl: dpo\nsample_packing: true\n", "sample_packing", 5),
        ("datasets:\n  - type: alpaca\n", "datasets[0]", 5),
        ("test_datasets: [{path: x}]\nval_set_size: 0.1\n", "val_set_size", 5),
        ("datasets: rows.jsonl\n", "datasets", 4),
        ("lora_r: -4\n", "lora_r", 4),
    ],
)
def test_a_contradiction_or_a_wrong_value_is_an_error(lines, option, line):
    problems = problems_of(MODEL + lines)
    assert [problem.where for problem in problems] == [f"file.yaml, line {line}, {option}"]
