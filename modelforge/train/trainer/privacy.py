"""Differential privacy: DP-SGD with the clipping, the noise and the accountant of Opacus.

Each row passes the model alone, so its gradient is that of the row whatever the layers are. Opacus
clips and adds up the gradients, adds noise, and accounts for the privacy (Renyi accountant). The
rows of a step are drawn independently, as the accountant assumes, so steps differ in their number.
Neither the draws nor the noise follow the seed of the run, with which they could be subtracted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler
from transformers import TrainerCallback, TrainerState

from modelforge.config.schema.privacy import Privacy, auto_delta
from modelforge.errors import Problem
from modelforge.modeling.errors import WorkerError
from modelforge.runs.progress.measured_events import PrivacyEvent
from modelforge.train.event_log import EventLog
from modelforge.train.trainer.microbatch import Batch, split_batch
from modelforge.train.trainer.private import TrainerHost

INTERVAL_S = 10.0
# Steps of one kind: noise multiplier, sample rate, how many.
Spent = tuple[float, float, int]
# The noise is searched up to this share of epsilon.
TOLERANCE = 0.001
MAX_NOISE = 1e6


class PrivacyAccount:
    """The privacy that a training spends, and the noise that keeps it within epsilon.

    Args:
        rows: Training rows; each is protected.
        batch: Mean number of rows of a step.
        steps: Steps of the whole training.
    """

    def __init__(self, settings: Privacy, *, rows: int, batch: int, steps: int) -> None:
        self.settings, self.rows, self.steps = settings, rows, steps
        self.delta = auto_delta(rows) if settings.delta is None else settings.delta
        self.sample_rate = min(1.0, batch / rows)
        self.batch = batch
        self._spent: list[Spent] = []
        self._noise: float | None = None

    @property
    def done(self) -> int:
        """Steps that were made, in earlier workers of the run too."""
        return sum(count for _noise, _rate, count in self._spent)

    @property
    def epsilon(self) -> float:
        """Epsilon of the steps that were made; 0 before the first."""
        return self._epsilon(self._spent) if self._spent else 0.0

    @property
    def noise(self) -> float:
        """The noise multiplier: with it, all steps together stay within epsilon.

        Raises:
            WorkerError: The steps that were made have spent epsilon already.
        """
        if self._noise is None:
            self._noise = self._search(max(1, self.steps - self.done))
        return self._noise

    def add_step(self) -> None:
        """Account for one step."""
        step = (self.noise, self.sample_rate)
        if self._spent and self._spent[-1][:2] == step:
            self._spent[-1] = (*step, self._spent[-1][2] + 1)
        else:
            self._spent.append((*step, 1))

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {"spent": [list(entry) for entry in self._spent], "noise": self.noise}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a checkpoint; the noise is that of before if the steps are the same."""
        self._spent = [(float(a), float(b), int(c)) for a, b, c in state["spent"]]
        self._noise = float(state["noise"])
        left = self.steps - self.done
        planned = [*self._spent, (self._noise, self.sample_rate, left)] if left > 0 else self._spent
        if planned and self._epsilon(planned) > self.settings.epsilon * (1 + TOLERANCE):
            self._noise = None

    def event(self, step: int, stage: int | None) -> PrivacyEvent:
        """Return the event of what was spent up to a step."""
        return PrivacyEvent(
            step=step,
            epsilon=round(self.epsilon, 4),
            delta=self.delta,
            noise_multiplier=round(self.noise, 4),
            sample_rate=round(self.sample_rate, 6),
            max_grad_norm=self.settings.max_grad_norm,
            stage=stage,
        )

    def _search(self, steps: int) -> float:
        """Return the smallest noise with which that many further steps stay within epsilon."""
        target = self.settings.epsilon

        def spends(noise: float) -> float:
            return self._epsilon([*self._spent, (noise, self.sample_rate, steps)])

        low, high = 0.0, 1.0
        while spends(high) > target:
            low, high = high, 2 * high
            if high > MAX_NOISE:
                what = f"The run has spent epsilon {self.epsilon:.2f} of {target:g} already."
                remedy = "Raise privacy.epsilon, or train for fewer steps."
                raise WorkerError("privacy-spent", Problem("privacy.epsilon", what, remedy))
        while target - spends(high) > TOLERANCE * target:
            middle = (low + high) / 2
            if spends(middle) > target:
                low = middle
            else:
                high = middle
        return high

    def _epsilon(self, spent: Sequence[Spent]) -> float:
        from opacus.accountants import RDPAccountant  # noqa: PLC0415  # an extra

        accountant = RDPAccountant()
        accountant.history = list(spent)
        return float(accountant.get_epsilon(self.delta))


@dataclass
class PoissonBatches(Sampler[list[int]]):
    """Draws each row independently for each step, with random numbers of the operating system."""

    rows: int
    rate: float
    steps: int

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator()
        generator.seed()
        for _ in range(self.steps):
            drawn = torch.rand(self.rows, generator=generator) < self.rate
            yield drawn.nonzero().flatten().tolist()


@dataclass(frozen=True)
class CollateAny:
    """Collates a step that may have no row: its tensors are then of shape (0, ...)."""

    collate: Callable[[Sequence[Any]], Batch]
    example: Any

    def __call__(self, examples: Sequence[Any]) -> Batch:
        """Return the batch of these rows."""
        if examples:
            return self.collate(examples)
        batch = self.collate([self.example])
        return {
            name: value[:0] if isinstance(value, torch.Tensor) and value.dim() else value
            for name, value in batch.items()
        }


class PrivacyMixin(TrainerHost):
    """Mixed into a trainer before all other bases; inactive until `privacy` is set."""

    privacy: PrivacyAccount | None = None
    _clipping: Any = None

    def get_train_dataloader(self) -> Any:
        """Return batches of rows that are drawn independently."""
        usual = super().get_train_dataloader()
        account = self.privacy
        if account is None:
            return usual
        rows = usual.dataset
        steps = -(-account.rows // account.batch)
        loader = DataLoader(
            rows,
            batch_sampler=PoissonBatches(account.rows, account.sample_rate, steps),
            collate_fn=CollateAny(usual.collate_fn, rows[0]),
            num_workers=usual.num_workers,
            pin_memory=usual.pin_memory,
        )
        return self.accelerator.prepare(loader)

    def training_step(self, model: Any, inputs: dict[str, Any], items: Any = None) -> Any:
        """Train on the rows of a step one by one, and set the noisy gradient of the step."""
        account = self.privacy
        if account is None:
            return super().training_step(model, inputs, items)
        weights = self._begin(account)
        losses = []
        for row in single_rows(inputs):
            losses.append(super().training_step(model, row, None))
            self._add_row(weights)
        self._finish(weights, account)
        if not losses:
            return torch.zeros((), device=self.args.device)
        return torch.stack(losses).mean()

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log the epsilon that was spent beside the loss."""
        if self.privacy is not None and "loss" in logs:
            logs["epsilon"] = round(self.privacy.epsilon, 4)
        super().log(logs, *args, **kwargs)

    def _begin(self, account: PrivacyAccount) -> list[torch.nn.Parameter]:
        if self._clipping is None:
            self._clipping = dp_optimizer(self.optimizer, account)
        weights: list[torch.nn.Parameter] = self._clipping.params
        for weight in weights:
            weight.summed_grad = weight.grad = None
        return weights

    def _add_row(self, weights: list[torch.nn.Parameter]) -> None:
        for weight in weights:
            gradient = torch.zeros_like(weight) if weight.grad is None else weight.grad
            weight.grad_sample = gradient.unsqueeze(0)
            weight.grad = None
        self._clipping.clip_and_accumulate()

    def _finish(self, weights: list[torch.nn.Parameter], account: PrivacyAccount) -> None:
        for weight in weights:
            if weight.summed_grad is None:
                weight.summed_grad = torch.zeros_like(weight)
            weight.grad_sample = torch.zeros_like(weight).unsqueeze(0)
        self._clipping.noise_multiplier = account.noise
        self._clipping.add_noise()
        self._clipping.scale_grad()
        for weight in weights:
            weight.grad_sample = weight.summed_grad = None
        account.add_step()


def dp_optimizer(optimizer: Any, account: PrivacyAccount) -> Any:
    """Return what clips the gradients of rows and adds noise to their sum, for an optimizer."""
    from opacus.optimizers import DPOptimizer  # noqa: PLC0415  # an extra

    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    generator = torch.Generator(device=weights[0].device)
    generator.seed()
    return DPOptimizer(
        optimizer,
        noise_multiplier=account.noise,
        max_grad_norm=account.settings.max_grad_norm,
        expected_batch_size=account.batch,
        generator=generator,
    )


def single_rows(batch: Mapping[str, Any]) -> Iterator[Batch]:
    """Yield the rows of a batch of tensors of shape (rows, ...), without their padding."""
    rows = len(batch["input_ids"])
    if not rows:
        return
    for part in split_batch(batch, rows, rows):
        yield _without_padding(part.inputs)


def _without_padding(row: Batch) -> Batch:
    """Return a row of shape (1, seq) cut to its last token that is not padding."""
    mask = row.get("attention_mask")
    if mask is None:
        return row
    used = mask[0].nonzero()
    length = int(used.max()) + 1 if len(used) else 1
    width = mask.shape[1]
    return {
        name: value[:, :length]
        if isinstance(value, torch.Tensor) and value.dim() == 2 and value.shape[1] == width
        else value
        for name, value in row.items()
    }


class PrivacyCallback(TrainerCallback):
    """Says what noise is used, and writes what was spent."""

    def __init__(self, account: PrivacyAccount, log: EventLog, stage: int | None) -> None:
        self._account, self._log, self._stage = account, log, stage
        self._written = time.monotonic()

    def on_train_begin(self, *_args: Any, **_kwargs: Any) -> None:
        """Note the noise; the state of a checkpoint is restored by now."""
        account = self._account
        text = (
            f"Differential privacy: epsilon {account.settings.epsilon:g} at delta "
            f"{account.delta:.2g} for each of {account.rows:,} rows; the noise is "
            f"{account.noise:.3g} times the clipping norm, and a row is in a step with the "
            f"probability {account.sample_rate:.2g}."
        )
        self._log.note("privacy", text)

    def on_log(self, _args: Any, state: TrainerState, *_rest: Any, **_kwargs: Any) -> None:
        """Write what was spent, at most every ten seconds."""
        if time.monotonic() - self._written >= INTERVAL_S:
            self._written = time.monotonic()
            self._log.write(self._account.event(state.global_step, self._stage))

    def on_train_end(self, _args: Any, state: TrainerState, *_rest: Any, **_kwargs: Any) -> None:
        """Write what the whole training has spent."""
        event = self._account.event(state.global_step, self._stage)
        self._log.write(event)
        self._log.line(f"Privacy: epsilon {event.epsilon:.3f} at delta {event.delta:.2g}.")
