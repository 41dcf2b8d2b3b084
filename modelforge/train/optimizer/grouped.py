"""One optimizer in front of two: Muon for matrices, AdamW for all other weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.optim import AdamW, Muon, Optimizer

from modelforge.train.optimizer.muon import ExtendedMuon


class GroupedOptimizer(Optimizer):
    """Muon for the groups with `is_matrix`, AdamW for the others, as one optimizer.

    Groups and state are those of this optimizer, which both share: a schedule changes the rates of
    all groups, and `state_dict` has everything that an exact resume needs. A model may lack one of
    the two kinds of groups.

    Args:
        params: Groups with `params`, `lr`, `weight_decay` and `is_matrix`; all have the same keys.
        lr: The learning rate that schedules with an absolute final rate compare with.
        matrices: Options of Muon: `momentum`, `adjust_lr_fn`, `normalizes`, `beta2`, `cautious`.
        others: Options of AdamW: `betas`, `eps`, `fused`.
    """

    def __init__(
        self,
        params: list[dict[str, Any]],
        lr: float,
        *,
        matrices: dict[str, Any],
        others: dict[str, Any],
    ) -> None:
        of_muon = [group for group in params if group["is_matrix"]]
        of_adamw = [group for group in params if not group["is_matrix"]]
        self._parts: list[Optimizer] = []
        if of_muon:
            self._parts.append(_muon(of_muon, **matrices))
        if of_adamw:
            self._parts.append(AdamW(of_adamw, **others))
        # The groups of both, as the same dictionaries.
        super().__init__([*of_muon, *of_adamw], {"lr": lr})
        self._sizes = [len(part.param_groups) for part in self._parts]
        self._share()

    def _share(self) -> None:
        """Let both optimizers have the groups and the state of this one."""
        start = 0
        for part, size in zip(self._parts, self._sizes, strict=True):
            part.param_groups = self.param_groups[start : start + size]
            part.state = self.state
            start += size

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every weight that has a gradient; return the loss of `closure`."""
        loss = None if closure is None else closure()
        for part in self._parts:
            part.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of both optimizers and their groups."""
        super().load_state_dict(state_dict)
        self._share()


def _muon(
    groups: list[dict[str, Any]],
    *,
    normalizes: bool,
    beta2: float,
    cautious: bool,
    **options: Any,
) -> Optimizer:
    """Return torch's own Muon where it does all that is asked for."""
    if not normalizes and not cautious:
        return Muon(groups, **options)
    return ExtendedMuon(groups, normalizes=normalizes, beta2=beta2, cautious=cautious, **options)
