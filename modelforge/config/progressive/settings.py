"""What the settings of growing a model describe: stages, sizes of adapters, masks and rates."""

from __future__ import annotations

import re

from modelforge.config.progressive.adapter_sizes import (
    AdapterSize,
    Pattern,
    SizeStrategy,
    StackSizes,
)
from modelforge.config.progressive.mask_schedule import (
    MaskBy,
    Masking,
    MaskSchedule,
    default_fractions,
)
from modelforge.config.progressive.stages import Direction, Growth, Mode, RateGroup, Trunk
from modelforge.config.schema.config import TrainingConfig
from modelforge.config.schema.progressive import Progressive

_ENTRY = re.compile(r"(\d{1,6})\s*:\s*(\d{1,6})\s*/\s*(\d{1,6})")


def growth_of(config: TrainingConfig, base_layers: int) -> Growth:
    """Return how the settings let a model grow.

    Args:
        config: the settings.
        base_layers: layers of the model that grows; 0 for training from nothing.

    Raises:
        ValueError: the table of sizes cannot be read.
    """
    group, new = config.progressive, config.pretraining
    return Growth(
        base_layers=base_layers,
        stages=group.stages,
        layers_per_stage=group.layers_per_stage,
        mode=Mode(group.mode),
        direction=Direction(group.direction),
        trunk=Trunk(group.trunk),
        stack_sizes=_stack_sizes(group) if group.stack_lora else None,
        trunk_size=AdapterSize(group.trunk_rank, group.trunk_alpha) if group.trunk_lora else None,
        freezes_embeddings=new.enabled
        and new.freeze_embeddings
        and new.embedding_adapter_dim is None,
        ends_jointly=group.joint_tuning_steps > 0,
    )


def masking_of(group: Progressive) -> Masking:
    """Return which tokens are masked.

    Raises:
        ValueError: the list of shares has something that is not a number.
    """
    fractions = read_numbers(group.mask_fractions) or default_fractions(group.mask_steps)
    return Masking(
        by=MaskBy(group.mask_by),
        fractions=fractions,
        least=group.mask_min,
        most=group.mask_max,
        schedule=MaskSchedule(group.mask_schedule),
    )


def rates_of_groups(config: TrainingConfig, rate: float) -> dict[RateGroup, float]:
    """Return the learning rate of trunk, new layers and adapters; `rate` where none is set."""
    return {
        RateGroup.TRUNK: rate,
        RateGroup.BLOCK: config.optimizer.new_layer_lr or rate,
        RateGroup.ADAPTERS: config.optimizer.adapter_lr or rate,
    }


def read_table(text: str) -> dict[int, AdapterSize]:
    """Return the sizes of a text such as `0: 8/16, 1: 16/32`, by the number of the stack.

    Raises:
        ValueError: with a sentence about the first part that is not such an entry.
    """
    table: dict[int, AdapterSize] = {}
    for part in filter(None, (each.strip() for each in text.replace("\n", ",").split(","))):
        match = _ENTRY.fullmatch(part)
        if match is None:
            raise ValueError(f"{part[:40]!r} is not a stack with its rank and alpha.")
        stack, rank, alpha = map(int, match.groups())
        if stack in table:
            raise ValueError(f"Stack {stack} is given twice.")
        table[stack] = AdapterSize(rank, alpha)
    return table


def read_numbers(text: str) -> tuple[float, ...]:
    """Return the numbers of a text such as `0.1, 0.5`.

    Raises:
        ValueError: with a sentence about the first part that is not a number.
    """
    numbers = []
    for part in filter(None, (each.strip() for each in text.strip(" []").split(","))):
        try:
            numbers.append(float(part))
        except ValueError:
            raise ValueError(f"{part[:40]!r} is not a number.") from None
    return tuple(numbers)


def _stack_sizes(group: Progressive) -> StackSizes:
    strategy = SizeStrategy(group.rank_strategy)
    return StackSizes(
        first=AdapterSize(group.stack_rank, group.stack_alpha),
        strategy=strategy,
        rank_pattern=Pattern(group.rank_pattern),
        alpha_pattern=Pattern(group.alpha_pattern),
        table=read_table(group.per_stage) if strategy is SizeStrategy.TABLE else {},
    )
