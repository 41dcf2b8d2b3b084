import pytest

from modelforge.config.fields import specs_by_name
from modelforge.config.rules.registry import all_rules
from tests.config.problems import find_problems

UNSLOTH = {"provider": "unsloth", "max_seq_length": 512}
SUROGATE = {"hardware": {"engine": "surogate"}}
PRIVATE = {"privacy": {"enabled": True}}
TAG = {"model_name": "d6"}
NOTHING = {"pretraining": {"enabled": True}}


def nothing(**group):
    return {"pretraining": {"enabled": True, **group}}


def grows(new=None, **group):
    return {"progressive": {"enabled": True, **group}, **(new or {})}


def from_nothing(**group):
    return nothing(**group) | TAG


BORROWED = {"tokenizer": "starter", "freeze_embeddings": True}
TABLE = {"rank_strategy": "table", "stages": 2}
MLM = {"objective": "mlm"}
WSD = {"lr_scheduler_type": "warmup_stable_decay"}
INIT = "adapter.init"
REFUSED = [
    ({"dataset": "x" * 5000}, "dataset"),
    (SUROGATE | {"strategy": "rlhf"}, "strategy"),
    (SUROGATE | {"strategy": "dpo", "trainer": {"preference_loss": "orpo"}}, "strategy"),
    (SUROGATE | {"task": "summarization"}, "task"),
    ({"hardware": {"engine_options": "seed: 7"}}, "hardware.engine_options"),
    (SUROGATE | {"provider": "unsloth", "max_seq_length": 512}, "provider"),
    ({"hardware": {"engine": "surogate", "device": "cpu"}}, "hardware.device"),
    ({"hardware": {"engine": "surogate", "gpus": 2}}, "hardware.gpus"),
    ({"adapter": {"start_from": "a-run", "init": "pissa"}}, "adapter.init"),
    ({"adapter": {"start_from": "a-run"}, "strategy": "rlhf"}, "adapter.start_from"),
    ({"trainer": {"save_steps": 0}}, "trainer.save_steps"),
    ({"use_4bit": True, "use_8bit": True}, "use_4bit"),
    ({"fp16": True, "bf16": True}, "bf16"),
    ({"fp16": True, "hardware": {"precision": "bf16"}}, "hardware.precision"),
    ({"bf16": True, "hardware": {"precision": "fp32"}}, "hardware.precision"),
    ({"model": {"attn_implementation": "acme/attention"}}, "model.allow_hub_kernels"),
    ({"model": {"rope_factor": 2}}, "model.rope_factor"),
    (
        {"model": {"chat_template": "chatml"}, "data": {"use_chat_template": False}},
        "model.chat_template",
    ),
    ({"model": {"dtype": "float16"}, "adapter": {"enabled": False}}, "model.dtype"),
    ({**UNSLOTH, "model": {"rope_type": "yarn"}}, "model.rope_type"),
    ({**UNSLOTH, "model": {"dtype": "float32"}}, "model.dtype"),
    ({"provider": "unsloth"}, "max_seq_length"),
    ({"provider": "unsloth", "max_seq_length": -1}, "max_seq_length"),
    ({"provider": "unsloth", "max_seq_length": 0}, "max_seq_length"),
    ({"provider": "unsloth", "max_seq_length": 512, "task": "summarization"}, "provider"),
    ({"strategy": "dpo", "task": "summarization"}, "strategy"),
    ({"strategy": "rlhf", "task": "extractive-question-answering"}, "strategy"),
    ({"strategy": "dpo", "packing": True}, "packing"),
    ({"strategy": "rlhf", "packing": True}, "packing"),
    ({"packing": True, "task": "summarization"}, "packing"),
    ({"strategy": "qlora", "use_4bit": False}, "use_4bit"),
    ({"strategy": "qlora", "use_4bit": False, "use_8bit": False}, "use_4bit"),
    ({"max_seq_length": 0}, "max_seq_length"),
    ({"max_seq_length": -2}, "max_seq_length"),
    ({"evaluation": {"early_stopping": True}, "eval_split": 0}, "evaluation.early_stopping"),
    ({"evaluation": {"sample_prompts": "\n".join("abcdefghi")}}, "evaluation.sample_prompts"),
    ({"logging": {"report_to": "tensorbored"}}, "logging.report_to"),
    ({"strategy": "dpo", **PRIVATE}, "privacy.enabled"),
    ({"task": "summarization", **PRIVATE}, "privacy.enabled"),
    ({"provider": "unsloth", "max_seq_length": 512, **PRIVATE}, "privacy.enabled"),
    ({"packing": True, **PRIVATE}, "packing"),
    ({"data": {"padding_free": True}, **PRIVATE}, "data.padding_free"),
    ({"data": {"truncation_strategy": "split"}, **PRIVATE}, "data.truncation_strategy"),
    ({"data": {"shuffle": False}, **PRIVATE}, "data.shuffle"),
    ({"data": {"sources": [{"path": "a"}, {"path": "b", "weight": 2}]}, **PRIVATE}, "data.sources"),
    ({"fp16": True, **PRIVATE}, "fp16"),
    ({"hardware": {"precision": "fp16"}, **PRIVATE}, "hardware.precision"),
    ({"trainer": {"torch_compile": True}, **PRIVATE}, "trainer.torch_compile"),
    ({"adapter": {"dtype": "bfloat16"}, **PRIVATE}, "adapter.dtype"),
    ({"strategy": "dpo", **NOTHING, **TAG}, "strategy"),
    ({"task": "summarization", **NOTHING, **TAG}, "task"),
    ({"model_name": "starter", **NOTHING}, "model_name"),
    ({"adapter": {"enabled": True}, **NOTHING, **TAG}, "adapter.enabled"),
    ({"quantization": {"scheme": "nvfp4"}, **NOTHING, **TAG}, "adapter.enabled"),
    ({"packing": True, **NOTHING, **TAG}, "packing"),
    ({"model": {"tokenizer": "starter"}, **NOTHING, **TAG}, "model.tokenizer"),
    ({"model": {"rope_type": "yarn"}, **NOTHING, **TAG}, "model.rope_type"),
    ({"trainer": {"target_tokens": 9}, **NOTHING, **TAG}, "trainer.target_tokens"),
    (nothing(target_param_data_ratio=-1) | TAG, "pretraining.target_param_data_ratio"),
    (nothing(window_pattern="SXL") | TAG, "pretraining.window_pattern"),
    (nothing(window_pattern="SL") | TAG, "pretraining.window_pattern"),
    (nothing(n_heads=5) | TAG, "pretraining.n_heads"),
    (nothing(d_model=100) | TAG, "pretraining.d_model"),
    (nothing(head_dim=15) | TAG, "pretraining.head_dim"),
    (nothing(n_kv_heads=4) | TAG, "pretraining.n_kv_heads"),
    (nothing(depth=100, aspect_ratio=1024) | TAG, "pretraining.depth"),
    (nothing(total_batch_tokens=0) | TAG, "pretraining.total_batch_tokens"),
    (
        nothing(total_batch_tokens=12_000) | TAG | {"max_seq_length": 512},
        "pretraining.total_batch_tokens",
    ),
    (nothing(freeze_embeddings=True) | TAG, "pretraining.freeze_embeddings"),
    (nothing(vocab_size=259) | TAG, "pretraining.vocab_size"),
    (grows({"task": "summarization"}), "task"),
    (grows({"strategy": "dpo"}), "strategy"),
    (grows(UNSLOTH), "provider"),
    (grows({"adapter": {"enabled": True}}), "adapter.enabled"),
    (grows({"adapter": {"start_from": "a-run"}}), "adapter.start_from"),
    (grows({"optim": "muon"}), "optim"),
    (grows(PRIVATE), "privacy.enabled"),
    (grows({"model": {"rope_type": "yarn"}}), "model.rope_type"),
    (grows({"trainer": {"resume_from_checkpoint": "a-run"}}), "trainer.resume_from_checkpoint"),
    (grows({"max_steps": 9}), "max_steps"),
    (grows({"data": {"records_to_sample": 9}}), "data.records_to_sample"),
    (grows(stack_rank=257), "progressive.stack_rank"),
    (grows(trunk="lora", trunk_rank=512), "progressive.trunk_rank"),
    (grows(per_stage="0: 8", **TABLE), "progressive.per_stage"),
    (grows(per_stage={0: {"rank": 8, "alpha": 16}}, **TABLE), "progressive.per_stage"),
    (grows(per_stage="0: 8/16, 1: 257/16", **TABLE), "progressive.per_stage[1].rank"),
    (grows(per_stage="0: 8/16, 1: 8/16, 2: 8/16", **TABLE), "progressive.per_stage"),
    (grows(mode="layerwise", layers_per_stage=2), "progressive.layers_per_stage"),
    (grows(mode="blockwise", trunk="lora"), "progressive.trunk"),
    (grows(mode="blockwise", direction="prepend"), "progressive.direction"),
    (grows(trunk="lora", trunk_lora=False, stack_lora=False), "progressive.trunk"),
    (grows(new_layer_dtype="nvfp4"), "progressive.new_layer_dtype"),
    (grows(new_layer_dtype="half"), "progressive.new_layer_dtype"),
    (grows(from_nothing(n_layers=9), layers_per_stage=4), "pretraining.n_layers"),
    (grows(from_nothing(), trunk_quantization="bnb-4bit"), "progressive.trunk_quantization"),
    (
        grows(trunk_quantization="bnb-4bit", joint_tuning_steps=5),
        "progressive.joint_tuning_steps",
    ),
    (nothing(embedding_adapter_dim=4) | TAG, "pretraining.embedding_adapter_dim"),
    (grows(from_nothing(embedding_adapter_dim=4)), "pretraining.embedding_adapter_dim"),
    (
        grows(from_nothing(**BORROWED, embedding_adapter_dim=4, tie_embeddings=True)),
        "pretraining.embedding_adapter_dim",
    ),
    (
        grows({"trainer": {"neftune_noise_alpha": 5}}, cache_activations=True),
        "progressive.cache_activations",
    ),
    (grows(**MLM, mask_min=0.5, mask_max=0.4), "progressive.mask_min"),
    (grows(**MLM, mask_by="depth", mask_fractions="0.1, x"), "progressive.mask_fractions"),
    (
        grows(**MLM, mask_by="depth", mask_steps=2, mask_fractions=[0.3, 0.2]),
        "progressive.mask_fractions",
    ),
    (grows(**MLM, mask_by="input", mask_fractions=[0.3, 0.4]), "progressive.mask_fractions"),
    (grows({"packing": True}, **MLM), "packing"),
    (grows({"data": {"padding_free": True}}, **MLM), "data.padding_free"),
    (grows(**MLM, cache_activations=True), "progressive.cache_activations"),
    (grows(trunk="lora", cache_activations=True), "progressive.cache_activations"),
    (grows(direction="prepend", cache_activations=True), "progressive.cache_activations"),
    ({"logging": {"log_file": "logs/run.log"}}, "logging.log_file"),
    ({"logging": {"log_file": "/srv/notes.md"}}, "logging.log_file"),
    ({"logging": {"report_to": "aim", "repo": "here"}}, "logging.repo"),
    ({"logging": {"report_to": ["wandb", "none"]}}, "logging.report_to"),
    ({"max_steps": 0}, "max_steps"),
    ({"max_steps": -2}, "max_steps"),
    ({"strategy": "dpo", "data": {"loss_on": "all"}}, "data.loss_on"),
    ({"task": "summarization", "data": {"loss_on": "last_round"}}, "data.loss_on"),
    ({"strategy": "rlhf", "data": {"truncation_strategy": "split"}}, "data.truncation_strategy"),
    ({"strategy": "dpo", "data": {"padding_free": True}}, "data.padding_free"),
    ({"task": "summarization", "data": {"padding_free": True}}, "data.padding_free"),
    ({"model": {"chat_template": "chatlm"}}, "model.chat_template"),
    ({"data": {"sources": [{"path": "a", "type": "preference"}]}}, "data.sources[0].type"),
    ({"data": {"sources": [{"path": "a", "chosen_field": "c"}]}}, "data.sources[0].type"),
    (
        {"strategy": "dpo", "data": {"sources": [{"path": "a"}, {"path": "b", "type": "text"}]}},
        "data.sources[1].type",
    ),
    (
        {"data": {"validation_sources": [{"path": "a", "weight": 2}]}},
        "data.validation_sources[0].weight",
    ),
    (
        {"data": {"validation_sources": [{"path": "a", "subset": "en"}]}},
        "data.validation_sources[0].subset",
    ),
    ({"use_4bit": True, "quantization": {"scheme": "fp8"}}, "quantization.scheme"),
    ({"use_8bit": True, "quantization": {"scheme": "bnb-4bit"}}, "quantization.scheme"),
    ({"use_4bit": False, "quantization": {"scheme": "bnb-4bit"}}, "quantization.scheme"),
    (UNSLOTH | {"quantization": {"scheme": "nvfp4"}}, "quantization.scheme"),
    (UNSLOTH | {"quantization": {"fp8_training": True}}, "quantization.fp8_training"),
    ({"use_4bit": True, "quantization": {"fp8_training": True}}, "quantization.fp8_training"),
    ({"use_8bit": True, "quantization": {"fp8_training": True}}, "quantization.fp8_training"),
    ({"strategy": "qlora", "quantization": {"fp8_training": True}}, "quantization.fp8_training"),
    (
        {"quantization": {"scheme": "fp8", "fp8_training": True}},
        "quantization.fp8_training",
    ),
    ({"quantization": {"four_over_six": True}}, "quantization.four_over_six"),
    (UNSLOTH | {"quantization": {"skip_last_layers": 2}}, "quantization.skip_last_layers"),
    (UNSLOTH | {"adapter": {"init": "pissa"}}, "adapter.init"),
    (UNSLOTH | {"strategy": "rlhf"}, "provider"),
    ({"strategy": "qlora", "quantization": {"scheme": "none"}}, "quantization.scheme"),
    ({"strategy": "qlora", "adapter": {"enabled": False}}, "adapter.enabled"),
    ({"use_4bit": True, "adapter": {"enabled": False}}, "adapter.enabled"),
    ({"use_8bit": True, "adapter": {"enabled": False}}, "adapter.enabled"),
    ({"quantization": {"scheme": "fp8"}, "adapter": {"enabled": False}}, "adapter.enabled"),
    ({"quantization": {"scheme": "int8-weight-only"}, "adapter": {"init": "loftq"}}, INIT),
    ({"use_8bit": True, "adapter": {"init": "loftq"}}, INIT),
    ({"use_8bit": True, "adapter": {"init": "pissa"}}, INIT),
    ({"strategy": "dpo", "adapter": {"init": "pissa"}}, INIT),
    ({"strategy": "rlhf", "adapter": {"init": "olora"}}, INIT),
    ({"adapter": {"init": "loftq", "use_dora": True}}, "adapter.use_dora"),
    ({"lora_r": 7, "adapter": {"init": "orthogonal"}}, "lora_r"),
    ({"lora_r": 8, "lora_alpha": 32, "adapter": {"alpha_over_r": 2}}, "adapter.alpha_over_r"),
    ({"adapter": {"target_modules": "q_proj,, v_proj"}}, "adapter.target_modules"),
    ({"adapter": {"target_modules": "q proj"}}, "adapter.target_modules"),
    ({"adapter": {"modules_to_save": "lm_head;norm"}}, "adapter.modules_to_save"),
    (WSD | {"schedule": {"decay_steps": 5, "decay_ratio": 0.2}}, "schedule.decay_ratio"),
    (
        {"lr_scheduler_type": "inverse_sqrt", "schedule": {"decay_steps": 5}},
        "schedule.decay_steps",
    ),
    (
        {
            "lr_scheduler_type": "linear",
            "max_steps": 10,
            "warmup_ratio": 0.6,
            "schedule": {"decay_steps": 5},
        },
        "schedule.decay_steps",
    ),
    (
        {"adapter": {"enabled": False}, "use_4bit": False, "optimizer": {"loraplus_ratio": 16}},
        "optimizer.loraplus_ratio",
    ),
    ({"data": {"role_weights": "user"}}, "data.role_weights"),
    ({"data": {"role_weights": "bird=1"}}, "data.role_weights"),
    ({"data": {"role_weights": "user=101"}}, "data.role_weights"),
    ({"data": {"role_weights": "user=1, user=2"}}, "data.role_weights"),
    ({"data": {"role_weights": "assistant=0"}}, "data.role_weights"),
    (
        {"data": {"role_weights": "user=1"}, "provider": "unsloth", "max_seq_length": 64},
        "data.role_weights",
    ),
    (
        {"data": {"message_weights": True}, "trainer": {"torch_compile": True}},
        "data.message_weights",
    ),
    (
        {"adapter": {"enabled": False}, "use_4bit": False, "optimizer": {"adapter_lr": 0.1}},
        "optimizer.adapter_lr",
    ),
    ({"schedule": {"decay_shape": "1-sqrt"}}, "schedule.decay_shape"),
    (
        {"lr_scheduler_type": "inverse_sqrt", "schedule": {"final_lr_fraction": 0.1}},
        "schedule.final_lr_fraction",
    ),
    ({"lr_scheduler_type": "reduce_lr_on_plateau", "eval_split": 0}, "lr_scheduler_type"),
    ({"lr_scheduler_type": "greedy", "eval_split": 0}, "lr_scheduler_type"),
    (WSD | {"warmup_ratio": 0.9, "schedule": {"decay_ratio": 0.2}}, "schedule.decay_ratio"),
    (
        WSD | {"max_steps": 10, "schedule": {"warmup_steps": 6, "decay_steps": 5}},
        "schedule.decay_steps",
    ),
    (
        {
            "strategy": "dpo",
            "trainer": {"preference_loss": "orpo", "precompute_ref_log_probs": True},
        },
        "trainer.precompute_ref_log_probs",
    ),
    ({"strategy": "rlhf", "trainer": {"reward": "regex"}}, "trainer.reward_pattern"),
    ({"packing": True, "data": {"shuffle": False}}, "data.packing_strategy"),
    (
        {"strategy": "dpo", "trainer": {"preference_loss": "kto"}, "data": {"shuffle": False}},
        "data.shuffle",
    ),
    (
        {"strategy": "rlhf", "trainer": {"reward": "regex", "reward_pattern": "(a"}},
        "trainer.reward_pattern",
    ),
]
TAKEN = [
    {},
    {"quantization": {"fp8_training": True}},
    {"quantization": {"fp8_training": True}, "adapter": {"enabled": False}},
    {"quantization": {"scheme": "none", "fp8_training": True}},
    {"quantization": {"scheme": "nvfp4", "four_over_six": True}},
    {"lr_scheduler_type": "greedy", "schedule": {"final_lr_fraction": 0.1}},
    {"use_8bit": True},
    {"use_8bit": True, "use_4bit": False},
    {"use_4bit": True, "use_8bit": False},
    {"fp16": True},
    {"fp16": True, "hardware": {"precision": "fp16"}},
    {"fp16": False, "bf16": False, "hardware": {"precision": "bf16"}},
    {"bf16": True, "hardware": {"precision": "auto"}},
    {"provider": "unsloth", "max_seq_length": 2048},
    {"strategy": "dpo"},
    {"strategy": "rlhf", "packing": False},
    {"strategy": "qlora"},
    {"strategy": "qlora", "use_4bit": False, "use_8bit": True},
    {"strategy": "qlora", "packing": True},
    {"packing": True, "group_by_length": True},
    {"max_seq_length": -1},
    {"max_steps": -1},
    {"eval_split": 1},
    {"lora_dropout": 1.0},
    {"task": "summarization"},
    {"strategy": "qlora", "data": {"loss_on": "last_round", "padding_free": True}},
    {"strategy": "dpo", "data": {"truncation_strategy": "left"}},
    {"packing": True, "data": {"packing_strategy": "bfd_split", "truncation_strategy": "split"}},
    {"data": {"packing_strategy": "wrapped"}},
    {"packing": True, "data": {"packing_strategy": "wrapped", "shuffle": False}},
    {"strategy": "rlhf", "data": {"shuffle": False}},
    {"model": {"chat_template": "chatml", "system_prompt": "Be brief.\nBe kind."}},
    {"model": {"chat_template": "my/own.jinja"}},
    {"strategy": "dpo", "data": {"sources": [{"path": "a", "type": "preference"}]}},
    {"strategy": "dpo", "data": {"sources": [{"path": "a", "rejected_field": "c"}]}},
    {"data": {"validation_sources": [{"path": "a", "samples": 5}]}, "eval_split": 0.1},
    {"quantization": {"scheme": "fp8"}},
    {"use_4bit": True, "quantization": {"scheme": "bnb-4bit"}},
    {"use_4bit": False, "use_8bit": True, "quantization": {"scheme": "bnb-8bit"}},
    {"use_4bit": False, "quantization": {"scheme": "int8-weight-only", "skip_last_layers": 2}},
    UNSLOTH | {"quantization": {"scheme": "bnb-8bit"}, "adapter": {"init": "gaussian"}},
    UNSLOTH | {"strategy": "dpo"},
    {"strategy": "qlora", "quantization": {"scheme": "nvfp4"}},
    {"adapter": {"enabled": False}},
    {"use_4bit": False, "adapter": {"enabled": False}, "quantization": {"scheme": "none"}},
    {"adapter": {"init": "loftq"}},
    {"use_4bit": False, "adapter": {"init": "loftq"}},
    {"quantization": {"scheme": "bnb-4bit"}, "adapter": {"init": "pissa"}},
    {"strategy": "dpo", "adapter": {"init": "orthogonal", "use_dora": True}},
    {"strategy": "dpo", "adapter": {"init": "pissa"}, "trainer": {"preference_loss": "orpo"}},
    {"lora_r": 8, "adapter": {"init": "orthogonal"}},
    {"lora_r": 16, "lora_alpha": 32, "adapter": {"alpha_over_r": 2}},
    {"lora_r": 8, "adapter": {"alpha_over_r": 2}},
    {"adapter": {"target_modules": "q_proj, v_proj", "modules_to_save": "lm_head"}},
    WSD,
    WSD | {"schedule": {"decay_ratio": 0.5, "decay_shape": "1-sqrt"}},
    WSD | {"max_steps": 10, "schedule": {"warmup_steps": 5, "decay_steps": 5}},
    {"schedule": {"final_lr_fraction": 0.1, "decay_shape": "linear"}},
    {"schedule": {"decay_steps": 5}},
    {"data": {"role_weights": "user=0.1, assistant=1", "message_weights": True}},
    {"data": {"role_weights": ["assistant=0", "user=1"]}},
    {"schedule": {"decay_ratio": 0.2, "decay_shape": "1-sqrt"}},
    {"optimizer": {"loraplus_ratio": 16, "adapter_lr": 0.1}},
    {"strategy": "dpo", "trainer": {"precompute_ref_log_probs": True}},
    {"strategy": "dpo", "trainer": {"preference_loss": "orpo"}},
    {"strategy": "rlhf", "trainer": {"reward": "regex", "reward_pattern": r"\d+"}},
    {"trainer": {"num_generations": 4}},
    {"evaluation": {"early_stopping": True, "early_stopping_patience": 1}},
    {"evaluation": {"sample_prompts": ["Who are you?\nReally?", "What, when, where?"]}},
    {"evaluation": {"sample_prompts": "\n\n".join("abcdefgh"), "samples": 8}},
    {"logging": {"report_to": "tensorboard, Trackio,wandb"}},
    {"logging": {"report_to": ["mlflow", "aim"], "project": "ships", "wandb_mode": "online"}},
    {"logging": {"report_to": "none"}},
    {**NOTHING, **TAG},
    nothing(window_pattern="SSL", arch="qwen3") | TAG,
    nothing(d_model=96, n_heads=4, n_kv_heads=2, d_ff=40, n_layers=3) | TAG,
    nothing(total_batch_tokens=16_384) | TAG | {"max_seq_length": 512},
    nothing(target_param_data_ratio=-1) | TAG | {"max_steps": 5},
    nothing(depth=2) | TAG | {"schedule": {"decay_steps": 20}},
    {"strategy": "qlora", "use_4bit": True, **PRIVATE},
    {"data": {"sources": [{"path": "a", "weight": 2}, {"path": "b", "weight": 2}]}, **PRIVATE},
    {"logging": {"log_file": "/srv/run.LOG", "log_level": "debug"}},
    {"logging": {"log_file": "C:\\\\logs\\\\run.txt"}},
    {"logging": {"report_to": "aim", "repo": "aim://there:53800"}},
    {"logging": {"report_to": "aim", "repo": "~/aim"}},
    {"logging": {"report_to": []}},
]


@pytest.mark.parametrize(("answers", "where"), REFUSED, ids=str)
def test_settings_that_contradict_each_other_are_refused_once(minimal, answers, where):
    problems = find_problems(minimal | answers)
    assert [found.where for found in problems] == [where]
    assert problems[0].what.endswith(".")
    assert problems[0].remedy.endswith(".")


@pytest.mark.parametrize("answers", TAKEN, ids=str)
def test_settings_that_agree_are_taken(minimal, answers):
    assert find_problems(minimal | answers) == []


def test_every_rule_names_settings_that_exist_and_is_broken_by_a_case_above(minimal):
    assert all_rules()
    for rule in all_rules():
        assert rule.reads <= set(specs_by_name())
        assert any(rule.reads & set(_flat(answers)) for answers, _ in REFUSED)


def source_with(**settings):
    return {"data": {"sources": [{"path": "rows.jsonl", **settings}]}}


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        ({"adapter": {"target_modules": "q proj"}}, "q_proj, v_proj, or all-linear."),
        ({"adapter": {"modules_to_save": "q proj"}}, "with commas: q_proj, v_proj."),
        (source_with(encoding="klingon"), "such as utf-8"),
        (source_with(system_prompt_type="field"), "Enter the column."),
        (source_with(system_prompt_type="fixed"), "Enter the text."),
    ],
)
def test_a_remedy_is_that_of_the_setting(minimal, settings, remedy):
    (problem,) = find_problems(minimal | settings)
    assert remedy in problem.remedy


def test_an_encoding_that_python_knows_is_taken(minimal):
    assert find_problems(minimal | source_with(encoding="cp1252")) == []


def test_a_rule_is_silent_about_a_setting_that_is_refused_anyway(minimal):
    problems = find_problems(minimal | {"provider": "unsloth", "max_seq_length": "long"})
    assert [found.what for found in problems] == ["'long' is not a number."]


def _flat(answers):
    for name, value in answers.items():
        if isinstance(value, dict):
            yield from (f"{name}.{inner}" for inner in value)
        else:
            yield name
