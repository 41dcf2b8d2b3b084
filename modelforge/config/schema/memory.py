"""The nested group about memory: what is kept where, and what happens when it runs out."""

from __future__ import annotations

from modelforge.config.schema.base import ALL_CACHES, BOTH, MEMORY, Group, SettingsGroup, setting
from modelforge.config.schema.weights import MAX_LAYERS


class Memory(SettingsGroup):
    """Adjustment of a run to the available memory."""

    autopilot: bool = setting(
        True, "Recover from out of memory", Group.MEMORY, irrelevant_for=MEMORY
    )
    """Split a batch that does not fit and accumulate its parts; the result is the same.

    The rows of a step, their order and their weight stay the same. With one row left, gradient
    checkpointing is switched on; only then does the run fail.
    """

    auto_batch_size: bool = setting(
        False, "Find the batch size", Group.MEMORY, irrelevant_for=MEMORY
    )
    """Find the fastest batch size that fits at the start; rows per step stay the same.

    Batch size times gradient accumulation stays the same. A larger batch is used only while it is
    at least 5 % faster.
    """

    checkpoint_every_n_layers: int = setting(
        1, "Recompute every n-th layer", Group.MEMORY, ge=1, le=MAX_LAYERS, unit="layers",
        affects=BOTH,
    )  # fmt: skip
    """With gradient checkpointing, only every n-th layer is recomputed; 1 recomputes all.

    A higher number is faster and takes more memory.
    """

    activation_offload: bool = setting(
        False, "Offload activations", Group.MEMORY, affects=BOTH, irrelevant_for=ALL_CACHES
    )
    """Keep activations in the memory of the computer until the backward pass; NVIDIA GPUs only.

    With gradient checkpointing these are the inputs of the recomputed layers, without it all
    activations. Saves GPU memory on long rows, and each step takes longer.
    """

    max_vram_fraction: float = setting(
        1.0, "Share of GPU memory", Group.MEMORY, gt=0, le=1, irrelevant_for=ALL_CACHES
    )
    """Share of the GPU's memory that the run may use; 1 is all of it.

    Loading and training run out of memory above it, as on a smaller GPU, so that other programs
    keep the rest.
    """
