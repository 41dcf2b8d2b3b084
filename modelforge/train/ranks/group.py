"""The processes of a run on several GPUs as a group: they join, agree and wait for each other."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta

import torch.distributed as dist
from accelerate import PartialState
from accelerate.utils import patch_environment

from modelforge.config.plan.make import Plan
from modelforge.config.schema.runtime import DEEPSPEED
from modelforge.train.stop import StopMode

_MODES: tuple[StopMode | None, ...] = (None, "keep", "discard")
# The first process may tokenize a long text while the others wait.
TIMEOUT = timedelta(hours=12)


def first_process_alone(ranks: int) -> AbstractContextManager[None]:
    """Let the first process do what is inside before the others, which find its files."""
    return PartialState().main_process_first() if ranks > 1 else nullcontext()


def join(plan: Plan) -> RankGroup:
    """Wait until all processes are there, and return their group."""
    # As Transformers does for DeepSpeed.
    engine = {"ACCELERATE_USE_DEEPSPEED": "true"} if plan.sharding in DEEPSPEED else {}
    with patch_environment(**engine):
        PartialState(cpu=plan.device == "cpu", timeout=TIMEOUT)
    return RankGroup()


class RankGroup:
    """The processes of a run, which agree on a stop."""

    def __init__(self) -> None:
        # Beside the one that trains: on a GPU that would wait for its queue.
        self._group = dist.new_group(backend="gloo")

    def agree(self, mode: StopMode | None) -> StopMode | None:
        """Return the strongest stop request of all processes; all must call it together."""
        modes: list[StopMode | None] = [None] * dist.get_world_size()
        dist.all_gather_object(modes, mode, group=self._group)
        return max(modes, key=_MODES.index)

    def wait(self) -> None:
        """Wait until all processes have come here."""
        dist.barrier(group=self._group)
