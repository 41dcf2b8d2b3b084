"""Options of Axolotl that have no setting here, with the reason."""

from __future__ import annotations

from modelforge.config.importers.options import Option, no_effect, refused
from modelforge.config.importers.shared.gpus import by_hand

KERNELS = "Kernels are chosen here; Unsloth, as the provider, has its own."
VARIANT = "This way of training is not offered here."
IMAGES = "Images, sound and video are not trained here."
TRACKERS = "Trackers are TensorBoard, trackio, W&B, MLflow and Aim."

_KERNELS = (
    *("lora_mlp_kernel", "lora_qkv_kernel", "lora_o_kernel", "lora_embedding_kernel"),
    *("liger_rope", "liger_rms_norm", "liger_glu_activation", "liger_layer_norm"),
    *("liger_fused_linear_cross_entropy", "liger_cross_entropy", "cut_cross_entropy"),
    *("unsloth_lora_mlp", "unsloth_lora_qkv", "unsloth_lora_o", "unsloth_cross_entropy_loss"),
    *("use_kernels", "use_scattermoe", "use_sonicmoe", "fused_attn_kernel", "use_dsv4_kernels"),
    *("use_glm_dsa_kernels", "liger_rms_norm_gated", "gemma4_hybrid_attn_impl"),
    *("liger_use_token_scaling", "dsv4_fp4_grouped_mode"),
)
_VARIANTS = (
    *("unfrozen_parameters", "peft_layers_to_transform", "relora_steps"),
    *("lora_fan_in_fan_out", "peft_use_relora", "layer_offloading", "qat", "quantize_moe_experts"),
    *("gptq", "load_in_fp8", "dft_loss", "use_eaft", "reward_model", "process_reward_model"),
    *("trl", "rl_beta_schedule", "dpo_label_smoothing", "kto_desirable_weight", "torchao"),
    *("kto_undesirable_weight", "lora_target_parameters", "added_tokens_overrides", "eot_tokens"),
    *("embeddings_skip_upcast", "noisy_embedding_alpha", "scaling_softmax"),
    *("model_quantization_config", "model_quantization_config_kwargs", "nvfp4_merge_aware"),
    *("model_config", "base_model_ignore_patterns", "flash_optimum", "flex_attn_compile_kwargs"),
    *("ebft", "vllm", "gptq_groupsize", "gptq_model_v1", "use_onebitllms", "reinit_weights"),
    *("experts_implementation", "llama4_linearized_experts", "tiled_mlp", "reward_fns"),
    *("loss_watchdog_threshold", "loss_watchdog_patience", "relora_prune_ratio", "relora"),
    *("resize_token_embeddings_to_32x", "diffusion", "lora_on_cpu", "torchdistx_path"),
)
_ELSEWHERE = (
    *("gpu", "gpu_count", "node_count", "provider", "volumes", "secrets", "branch", "memory"),
    *(
        "dockerfile_commands",
        "timeout",
        "memory_preprocess",
        "timeout_preprocess",
        "ray_num_workers",
    ),
    *("use_ray", "resources_per_worker", "cloud"),
)
_FOLDERS = (
    *("output_dir", "dataset_prepared_path", "last_run_prepared_path", "logging_dir"),
    *("hub_model_id", "hub_strategy", "push_dataset_to_hub", "hf_use_auth_token"),
)
_SEVERAL = (
    *("deepspeed", "fsdp", "fsdp_config", "fsdp_version", "ddp", "ddp_timeout"),
    *("ddp_find_unused_parameters", "context_parallel_size", "tensor_parallel_size"),
    *("dp_shard_size", "dp_replicate_size", "sequence_parallel_degree", "heads_k_stride"),
    *("expert_parallel_size", "expert_parallel_num_nvl_bytes", "expert_parallel_token_capacity"),
    *(
        "fp8_enable_fsdp_float8_all_gather",
        "accelerator_config",
        "experimental_skip_move_to_device",
    ),
)
_TRACKERS = (
    *("use_swanlab", "swanlab_project", "swanlab_experiment_name", "swanlab_description"),
    *("swanlab_mode", "swanlab_log_completions", "swanlab_completion_log_interval"),
    *("swanlab_completion_max_buffer", "swanlab_workspace", "swanlab_log_model"),
    *("use_otel_metrics", "otel_metrics_host", "otel_metrics_port", "comet_project_name"),
    *("use_comet", "comet_api_key", "comet_workspace", "comet_experiment_key", "comet_mode"),
)
NOT_OFFERED: dict[str, Option] = {
    **{name: no_effect(KERNELS) for name in _KERNELS},
    **{name: refused(VARIANT, None) for name in _VARIANTS},
    **{name: no_effect("Runs and exports have their own folders here.") for name in _FOLDERS},
    **{name: by_hand(1) for name in _SEVERAL},
    **{name: no_effect("Training is on this computer.") for name in _ELSEWHERE},
    **{name: no_effect(TRACKERS) for name in _TRACKERS},
    **{
        name: refused(IMAGES, None)
        for name in ("image_size", "image_resize_algorithm", "processor_type", "is_multimodal")
    },
}
