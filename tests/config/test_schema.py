import json
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from modelforge.config import TrainingConfig
from modelforge.config.fields import nested_groups
from modelforge.config.resolve import Layer, resolve
from modelforge.errors import ConfigError

SNIPPETS = json.loads((Path(__file__).parent / "data" / "contract_snippets.json").read_text())
FLAT = {
    "task": None,
    "model_name": None,
    "provider": "huggingface",
    "strategy": "sft",
    "dataset": None,
    "compute_specs": None,
    "lora_r": 16,
    "lora_alpha": 32,
    "lora_dropout": 0.1,
    "use_4bit": True,
    "use_8bit": False,
    "bnb_4bit_compute_dtype": "float16",
    "bnb_4bit_quant_type": "nf4",
    "use_nested_quant": False,
    "fp16": False,
    "bf16": False,
    "num_train_epochs": 1,
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "gradient_accumulation_steps": 4,
    "gradient_checkpointing": True,
    "max_grad_norm": 0.3,
    "learning_rate": 2e-4,
    "weight_decay": 0.001,
    "optim": "paged_adamw_32bit",
    "lr_scheduler_type": "cosine",
    "max_steps": -1,
    "warmup_ratio": 0.03,
    "group_by_length": True,
    "packing": False,
    "max_seq_length": None,
    "eval_split": 0.2,
    "eval_steps": 100,
}


def test_the_contract_has_thirty_seven_snippets():
    assert len(SNIPPETS) == 37


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda snippet: "+".join(list(snippet)[:2]))
def test_every_snippet_of_the_contract_means_what_it_says(minimal, snippet):
    config = TrainingConfig.from_record(minimal | snippet)
    assert {name: getattr(config, name) for name in snippet} == snippet
    assert config.explicit_values() == minimal | snippet
    if snippet == {"provider": "unsloth"}:
        with pytest.raises(ConfigError, match="max_seq_length: Unsloth needs a fixed length"):
            resolve(Layer("body", minimal | snippet))
    else:
        assert resolve(Layer("body", minimal | snippet)).config == config


def test_names_may_be_given_as_a_list(minimal):
    names = {"adapter": {"target_modules": ["q_proj", "v_proj"], "modules_to_save": ["lm_head"]}}
    config = resolve(Layer("recipe", minimal | names | {"logging.report_to": ["wandb"]})).config
    assert config.adapter.target_modules == "q_proj, v_proj"
    assert (config.adapter.modules_to_save, config.logging.report_to) == ("lm_head", "wandb")
    with pytest.raises(ConfigError, match="not text"):
        resolve(Layer("recipe", minimal | {"adapter": {"target_modules": [1, 2]}}))


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"lora_rank": 8}, "lora_rank is not a setting (given by: call). Did you mean 'lora_r'?"),
        ({"provider": "unsloth"}, "max_seq_length: Unsloth needs a fixed length"),
        ({"fp16": True, "bf16": True}, "fp16 and bf16"),
        ({"use_4bit": True, "use_8bit": True}, "use_4bit and use_8bit are both true"),
        ({"max_steps": 0}, "max_steps: 0"),
    ],
)
def test_a_config_made_in_python_is_checked_like_any_other(minimal, values, text):
    with pytest.raises(ValidationError) as error:
        TrainingConfig(**minimal | values)
    assert text in str(error.value)


def test_the_flat_fields_and_their_defaults_are_the_contract(minimal):
    config = TrainingConfig(**minimal)
    assert [name for name in TrainingConfig.model_fields if name not in nested_groups()] == list(
        FLAT
    )
    assert list(TrainingConfig.model_fields)[:33] == list(FLAT)
    for name, default in FLAT.items():
        assert getattr(config, name) == minimal.get(name, default)


@pytest.mark.parametrize("snippet", SNIPPETS[-3:], ids=["low", "mid", "high"])
def test_a_dumped_config_loads_to_the_same_config(snippet):
    config = TrainingConfig(**snippet)
    again = TrainingConfig.model_validate_json(config.model_dump_json())
    assert again == config
    rebuilt = TrainingConfig(**json.loads(json.dumps(config.explicit_values())))
    assert rebuilt == config
    assert rebuilt.model_fields_set == config.model_fields_set


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("task", "translation"),
        ("strategy", "ppo"),
        ("provider", "mlx"),
        ("model_name", "  "),
        ("dataset", ""),
        ("num_train_epochs", 0),
        ("per_device_train_batch_size", 0),
        ("learning_rate", 0),
        ("learning_rate", 1.01),
        ("lora_r", 0),
        ("lora_r", 257),
        ("eval_split", -0.1),
        ("eval_split", 1.1),
        ("lora_dropout", float("nan")),
    ],
)
def test_the_contract_refuses(minimal, name, value):
    with pytest.raises(ValidationError):
        TrainingConfig(**minimal | {name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", 1),
        ("eval_split", 0),
        ("eval_split", 1),
        ("lora_r", 256),
        ("lora_dropout", 1.0),
        ("warmup_ratio", 1.0),
        ("max_grad_norm", 0),
        ("max_seq_length", -1),
    ],
)
def test_the_contract_allows_both_ends(minimal, name, value):
    assert getattr(TrainingConfig(**minimal | {name: value}), name) == value
    assert getattr(resolve(Layer("body", minimal | {name: value})).config, name) == value


def test_importing_the_config_brings_nothing_heavy():
    code = (
        "import sys, modelforge.config\n"
        "heavy = {'yaml', 'tomllib', 'psutil', 'torch', 'transformers', 'gradio', 'fastapi'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_wsd_is_taken_for_its_full_name(minimal):
    assert TrainingConfig(**minimal, lr_scheduler_type="wsd").lr_scheduler_type == (
        "warmup_stable_decay"
    )
    resolved = resolve(Layer("form", minimal | {"lr_scheduler_type": "wsd"})).config
    assert resolved.lr_scheduler_type == "warmup_stable_decay"
