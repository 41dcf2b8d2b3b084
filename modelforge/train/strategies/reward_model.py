"""The model that judges: taught on the run's pairs, kept in its folder, or one a person names."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from datasets import Dataset
from peft import PeftModel
from transformers import AutoConfig, AutoTokenizer, GenerationConfig, set_seed
from trl import RewardConfig, RewardTrainer

from modelforge.data.canonical.convert import Canonical
from modelforge.errors import Problem
from modelforge.modeling.adapters.lora import lora_config, prepare_trainer
from modelforge.modeling.errors import WorkerError
from modelforge.modeling.tokenize import dataset
from modelforge.modeling.tokenize.options import TokenizeOptions
from modelforge.modeling.tokenize.preference import encode_pair, fits
from modelforge.modeling.tokenize.template import ChatTemplate
from modelforge.runs.atomic_files import find_json, write_json
from modelforge.runs.layout import REWARD_MODEL_DONE
from modelforge.train import loop
from modelforge.train.callbacks.reporter import TrainingProgress
from modelforge.train.job import Job, WorkerContext
from modelforge.train.loop import Stage
from modelforge.train.strategies.rewards import ModelReward, chat_text_reader, run_token_reader
from modelforge.train.trainer.arguments import shared
from modelforge.train.trainer.checkpointing import CheckpointMixin
from modelforge.train.trainer.oom_recovery import OomRecoveryMixin

WARMUP = 0.03
_IDS = pa.list_(pa.int32())
_SCHEMA = pa.schema({"chosen_ids": _IDS, "rejected_ids": _IDS})


class Trainer(OomRecoveryMixin, CheckpointMixin, RewardTrainer):
    """TRL's trainer as this house has it save."""

    sides = 2


@dataclass
class Pairs:
    """The pairs to learn from and those held out, as tokens, and what became of the others."""

    train: Dataset
    held_out: Dataset | None
    answers: int
    tokens: int
    cut: int
    dropped: int


def learn(context: WorkerContext, stage: Stage) -> TrainingProgress:
    """Teach a reward model on the run's pairs and keep it, whole, in the run's folder.

    Nothing is kept when the course is not whole. All memory is given back.
    """
    course = _learn(context, stage)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return course


def load_trained(context: WorkerContext) -> ModelReward:
    """Return the judge that `learn` has left."""
    folder = str(context.job.run.reward_model)
    model, tokenizer = _open(context, folder)
    return _judge(context.job, model, run_token_reader(tokenizer, context.job.plan.max_length))


def load_named(context: WorkerContext, name: str) -> ModelReward:
    """Return the judge that a person named; raises WorkError for what is no reward model."""
    require_reward_model(name)
    model, tokenizer = _open(context, name)
    limits = (tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", None))
    longest = min(int(limit) for limit in limits if limit)
    return _judge(context.job, model, chat_text_reader(tokenizer, longest))


def require_reward_model(name: str) -> None:
    """Raise WorkError unless `name` is a model that ends in one number, or an adapter for one."""
    is_folder = Path(name).is_dir()
    said = find_json(Path(name) / "adapter_config.json") if is_folder else None
    if said is not None:
        if said.get("task_type") != "SEQ_CLS":
            raise _refused(f"{name} is an adapter for {said.get('task_type')}, not for rewards.")
        return
    place = {"trust_remote_code": False, "local_files_only": is_folder}
    try:
        config = AutoConfig.from_pretrained(name, **place)
    except (OSError, ValueError, KeyError) as error:
        first = str(error).strip().split("\n", 1)[0]
        raise _refused(f"{name} cannot be found or read: {first}") from error
    kind = (config.architectures or ["a model of unknown kind"])[0]
    if not kind.endswith("ForSequenceClassification"):
        raise _refused(f"{name} is {kind}, which gives words and no reward.")
    if config.num_labels != 1:
        raise _refused(f"{name} has {config.num_labels} labels; a reward is one number.")


def read_pairs(
    found: Iterable[tuple[Canonical, bool]], dialect: ChatTemplate, manner: TokenizeOptions
) -> Pairs:
    """Return rows, each told with whether it is held out, as the two texts of each pair.

    Raises WorkError when no pair is left to learn from.
    """
    columns: list[dict[str, list[list[int]]]] = [
        {name: [] for name in _SCHEMA.names} for _ in (0, 1)
    ]
    pairs = Pairs(Dataset.from_list([]), None, 0, 0, 0, 0)
    for row, held_out in found:
        pair = encode_pair(row, dialect) if "chosen" in row else None
        if pair is None or not fits(pair, manner):
            pairs.dropped += 1
            continue
        for name, answer in (("chosen_ids", pair.chosen), ("rejected_ids", pair.rejected)):
            whole = [*pair.prompt, *answer]
            ids = _cut(whole, manner)
            columns[held_out][name].append(ids)
            pairs.cut += len(ids) < len(whole)
            pairs.tokens += 0 if held_out else len(ids)
            pairs.answers += 0 if held_out else min(len(answer), len(ids))
    if not columns[0]["chosen_ids"]:
        raise WorkerError("nothing-to-learn", _no_pairs(pairs))
    pairs.train = Dataset(pa.table(columns[0], schema=_SCHEMA))
    if columns[1]["chosen_ids"]:
        pairs.held_out = Dataset(pa.table(columns[1], schema=_SCHEMA))
    return pairs


def arguments(job: Job, updates: int, *, evaluates: bool) -> RewardConfig:
    """Return the settings as TRL takes them: the run's own, but for rate, length and schedule.

    `max_steps` and the schedule concern the second stage; here the rate falls evenly.
    """
    trainer = job.config.trainer
    settings = shared(job.config, job.plan, job.run.checkpoints, evaluates=evaluates)
    settings |= {
        "learning_rate": trainer.reward_learning_rate,
        "num_train_epochs": trainer.reward_epochs,
        "max_steps": -1,
        "lr_scheduler_type": "linear",
        "lr_scheduler_kwargs": {},
        "warmup_steps": WARMUP,
        "eval_steps": min(settings["eval_steps"], updates) if evaluates else None,
        "load_best_model_at_end": False,
    }
    return RewardConfig(**settings, max_length=None, disable_dropout=False)


def _learn(context: WorkerContext, stage: Stage) -> TrainingProgress:
    job, plan = context.job, context.job.plan
    set_seed(job.config.trainer.seed)  # the head that gives the reward begins at random
    loaded = context.load("reward")
    dialect = loop.chat_template_for(context, loaded, _generation(job))
    manner = TokenizeOptions.from_plan(job.config, plan)
    order = dataset.DatasetRequest(
        job.dataset, job.config.eval_split, job.config.trainer.seed, manner
    )
    progress = loop.tokenize_progress(context)
    pairs = read_pairs(dataset.iter_split_rows(order, progress), dialect, manner)
    if pairs.dropped:
        text = f"{pairs.dropped:,} rows are left out: no pair, or too long to compare."
        context.log.note("pairs-dropped", text)
    _pad_apart(loaded.tokenizer, dialect)
    trainer = _trainer(job, loaded, pairs)
    course = loop.train(context, trainer, _facts(pairs), stage)
    if course.is_whole:
        if pairs.held_out is not None and course.checked_step != course.step:
            trainer.evaluate()
        _keep(context, trainer, course)
    trainer.accelerator.free_memory()
    return course


def _trainer(job: Job, loaded: Any, pairs: Pairs) -> Any:
    config = job.config
    batches = -(-len(pairs.train) // config.per_device_train_batch_size)
    updates = -(-batches // config.gradient_accumulation_steps) * config.trainer.reward_epochs
    return prepare_trainer(
        Trainer(
            model=loaded.model,
            args=arguments(job, updates, evaluates=pairs.held_out is not None),
            train_dataset=pairs.train,
            eval_dataset=pairs.held_out,
            processing_class=loaded.tokenizer,
            peft_config=lora_config(config, job.plan, "reward"),
        ),
        config,
        job.plan,
    )


def _keep(context: WorkerContext, trainer: Any, course: TrainingProgress) -> None:
    context.log.phase("saving", "Keeping the reward model")
    run = context.job.run
    staged = run.path / ".reward_model-staged"
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir()
    # Asked to decide by itself, PEFT looks the base model up on the Hub.
    more = {"save_embedding_layers": False} if context.job.plan.trains == "adapter" else {}
    trainer.model.save_pretrained(staged, safe_serialization=True, **more)
    trainer.processing_class.save_pretrained(staged)
    write_json(staged / REWARD_MODEL_DONE, {"steps": course.step, "loss": course.loss})
    shutil.rmtree(run.reward_model, ignore_errors=True)
    staged.rename(run.reward_model)


def _open(context: WorkerContext, folder: str) -> tuple[Any, Any]:
    said = find_json(Path(folder) / "adapter_config.json")
    if said is None:
        loaded = context.load("reward", folder)
        model, tokenizer = loaded.model, loaded.tokenizer
    else:
        base = str(said["base_model_name_or_path"])
        loaded = context.load("reward", None if base == context.job.plan.model_path else base)
        model = PeftModel.from_pretrained(loaded.model, folder)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    # The reward is read at the last token that is no padding.
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    return model, tokenizer


def _judge(job: Job, model: Any, read: Any) -> ModelReward:
    if job.plan.device == "mps":
        model = model.to("mps")
    batch = job.config.per_device_train_batch_size
    return ModelReward(model, read, batch=batch, precision=job.plan.precision)


def _generation(job: Job) -> Any:
    """Return how the run's model ends its answers, which one that judges does not know."""
    plan = job.plan
    place = {
        "revision": plan.model_revision,
        "trust_remote_code": False,
        "local_files_only": Path(plan.model_path).is_dir(),
    }
    try:
        return GenerationConfig.from_pretrained(plan.model_path, **place)
    except OSError:
        config = AutoConfig.from_pretrained(plan.model_path, **place)
        return GenerationConfig.from_model_config(config)


def _pad_apart(tokenizer: Any, dialect: ChatTemplate) -> None:
    """Pad with a token that ends no answer: at an end that looks like padding nothing is read."""
    if tokenizer.pad_token_id not in dialect.stop_ids:
        return
    others = (tokenizer.unk_token, tokenizer.bos_token, tokenizer.eos_token)
    for token in others:
        if token is not None and tokenizer.convert_tokens_to_ids(token) not in dialect.stop_ids:
            tokenizer.pad_token = token
            return


def _cut(ids: list[int], manner: TokenizeOptions) -> list[int]:
    return ids[-manner.max_length :] if manner.truncation == "left" else ids[: manner.max_length]


def _facts(pairs: Pairs) -> dict[str, Any]:
    return {
        "train_rows": len(pairs.train),
        "eval_rows": len(pairs.held_out) if pairs.held_out is not None else 0,
        "trained_tokens": pairs.answers,
        "all_tokens": pairs.tokens,
        "truncated_rows": pairs.cut,
    }


def _refused(what: str) -> WorkerError:
    remedy = "Name a sequence classification model with one label, or leave it empty to train one."
    return WorkerError("reward-model-wrong", Problem("trainer.reward_model", what, remedy))


def _no_pairs(pairs: Pairs) -> Problem:
    return Problem(
        "dataset",
        f"None of the {pairs.dropped:,} rows is a pair of a better and a worse answer that fits.",
        "Give rows with prompt, chosen and rejected, choose a rule as the reward, or raise the "
        "longest row (max_seq_length).",
    )
