"""The script that trains the same with TRL and PEFT alone."""

from __future__ import annotations

import ast

import pytest

from modelforge.config.exporters import script
from modelforge.config.exporters.facts import Facts
from modelforge.config.plan.make import PlanContext, make_plan
from modelforge.errors import ConfigError
from tests.config.exporters.recipes import DPO, QLORA, SHORT, config_of

MAX_LINES = 60
EVERYTHING = {
    **SHORT,
    **QLORA,
    "adapter.use_dora": True,
    "adapter.use_rslora": True,
    "adapter.modules_to_save": "embed_tokens",
    "adapter.init": "orthogonal",
    "lr_scheduler_type": "wsd",
    "trainer.neftune_noise_alpha": 5.0,
    "logging.run_name": 'a "run"',
    "logging.report_to": "wandb, tensorboard",
}


def exported(*changes, device="cpu", **context):
    config = config_of(*changes)
    facts = PlanContext(device, "/models/m", context=2048, train_rows=90, **context)
    return script.write(Facts(config, make_plan(config, facts)), "birds.py")


def calls(text):
    """Return the keyword arguments of each call of the script, by its name."""
    found = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and node.keywords:
            name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            found[name] = {word.arg: word.value for word in node.keywords}
    return found


@pytest.mark.parametrize("change", [{}, SHORT, QLORA, DPO, EVERYTHING, {"adapter.enabled": False}])
def test_the_script_is_python_of_at_most_sixty_lines(change):
    text = exported(change).text
    ast.parse(text)
    lines = text.splitlines()
    assert len(lines) <= MAX_LINES
    assert max(map(len, lines)) <= 100
    assert "modelforge" not in text


def test_the_values_are_those_of_the_plan():
    values = calls(exported(SHORT, {"optim": "paged_adamw_8bit"}).text)
    arguments = {name: ast.unparse(value) for name, value in values["SFTConfig"].items()}
    assert arguments["optim"] == "'adamw_8bit'", "paging needs a GPU"
    assert arguments["use_cpu"] == "True"
    assert arguments["max_length"] == "1024"
    assert arguments["warmup_steps"] == "5.0"
    assert arguments["bf16"] == "True"
    assert arguments["seed"] == arguments["data_seed"] == "7"
    assert ast.unparse(values["LoraConfig"]["lora_alpha"]) == "32"


def test_rows_stand_beside_the_script():
    assert exported({}).data == "birds_rows.parquet, birds_eval_rows.parquet"
    assert exported({"eval_split": 0.0}).data == "birds_rows.parquet"
    assert exported(DPO, {"eval_split": 0.0}).data == "birds_rows.jsonl"


def test_all_weights_are_trained_without_peft():
    text = exported({"adapter.enabled": False}).text
    assert "peft" not in text.split('"""')[2]
    assert "torch.float32" in text, "weights that are trained stay in 32 bits"


def test_training_goes_on_from_an_adapter():
    text = exported({}, start_from="/adapters/a").text
    assert 'PeftModel.from_pretrained(model, "/adapters/a", is_trainable=True)' in text
    assert "peft_config" not in text


def test_evaluations_leave_the_random_numbers_of_the_training_alone():
    text = exported({}).text
    assert "fork_rng" in text
    assert "trainer = Trainer(" in text
    assert "fork_rng" not in exported({"eval_split": 0.0}).text


def test_pairs_keep_their_lengths():
    in_order = calls(exported(DPO, {"data.shuffle": False}).text)["DPOConfig"]
    assert ast.unparse(in_order["train_sampling_strategy"]) == "'sequential'"
    grouped = calls(exported(DPO, {"group_by_length": True}).text)["DPOConfig"]
    assert ast.unparse(grouped["remove_unused_columns"]) == "False"
    assert "remove_unused_columns" not in calls(exported(DPO).text)["DPOConfig"]


def test_a_template_with_another_end_is_followed():
    config = config_of(DPO)
    plan = make_plan(config, PlanContext("cpu", "/models/m", context=2048))
    text = script.write(Facts(config, plan), end_token="<|eot|>").text
    assert 'tokenizer.eos_token = "<|eot|>"' in text


def test_methods_without_a_script_are_refused():
    with pytest.raises(ConfigError, match="KTO"):
        exported(DPO, {"trainer.preference_loss": "kto"})


def test_weights_that_only_our_loader_reads_are_listed():
    lost = {line.setting for line in exported({"quantization.scheme": "fp8-weight-only"}).left_out}
    assert lost == {"quantization.scheme"}
