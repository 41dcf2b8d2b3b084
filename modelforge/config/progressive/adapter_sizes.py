"""Ranks and alphas of the adapters of stacks: one for all, by a formula, or by a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

LARGEST = 256
# What the pattern `linear` adds per stack.
RANK_STEP, ALPHA_STEP = 8, 16


class SizeStrategy(StrEnum):
    """Where the sizes of the stacks come from; Stack-Wise's names are in the comments."""

    UNIFORM = "uniform"  # simplified
    PATTERN = "pattern"  # progressive
    TABLE = "table"  # variable


class Pattern(StrEnum):
    """How a rank or an alpha changes from stack to stack."""

    CONSTANT = "constant"
    INCREASING = "increasing"
    DECREASING = "decreasing"
    LINEAR = "linear"


@dataclass(frozen=True)
class AdapterSize:
    """Size of an adapter: rank and alpha, each from 1 to 256."""

    rank: int
    alpha: int


@dataclass(frozen=True)
class StackSizes:
    """Sizes of the adapters of all stacks.

    Attributes:
        first: size for stack 0; with `UNIFORM` for all stacks, with `TABLE` unused.
        strategy: where the sizes come from.
        rank_pattern: pattern of the ranks, with `PATTERN`.
        alpha_pattern: pattern of the alphas, with `PATTERN`.
        table: size per stack, with `TABLE`; it has every stack.
    """

    first: AdapterSize = AdapterSize(16, 32)
    strategy: SizeStrategy = SizeStrategy.UNIFORM
    rank_pattern: Pattern = Pattern.CONSTANT
    alpha_pattern: Pattern = Pattern.CONSTANT
    table: Mapping[int, AdapterSize] = field(default_factory=dict)

    def of(self, stack: int) -> AdapterSize:
        """Return the size of a stack, numbered from 0 in the order of training.

        One that the table lacks, which the rules refuse, has the size for stack 0.
        """
        if self.strategy is SizeStrategy.TABLE:
            return self.table.get(stack, self.first)
        if self.strategy is SizeStrategy.UNIFORM:
            return self.first
        return AdapterSize(
            patterned(self.first.rank, self.rank_pattern, stack, RANK_STEP),
            patterned(self.first.alpha, self.alpha_pattern, stack, ALPHA_STEP),
        )


def patterned(first: int, pattern: Pattern, stack: int, step: int) -> int:
    """Return the value of a stack: first × 2^stack, first / 2^stack rounded down, or by steps.

    The result is limited to the range from 1 to 256.
    """
    values = {
        Pattern.CONSTANT: first,
        Pattern.INCREASING: first << stack,
        Pattern.DECREASING: first >> stack,
        Pattern.LINEAR: first + step * stack,
    }
    return min(max(values[pattern], 1), LARGEST)
