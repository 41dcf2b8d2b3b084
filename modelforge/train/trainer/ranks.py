"""Trainers on several GPUs: the rows of one GPU in their order, and whole checkpoints.

What is divided is gathered before it is saved, into the files of one GPU, so that a run resumes on
another number of GPUs.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, slice_tensors
from datasets import Dataset, concatenate_datasets
from peft import get_peft_model_state_dict
from safetensors.torch import load_file
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.distributed.tensor import DTensor, distribute_tensor

from modelforge.errors import Problem
from modelforge.modeling.errors import WorkerError
from modelforge.modeling.tokenize.encode import IGNORE_INDEX
from modelforge.train.trainer.private import TrainerHost, shard_on_cpu, share_sampler

OPTIMIZER, SCHEDULER = "optimizer.pt", "scheduler.pt"
# RNG states: of one process, and of the first of several.
RNG, RNG_OF_FIRST = "rng_state.pth", "rng_state_0.pth"


class RankMixin(TrainerHost):
    """Mixed into every trainer; with one process it changes nothing.

    Attributes:
        pads_steps: Whether rows without trained tokens may fill the last step of an epoch.
    """

    pads_steps = False
    is_fsdp_enabled: bool

    @property
    def _is_alone(self) -> bool:
        return self.args.world_size == 1

    @property
    def _replicas(self) -> int:
        """Processes, or groups that share a row, which read different rows."""
        parallel = getattr(self.accelerator, "parallelism_config", None)
        shared: int = parallel.non_data_parallel_size if parallel else 1
        return self.args.world_size // shared

    def create_accelerator_and_postprocess(self) -> None:
        """Divide the model on the CPU too; let all processes draw the same order of rows."""
        if self.args.fsdp and self.args.use_cpu:
            shard_on_cpu(PartialState())
        super().create_accelerator_and_postprocess()
        if not self._is_alone:
            self.accelerator.rng_types = ["torch"]
        if self.is_fsdp_enabled and self.args.bf16:
            # By default gradients are added up, and losses returned, in bfloat16.
            policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
            self.accelerator.state.fsdp_plugin.mixed_precision_policy = policy

    # Rows

    def _evaluated(self, values: Any) -> Any:
        """Return the values of the rows of a batch: every process evaluates all rows.

        Transformers repeats the loss of a batch for as many rows as a full one has.
        """
        state = self.accelerator.gradient_state
        is_part = state.end_of_dataloader and state.remainder > 0
        return slice_tensors(values, slice(state.remainder)) if is_part else values

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
        batches = self.args.gradient_accumulation_steps
        # Rows of similar length are drawn from as many rows as on one GPU.
        self.args.gradient_accumulation_steps = batches * self._replicas
        try:
            return super()._get_train_sampler(*args, **kwargs)
        finally:
            self.args.gradient_accumulation_steps = batches

    def _get_dataloader(
        self, dataset: Any, description: str, batch_size: int, sampler_fn: Any = None, **rest: Any
    ) -> Any:
        is_training = rest.get("is_training", False)
        pads = is_training and self.pads_steps and not self._is_alone
        rows = _with_untrained_row(dataset) if pads else dataset
        loader = super()._get_dataloader(
            rows, description, batch_size, sampler_fn and (lambda _: sampler_fn(dataset)), **rest
        )
        if pads:
            share_sampler(loader, partial(WholeBatches, row=len(dataset)))
        elif not is_training and not self._is_alone:
            share_sampler(loader, None)
            # Transformers sets its own one again after each evaluation.
            self.gather_function = self._evaluated
        return loader

    # Checkpoints

    def staging_name(self, name: str) -> str:
        """Return the name of a staging folder that all processes use."""
        names = [name]
        if not self._is_alone:
            broadcast_object_list(names)
        return names[0]

    def wait_for_all(self) -> None:
        """Wait until all processes have come here."""
        self.accelerator.wait_for_everyone()

    def whole_weights(self) -> dict[str, Any] | None:
        """Return the trained weights, or all, gathered on the CPU; None where each process has all.

        All processes must call it; only the first one gets tensors.
        """
        if self.is_deepspeed_enabled:
            weights: dict[str, Any] = self.accelerator.get_state_dict(self.model_wrapped)
            return weights
        if not self.is_fsdp_enabled:
            return None
        frozen_too = not hasattr(self.model, "peft_config")
        options = StateDictOptions(
            full_state_dict=True, cpu_offload=True, ignore_frozen_params=not frozen_too
        )
        return get_model_state_dict(self.model, options=options)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the weights; those that are divided are gathered."""
        if not self.is_fsdp_enabled:
            super().save_model(output_dir, _internal_call)
            return
        weights = self.whole_weights()
        if self.args.should_save:
            self._save(output_dir, state_dict=weights)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self.is_fsdp_enabled:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        state = _whole(self.optimizer.state_dict())
        if self.args.should_save:
            torch.save(state, Path(output_dir) / OPTIMIZER)
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER)

    def _prepare_for_training(self, steps: int, loader: Any, resume_from: str | None) -> Any:
        if self.is_fsdp_enabled and resume_from is not None:
            # Before the model is divided, it is read as that of one process.
            self.is_fsdp_enabled = False
            self._load_from_checkpoint(resume_from)
            self.is_fsdp_enabled = True
        prepared = super()._prepare_for_training(steps, loader, resume_from)
        if self.is_fsdp_enabled or self.args.fsdp:
            require_divided(self.model)
        return prepared

    def _load_from_checkpoint(self, checkpoint: str, model: Any = None) -> None:
        if self.is_fsdp_enabled:
            return  # it was loaded before the model was divided
        super()._load_from_checkpoint(checkpoint, model)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if self._is_alone or self.is_deepspeed_enabled or checkpoint is None:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        folder = Path(checkpoint)
        state = torch.load(folder / OPTIMIZER, map_location="cpu", weights_only=True)
        self.optimizer.load_state_dict(state)
        self.lr_scheduler.load_state_dict(torch.load(folder / SCHEDULER, weights_only=True))
        for weight, values in self.optimizer.state.items():
            for name, value in values.items():
                if isinstance(weight, DTensor) and value.shape == weight.shape:
                    values[name] = _divided(value, weight)

    def load_best_weights(self, folder: Path) -> None:
        """Load the weights of the best checkpoint, which is intact."""
        if not self.is_fsdp_enabled:
            super()._load_best_model()
            return
        weights = dict(self.model.named_parameters())
        files = [load_file(path) for path in sorted(folder.glob("*.safetensors"))]
        saved = {name: value for file in files for name, value in file.items()}
        with torch.no_grad():
            for stored, name in saved_names(self.model).items():
                if weights[name].requires_grad:
                    weights[name].copy_(_divided(saved[stored], weights[name]))

    def _load_rng_state(self, checkpoint: str | None) -> None:
        states = [Path(checkpoint or "", name) for name in (RNG, RNG_OF_FIRST)]
        other = next((path for path in states if checkpoint and path.is_file()), None)
        if other is not None:
            own = RNG if self._is_alone else f"rng_state_{self.args.process_index}.pth"
            if not other.with_name(own).is_file():
                # The checkpoint is of another number of processes.
                with tempfile.TemporaryDirectory() as folder:
                    shutil.copy(other, Path(folder, own))
                    super()._load_rng_state(folder)
                return
        super()._load_rng_state(checkpoint)


def require_divided(model: Any) -> None:
    """Make sure that the trained weights are divided: each process would train all without a word.

    Raises:
        WorkerError: They are whole.
    """
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    if not all(isinstance(weight, DTensor) for weight in trained):
        what = "The model was not divided among the GPUs."
        remedy = "Choose ddp, and send a support bundle."
        raise WorkerError("not-divided", Problem("hardware.sharding", what, remedy))


class WholeBatches:
    """Fills the last batches of an epoch so that all processes have as many and as large ones.

    `batches` is a batch sampler, `row` the index of the row that fills them.
    """

    drop_last = False

    def __init__(self, batches: Any, ranks: int, row: int) -> None:
        self._batches, self._ranks, self._row = batches, ranks, row
        self.batch_size, self.sampler = batches.batch_size, batches.sampler

    def __len__(self) -> int:
        """The batches of an epoch, of all processes."""
        return -(-len(self._batches) // self._ranks) * self._ranks

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the indices of the rows of each batch."""
        for batch in self._batches:
            yield [*batch, *[self._row] * (self.batch_size - len(batch))]
        for _ in range(len(self) - len(self._batches)):
            yield [self._row] * self.batch_size


def _with_untrained_row(rows: Dataset) -> Dataset:
    """Return the rows and one more, a copy of the first without trained tokens."""
    first = rows[0]
    untrained = {**first, "labels": [IGNORE_INDEX] * len(first["labels"])}
    return concatenate_datasets([rows, Dataset.from_list([untrained], features=rows.features)])


def _whole(state: Any) -> Any:
    """Return nested data with whole tensors on the CPU in place of divided ones."""
    if isinstance(state, dict):
        return {name: _whole(value) for name, value in state.items()}
    if isinstance(state, list):
        return [_whole(value) for value in state]
    return state.full_tensor().cpu() if isinstance(state, DTensor) else state


def _divided(value: torch.Tensor, like: Any) -> Any:
    """Return this process's part of a whole tensor, divided as another one."""
    if not isinstance(like, DTensor) or isinstance(value, DTensor):
        return value
    whole = value.to(device=like.device, dtype=like.dtype)
    return distribute_tensor(whole, like.device_mesh, like.placements)


def saved_names(model: Any) -> dict[str, str]:
    """Return the names of weights by those that they have in a saved file, of PEFT or of all."""
    names = {name: name for name, _weight in model.named_parameters()}
    return get_peft_model_state_dict(model, names) if hasattr(model, "peft_config") else names
