"""A setting applies only beside the answers it means something with."""

import pytest

from modelforge.config.fields import field_specs, specs_by_name
from modelforge.config.json_schema import settings_markdown
from modelforge.config.visibility import (
    CONDITIONS,
    applies,
    describe_conditions,
    inapplicable_settings,
)

RLHF = {"strategy": "rlhf"}
REGEX = {**RLHF, "trainer.reward": "regex"}
WSD = {"lr_scheduler_type": "warmup_stable_decay"}
FULL = {"adapter.enabled": False}

NOTHING = {"pretraining.enabled": True}
GROWS = {"progressive.enabled": True}
GROWS_LORA = {**GROWS, "progressive.trunk": "lora"}
GROWS_BORROWED = {
    **GROWS, **NOTHING, "pretraining.tokenizer": "starter", "pretraining.freeze_embeddings": True,
}  # fmt: skip
GROWS_MASKED = {**GROWS, "progressive.objective": "mlm"}
CASES = [
    ("trainer.preference_beta", {"strategy": "dpo"}, {"strategy": "sft"}),
    ("trainer.precompute_ref_log_probs", {"strategy": "dpo"},
     {"strategy": "dpo", "trainer.preference_loss": "orpo"}),
    ("trainer.kl_beta", RLHF, {"strategy": "dpo"}),
    ("trainer.reward", RLHF, {"strategy": "sft"}),
    ("trainer.reward_pattern", REGEX, RLHF),
    ("trainer.reward_words", {**RLHF, "trainer.reward": "length"}, REGEX),
    ("trainer.reward_model", RLHF, REGEX),
    ("trainer.reward_learning_rate", RLHF, {**RLHF, "trainer.reward_model": "mine/judge"}),
    ("trainer.reward_epochs", RLHF, REGEX),
    ("packing", {}, {"strategy": "dpo"}),
    ("packing", {}, {"task": "summarization"}),
    ("data.padding_free", {"strategy": "qlora"}, RLHF),
    ("data.loss_on", {}, {"task": "extractive-question-answering"}),
    ("data.role_weights", {}, RLHF),
    ("data.message_weights", {}, {"task": "summarization"}),
    ("data.packing_strategy", {"packing": True}, {}),
    ("group_by_length", {}, {"packing": "true"}),
    ("group_by_length", {}, {"data.shuffle": False}),
    ("data.shuffle", RLHF, {"strategy": "dpo", "trainer.preference_loss": "kto"}),
    ("quantization.fp8_training", {}, {"strategy": "qlora"}),
    ("quantization.fp8_recipe", {"quantization.fp8_training": True}, {}),
    ("quantization.fp8_block_size", {"quantization.scheme": "fp8"}, {}),
    ("quantization.four_over_six", {"quantization.scheme": "nvfp4"}, {}),
    ("quantization.skip_first_layers", {"quantization.fp8_training": True}, {"use_4bit": False}),
    ("quantization.allow_slow", {"quantization.fp8_training": True}, {}),
    ("bnb_4bit_quant_type", {}, {"quantization.fp8_training": True}),
    ("hardware.sharding", {"hardware.gpus": 0}, {"hardware.gpus": 1}),
    ("hardware.sequence_parallel_size", {"hardware.gpus": 2, "hardware.sharding": "fsdp2"},
     {"hardware.gpus": 2, "hardware.sharding": "ddp"}),
    ("hardware.torch_compile_mode", {"trainer.torch_compile": True}, {}),
    ("hardware.regional_compilation", {"trainer.torch_compile": True}, {}),
    ("memory.checkpoint_every_n_layers", {}, {"gradient_checkpointing": False}),
    ("memory.activation_offload", {}, {"provider": "unsloth"}),
    ("memory.max_vram_fraction", {}, {"hardware.device": "cpu"}),
    ("lora_r", {}, FULL),
    ("model.allow_hub_kernels", {"model.attn_implementation": "acme/attention"}, {}),
    ("model.rope_factor", {"model.rope_type": "yarn"}, {}),
    ("lora_dropout", RLHF, {"strategy": "dpo"}),
    ("group_by_length", {"strategy": "dpo"},
     {"strategy": "dpo", "trainer.preference_loss": "kto"}),
    ("adapter.use_dora", {}, FULL),
    ("adapter.enabled", {}, {"strategy": "qlora"}),
    ("lora_alpha", {}, {"adapter.alpha_over_r": 2.0}),
    ("use_4bit", {}, FULL),
    ("use_4bit", {}, {"use_8bit": True}),
    ("use_8bit", {}, {"quantization.scheme": "fp8"}),
    ("bnb_4bit_quant_type", {}, {"use_4bit": "false"}),
    ("bnb_4bit_quant_type", {"quantization.scheme": "bnb-4bit", "use_4bit": False}, FULL),
    ("quantization.skip_last_layers", {"use_8bit": True}, {"use_4bit": False}),
    ("quantization.allow_slow", {"quantization.scheme": "nvfp4"}, {}),
    ("schedule.decay_steps", WSD, {"lr_scheduler_type": "inverse_sqrt"}),
    ("schedule.cycles", {"lr_scheduler_type": "cosine_with_restarts"}, {}),
    ("schedule.power", {"lr_scheduler_type": "polynomial"}, {}),
    ("schedule.decay_shape", {"lr_scheduler_type": "linear"}, {"lr_scheduler_type": "greedy"}),
    ("schedule.final_lr_fraction", WSD, {"lr_scheduler_type": "constant"}),
    ("warmup_ratio", {}, {"schedule.warmup_steps": 10}),
    ("schedule.warmup_steps", {}, {"lr_scheduler_type": "greedy"}),
    ("schedule.patience", {"lr_scheduler_type": "reduce_lr_on_plateau"}, {}),
    ("optimizer.beta1", {"optim": "lion_32bit"}, {"optim": "sgd"}),
    ("optimizer.epsilon", {"optim": "adamw_8bit"}, {"optim": "adafactor"}),
    ("optimizer.beta1", {"optim": "muon"}, {"optim": "adafactor"}),
    ("optimizer.muon_momentum", {"optim": "muon"}, {}),
    ("optimizer.muon_beta2", {"optim": "normuon"}, {"optim": "muon"}),
    ("optimizer.embedding_lr", FULL, {}),
    ("optimizer.unembedding_lr", {"task": "extractive-question-answering"}, {}),
    ("optimizer.scalar_lr", {"adapter.modules_to_save": "norm"}, {}),
    ("optimizer.adapter_lr", {}, FULL),
    ("evaluation.generated_rows", {"task": "summarization"}, {"task": "text-generation"}),
    ("evaluation.samples", {}, {"provider": "unsloth"}),
    ("evaluation.sample_prompts", {}, {"evaluation.samples": 0}),
    ("evaluation.sample_tokens", {}, {"evaluation.samples": "0"}),
    ("evaluation.row_losses", {}, {"strategy": "dpo"}),
    ("evaluation.row_losses", {}, {"trainer.torch_compile": True}),
    ("evaluation.row_losses", {}, NOTHING),
    ("evaluation.report", {}, NOTHING),
    ("eval_steps", {}, {"eval_split": "0.0"}),
    ("evaluation.early_stopping", {}, {"eval_split": 0}),
    ("evaluation.early_stopping_patience", {"evaluation.early_stopping": True}, {}),
    ("logging.project", {"logging.report_to": "tensorboard"}, {"logging.report_to": "none"}),
    ("evaluation.sample_every", {}, {"evaluation.samples": 0}),
    ("evaluation.core_bundle", NOTHING, {}),
    ("evaluation.core_every", {**NOTHING, "evaluation.core_bundle": "core"}, NOTHING),
    ("evaluation.core_max_per_task", {**NOTHING, "evaluation.core_bundle": "core"}, NOTHING),
    ("pretraining.enabled", {}, {"strategy": "dpo"}),
    ("pretraining.enabled", {}, {"task": "summarization"}),
    ("pretraining.depth", NOTHING, {}),
    ("pretraining.embedding_adapter_dim", GROWS_BORROWED,
     {**GROWS_BORROWED, "pretraining.freeze_embeddings": False}),
    ("progressive.enabled", {}, {"strategy": "dpo"}),
    ("progressive.stages", GROWS, {}),
    ("progressive.stack_rank", GROWS, {**GROWS, "progressive.stack_lora": False}),
    ("progressive.stack_alpha", GROWS, {**GROWS, "progressive.rank_strategy": "table"}),
    ("progressive.trunk_lora", GROWS_LORA, GROWS),
    ("progressive.trunk_rank", GROWS_LORA, {**GROWS_LORA, "progressive.trunk_lora": False}),
    ("progressive.rank_pattern", {**GROWS, "progressive.rank_strategy": "pattern"}, GROWS),
    ("progressive.per_stage", {**GROWS, "progressive.rank_strategy": "table"}, GROWS),
    ("progressive.epochs_per_stage", GROWS, {**GROWS, "progressive.steps_per_stage": 9}),
    ("progressive.trunk_quantization", GROWS, {**GROWS, **NOTHING}),
    ("progressive.mask_by", GROWS_MASKED, GROWS),
    ("progressive.mask_min", GROWS_MASKED, {**GROWS_MASKED, "progressive.mask_by": "depth"}),
    ("progressive.mask_steps", {**GROWS_MASKED, "progressive.mask_by": "input"}, GROWS_MASKED),
    ("progressive.cache_activations", GROWS, GROWS_LORA),
    ("progressive.cache_limit_gib", {**GROWS, "progressive.cache_activations": True}, GROWS),
    ("optimizer.new_layer_lr", GROWS, {}),
    ("optimizer.adapter_lr", {**GROWS, **FULL}, FULL),
    ("pretraining.vocab_size", NOTHING, {**NOTHING, "pretraining.tokenizer": "starter"}),
    ("pretraining.freeze_embeddings", {**NOTHING, "pretraining.tokenizer": "starter"}, NOTHING),
    ("evaluation.eval_tokens", NOTHING, {**NOTHING, "eval_split": 0}),
    ("pretraining.window_pattern", {**NOTHING, "pretraining.arch": "qwen3"}, NOTHING),
    ("pretraining.target_param_data_ratio", NOTHING, {**NOTHING, "max_steps": 9}),
    ("model.tokenizer", {}, NOTHING),
    ("privacy.enabled", {}, {"strategy": "dpo"}),
    ("privacy.epsilon", {"privacy.enabled": True}, {}),
    ("logging.experiment", {"logging.report_to": "mlflow"}, {"logging.report_to": "wandb"}),
    ("logging.repo", {"logging.report_to": "aim"}, {"logging.report_to": "mlflow"}),
    ("logging.wandb_mode", {"logging.report_to": "aim, wandb"}, {"logging.report_to": "aim"}),
    ("trainer.neftune_noise_alpha", {}, {"strategy": "dpo"}),
    ("learning_rate", {}, {"schedule.auto_learning_rate": True}),
    ("trainer.target_tokens", {"strategy": "dpo"}, {"strategy": "rlhf"}),
    ("trainer.target_flops", {}, {"strategy": "dpo"}),
    ("data.records_to_sample", {"strategy": "rlhf"}, {"max_steps": "20"}),
    ("trainer.fractional_epochs", {}, {"max_steps": 20}),
    ("hardware.max_gpu_temperature", {}, {"hardware.device": "cpu"}),
    ("hardware.engine_options", {"hardware.engine": "surogate"}, {}),
    ("hardware.max_gpu_power", {"hardware.device": "cuda"}, {"hardware.device": "mps"}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "beside", "but_not_beside"), CASES)
def test_a_setting_applies_only_where_it_means_something(name, beside, but_not_beside):
    usual = {"task": "text-generation"}
    assert applies(name, {**usual, **beside})
    assert not applies(name, {**usual, **but_not_beside})


def test_every_condition_is_tried_and_names_settings_there_are():
    tried = {words for name, *_ in CASES for words in describe_conditions(name).split(", ")}
    for name in CONDITIONS:
        is_group = name.endswith(".")
        inside = [
            one for one in specs_by_name() if one == name or (is_group and one.startswith(name))
        ]
        assert inside, name
        assert {
            words for one in inside for words in describe_conditions(one).split(", ")
        } <= tried, name


def test_what_is_kept_from_another_choice_does_not_speak():
    # Packing stays in the form while preferences are learned; it is no reason to hide anything.
    assert applies("group_by_length", {"strategy": "dpo", "packing": "true"})
    assert applies("lora_r", {"strategy": "qlora", "adapter.enabled": "false"})


def test_typed_answers_and_text_from_a_form_are_the_same():
    assert applies("use_4bit", {"use_8bit": False}) == applies("use_4bit", {"use_8bit": "false"})
    assert not applies("lora_r", {"adapter.enabled": "False"})


def test_the_contract_itself_is_never_hidden_from_a_plain_run():
    flat = {spec.name for spec in field_specs() if "." not in spec.name}
    hidden = inapplicable_settings({"task": "text-generation"})
    assert flat & hidden == set()
    assert "trainer.reward" in hidden


def test_the_docs_say_when_a_setting_applies():
    assert describe_conditions("trainer.reward_epochs").startswith("with strategy rlhf")
    assert "- Applies: with strategy dpo" in settings_markdown()
    assert describe_conditions("seed") == ""
