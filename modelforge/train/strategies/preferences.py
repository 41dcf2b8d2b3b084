"""Learning from preferences by TRL: DPO and its losses, KTO on single answers, ORPO."""

from __future__ import annotations

from typing import Any

from datasets import Dataset
from transformers import set_seed
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

from modelforge.train import rows, training
from modelforge.train.adapting import adapter, ready
from modelforge.train.arguments import shared
from modelforge.train.compared import Compared, read_compared
from modelforge.train.job import Job, Work
from modelforge.train.manner import Manner
from modelforge.train.pairs import MODES

# KTO estimates how far the model has strayed from the other answers of a batch.
FEWEST_ANSWERS = 2
# The share of pairs taken to be the wrong way round, as TRL's documentation advises for these two
# losses; the others use none.
LABEL_SMOOTHING = {"exo_pair": 1e-3, "robust": 0.1}


class Dpo(DPOTrainer):
    """TRL's trainer on rows that are tokens already."""

    def _prepare_dataset(self, dataset: Dataset, *_more: Any) -> Dataset:
        return dataset

    def create_model_card(self, *_args: Any, **_kwargs: Any) -> None:
        """Write nothing; the output has a card of its own."""


class Kto(KTOTrainer):
    """TRL's trainer on rows that are tokens already."""

    def _prepare_dataset(self, dataset: Dataset, _words: Any, args: Any, _name: str) -> Dataset:
        if not self.calculate_KL:
            return dataset
        return dataset.map(_turned, batched=True, batch_size=args.per_device_train_batch_size)

    def create_model_card(self, *_args: Any, **_kwargs: Any) -> None:
        """Write nothing; the output has a card of its own."""


class Orpo(ORPOTrainer):
    """TRL's trainer on rows that are tokens already, and with its tokens counted."""

    _read = 0

    def tokenize_row(self, feature: dict[str, Any], model: Any = None) -> dict[str, Any]:  # noqa: ARG002
        """Return one pair as TRL's collator of ORPO reads it."""
        question, found = feature["prompt_ids"], {}
        for name in ("chosen", "rejected"):
            answer = feature[f"{name}_ids"]
            ids = [*question, *answer][: self.max_length]
            found[f"{name}_input_ids"] = ids
            found[f"{name}_attention_mask"] = [1] * len(ids)
            found[f"{name}_labels"] = [-100] * len(question) + ids[len(question) :]
        found |= {"prompt_input_ids": question, "prompt_attention_mask": [1] * len(question)}
        return found

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Count what is read while training, and compute TRL's loss."""
        if model.training:
            self._read += int(
                inputs["chosen_attention_mask"].sum() + inputs["rejected_attention_mask"].sum()
            )
        return super().compute_loss(model, inputs, *args, **kwargs)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add how many tokens were read so far, as TRL's other trainers do."""
        if "loss" in logs:
            logs["num_tokens"] = self._read
        super().log(logs, start_time)

    def create_model_card(self, *_args: Any, **_kwargs: Any) -> None:
        """Write nothing; the output has a card of its own."""


def run(work: Work) -> None:
    """Do the whole of a run: load, turn pairs into tokens, train, save."""
    job = work.job
    loaded = work.load("causal")
    compared = read(work, training.speak(work, loaded))
    work.stop.check()
    # With an adapter the model itself, adapter off, is the reference; else it is a second copy.
    needs_copy = job.plan.trains == "all" and job.plan.method != "orpo"
    reference = work.load("causal").model if needs_copy else None
    set_seed(job.config.trainer.seed)
    trainer = build(loaded, compared, job, reference)
    training.learn(work, trainer, compared.facts())


def read(work: Work, dialect: Any) -> Compared:
    """Return the run's pairs or judged answers as tokens, and tell what became of the others."""
    job, config = work.job, work.job.config
    manner = Manner.of(config, job.plan)
    order = rows.Order(job.dataset, config.eval_split, config.trainer.seed, manner)
    found = rows.parted(order, training.tokenizing(work))
    compared = read_compared(found, dialect, manner, job.plan.method)
    for code, text in (*dialect.notes, *compared.notes):
        work.teller.note(code, text)
    return compared


def build(loaded: Any, compared: Compared, job: Job, reference: Any = None) -> Any:
    """Return the method's trainer with the adapter on the model."""
    method, config = job.plan.method, job.config
    evaluates = compared.held_out is not None
    kinds: dict[str, Any] = {"dpo": Dpo, "kto": Kto, "orpo": Orpo}
    train = compared.train
    if method == "kto":
        # Its batches come in the order of the rows: the other answers of a batch are its measure.
        train = train.shuffle(seed=config.trainer.seed)
    trainer = kinds[method](
        model=loaded.model,
        args=arguments(job, evaluates=evaluates),
        train_dataset=train,
        eval_dataset=compared.held_out,
        processing_class=loaded.tokenizer,
        peft_config=adapter(config, job.plan),
        **({} if method == "orpo" else {"ref_model": reference}),
    )
    return ready(trainer)


def arguments(job: Job, *, evaluates: bool) -> Any:
    """Return the settings as the method's trainer takes them."""
    config, plan = job.config, job.plan
    own, manner = config.trainer, Manner.of(config, plan)
    settings = shared(config, plan, job.run.checkpoints, evaluates=evaluates)
    # Rows have several columns of tokens here, and so no one length to be grouped by.
    settings["train_sampling_strategy"] = "random"
    settings |= {"beta": own.preference_beta, "max_length": plan.max_length}
    if plan.method == "orpo":
        return ORPOConfig(**settings, disable_dropout=False)
    settings["precompute_ref_log_probs"] = own.precompute_ref_log_probs
    if plan.method == "kto":
        batch, steps = config.per_device_train_batch_size, config.gradient_accumulation_steps
        fewer = max(1, steps * batch // FEWEST_ANSWERS) if batch < FEWEST_ANSWERS else steps
        settings |= {
            "train_sampling_strategy": "sequential",
            "per_device_train_batch_size": max(FEWEST_ANSWERS, batch),
            "gradient_accumulation_steps": fewer,
            "per_device_eval_batch_size": max(FEWEST_ANSWERS, config.per_device_eval_batch_size),
        }
        return KTOConfig(**settings)
    return DPOConfig(
        **settings,
        loss_type=[own.preference_loss],
        label_smoothing=LABEL_SMOOTHING.get(own.preference_loss, 0.0),
        truncation_mode=MODES.get(manner.truncation, "keep_start"),
    )


def _turned(batch: dict[str, Any]) -> dict[str, Any]:
    """Return a batch with the answer of the row before beside each, as TRL lays them out."""
    answers = batch["completion_ids"]
    return {"KL_completion_ids": [answers[-1], *answers[:-1]]}
