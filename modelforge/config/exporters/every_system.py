"""Settings that become the same in every system: most of them nothing."""

from __future__ import annotations

from modelforge.config.exporters.rules import Rule, elsewhere, left_out, not_needed, steps_of
from modelforge.config.schema.pretraining import Pretraining
from modelforge.config.schema.progressive import Progressive

OURS = "It concerns this program, not the trained model."
REPORTS = "It reports on the training; the trained model is the same."
MEMORY = "It concerns what happens when memory runs out; the trained model is the same."
COMPILED = "It changes how long the compiler takes; the trained model is the same."
ONE_RATE = "All weights have one learning rate."
SAME_WEIGHT = "All trained tokens weigh the same; roles without a weight here are not trained."
RATES = ("matrix_lr", "embedding_lr", "unembedding_lr", "scalar_lr", "adapter_lr", "new_layer_lr")
REWARDS = "It belongs to RLHF, which this export does not have."

RULES: dict[str, Rule] = {
    "compute_specs": not_needed("The profile fills the form; its values are written out."),
    "provider": not_needed("Both providers train the same."),
    "hardware.engine": not_needed("The file is for the program that reads it."),
    "hardware.engine_options": not_needed("They are options of Surogate alone."),
    "hardware.gpu_index": not_needed("Set CUDA_VISIBLE_DEVICES there."),
    "hardware.gpus": left_out("The number of GPUs is an argument of its launcher.", [1]),
    "hardware.sharding": left_out("What GPUs divide is in a file of its launcher.", ["none"]),
    "hardware.sequence_parallel_size": left_out("Every GPU has whole rows.", [1]),
    "hardware.max_gpu_temperature": left_out("There is no limit of the temperature."),
    "hardware.max_gpu_power": left_out("There is no limit of the power; use nvidia-smi -pl."),
    "quantization.allow_slow": not_needed(OURS),
    "quantization.fp8_training": left_out("Products are in the precision of the training."),
    "quantization.fp8_recipe": elsewhere("quantization.fp8_training"),
    "quantization.fp8_block_size": left_out("Its own size of blocks is used.", ["auto"]),
    "quantization.four_over_six": left_out("Weights in NVFP4 have the usual scales."),
    "memory.autopilot": not_needed(MEMORY),
    "memory.max_vram_fraction": left_out("Nothing limits the memory of the GPU.", [1.0]),
    "memory.checkpoint_every_n_layers": left_out("All layers are recomputed.", [1]),
    "memory.activation_offload": left_out("Activations stay on the GPU."),
    "hardware.torch_compile_mode": left_out("The compiler has its default mode.", ["default"]),
    "hardware.regional_compilation": not_needed(COMPILED),
    "memory.auto_batch_size": not_needed("The batch size is written as it is set."),
    "evaluation.generated_rows": not_needed(REPORTS),
    "evaluation.samples": not_needed(REPORTS),
    "evaluation.sample_prompts": not_needed(REPORTS),
    "evaluation.sample_tokens": not_needed(REPORTS),
    "evaluation.sample_every": not_needed(REPORTS),
    "evaluation.eval_tokens": not_needed(REPORTS),
    "evaluation.core_bundle": not_needed(REPORTS),
    "evaluation.core_every": not_needed(REPORTS),
    "evaluation.core_max_per_task": not_needed(REPORTS),
    "evaluation.report": not_needed(REPORTS),
    "evaluation.row_losses": not_needed(REPORTS),
    "evaluation.phase_monitor": not_needed(REPORTS),
    "evaluation.loss_guard": left_out("Nothing lowers the rate when the loss rises."),
    "evaluation.early_stopping": left_out("Nothing ends a run that no longer improves."),
    "evaluation.early_stopping_patience": elsewhere("evaluation.early_stopping"),
    "evaluation.early_stopping_threshold": elsewhere("evaluation.early_stopping"),
    "adapter.merge_after_training": left_out("Merge the adapter there when it is trained."),
    "privacy.enabled": left_out("There is no differential privacy."),
    "privacy.epsilon": elsewhere("privacy.enabled"),
    "privacy.delta": elsewhere("privacy.enabled"),
    "privacy.max_grad_norm": elsewhere("privacy.enabled"),
    **{
        f"pretraining.{name}": elsewhere("pretraining.enabled") for name in Pretraining.model_fields
    },
    "pretraining.enabled": left_out("It trains models that exist."),
    **{
        f"progressive.{name}": elsewhere("progressive.enabled") for name in Progressive.model_fields
    },
    "progressive.enabled": left_out("It does not add layers in stages."),
    "logging.time_breakdown": not_needed(REPORTS),
    "logging.memory_breakdown": not_needed(REPORTS),
    "logging.log_level": not_needed(REPORTS),
    "logging.log_file": not_needed(REPORTS),
    "logging.experiment": left_out("There is no experiment beside the project."),
    "logging.repo": left_out("Set AIM_REPO there."),
    "optimizer.muon_momentum": elsewhere("optim"),
    "optimizer.muon_beta2": elsewhere("optim"),
    "optimizer.muon_scale": elsewhere("optim"),
    "optimizer.cautious_weight_decay": elsewhere("optim"),
    **{f"optimizer.{name}": left_out(ONE_RATE) for name in RATES},
    "optimizer.loraplus_ratio": left_out("Both matrices of the adapter have one rate."),
    "data.role_weights": left_out(SAME_WEIGHT),
    "data.message_weights": left_out("Answers that are trained weigh the same."),
    "logging.wandb_mode": not_needed("Set WANDB_MODE there."),
    "model.tokenizer": left_out("The tokenizer of the model is used.", [None]),
    "data.shuffle": left_out("Rows are in random order there.", [True]),
    "dataset": elsewhere("data.sources"),
    "fp16": elsewhere("hardware.precision"),
    "bf16": elsewhere("hardware.precision"),
    "use_4bit": elsewhere("quantization.scheme"),
    "use_8bit": elsewhere("quantization.scheme"),
    "adapter.alpha_over_r": elsewhere("lora_alpha"),
    "schedule.warmup_steps": elsewhere("warmup_ratio"),
    "schedule.decay_ratio": elsewhere("lr_scheduler_type"),
    "schedule.decay_steps": elsewhere("lr_scheduler_type"),
    "schedule.decay_shape": elsewhere("lr_scheduler_type"),
    "schedule.final_lr_fraction": elsewhere("lr_scheduler_type"),
    "schedule.cycles": elsewhere("lr_scheduler_type"),
    "schedule.power": elsewhere("lr_scheduler_type"),
    "schedule.patience": elsewhere("lr_scheduler_type"),
    "schedule.auto_learning_rate": elsewhere("learning_rate"),
    "trainer.resume_from_checkpoint": left_out("It has no checkpoints of this program."),
    "trainer.target_tokens": steps_of("trainer.target_tokens"),
    "trainer.target_flops": steps_of("trainer.target_flops"),
    "data.records_to_sample": steps_of("data.records_to_sample"),
    "trainer.rlhf_algorithm": not_needed(REWARDS),
    "trainer.reward": not_needed(REWARDS),
    "trainer.reward_model": not_needed(REWARDS),
    "trainer.reward_pattern": not_needed(REWARDS),
    "trainer.reward_words": not_needed(REWARDS),
    "trainer.reward_learning_rate": not_needed(REWARDS),
    "trainer.reward_epochs": not_needed(REWARDS),
    "trainer.kl_beta": not_needed(REWARDS),
    "trainer.num_generations": not_needed(REWARDS),
    "trainer.max_completion_length": not_needed(REWARDS),
    "trainer.generation_temperature": not_needed(REWARDS),
}
