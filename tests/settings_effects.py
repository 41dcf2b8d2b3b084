"""For each setting, the test that a changed value changes what a run does.

tests/test_settings_effects.py checks that the list is complete and that the tests exist.
"""

from __future__ import annotations

# File in tests/, its test, and the settings that it varies.
EFFECTS: dict[str, dict[str, list[str]]] = {
    "config/plan/test_ranks.py": {
        "test_gpus_are_counted_and_0_is_all_of_them": ["hardware.gpus"],
        "test_the_sharding_is_that_of_the_number_of_gpus": ["hardware.sharding"],
        "test_gpus_that_share_a_row_share_no_batches": ["hardware.sequence_parallel_size"],
    },
    "config/plan/test_growing.py": {
        "test_each_setting_changes_the_stages": [
            "progressive.stages",
            "progressive.layers_per_stage",
            "progressive.direction",
            "progressive.trunk",
            "progressive.stack_lora",
            "progressive.stack_rank",
            "progressive.stack_alpha",
            "progressive.trunk_lora",
            "progressive.trunk_rank",
            "progressive.trunk_alpha",
            "progressive.rank_strategy",
            "progressive.rank_pattern",
            "progressive.alpha_pattern",
            "progressive.per_stage",
        ],
        "test_a_mode_is_kept_and_limits_what_may_train": ["progressive.mode"],
        "test_steps_of_a_stage_decide_before_epochs": [
            "progressive.steps_per_stage",
            "progressive.epochs_per_stage",
        ],
        "test_settings_of_masks_give_the_shares": [
            "progressive.mask_by",
            "progressive.mask_steps",
            "progressive.mask_fractions",
            "progressive.mask_min",
            "progressive.mask_max",
        ],
        "test_the_schedule_of_masks_bends_the_shares": ["progressive.mask_schedule"],
    },
    "train/growing/test_growing.py": {
        "test_a_model_grows_by_two_stages_into_a_normal_model": ["progressive.enabled"],
        "test_adapters_of_trunk_and_stacks_are_merged_and_a_joint_stage_ends": [
            "progressive.joint_tuning_steps",
            "progressive.save_each_stage",
            "optimizer.new_layer_lr",
        ],
        "test_a_cached_trunk_gives_the_same_bytes": ["progressive.cache_activations"],
        "test_the_cache_has_the_limit_of_its_setting": ["progressive.cache_limit_gib"],
        "test_the_masked_objective_attends_in_both_directions": [
            "progressive.objective",
            "progressive.mask_token",
        ],
        "test_borrowed_embeddings_have_an_adapter_that_is_folded": [
            "pretraining.embedding_adapter_dim",
        ],
        "test_new_layers_are_trained_in_bfloat16": ["progressive.new_layer_dtype"],
        "test_what_is_trained_on_a_quantized_trunk_is_merged_into_its_plain_weights": [
            "progressive.trunk_quantization",
        ],
    },
    "modeling/adapters/test_init.py": {
        "test_full_fine_tuning_trains_and_saves_every_weight": [
            "adapter.enabled",
        ],
        "test_the_adapter_has_the_configured_dtype": [
            "adapter.dtype",
        ],
    },
    "modeling/adapters/test_lora.py": {
        "test_training_starts_from_the_given_adapter": [
            "adapter.start_from",
        ],
    },
    "modeling/tokenize/test_collate.py": {
        "test_a_run_that_pads_left_has_the_same_losses_and_saves_the_side": ["data.padding_side"],
    },
    "modeling/tokenize/test_template.py": {
        "test_without_a_chat_template_the_texts_stand_alone": ["data.use_chat_template"],
        "test_every_answer_begins_with_the_prefix_which_is_not_trained": ["model.response_prefix"],
    },
    "modeling/test_hub_kernels.py": {
        "test_a_kernel_of_the_hub_is_used_only_where_it_is_allowed": ["model.allow_hub_kernels"],
    },
    "modeling/test_rope.py": {
        "test_yarn_keeps_high_frequencies_and_divides_low_ones": ["model.rope_type"],
        "test_a_scaling_is_applied_once": ["model.rope_factor"],
        "test_the_context_of_a_scaled_model_is_known": ["model.max_model_len"],
        "test_weights_are_held_in_their_own_number_format": ["model.dtype"],
    },
    "modeling/providers/test_quantization.py": {
        "test_first_and_last_layers_can_stay_in_full_precision": [
            "quantization.skip_first_layers",
            "quantization.skip_last_layers",
        ],
    },
    "modeling/providers/test_scales.py": {
        "test_weights_share_a_scale_in_blocks_of_the_configured_size": [
            "quantization.fp8_block_size",
        ],
        "test_four_over_six_is_a_scheme_of_its_package": [
            "quantization.four_over_six",
        ],
    },
    "modeling/test_float8.py": {
        "test_the_recipe_decides_the_loss_of_the_same_model": [
            "quantization.fp8_training",
            "quantization.fp8_recipe",
        ],
    },
    "modeling/providers/test_recomputation.py": {
        "test_every_nth_layer_is_computed_twice_and_the_gradient_is_the_same": [
            "memory.checkpoint_every_n_layers",
        ],
    },
    "modeling/providers/test_unsloth.py": {
        "test_the_model_is_loaded_as_the_plan_says": [
            "provider",
        ],
    },
    "preflight/checks/test_run.py": {
        "test_a_finding_names_its_level_setting_and_better_value": [
            "quantization.allow_slow",
        ],
    },
    "preflight/test_context.py": {
        "test_a_run_is_planned_for_the_device_that_is_set": [
            "hardware.device",
            "hardware.gpu_index",
        ],
    },
    "services/evaluations/test_at_end.py": {
        "test_a_finished_run_is_evaluated_once": [
            "evaluation.report",
        ],
    },
    "services/test_runs.py": {
        "test_a_run_has_the_name_the_model_and_the_data_of_its_settings": [
            "model_name",
            "dataset",
            "logging.run_name",
        ],
    },
    "train/callbacks/test_breakdown.py": {
        "test_the_time_of_each_part_is_measured": [
            "logging.time_breakdown",
        ],
        "test_the_memory_of_each_part_is_measured": [
            "logging.memory_breakdown",
        ],
    },
    "train/callbacks/test_gpu_limits.py": {
        "test_training_pauses_until_the_gpu_has_cooled_down": [
            "hardware.max_gpu_temperature",
        ],
        "test_a_pause_has_a_minimum_length": [
            "hardware.max_gpu_power",
        ],
    },
    "train/callbacks/test_monitors.py": {
        "test_early_stopping_finishes_the_run_with_the_best_weights": [
            "evaluation.early_stopping",
            "evaluation.early_stopping_patience",
        ],
        "test_an_improvement_below_the_threshold_does_not_count": [
            "evaluation.early_stopping_threshold",
        ],
        "test_the_loss_guard_halves_the_learning_rate_after_a_spike_and_restores_it": [
            "evaluation.loss_guard",
        ],
        "test_only_the_monitors_asked_for_watch_a_run": [
            "evaluation.phase_monitor",
        ],
    },
    "train/callbacks/test_samples.py": {
        "test_samples_are_evaluation_rows_and_one_general_prompt": [
            "evaluation.samples",
            "evaluation.sample_tokens",
        ],
        "test_step_0_is_the_base_model_and_later_steps_are_not": [
            "evaluation.sample_prompts",
        ],
    },
    "train/callbacks/test_core_evaluation.py": {
        "test_without_a_number_of_steps_it_is_scored_at_the_end_only": [
            "evaluation.core_max_per_task",
        ],
        "test_it_is_scored_every_n_steps_and_at_the_end_but_not_before_the_first": [
            "evaluation.core_every",
        ],
        "test_only_a_training_from_nothing_with_a_folder_is_scored": [
            "evaluation.core_bundle",
        ],
    },
    "train/test_continuations.py": {
        "test_samples_are_taken_every_n_steps_and_at_the_end": ["evaluation.sample_every"],
    },
    "train/test_merge.py": {
        "test_the_merged_model_answers_as_the_base_model_with_the_adapter": [
            "adapter.merge_after_training",
        ],
    },
    "train/test_log_output.py": {
        "test_the_log_has_the_lines_of_its_level": [
            "logging.log_level",
        ],
        "test_the_lines_are_appended_to_the_copy_too": [
            "logging.log_file",
        ],
    },
    "train/callbacks/test_trackers.py": {
        "test_aim_gets_the_repository_the_experiment_and_the_name_of_the_run": [
            "logging.repo",
            "logging.experiment",
        ],
        "test_a_tracker_keeps_the_curves_in_the_folder_of_the_run": [
            "logging.report_to",
            "logging.project",
        ],
        "test_wandb_is_offline_unless_configured_online": [
            "logging.wandb_mode",
        ],
    },
    "train/engines/test_surogate.py": {
        "test_the_program_trains_and_its_adapter_becomes_the_result": [
            "hardware.engine",
        ],
        "test_options_of_the_engine_are_written_as_they_are": [
            "hardware.engine_options",
        ],
    },
    "train/strategies/test_preference.py": {
        "test_a_higher_beta_changes_the_loss_of_the_same_model": [
            "trainer.preference_beta",
        ],
        "test_pairs_are_learned_from_and_the_adapter_loads_with_plain_peft": [
            "trainer.preference_loss",
        ],
        "test_a_reference_asked_beforehand_needs_no_second_copy": [
            "trainer.precompute_ref_log_probs",
        ],
    },
    "train/strategies/test_rlhf.py": {
        "test_the_settings_of_generation_reach_the_trainer": [
            "trainer.rlhf_algorithm",
            "trainer.kl_beta",
            "trainer.num_generations",
            "trainer.max_completion_length",
            "trainer.generation_temperature",
        ],
        "test_a_rule_rewards_in_one_stage": [
            "trainer.reward",
            "trainer.reward_pattern",
            "trainer.reward_words",
        ],
        "test_a_named_reward_model_takes_the_place_of_the_first_stage": [
            "trainer.reward_model",
        ],
        "test_the_reward_model_learns_to_rank_the_answers": [
            "trainer.reward_learning_rate",
            "trainer.reward_epochs",
        ],
    },
    "train/strategies/test_tasks.py": {
        "test_a_summary_is_scored_before_and_after": [
            "evaluation.generated_rows",
        ],
    },
    "train/optimizer/test_groups.py": {
        "test_each_kind_of_weight_has_its_rate": [
            "optimizer.matrix_lr",
            "optimizer.embedding_lr",
            "optimizer.unembedding_lr",
            "optimizer.scalar_lr",
        ],
        "test_an_adapter_and_whole_modules_beside_it_have_their_rates": [
            "optimizer.adapter_lr",
        ],
        "test_loraplus_trains_like_the_optimizer_of_peft": [
            "optimizer.loraplus_ratio",
        ],
        "test_a_setting_of_muon_changes_what_is_trained": [
            "optimizer.muon_momentum",
            "optimizer.muon_beta2",
            "optimizer.muon_scale",
            "optimizer.cautious_weight_decay",
        ],
    },
    "train/trainer/test_loss_weights.py": {
        "test_role_and_message_weights_of_a_run_change_what_is_learned": [
            "data.role_weights",
            "data.message_weights",
        ],
    },
    "train/test_optimizers.py": {
        "test_the_betas_and_epsilon_are_those_of_the_settings": [
            "optimizer.beta1",
            "optimizer.beta2",
            "optimizer.epsilon",
        ],
        "test_the_rate_is_whole_until_the_decay_begins": [
            "schedule.decay_steps",
            "schedule.decay_ratio",
            "schedule.decay_shape",
        ],
        "test_the_number_of_cycles_and_the_power_shape_the_schedule": [
            "schedule.cycles",
            "schedule.power",
        ],
        "test_the_last_rate_is_the_share_asked_for": [
            "schedule.final_lr_fraction",
        ],
        "test_a_schedule_by_results_follows_the_evaluations_and_is_resumed": [
            "schedule.patience",
        ],
        "test_noise_on_the_embeddings_changes_what_is_learned_from": [
            "trainer.neftune_noise_alpha",
        ],
    },
    "services/checkpoints/test_source.py": {
        "test_a_run_a_step_of_it_and_a_folder_are_found": [
            "trainer.resume_from_checkpoint",
        ],
    },
    "train/test_resume.py": {
        "test_the_checkpoint_limit_is_kept": [
            "trainer.save_total_limit",
        ],
    },
    "train/test_worker_gpu.py": {
        "test_a_run_uses_no_more_of_the_gpu_than_its_share": [
            "memory.max_vram_fraction",
        ],
    },
    "train/test_ways.py": {
        "test_a_named_template_and_a_system_message_are_saved_and_used": [
            "model.chat_template",
            "model.system_prompt",
        ],
        "test_several_sources_with_weights_and_their_own_checks_are_trained_on": [
            "data.sources",
            "data.validation_sources",
        ],
        "test_more_is_trained_the_more_is_asked_for": [
            "data.loss_on",
        ],
        "test_rows_too_long_are_cut_as_asked_and_it_is_reported": [
            "data.truncation_strategy",
        ],
        "test_without_padding_a_run_learns_the_same_as_with": [
            "data.padding_free",
        ],
    },
    "train/test_worker.py": {
        "test_the_same_seed_gives_the_same_bytes_and_another_seed_others": [
            "trainer.seed",
        ],
    },
    "train/trainer/test_run_length.py": {
        "test_records_and_parts_of_epochs_end_the_run": [
            "data.records_to_sample",
            "trainer.fractional_epochs",
        ],
        "test_tokens_and_flops_are_those_of_the_tokenized_rows": [
            "trainer.target_tokens",
            "trainer.target_flops",
        ],
        "test_the_automatic_rate_reaches_the_optimizer": [
            "schedule.auto_learning_rate",
        ],
    },
    "train/trainer/test_row_losses.py": {
        "test_losses_of_rows_are_kept_only_if_set_and_change_nothing_about_the_training": [
            "evaluation.row_losses",
        ],
    },
    "train/trainer/test_arguments.py": {
        "test_the_field_reaches_its_library": [
            "compute_specs",
            "lora_r",
            "lora_alpha",
            "lora_dropout",
            "use_4bit",
            "use_8bit",
            "bnb_4bit_compute_dtype",
            "bnb_4bit_quant_type",
            "use_nested_quant",
            "fp16",
            "bf16",
            "num_train_epochs",
            "per_device_train_batch_size",
            "per_device_eval_batch_size",
            "gradient_accumulation_steps",
            "gradient_checkpointing",
            "max_grad_norm",
            "learning_rate",
            "weight_decay",
            "optim",
            "lr_scheduler_type",
            "max_steps",
            "warmup_ratio",
            "group_by_length",
            "packing",
            "max_seq_length",
            "eval_split",
            "eval_steps",
        ],
        "test_task_and_strategy_say_which_trainer_works": [
            "task",
            "strategy",
        ],
        "test_a_setting_beyond_the_contract_reaches_its_library": [
            "model.attn_implementation",
            "quantization.scheme",
            "adapter.target_modules",
            "adapter.alpha_over_r",
            "adapter.init",
            "adapter.use_rslora",
            "adapter.use_dora",
            "adapter.modules_to_save",
            "schedule.warmup_steps",
            "hardware.precision",
            "evaluation.keep_best",
            "trainer.save_steps",
        ],
        "test_the_packing_strategy_reaches_trl": [
            "data.packing_strategy",
        ],
        "test_speed_settings_reach_their_libraries": [
            "data.num_workers",
            "trainer.torch_compile",
        ],
        "test_the_compiler_mode_reaches_torch": [
            "hardware.torch_compile_mode",
        ],
        "test_one_layer_is_compiled_for_all": [
            "hardware.regional_compilation",
        ],
        "test_all_activations_are_offloaded_without_recomputation": [
            "memory.activation_offload",
        ],
        "test_the_groups_reach_trl_too": [
            "logging.logging_steps",
        ],
    },
    "train/test_tokenizer.py": {
        "test_rows_are_tokenized_saved_and_ended_with_the_borrowed_tokenizer": [
            "model.tokenizer",
        ],
    },
    "train/test_row_order.py": {
        "test_rows_are_trained_in_their_order_when_they_are_not_shuffled": [
            "data.shuffle",
        ],
    },
    "train/trainer/test_batch_size.py": {
        "test_the_fastest_batch_size_is_chosen_and_the_rng_state_is_unchanged": [
            "memory.auto_batch_size",
        ],
    },
    "train/trainer/test_privacy.py": {
        "test_a_run_reports_what_it_has_spent": [
            "privacy.enabled",
            "privacy.epsilon",
            "privacy.max_grad_norm",
        ],
        "test_delta_follows_the_rows_unless_it_is_set": [
            "privacy.delta",
        ],
    },
    "train/pretraining/test_pretraining.py": {
        "test_the_model_has_the_sizes_of_the_settings": [
            "pretraining.d_model",
            "pretraining.n_heads",
            "pretraining.n_kv_heads",
            "pretraining.d_ff",
            "pretraining.n_layers",
            "pretraining.tie_embeddings",
            "pretraining.rope_theta",
            "pretraining.dropout",
            "pretraining.init_projections_to_zero",
        ],
        "test_other_shapes": ["pretraining.arch", "pretraining.window_pattern"],
        "test_an_evaluation_reads_as_many_tokens_as_are_set": ["evaluation.eval_tokens"],
        "test_borrowed_embeddings_stay_as_they_are": ["pretraining.freeze_embeddings"],
        "test_a_borrowed_tokenizer_is_that_of_the_result": ["pretraining.tokenizer"],
    },
    "config/plan/test_pretraining.py": {
        "test_a_depth_gives_the_batch_and_the_steps_of_nanochat": [
            "pretraining.enabled",
            "pretraining.depth",
            "pretraining.aspect_ratio",
            "pretraining.head_dim",
            "pretraining.vocab_size",
        ],
        "test_the_plan_says_which_measure_decides_and_what_the_others_would_be": [
            "pretraining.target_flops",
            "pretraining.target_param_data_ratio",
            "pretraining.total_batch_tokens",
        ],
    },
    "train/trainer/test_oom_recovery.py": {
        "test_without_the_autopilot_out_of_memory_fails_the_run": [
            "memory.autopilot",
        ],
    },
}

# The same for the settings of a data source, by their dotted names.
SOURCE_EFFECTS: dict[str, dict[str, list[str]]] = {
    "data/canonical/test_convert.py": {
        "test_the_settings_of_the_source_win": [
            "data.sources.type",
            "data.sources.text_field",
            "data.sources.messages_field",
            "data.sources.prompt_field",
            "data.sources.chosen_field",
            "data.sources.rejected_field",
            "data.sources.instruction_field",
            "data.sources.input_field",
            "data.sources.output_field",
            "data.sources.message_property_mappings",
        ],
        "test_tools_are_a_list_or_its_json_text": [
            "data.sources.tools_field",
        ],
        "test_a_system_prompt_comes_from_a_column_or_is_the_same_for_all": [
            "data.sources.system_prompt_type",
            "data.sources.system_prompt_field",
            "data.sources.system_prompt",
        ],
        "test_a_system_prompt_replaces_the_one_in_the_conversation": [
            "data.sources.system_field",
        ],
        "test_a_prompt_format_renders_the_row": [
            "data.sources.prompt_format",
            "data.sources.prompt_format_no_input",
        ],
    },
    "data/sources/test_load.py": {
        "test_a_hub_dataset_is_read_once_it_is_downloaded": [
            "data.sources.path",
            "data.sources.subset",
            "data.sources.split",
        ],
        "test_samples_count_over_all_files_of_a_folder": [
            "data.sources.samples",
        ],
    },
}
# What options of other systems are for, where it is no setting: file, test, and system:option.
OTHER_EFFECTS: dict[str, dict[str, list[str]]] = {
    "preflight/suggest/test_speedups.py": {
        "test_what_is_recommended_is_allowed_fits_and_is_no_slower": [
            "surogate:apply_recommended_values",
        ],
    },
    "runs/test_store.py": {
        "test_a_run_holds_what_was_asked_and_found": [
            "surogate:output_dir",
            "nanochat:model-tag",
        ],
    },
    "train/test_resume.py": {
        "test_the_checkpoint_limit_is_kept": [
            "surogate:checkpoint_dir",
            "stack-wise:training.checkpoint_dir",
        ],
        "test_stop_and_keep_saves_a_checkpoint_and_resumes_to_the_byte": [
            "surogate:resume_from_checkpoint",
        ],
    },
    "models/test_resolve.py": {
        "test_a_model_type_that_transformers_does_not_know_is_refused": [
            "surogate:model_type",
        ],
    },
    "train/callbacks/test_samples.py": {
        "test_a_resumed_run_has_step_0_once_and_every_step_once": [
            "nanochat:sample-every",
        ],
    },
    "train/test_worker.py": {
        "test_the_same_seed_gives_the_same_bytes_and_another_seed_others": [
            "surogate:eval_seed",
        ],
    },
    "train/callbacks/test_system_stats.py": {
        "test_the_load_of_the_gpu_is_read": [
            "surogate:log_gpu_util",
        ],
    },
    "cli/test_main.py": {
        "test_help_imports_nothing_heavy": [
            "nanochat:help",
        ],
    },
    "config/plan/test_make.py": {
        "test_updates_are_counted_as_the_trainer_counts_them": [
            "safe-synthesizer:effective_batch_size",
        ],
    },
    "config/importers/test_stack_wise.py": {
        "test_a_precision_that_cannot_be_trained_says_what_instead": [
            "stack-wise:precision_options",
        ],
        "test_a_family_gives_its_tokenizer_and_its_embeddings": [
            "stack-wise:model.tokenizer_embedding.embedding_option",
        ],
    },
}


def shown_effects() -> dict[str, list[str]]:
    """Return the tests, as file::test, by setting, by data.sources.NAME, or by system:option."""
    found: dict[str, list[str]] = {}
    for listed in (EFFECTS, SOURCE_EFFECTS, OTHER_EFFECTS):
        for file, tests in listed.items():
            for test, names in tests.items():
                for name in names:
                    found.setdefault(name, []).append(f"{file}::{test}")
    return found
