"""What is written for another system, and what is said about the rest."""

from __future__ import annotations

import json

import pytest
import yaml

from modelforge.config.exporters import script_rules
from modelforge.config.exporters.facts import Facts
from modelforge.config.exporters.write import NAMES, SYSTEMS, export_settings
from modelforge.config.fields import specs_by_name
from modelforge.config.plan.make import PlanContext, make_plan
from modelforge.errors import ConfigError
from tests.config.exporters.recipes import DPO, FROM_NOTHING, GROWN, QLORA, SHORT, config_of

TARGETS = [*SYSTEMS, script_rules.SYSTEM]


def options_of(system, *changes):
    return yaml.safe_load(export_settings(Facts(config_of(*changes)), system).text)


def left_out(system, *changes):
    exported = export_settings(Facts(config_of(*changes)), system)
    return {line.setting: line.why for line in exported.left_out}


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_every_setting_has_a_rule_and_a_line(target):
    assert set(target.rules) == set(specs_by_name())
    config = config_of(own_recipe(target))
    facts = Facts(config, plan=plan_of(config))
    _, report = target.walk(facts)
    named = {line.setting for line in report}
    assert named >= set(specs_by_name())
    assert all(line.why for line in report if line.result == "left-out")


def own_recipe(target):
    """Return what a system trains."""
    if target.grows:
        return GROWN
    return FROM_NOTHING if target.is_from_nothing else {}


def plan_of(config, device="cpu"):
    return make_plan(config, PlanContext(device, "/models/m", context=2048, train_rows=90))


def test_trl_gets_its_own_names_and_numbers():
    options = options_of("trl", SHORT, {"optim": "adamw_torch"})
    assert options["model_name_or_path"] == "owner/model"
    assert options["max_length"] == 1024
    assert options["warmup_steps"] == 5
    assert options["datasets"] == [{"path": "json", "data_files": "rows.jsonl"}]
    assert options["test_split_size"] == 0.1
    assert options["lora_target_modules"] == ["all-linear"]
    assert options["bf16"] is True
    assert options["report_to"] == ["wandb"]
    # YAML 1.1 reads 2e-4 as text, which no trainer takes.
    assert isinstance(options["learning_rate"], float)
    assert isinstance(options["adam_epsilon"], float)


def test_the_command_names_the_method():
    exported = {
        name: export_settings(Facts(config_of(change)), "trl").command
        for name, change in {
            "sft": {},
            "dpo": DPO,
            "kto": {**DPO, "trainer.preference_loss": "kto"},
        }.items()
    }
    assert exported == {name: f"trl {name} --config FILE" for name in ("sft", "dpo", "kto")}


@pytest.mark.parametrize("system", ["trl", "axolotl", "llama-factory"])
def test_a_method_that_the_system_does_not_train_is_refused(system):
    with pytest.raises(ConfigError, match="RLHF"):
        options_of(system, {"strategy": "rlhf", "data.loss_on": "completion"})


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_models_are_made_by_nanochat_alone_and_trained_further_by_the_others(target):
    change = {} if target.is_from_nothing else FROM_NOTHING
    with pytest.raises(ConfigError) as error:
        target.walk(Facts(config_of(change)))
    (problem,) = error.value.problems
    assert problem.where == ("progressive.enabled" if target.grows else "pretraining.enabled")
    assert ("trl" if target.is_from_nothing else "nanochat") in problem.remedy


def test_surogate_trains_sft_and_dpo():
    exported = export_settings(Facts(config_of(DPO)), "surogate")
    assert exported.command == "surogate dpo FILE"
    options = yaml.safe_load(exported.text)
    assert options["loss"] == {"type": "dpo", "dpo_beta": 0.2}
    assert options["lora_dropout"] == 0.0
    for change in ({**DPO, "trainer.preference_loss": "kto"}, {"strategy": "rlhf"}):
        with pytest.raises(ConfigError, match="SFT and DPO"):
            options_of("surogate", change, {"data.loss_on": "completion"})


def test_an_unknown_system_is_named_with_those_that_are_known():
    with pytest.raises(ConfigError) as error:
        export_settings(Facts(config_of()), "other")
    assert all(name in error.value.problems[0].remedy for name in NAMES)


def test_what_a_system_cannot_say_is_listed_with_the_reason():
    change = {
        "adapter.init": "olora",
        "evaluation.loss_guard": True,
        "model.system_prompt": "You are a parrot.",
        "data.truncation_strategy": "split",
        "trainer.neftune_noise_alpha": 5,
    }
    lost = left_out("trl", change)
    assert set(lost) >= {"adapter.init", "evaluation.loss_guard", "model.system_prompt"}
    assert "splits" in lost["data.truncation_strategy"]
    assert "trainer.neftune_noise_alpha" not in lost
    assert "trainer.neftune_noise_alpha" in left_out("surogate", change)
    assert "model.system_prompt" not in left_out("surogate", change)


def test_a_value_that_asks_for_nothing_is_not_lost():
    assert left_out("trl") == {}
    assert left_out("axolotl") == {}
    assert left_out("llama-factory") == {}


def test_columns_of_a_source_are_not_dropped_silently():
    sources = [{"path": "a.csv", "instruction_field": "ask", "output_field": "say", "weight": 2}]
    change = {"data.sources": sources, "dataset": "a.csv"}
    assert set(left_out("trl", change)) == {
        "data.sources[0].instruction_field",
        "data.sources[0].output_field",
        "data.sources[0].weight",
    }
    assert set(left_out("axolotl", change)) == {"data.sources[0].weight"}
    (entry,) = options_of("axolotl", change)["datasets"]
    assert entry["field_instruction"] == "ask"
    assert entry["ds_type"] == "csv"


def test_llama_factory_gets_its_description_of_the_data():
    sources = [
        {
            "path": "chats.jsonl",
            "type": "conversation",
            "messages_field": "talk",
            "message_property_mappings": {"role": "from", "content": "value"},
        }
    ]
    change = {"data.sources": sources, "dataset": "chats.jsonl"}
    exported = export_settings(Facts(config_of(change)), "llama-factory")
    info = json.loads(exported.files["dataset_info.json"])
    assert yaml.safe_load(exported.text)["dataset"] in info
    entry = info["chats.jsonl"]
    assert entry["file_name"] == "chats.jsonl"
    assert entry["formatting"] == "sharegpt"
    assert entry["columns"]["messages"] == "talk"
    assert entry["tags"]["role_tag"] == "from"


def test_weights_that_only_some_systems_quantize():
    fp8 = {"quantization.scheme": "fp8"}
    assert options_of("surogate", fp8)["qlora_fp8"] is True
    assert "quantization.scheme" in left_out("trl", fp8)
    assert options_of("trl", QLORA)["load_in_4bit"] is True
    assert "adapter.dtype" in left_out("trl", QLORA), "TRL trains such adapters in bfloat16"


def test_a_share_of_decay_needs_the_number_of_steps():
    wsd = {"lr_scheduler_type": "wsd", "schedule.decay_ratio": 0.5}
    assert "lr_scheduler_type" in left_out("trl", wsd)
    options = options_of("trl", wsd, {"max_steps": 40})
    assert options["lr_scheduler_kwargs"]["num_decay_steps"] == 20
    assert options_of("surogate", wsd, {"max_steps": 40})["cooldown_steps"] == 20


def test_a_cooldown_is_written_or_named_as_lost():
    change = {"schedule.decay_steps": 20, "max_steps": 100, "schedule.final_lr_fraction": 0.1}
    assert options_of("surogate", change)["cooldown_steps"] == 20
    for system in ("trl", "axolotl", "llama-factory"):
        assert "cooldown" in left_out(system, change)["lr_scheduler_type"]
    kwargs = options_of("trl", change)["lr_scheduler_kwargs"]
    assert kwargs == {"min_lr_rate": 0.1}
    assert "lr_scheduler_type" not in left_out("trl", {"max_steps": 100})


def test_muon_is_written_where_it_is_known():
    muon = {"optim": "muon"}
    assert options_of("axolotl", muon)["optimizer"] == "muon"
    assert options_of("llama-factory", muon)["use_muon"] is True
    assert options_of("trl", muon)["optim"] == "adamw_torch"
    assert "Muon" in left_out("trl", muon)["optim"]
    assert "optim" in left_out("axolotl", {"optim": "normuon"})
    original = {"optim": "normuon", "optimizer.muon_scale": "original"}
    assert options_of("surogate", original)["optimizer"] == "normuon"
    assert "optim" not in left_out("surogate", original)


def test_rates_of_groups_are_written_where_there_are_options_for_them():
    rates = {"optimizer.loraplus_ratio": 16.0, "optimizer.adapter_lr": 0.1}
    assert options_of("axolotl", rates)["loraplus_lr_ratio"] == 16
    assert options_of("llama-factory", rates)["loraplus_lr_ratio"] == 16
    assert set(left_out("trl", rates)) >= set(rates)
    whole = {"adapter.modules_to_save": "embed_tokens, lm_head", "optimizer.embedding_lr": 0.1}
    other, same = ({**whole, "optimizer.unembedding_lr": rate} for rate in (0.2, 0.1))
    assert "optimizer.embedding_lr" in left_out("axolotl", other)
    assert options_of("axolotl", same)["embedding_lr"] == 0.1


def test_trl_evaluates_on_a_split_or_not_at_all():
    train = {"path": "owner/chats", "split": "train_sft"}
    change = {"data.sources": [train], "dataset": "owner/chats", "eval_split": 0.0}
    both = {**change, "data.validation_sources": [{**train, "split": "test_sft"}]}
    options = options_of("trl", both)
    assert options["dataset_name"] == "owner/chats"
    assert (options["dataset_train_split"], options["dataset_test_split"]) == (
        "train_sft",
        "test_sft",
    )
    assert options["eval_strategy"] == "steps"
    file = {**change, "data.validation_sources": [{"path": "check.jsonl"}]}
    options = options_of("trl", file)
    assert options["eval_strategy"] == "no", "TRL would look for a split that is not there"
    assert options["load_best_model_at_end"] is False
    assert "data.validation_sources" in left_out("trl", file)
    assert [each["path"] for each in options_of("axolotl", file)["test_datasets"]] == [
        "check.jsonl"
    ]


def test_pairs_are_not_grouped_by_length_in_trl():
    assert "group_by_length" in left_out("trl", DPO, {"group_by_length": True})
    assert left_out("trl", {"group_by_length": True}) == {}


def test_rows_stay_in_their_order_in_systems_that_can_keep_it():
    in_order = {"data.shuffle": False}
    assert options_of("trl", in_order)["train_sampling_strategy"] == "sequential"
    assert options_of("llama-factory", in_order)["disable_shuffling"] is True
    assert options_of("axolotl", in_order)["curriculum_sampling"] is True
    assert "data.shuffle" in left_out("surogate", in_order)
    assert "data.shuffle" not in left_out("surogate", {})


def test_every_option_is_one_that_its_importer_knows():
    from modelforge.config.importers.read import SYSTEMS as IMPORTED

    known = {system.name: system for system in IMPORTED}
    for system in SYSTEMS:
        own = own_recipe(system)
        methods = [own] if own else [{}, SHORT, QLORA, DPO]
        for change in methods:
            options, _report = system.walk(Facts(config_of(change)))
            assert set(options) <= set(known[system.name].options), system.name
