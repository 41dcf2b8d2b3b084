"""The reward model: trained on the run's preference pairs, or loaded by name."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
from accelerate.utils.memory import clear_device_cache
from peft import PeftModel
from transformers import AutoConfig, set_seed
from trl import RewardConfig, RewardTrainer

from modelforge.config.plan.run_length import reward_steps
from modelforge.data.canonical.convert import Canonical
from modelforge.errors import Problem
from modelforge.modeling.adapters.lora import lora_config
from modelforge.modeling.errors import WorkerError, first_line
from modelforge.modeling.generation_config import generation_config_of
from modelforge.modeling.tokenize import dataset
from modelforge.modeling.tokenize.options import TokenizeOptions
from modelforge.modeling.tokenize.preference import encode_pair, fits
from modelforge.modeling.tokenize.template import ChatTemplate
from modelforge.modeling.tokenizer_files import open_tokenizer, save_tokenizer
from modelforge.runs.atomic_files import find_json, write_json
from modelforge.runs.layout import REWARD_MODEL_DONE
from modelforge.train import loop
from modelforge.train.callbacks.reporter import TrainingProgress
from modelforge.train.job import Job, WorkerContext
from modelforge.train.loop import Stage
from modelforge.train.save import SIDE_FILE
from modelforge.train.strategies.rewards import ModelReward, chat_text_reader, run_token_reader
from modelforge.train.trainer.arguments import common_arguments, make_trainer
from modelforge.train.trainer.checkpointing import CheckpointMixin
from modelforge.train.trainer.oom_recovery import OomRecoveryMixin

WARMUP_RATIO = 0.03
_IDS = pa.list_(pa.int32())
_SCHEMA = pa.schema({"chosen_ids": _IDS, "rejected_ids": _IDS})


class RewardModelTrainer(OomRecoveryMixin, CheckpointMixin, RewardTrainer):
    """TRL's RewardTrainer with checkpoints and OOM recovery."""

    sides = 2
    own_rate = True


def train_reward_model(context: WorkerContext, stage: Stage) -> TrainingProgress:
    """Train a reward model on the run's pairs and save it in the run folder.

    Nothing is saved when the training was stopped. All memory is freed.
    """
    progress = _train(context, stage)
    clear_device_cache(garbage_collection=True)
    return progress


def load_trained(context: WorkerContext) -> ModelReward:
    """Return the reward model that `train_reward_model` has saved."""
    folder = str(context.job.run.reward_model)
    model, tokenizer = _load(context, folder)
    return _reward(context.job, model, run_token_reader(tokenizer, context.job.plan.max_length))


def load_named(context: WorkerContext, name: str) -> ModelReward:
    """Return the reward model with this name.

    Raises:
        WorkerError: The model is not a reward model.
    """
    require_reward_model(name)
    model, tokenizer = _load(context, name)
    limits = (tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", None))
    max_length = min(int(limit) for limit in limits if limit)
    return _reward(context.job, model, chat_text_reader(tokenizer, max_length))


def require_reward_model(name: str) -> None:
    """Raise WorkerError unless `name` is a sequence classifier with one label, or its adapter."""
    is_folder = Path(name).is_dir()
    adapter = find_json(Path(name) / "adapter_config.json") if is_folder else None
    if adapter is not None:
        if adapter.get("task_type") != "SEQ_CLS":
            task = adapter.get("task_type")
            raise _not_a_reward_model(f"{name} is an adapter for {task}, not for SEQ_CLS.")
        return
    try:
        config = AutoConfig.from_pretrained(
            name, trust_remote_code=False, local_files_only=is_folder
        )
    except (OSError, ValueError, KeyError) as error:
        what = f"{name} cannot be found or read: {first_line(error)}"
        raise _not_a_reward_model(what) from error
    architecture = (config.architectures or ["a model of unknown architecture"])[0]
    if not architecture.endswith("ForSequenceClassification"):
        raise _not_a_reward_model(f"{name} is {architecture}, not a sequence classifier.")
    if config.num_labels != 1:
        raise _not_a_reward_model(f"{name} has {config.num_labels} labels instead of 1.")


def tokenize_reward_pairs(
    rows: Iterable[tuple[Canonical, bool]], template: ChatTemplate, options: TokenizeOptions
) -> dataset.Tokenized:
    """Return the two token sequences of each pair; each row comes with whether it is for eval.

    Raises:
        WorkerError: No training pair is left.
    """
    tables = dataset.TableBuilder(_SCHEMA), dataset.TableBuilder(_SCHEMA)
    pairs = dataset.Tokenized(None, None)
    for row, is_eval in rows:
        pair = encode_pair(row, template) if "chosen" in row else None
        if pair is None or not fits(pair, options):
            pairs.dropped_rows += 1
            continue
        columns = {}
        for name, completion in (("chosen_ids", pair.chosen), ("rejected_ids", pair.rejected)):
            ids = [*pair.prompt, *completion]
            is_left = options.truncation == "left"
            kept = ids[-options.max_length :] if is_left else ids[: options.max_length]
            columns[name] = kept
            pairs.truncated_rows += len(kept) < len(ids)
            if not is_eval:
                pairs.all_tokens += len(kept)
                pairs.trained_tokens += min(len(completion), len(kept))
        tables[is_eval].add(columns)
    pairs.train, evaluation = tables[0].dataset(), tables[1].dataset()
    pairs.eval = evaluation if len(evaluation) else None
    if not len(pairs.train):
        problem = Problem(
            "dataset",
            f"None of the {pairs.dropped_rows:,} rows has a chosen and a rejected completion that "
            "fit.",
            "Give rows with prompt, chosen and rejected, choose a rule as the reward, or raise the "
            "max sequence length (max_seq_length).",
        )
        raise WorkerError("nothing-to-learn", problem)
    return pairs


def training_arguments(job: Job, rows: int, *, evaluates: bool) -> RewardConfig:
    """Return the arguments of TRL's trainer for a training on `rows` pairs.

    `max_steps` and the schedule of the run are those of the second stage; here the learning rate
    decreases linearly.
    """
    trainer = job.config.trainer
    steps = reward_steps(job.config, rows) or 1
    arguments = common_arguments(job, evaluates=evaluates)
    arguments |= {
        "learning_rate": trainer.reward_learning_rate,
        "num_train_epochs": trainer.reward_epochs,
        "max_steps": -1,
        "lr_scheduler_type": "linear",
        "lr_scheduler_kwargs": {},
        "warmup_steps": WARMUP_RATIO,
        "eval_steps": min(arguments["eval_steps"], steps) if evaluates else None,
        "load_best_model_at_end": False,
        "train_sampling_strategy": "random" if job.config.data.shuffle else "sequential",
    }
    return RewardConfig(**arguments, max_length=None, disable_dropout=False)


def _train(context: WorkerContext, stage: Stage) -> TrainingProgress:
    job, config = context.job, context.job.config
    set_seed(config.trainer.seed)  # the head is initialized at random
    loaded = context.load("reward")
    generation, _notes = generation_config_of(job.plan)
    template = loop.chat_template_for(context, loaded.tokenizer, generation)
    options = TokenizeOptions.from_plan(config, job.plan)
    pairs = tokenize_reward_pairs(loop.iter_split_rows(context), template, options)
    if pairs.dropped_rows:
        text = f"{pairs.dropped_rows:,} rows are skipped: not a pair, or too long to compare."
        context.log.note("pairs-dropped", text)
    _use_separate_pad_token(loaded.tokenizer, template)
    lora = lora_config(config, job.plan, "reward")
    args = training_arguments(job, len(pairs.train), evaluates=pairs.eval is not None)
    trainer = make_trainer(RewardModelTrainer, job, loaded, pairs, args, peft_config=lora)
    progress = loop.train(context, trainer, loop.token_counts(pairs), stage)
    if progress.is_complete:
        if pairs.eval is not None and progress.eval_step != progress.step:
            trainer.evaluate()
        _save(context, trainer, progress)
    trainer.accelerator.free_memory()
    return progress


def _save(context: WorkerContext, trainer: Any, progress: TrainingProgress) -> None:
    context.log.phase("saving", "Saving the reward model")
    run = context.job.run
    staged = run.path / ".reward_model-staged"
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir()
    # Without the argument PEFT looks the base model up on the Hub.
    extra = {"save_embedding_layers": False} if context.job.plan.trains == "adapter" else {}
    trainer.model.save_pretrained(staged, safe_serialization=True, **extra)
    if why := save_tokenizer(trainer.processing_class, staged, context.job.plan):
        context.log.note(SIDE_FILE, f"The tokenizer could not be saved: {why}")
    write_json(staged / REWARD_MODEL_DONE, {"steps": progress.step, "loss": progress.loss})
    shutil.rmtree(run.reward_model, ignore_errors=True)
    staged.rename(run.reward_model)


def _load(context: WorkerContext, folder: str) -> tuple[Any, Any]:
    adapter = find_json(Path(folder) / "adapter_config.json")
    if adapter is None:
        loaded = context.load("reward", folder)
        model, tokenizer = loaded.model, loaded.tokenizer
    else:
        base = str(adapter["base_model_name_or_path"])
        loaded = context.load("reward", None if base == context.job.plan.model_path else base)
        model = PeftModel.from_pretrained(loaded.model, folder)
        tokenizer = open_tokenizer(str(folder), local_files_only=True)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    # The reward is read at the last token that is not padding.
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    return model, tokenizer


def _reward(job: Job, model: Any, read: Any) -> ModelReward:
    if job.plan.device == "mps":
        model = model.to("mps")
    batch = job.config.per_device_train_batch_size
    return ModelReward(model, read, batch=batch, precision=job.plan.precision)


def _use_separate_pad_token(tokenizer: Any, template: ChatTemplate) -> None:
    """Pad with a token that does not end a completion: the reward is not read at padding."""
    if tokenizer.pad_token_id not in template.stop_ids:
        return
    for token in (tokenizer.unk_token, tokenizer.bos_token, tokenizer.eos_token):
        if token is not None and tokenizer.convert_tokens_to_ids(token) not in template.stop_ids:
            tokenizer.pad_token = token
            return


def _not_a_reward_model(what: str) -> WorkerError:
    remedy = "Name a sequence classification model with one label, or leave it empty to train one."
    return WorkerError("reward-model-wrong", Problem("trainer.reward_model", what, remedy))
