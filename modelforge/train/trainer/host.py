"""The trainer interface that the mixins of this package expect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class TrainerHost:
    """The attributes and methods of `transformers.Trainer` that the mixins use.

    Declarations for the type checker only: at runtime this class is empty, so `super()` in a mixin
    reaches the Transformers or TRL trainer that follows it in the bases.
    """

    model: Any
    args: TrainingArguments
    state: TrainerState
    control: TrainerControl
    accelerator: Any
    callback_handler: Any
    processing_class: Any
    optimizer: Any
    lr_scheduler: Any
    model_accepts_loss_kwargs: bool

    if TYPE_CHECKING:

        def add_callback(self, callback: TrainerCallback) -> None:
            """Add a callback."""

        def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
            """Log metrics."""

        def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
            """Evaluate, and return the metrics."""

        def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
            """Fetch the batches of a step."""

        def training_step(self, model: Any, inputs: dict[str, Any], items: Any = None) -> Any:
            """Run forward and backward; return the loss."""

        def prediction_step(
            self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any
        ) -> Any:
            """Return loss, logits and labels of an evaluation batch."""

        def compute_ref_log_probs(self, model: Any, inputs: Any) -> Any:
            """Return the reference log-probabilities of a batch (TRL)."""

        def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
            """Return the loss of a batch."""

        # Private hooks; see PRIVATE_NAMES in modelforge/train/trainer/private.py.

        def _calculate_rewards(self, *args: Any) -> Any: ...

        def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool: ...

        def _evaluate(self, trial: Any, *args: Any, **kwargs: Any) -> dict[str, float]: ...

        def _get_output_dir(self, trial: Any) -> str: ...

        def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any: ...

        def _init_training_state(self, *args: Any) -> tuple[int, int]: ...

        def _load_best_model(self) -> None: ...

        def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None: ...

        def _load_rng_state(self, checkpoint: str) -> None: ...

        def _run_epoch(self, *args: Any, **kwargs: Any) -> None: ...

        def _save_checkpoint(self, model: Any, trial: Any) -> None: ...

        def _save_rng_state(self, folder: str) -> None: ...

        def _set_signature_columns_if_needed(self) -> None: ...
