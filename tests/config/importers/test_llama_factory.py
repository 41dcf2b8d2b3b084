"""Files of LLaMA-Factory."""

import json

import pytest

from modelforge.config.importers.read import import_settings
from modelforge.errors import ConfigError
from tests.config.importers.examples import (
    line_of,
    problems_of,
    read_example,
    resolved,
    settings_of,
)

MODEL = "stage: sft\nfinetuning_type: lora\nmodel_name_or_path: acme/pine\ntemplate: pine\n"
INFO = {
    "letters": {"file_name": "letters.json"},
    "talks": {
        "file_name": "talks.jsonl",
        "formatting": "sharegpt",
        "columns": {"messages": "talk", "tools": "functions", "images": "pictures"},
        "tags": {"role_tag": "who", "content_tag": "what", "user_tag": "human"},
    },
    "orders": {
        "hf_hub_url": "acme/orders",
        "ms_hub_url": "acme/orders",
        "subset": "en",
        "split": "train",
        "num_samples": 50,
        "columns": {"prompt": "ask", "query": "more", "response": "reply", "system": "rules"},
    },
    "pairs": {
        "file_name": "pairs.json",
        "ranking": True,
        "columns": {"prompt": "ask", "chosen": "good", "rejected": "bad"},
    },
    "votes": {"hf_hub_url": "acme/votes", "columns": {"kto_tag": "label", "prompt": "ask"}},
    "tales": {"file_name": "tales.txt", "columns": {"prompt": "text"}},
    "far": {"ms_hub_url": "acme/far"},
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "dataset_info.json").write_text(json.dumps(INFO), "utf-8")
    return tmp_path


def read(folder, lines):
    return import_settings(MODEL + lines, "file.yaml", folder=folder).imported


@pytest.mark.parametrize(
    ("name", "strategy", "loss"),
    [
        ("01-lora-sft", "sft", None),
        ("02-lora-dpo", "dpo", "sigmoid"),
        ("03-lora-orpo", "dpo", "orpo"),
        ("04-lora-kto", "dpo", "kto"),
        ("05-lora-pretrain", "sft", None),
        ("07-full-sft", "sft", None),
        ("08-qlora-otfq", "qlora", None),
    ],
)
def test_stages_are_methods(name, strategy, loss):
    recipe = read_example("llama-factory", name).recipe
    assert recipe["strategy"] == strategy
    assert recipe.get("trainer", {}).get("preference_loss") == loss


def test_what_the_file_leaves_out_has_the_defaults_of_llama_factory():
    settings = settings_of(f"{MODEL}lora_rank: 12\n")
    assert settings["lora_alpha"] == 24
    assert settings["adapter.target_modules"] == "all-linear"
    assert settings["learning_rate"] == 5e-5
    assert settings["max_seq_length"] == 2048
    assert settings["warmup_ratio"] == 0.0
    assert settings["group_by_length"] is False


@pytest.mark.parametrize(
    ("line", "setting", "value"),
    [
        ("neat_packing: true", "packing", True),
        ("mask_history: true", "data.loss_on", "last_round"),
        ("train_on_prompt: true", "data.loss_on", "all"),
        ("packing: true", "packing", True),
        ("disable_shuffling: true", "data.shuffle", False),
        ("flash_attn: fa2", "model.attn_implementation", "flash_attention_2"),
        ("pissa_init: true", "adapter.init", "pissa"),
        ("quantization_bit: 8", "use_8bit", True),
        ("disable_gradient_checkpointing: true", "gradient_checkpointing", False),
        ("eval_dataset: me", "eval_split", None),
        ("use_unsloth: true", "provider", "unsloth"),
    ],
)
def test_values_are_converted(line, setting, value):
    assert settings_of(f"{MODEL}{line}\n").get(setting) == value


def test_whole_epochs_may_be_written_with_a_point():
    assert read_example("llama-factory", "01-lora-sft").recipe["num_train_epochs"] == 3


def test_without_its_file_the_names_are_reported():
    imported = read_example("llama-factory", "01-lora-sft")
    line = line_of(imported, "dataset[1]")
    assert (line.result, line.value, line.line) == ("refused", "letters", 8)
    assert line.why.startswith("Its file is named in dataset_info.json")
    assert imported.recipe["data"]["sources"] == [
        {"path": "me", "samples": 1000},
        {"path": "letters", "samples": 1000},
    ]


@pytest.mark.parametrize("place", [".", "data", "elsewhere"])
def test_the_names_are_found_beside_the_file(place, tmp_path):
    (tmp_path / place).mkdir(exist_ok=True)
    (tmp_path / place / "dataset_info.json").write_text(json.dumps(INFO), "utf-8")
    lines = "dataset: letters\n" + ("dataset_dir: elsewhere\n" if place == "elsewhere" else "")
    imported = read(tmp_path, lines)
    assert imported.recipe["dataset"] == str(tmp_path / place / "letters.json")
    resolved(imported)


def test_columns_and_places_of_an_entry(folder):
    imported = read(folder, "dataset: [talks, orders]\nmax_samples: 40\n")
    talks, orders = imported.recipe["data"]["sources"]
    assert talks == {
        "path": str(folder / "data" / "talks.jsonl"),
        "type": "conversation",
        "messages_field": "talk",
        "tools_field": "functions",
        "message_property_mappings": {"role": "who", "content": "what"},
        "samples": 40,
    }
    assert orders == {
        "path": "acme/orders",
        "subset": "en",
        "split": "train",
        "samples": 40,
        "instruction_field": "ask",
        "input_field": "more",
        "output_field": "reply",
        "system_prompt_type": "field",
        "system_prompt_field": "rules",
    }
    assert line_of(imported, "dataset[0].columns.images").result == "refused"
    assert line_of(imported, "dataset[0].tags.user_tag").result == "no-effect"
    assert line_of(imported, "dataset[1].ms_hub_url").result == "no-effect"
    resolved(imported)


def test_preferences_texts_and_votes(folder):
    pairs = read(folder, "dataset: pairs\n")
    assert pairs.recipe["data"]["sources"][0]["chosen_field"] == "good"
    text = MODEL.replace("sft", "pt") + "dataset: tales\n"
    tales = import_settings(text, "file.yaml", folder=folder).imported
    assert tales.recipe["data"]["sources"][0]["text_field"] == "text"
    resolved(tales)
    votes = read(folder, "dataset: votes\n")
    assert line_of(votes, "dataset[0].columns.kto_tag").result == "refused"


@pytest.mark.parametrize("name", ["far", "none"])
def test_a_name_without_a_file_is_reported(folder, name):
    line = line_of(read(folder, f"dataset: {name}\n"), "dataset[0]")
    assert line.result == "refused"
    assert "path" in line.why


def test_a_broken_dataset_info_is_an_error_with_its_line(folder):
    (folder / "data" / "dataset_info.json").write_text('{"a": {},\n "a": {}}', "utf-8")
    with pytest.raises(ConfigError, match=r"dataset_info.json, line 2"):
        read(folder, "dataset: a\n")


@pytest.mark.parametrize(
    ("lines", "option", "line"),
    [
        ("quantization_bit: 3\n", "quantization_bit", 5),
        ("val_size: 0.1\neval_dataset: me\n", "val_size", 5),
        ("bf16: true\nfp16: true\n", "fp16", 6),
        ("val_size: 500\n", "val_size", 5),
        ("lora_rank: much\n", "lora_rank", 5),
        ("num_train_epochs: often\n", "num_train_epochs", 5),
        ("dataset: {me: 1}\n", "dataset", 5),
    ],
)
def test_a_contradiction_or_a_wrong_value_is_an_error(lines, option, line):
    problems = problems_of(MODEL + lines)
    assert [problem.where for problem in problems] == [f"file.yaml, line {line}, {option}"]


def test_full_training_cannot_have_quantized_weights():
    text = MODEL.replace("lora", "full") + "quantization_bit: 4\n"
    assert [each.where for each in problems_of(text)] == ["file.yaml, line 5, quantization_bit"]


def test_the_factor_of_a_scaling_follows_from_the_length_of_rows():
    text = f"{MODEL}rope_scaling: dynamic\ncutoff_len: 16384\n"
    settings = settings_of(text, "llama-factory")
    assert settings["model.rope_type"] == "dynamic"
    assert settings["model.max_model_len"] == 16384


def test_pure_bfloat16_is_that_of_the_weights_where_all_are_trained():
    text = f"{MODEL}pure_bf16: true\n"
    assert "model.dtype" not in settings_of(text, "llama-factory")
    full = settings_of(text.replace(": lora", ": full"), "llama-factory")
    assert (full["model.dtype"], full["hardware.precision"]) == ("bfloat16", "bf16")


def test_muon_and_loraplus_are_settings():
    found = settings_of(f"{MODEL}optim: adamw_torch\nuse_muon: true\nloraplus_lr_ratio: 16.0\n")
    assert found["optim"] == "muon"
    assert found["optimizer.cautious_weight_decay"] is False
    assert found["optimizer.loraplus_ratio"] == 16
    assert "optimizer.embedding_lr" not in found
    rated = settings_of(f"{MODEL}loraplus_lr_ratio: 16.0\nloraplus_lr_embedding: 1.0e-6\n")
    assert rated["optimizer.embedding_lr"] == 1e-6
    assert settings_of(f"{MODEL}use_muon: false\n")["optim"] == "adamw_torch"
