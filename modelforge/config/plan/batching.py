"""How the batches of learning from rewards are laid out: every prompt with all of its answers.

Pure arithmetic. TRL refuses batches that part the answers to one prompt, and leaves out prompts
that do not fill an update; here the nearest layout that works is found instead.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from modelforge.errors import ConfigError, Problem


@dataclass(frozen=True)
class Batching:
    """One update: `batch` answers at once, `accumulation` times, of `prompts` prompts in all."""

    batch: int
    accumulation: int
    generations: int

    @property
    def answers(self) -> int:
        """How many answers are made for one update."""
        return self.batch * self.accumulation

    @property
    def prompts(self) -> int:
        """How many prompts are answered for one update."""
        return self.answers // self.generations

    def updates(self, prompts: int) -> int:
        """Return the updates of one epoch; prompts that fill no update wait for the next."""
        return prompts // self.prompts


def lay_out(
    batch: int, accumulation: int, generations: int, prompts: int | None = None
) -> Batching:
    """Return the layout nearest to what was asked, with every prompt's answers in one update.

    The accumulation is raised until they fit, and lowered where an update would need more
    prompts than there are. Raises ConfigError when no accumulation can do both.
    """
    unit = generations // math.gcd(batch, generations)
    wanted = -(-accumulation // unit) * unit
    if prompts is None:
        return Batching(batch, wanted, generations)
    most = prompts * generations // batch // unit * unit
    if most < unit:
        raise ConfigError(_too_few(batch, unit, generations, prompts))
    return Batching(batch, min(wanted, most), generations)


def _too_few(batch: int, unit: int, generations: int, prompts: int) -> Problem:
    needed = batch * unit // generations
    return Problem(
        "per_device_train_batch_size",
        f"{batch} answers at once, {generations} to each prompt, need {needed} prompts for one "
        f"update; there {'is' if prompts == 1 else 'are'} {prompts}.",
        f"Set the batch size to {generations} or a part of it, or give more rows.",
    )
