"""Trainer of one stage of a growing model: rates by group, and checkpoints of what trains."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from modelforge.config.progressive.stages import RateGroup, StagePlan
from modelforge.modeling.growing.embeddings import fold_embeddings
from modelforge.modeling.growing.freezing import TrunkWithoutGrad, parameter_groups
from modelforge.modeling.growing.masking import MaskingCollator
from modelforge.modeling.growing.trunk_cache import TrunkCache
from modelforge.train.trainer.supervised import SftTrainer

# The weights that train, in a checkpoint.
TRAINED = "trained.safetensors"


@dataclass
class StageSetup:
    """What a trainer needs to know of its stage.

    Attributes:
        stage: What trains.
        rates: Learning rates of the groups.
        trunk: The part that runs without gradients.
        cache: What the trunk has computed; None without a cache.
        load_plain: Loads the model of the stage before its training, not quantized, with new layers
            and adapters; None where it is not quantized.
        masks_eval: The collator of evaluations with the masked objective.
    """

    stage: StagePlan
    rates: dict[RateGroup, float]
    trunk: TrunkWithoutGrad
    cache: TrunkCache | None = None
    load_plain: Callable[[], Any] | None = None
    masks_eval: MaskingCollator | None = None


class GrowingTrainer(SftTrainer):
    """SftTrainer of a model with a frozen trunk, adapters and new layers.

    `setup` is set after the trainer is made. A checkpoint has the weights that train, without those
    of the trunk, which are in the model that the stage has begun with.
    """

    own_rate = True
    setup: StageSetup
    data_collator: Any

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        """Make the optimizer with the groups of the stage and their rates."""
        if self.optimizer is None:
            kind, options = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            groups = list(self._decaying_groups())
            self.optimizer_cls_and_kwargs = kind, {**options, "params": groups}
        return super().create_optimizer(*args, **kwargs)

    def _decaying_groups(self) -> Iterator[dict[str, Any]]:
        """Yield the groups of the stage, each divided into weights that decay and others."""
        names = set(self.get_decay_parameter_names(self.model))
        decayed = {id(weight) for name, weight in self.model.named_parameters() if name in names}
        for group in parameter_groups(self.model, self.setup.stage, self.setup.rates):
            for decays, decay in ((True, self.args.weight_decay), (False, 0.0)):
                params = [each for each in group["params"] if (id(each) in decayed) is decays]
                if params:
                    yield {"params": params, "lr": group["lr"], "weight_decay": decay}

    def get_eval_dataloader(self, *args: Any, **kwargs: Any) -> Any:
        """Return the batches of an evaluation; their masks are always the same."""
        with self._collating(self.setup.masks_eval):
            return super().get_eval_dataloader(*args, **kwargs)

    @contextmanager
    def _collating(self, collator: MaskingCollator | None) -> Iterator[None]:
        before, self.data_collator = self.data_collator, collator or self.data_collator
        try:
            yield
        finally:
            self.data_collator = before

    def _save(self, output_dir: str | None = None, *_: Any, **__: Any) -> None:
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        save_file(trained_weights(self.model), folder / TRAINED)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        load_trained(self.model if model is None else model, Path(resume_from_checkpoint))

    def load_best_weights(self, folder: Path) -> None:
        """Load the weights that train from the best checkpoint."""
        load_trained(self.model, folder)

    def result_model(self) -> Any:
        """Return the model with its adapters merged, which cannot be trained any more.

        What was trained on a quantized trunk is merged into the weights that were not quantized.
        """
        self.release()
        if self.setup.load_plain is None:
            return merged(self.model)
        plain = self.setup.load_plain()
        set_weights(plain, trained_weights(self.model))
        return merged(plain)

    def release(self) -> None:
        """Close the cache, and let all layers run as before the stage."""
        if self.setup.cache is not None:
            self.setup.cache.close()
            self.setup.cache = None
        self.setup.trunk.release()


def trained_weights(model: Any) -> dict[str, torch.Tensor]:
    """Return a copy on the CPU of the weights that train, by name."""
    return {
        name: weight.detach().cpu().contiguous()
        for name, weight in model.named_parameters()
        if weight.requires_grad
    }


def load_trained(model: Any, folder: Path) -> None:
    """Set the weights of a model to those that a checkpoint has; the others stay."""
    set_weights(model, load_file(folder / TRAINED))


def set_weights(model: Any, values: Mapping[str, torch.Tensor]) -> None:
    """Set weights of a model by name."""
    weights = dict(model.named_parameters())
    with torch.no_grad():
        for name, value in values.items():
            weights[name].copy_(value)


def merged(model: Any) -> Any:
    """Return a normal model: adapters merged, weights in the format of its embeddings."""
    if hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()
        if hasattr(model, "peft_config"):
            del model.peft_config
    fold_embeddings(model)
    return model.to(model.get_input_embeddings().weight.dtype)
