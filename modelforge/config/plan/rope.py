"""The part of the plan about the context length: rope scaling and its factor."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from modelforge.config.plan.context import ChangeLog, PlanContext
from modelforge.config.schema.config import TrainingConfig
from modelforge.config.schema.model import MAX_AUTO_ROPE_FACTOR

# Lengths of rows that are chosen are multiples of this.
LENGTH_STEP = 64


@dataclass(frozen=True)
class ContextPlan:
    """The effective context length of the model.

    Attributes:
        rope_type: How rotary position embeddings are scaled; none for not at all.
        rope_factor: By how much; 1 without scaling.
        length: Context length in tokens; None is unknown.
        rows: Length of rows that follows from the scaling; None leaves it to profile and model.
    """

    rope_type: str
    rope_factor: float
    length: int | None
    rows: int | None = None

    def as_fields(self) -> dict[str, Any]:
        """Return the fields of the plan about the scaling."""
        is_scaled = self.rope_type != "none"
        return {
            "rope_type": self.rope_type,
            "rope_factor": self.rope_factor,
            "max_model_len": self.length if is_scaled else None,
        }


def context_plan(config: TrainingConfig, context: PlanContext, log: ChangeLog) -> ContextPlan:
    """Return the effective context length, and record what "auto" chooses and why."""
    model, original = config.model, context.context
    if model.rope_type == "none" or original is None:
        return _unscaled(config, context, log)
    factor = model.rope_factor or _auto_factor(config, context, original, log)
    if factor <= 1:
        return ContextPlan("none", 1.0, _smaller(original, model.max_model_len))
    length = int(original * factor)
    if model.max_model_len is not None and model.max_model_len != length:
        if model.max_model_len > length:
            reason = f"{original:,} tokens of the model times {factor:g}."
            log.record("model.max_model_len", length, reason)
        length = min(length, model.max_model_len)
    return ContextPlan(model.rope_type, float(factor), length, _rows(config, context, length))


def _unscaled(config: TrainingConfig, context: PlanContext, log: ChangeLog) -> ContextPlan:
    model = config.model
    if model.rope_type != "none":
        reason = "The context length of the model is unknown, so there is nothing to scale."
        log.record("model.rope_type", "none", reason)
    return ContextPlan("none", 1.0, _smaller(context.context, model.max_model_len))


def _auto_factor(
    config: TrainingConfig, context: PlanContext, original: int, log: ChangeLog
) -> float:
    """Return the smallest whole factor that holds what is needed, and record it."""
    needed, why, limit = _needed(config, context)
    factor = max(1, math.ceil(needed / original)) if needed else 1
    reason = f"{why} The model reads {original:,} tokens."
    if limit and factor > limit:
        factor = limit
        reason += f" The largest factor that is chosen is {limit}."
    if factor == 1:
        log.record("model.rope_type", "none", f"{reason} Nothing has to be scaled.")
        return 1.0
    return log.record("model.rope_factor", float(factor), reason)


def _needed(config: TrainingConfig, context: PlanContext) -> tuple[int, str, int | None]:
    """Return the tokens that the context must hold, where they are from, and the largest factor."""
    target, cut = config.model.max_model_len, config.max_seq_length
    if target is not None:
        return target, f"The max context length is {target:,} tokens.", None
    longest = context.longest_row
    if cut is not None and cut > 0 and (longest is None or cut < longest):
        return cut, f"Rows have at most {cut:,} tokens.", MAX_AUTO_ROPE_FACTOR
    if longest is None:
        return 0, "The length of the rows is not known yet.", MAX_AUTO_ROPE_FACTOR
    return longest, f"The longest row has about {longest:,} tokens.", MAX_AUTO_ROPE_FACTOR


def _rows(config: TrainingConfig, context: PlanContext, length: int) -> int:
    """Return the length of rows for a scaled context: that of the longest one, if it is known."""
    if config.model.rope_factor is not None or context.longest_row is None:
        return length
    return min(length, -(-context.longest_row // LENGTH_STEP) * LENGTH_STEP)


def _smaller(first: int | None, second: int | None) -> int | None:
    known = [length for length in (first, second) if length is not None]
    return min(known, default=None)
