"""Access to private names of Transformers, TRL, accelerate and torch.

All uses of private names are in `train/trainer/`, and `PRIVATE_NAMES` lists them: this is what
to check when one of these libraries is upgraded. A test fails when a listed name has gone, and when
a private name is used elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import signature
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType
from datasets import Dataset
from torch.autograd.graph import _engine_run_backward
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import SequentialSampler
from trl.trainer import utils as trl_utils

from modelforge.diagnosis.reward_trial import has_signal

if TYPE_CHECKING:
    from transformers import Trainer as TrainerHost
else:
    # A mixin has no base at runtime, so `super()` reaches the trainer that follows it in the bases.
    TrainerHost = object


class PrivateName(NamedTuple):
    """A private name in use: what it is needed for, and what could replace it."""

    owner: str
    name: str
    reason: str
    replacement: str


_TRAINER = "transformers.Trainer"
_SFT, _DPO = "trl.trainer.sft_trainer", "trl.DPOTrainer"
_WANDB = "transformers.integrations.WandbCallback"
_HOOK = "a public hook, or a copy of the method"
PRIVATE_NAMES = (
    PrivateName(_TRAINER, "_tr_loss", "loss since the last log; saved in checkpoints", "own sum"),
    PrivateName(_TRAINER, "_total_loss_scalar", "training state that checkpoints lack", "own sum"),
    PrivateName(_TRAINER, "_globalstep_last_logged", "state that checkpoints lack", "none"),
    PrivateName(_TRAINER, "_train_batch_size", "read when a data loader is made", "new trainer"),
    PrivateName(_TRAINER, "_prepare_inputs", "moves a trial batch to the device", "own move"),
    PrivateName(_TRAINER, "_get_output_dir", "checkpoints are written to a staging folder", _HOOK),
    PrivateName(_TRAINER, "_save_checkpoint", "checkpoints are verified and renamed", _HOOK),
    PrivateName(_TRAINER, "_load_from_checkpoint", "a stage saves only what trains", _HOOK),
    PrivateName(_TRAINER, "_load_best_model", "a damaged checkpoint is not loaded", _HOOK),
    PrivateName(_TRAINER, "_init_training_state", "settings may change on resume", _HOOK),
    PrivateName(_TRAINER, "_load_optimizer_and_scheduler", "the schedule may be longer", _HOOK),
    PrivateName(_TRAINER, "_run_epoch", "no step after the last one on resume", _HOOK),
    PrivateName(_TRAINER, "_get_train_sampler", "the sampler's generator state is saved", _HOOK),
    PrivateName(_TRAINER, "_get_eval_sampler", "evaluation rows stay in order", _HOOK),
    PrivateName(_TRAINER, "_evaluate", "an evaluation that a stop skipped is made up for", _HOOK),
    PrivateName(_TRAINER, "_determine_best_metric", "best metric of such an evaluation", _HOOK),
    PrivateName(_TRAINER, "_save_rng_state", "RNG state at the start of an epoch", "RngState"),
    PrivateName(_TRAINER, "_load_rng_state", "RNG state at the start of an epoch", "RngState"),
    PrivateName(_TRAINER, "_get_dataloader", "all processes have whole batches", _HOOK),
    PrivateName(_TRAINER, "_save_optimizer_and_scheduler", "a divided state is gathered", _HOOK),
    PrivateName(_TRAINER, "_save", "gathered weights are saved as those of one", _HOOK),
    PrivateName(_TRAINER, "_prepare_for_training", "a checkpoint is read before dividing", _HOOK),
    PrivateName(_DPO, "_prepare_dataset", "rows are tokenized already", "a TRL option"),
    PrivateName("trl.KTOTrainer", "_prepare_dataset", "rows are tokenized already", "a TRL option"),
    PrivateName(_DPO, "_set_signature_columns_if_needed", "keeps the length column", "none"),
    PrivateName(_DPO, "_signature_columns", "keeps the length column", "none"),
    PrivateName("trl.RLOOTrainer", "_tokenize_prompts", "prompts are rendered already", _HOOK),
    PrivateName("trl.RLOOTrainer", "_calculate_rewards", "completions are sampled", "reward_funcs"),
    PrivateName("trl.RLOOTrainer", "_generate_single_turn", "the reward trial samples", "none"),
    PrivateName("trl.SFTTrainer", "_metrics", "metrics since the last log", "none"),
    PrivateName("trl.SFTTrainer", "_total_train_tokens", "state that checkpoints lack", "none"),
    PrivateName("trl.RLOOTrainer", "_step", "state that checkpoints lack", "none"),
    PrivateName(
        "trl.experimental.orpo.ORPOTrainer", "_stored_metrics", "metrics since the last log", "none"
    ),
    PrivateName(_SFT, "_CHUNKED_LM_HEAD_CHUNK_SIZE", "tokens per chunk", "an argument"),
    PrivateName(_SFT, "_chunk", "losses of single rows, weights of tokens", "an own loss"),
    PrivateName(_SFT, "_patch_chunked_ce_lm_head", "memory trace of SFT", "own loss"),
    PrivateName("trl.trainer.utils", "_fused_logprob_entropy", "needs a compiler", "an argument"),
    PrivateName(_WANDB, "_wandb", "the run is finished at the end of training", "wandb.finish"),
    PrivateName(_WANDB, "_initialized", "a second training starts a run of its own", "none"),
    PrivateName("accelerate.PartialState", "_shared_state", "FSDP2 on the CPU", "an argument"),
    PrivateName("accelerate.Accelerator", "_dataloaders", "forgets the trial data loader", "none"),
    PrivateName(
        "torch.optim.lr_scheduler.LRScheduler", "_last_lr", "changed rate", "a new schedule"
    ),
    PrivateName(
        "torch.autograd.graph", "_engine_run_backward", "backward inside a function mode", "none"
    ),
    PrivateName("torch.utils", "_python_dispatch", "TorchDispatchMode of the memory trace", "none"),
    PrivateName("torch.UntypedStorage", "_cdata", "identity of a storage", "none"),
    PrivateName("torch.optim.AdamW", "_step_supports_amp_scaling", "skipped steps", "none"),
    PrivateName("torch.cuda.memory", "_set_allocator_settings", "virtual GPUs", "its successor"),
    PrivateName("torch.ops.aten", "_local_scalar_dense", "Tensor.item() on meta tensors", "none"),
)

__all__ = ["PRIVATE_NAMES", "TorchDispatchMode", "TrainerHost"]

# The name of the metric: the share of groups whose completions all got the same reward.
NO_SIGNAL = "groups_without_signal"
# The operator behind `Tensor.item()`.
ITEM_OP = torch.ops.aten._local_scalar_dense.default


def accumulated_loss(trainer: Any) -> torch.Tensor:
    """Return the loss summed since the last log line: a scalar tensor on the training device."""
    return trainer._tr_loss


def set_accumulated_loss(trainer: Any, loss: torch.Tensor) -> None:
    """Replace the loss summed since the last log line."""
    trainer._tr_loss = loss


def load_best_model(trainer: Any) -> None:
    """Load the weights of the best checkpoint into the model, if one was saved."""
    if trainer.state.best_model_checkpoint is not None:
        trainer._load_best_model()


def step_metrics(trainer: Any, mode: str) -> dict[str, list[Any]]:
    """Return the metrics that TRL has collected since the last log line, by name."""
    return trainer._metrics[mode]


def train_order(trainer: Any, rows: Any) -> list[int]:
    """Return the order in which the trainer's sampler visits `rows` in one epoch."""
    return list(trainer._get_train_sampler(rows) or range(len(rows)))


def set_last_lr(scheduler: Any, rates: list[float]) -> None:
    """Set what `scheduler.get_last_lr()` returns, one rate per parameter group."""
    scheduler._last_lr = rates


def report_skipped_steps(optimizer: Any) -> None:
    """Let the gradient scaler of fp16 skip steps itself, for a fused optimizer too.

    That would skip them in its kernel: accelerate would report none, and the schedule would go on.
    `optimizer` may be the one of accelerate, which holds that of torch.
    """
    getattr(optimizer, "optimizer", optimizer)._step_supports_amp_scaling = False


def use_torch_log_probs() -> None:
    """Compute log-probabilities and entropies with torch alone.

    On GPUs TRL does it with a Triton kernel, which is compiled at its first use.
    """
    trl_utils._fused_logprob_entropy = None


def use_fixed_segments() -> None:
    """Allocate GPU memory in segments of fixed size from now on."""
    torch.cuda.memory._set_allocator_settings("expandable_segments:False")


def storage_id(tensor: torch.Tensor) -> int:
    """Return a number that identifies the tensor's storage while it is alive."""
    return int(tensor.untyped_storage()._cdata)


def backward(loss: torch.Tensor) -> None:
    """Run the backward pass of a scalar loss without leaving the active function modes.

    `Tensor.backward` leaves them, but recomputation of activations needs them.
    """
    gradient = (torch.ones_like(loss),)
    _engine_run_backward((loss,), gradient, False, False, (), True, accumulate_grad=True)


@contextmanager
def batch_size_restored(trainer: Any) -> Iterator[None]:
    """Restore the trainer's batch size afterwards."""
    before = trainer._train_batch_size
    try:
        yield
    finally:
        trainer._train_batch_size = before


def set_batch_size(trainer: Any, size: int) -> None:
    """Set the batch size of the data loaders that the trainer makes from now on."""
    trainer._train_batch_size = size


def first_batch(trainer: Any) -> dict[str, Any]:
    """Return the first training batch, and let accelerate forget the data loader it came from."""
    loader = trainer.get_train_dataloader()
    batch: dict[str, Any] = next(iter(loader))
    loaders = trainer.accelerator._dataloaders
    if loader in loaders:
        loaders.remove(loader)
    return batch


def prepare_inputs(trainer: Any, batch: dict[str, Any]) -> dict[str, Any]:
    """Return the batch on the training device."""
    return trainer._prepare_inputs(batch)


class OrderedEvalMixin(TrainerHost):
    """Evaluates the rows in their order, also where training rows are grouped by length."""

    def _get_eval_sampler(self, eval_dataset: Any) -> Any:
        return SequentialSampler(eval_dataset)


def shard_on_cpu(state: PartialState) -> None:
    """Let accelerate divide a model among processes on the CPU, which it does on GPUs alone.

    It would train as with ddp, without a word.
    """
    state._shared_state["distributed_type"] = DistributedType.MULTI_GPU


def share_sampler(loader: Any, whole: Callable[[Any, int], Any] | None) -> None:
    """Replace the batches that processes share by `whole(batches, processes)`; None gives all each.

    accelerate divides the batches when it prepares a data loader, and repeats rows at the end.
    """
    shares = loader.batch_sampler
    if whole is None:
        shares.num_processes, shares.process_index, shares.even_batches = 1, 0, False
    else:
        shares.batch_sampler = whole(shares.batch_sampler, shares.num_processes)


def finish_wandb_run(callback: Any) -> None:
    """Finish the run of a WandbCallback, so that another training can begin one."""
    callback._wandb.finish()
    callback._initialized = False


class ExtraColumnMixin(TrainerHost):
    """Keeps columns of the dataset, `extra_columns`, beside those that TRL reads."""

    extra_columns: tuple[str, ...] = ()
    _signature_columns: list[str]

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        for column in self.extra_columns:
            if column not in self._signature_columns:
                self._signature_columns.append(column)


class PretokenizedMixin(ExtraColumnMixin):
    """Skips TRL's own preparation of the dataset, for rows that are tokenized already."""

    def prepare_rows(self, rows: Dataset, _batch_size: int) -> Dataset:
        """Return the rows to train on."""
        return rows

    def _prepare_dataset(
        self, dataset: Dataset, _tokenizer: Any, args: Any, _name: str, *_rest: Any
    ) -> Dataset:
        return self.prepare_rows(dataset, args.per_device_train_batch_size)


class OnlineMixin(TrainerHost):
    """Mixed into a TRL trainer that generates completions while it trains.

    Prompts are text that the chat template was applied to, so they are tokenized as in training
    on pairs and in chat. The tokens counted are those of the model's own completions.
    `completion_log` records the completions of the first prompt of a batch.
    """

    tokens_generated = 0
    num_generations: int
    completion_log: Any = None

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return self.processing_class(prompts, add_special_tokens=False)["input_ids"], None, {}

    def _calculate_rewards(
        self,
        inputs: list[dict[str, Any]],
        prompts: list[str],
        completions: list[str],
        completion_ids: list[list[int]],
    ) -> Any:
        rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids)
        if self.model.training:
            self.tokens_generated += sum(len(ids) for ids in completion_ids)
            step_metrics(self, "train")["num_tokens"] = [self.tokens_generated]
            if self.completion_log is not None:
                count = self.num_generations
                first = [float(row[0]) for row in rewards[:count]]
                self.completion_log.record(inputs[0]["asked"], completions[:count], first)
            shares = step_metrics(self, "train").setdefault(NO_SIGNAL, [])
            shares.append(_share_without_signal(rewards[:, 0].tolist(), self.num_generations))
        return rewards


def sample_completions(trainer: Any, prompts: list[str]) -> list[list[int]]:
    """Return the tokens of a completion of each prompt, as the next step would sample them."""
    trainer.model.train()
    ids, _images, others = trainer._tokenize_prompts(prompts)
    # GRPO takes the size of a group too, and returns log-probabilities beside the tokens.
    is_grpo = "num_generations" in signature(trainer._generate_single_turn).parameters
    size = (trainer.num_generations,) if is_grpo else ()
    with trainer.accelerator.autocast():
        sampled = trainer._generate_single_turn(ids, None, others, *size)
    return list(sampled[0] if is_grpo else sampled)


def reward_completions(
    trainer: Any, rows: list[dict[str, str]], completions: list[str], ids: list[list[int]]
) -> list[float]:
    """Return the reward of a completion for each row; nothing is recorded."""
    trainer.model.eval()
    prompts = [row["prompt"] for row in rows]
    return [
        float(each) for each in trainer._calculate_rewards(rows, prompts, completions, ids)[:, 0]
    ]


def _share_without_signal(rewards: list[float], size: int) -> float:
    """Return the share of the groups of `size` rewards that are all equal.

    TRL's own `frac_reward_zero_std` is the same only for small groups and without a KL penalty in
    the reward: RLOO subtracts it before the rewards are compared, and in groups of 7 or more, equal
    rewards have a standard deviation of up to 3e-7, which TRL does not take for zero.
    """
    groups = [rewards[start : start + size] for start in range(0, len(rewards), size)]
    return sum(not has_signal(group) for group in groups) / max(1, len(groups))
