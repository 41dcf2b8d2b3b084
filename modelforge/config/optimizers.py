"""Optimizers, learning rate schedules and storage formats of weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

Optim = Literal[
    "paged_adamw_32bit",
    "adamw_torch",
    "adamw_8bit",
    "sgd",
    "adamw_torch_fused",
    "paged_adamw_8bit",
    "adafactor",
    "adagrad",
    "lion_32bit",
    "lion_8bit",
    "paged_lion_32bit",
    "paged_lion_8bit",
    "ademamix",
    "ademamix_8bit",
    "paged_ademamix_32bit",
    "paged_ademamix_8bit",
    "muon",
    "normuon",
]
# These train matrices by Muon and all other weights by AdamW.
MUON = ("muon", "normuon")
LearningRateSchedule = Literal[
    "cosine",
    "linear",
    "constant",
    "polynomial",
    "constant_with_warmup",
    "cosine_with_restarts",
    "inverse_sqrt",
    "warmup_stable_decay",
    "cosine_with_min_lr",
    "cosine_warmup_with_min_lr",
    "reduce_lr_on_plateau",
    "greedy",
]
# Schedules that change the rate by the results of evaluations, without a warm-up.
RESULT_SCHEDULES = ("reduce_lr_on_plateau", "greedy")
# Schedules that may end with a cooldown of a shape of its own.
COOLED_SCHEDULES = ("linear", "cosine")
# Storage format of the frozen weights.
StorageFormat = Literal[
    "none", "4-bit", "8-bit", "fp8", "fp8-weight-only", "int8-weight-only", "nvfp4", "mxfp4"
]
BITSANDBYTES_FORMATS = ("4-bit", "8-bit")
TORCHAO_FORMATS = ("fp8-weight-only", "int8-weight-only", "nvfp4")
# Bytes per weight: one with a scale per row, or half of one with one byte per 16 weights.
BYTES_PER_WEIGHT = {
    "8-bit": 1.01,
    "fp8": 1.01,
    "fp8-weight-only": 1.01,
    "int8-weight-only": 1.01,
    "nvfp4": 0.5625,
}


@dataclass(frozen=True)
class TrainedSizes:
    """How many weights are trained: in matrices inside the layers, and others.

    `largest_matrix` and `largest_other` are the weights of the largest tensor of each kind.
    """

    matrices: int
    others: int = 0
    largest_matrix: int = 0
    largest_other: int = 0

    @property
    def total(self) -> int:
        """All trained weights."""
        return self.matrices + self.others


@dataclass(frozen=True)
class OptimizerInfo:
    """Memory of an optimizer, and its replacement on devices that do not support it.

    Attributes:
        bytes_per_weight: Optimizer state per trained weight.
        without_cuda: Replacement without an NVIDIA GPU; empty where it works itself.
        unpaged: Replacement without paging on an NVIDIA GPU; empty where it does not page.
        on_mps: Replacement on Apple GPUs; empty where it works itself.
        doubles: A step allocates temporary tensors as large as the weights.
        has_dtype_of_weights: The state has the number format of the trained weights.
        other: Optimizer of all weights but matrices; empty where it is the same.
    """

    bytes_per_weight: float
    without_cuda: str = ""
    on_mps: str = ""
    doubles: bool = False
    unpaged: str = ""
    has_dtype_of_weights: bool = False
    other: str = ""

    def state_bytes(self, sizes: TrainedSizes, trained_bytes: int) -> float:
        """Return the bytes of the state of weights that have `trained_bytes` themselves."""
        others = OPTIMIZERS[self.other].bytes_per_weight if self.other else self.bytes_per_weight
        state = self.bytes_per_weight * sizes.matrices + others * sizes.others
        return state * (trained_bytes / 4 if self.has_dtype_of_weights else 1)

    def transient_bytes(self, sizes: TrainedSizes, device: str) -> int:
        """Return the bytes of the temporary tensors of a step.

        On a GPU torch updates all tensors at once (foreach), elsewhere one at a time with two
        temporary tensors of its size. Muon updates one matrix at a time everywhere.
        """
        if self.other:
            fused = device == "cuda"
            return max(MUON_BYTES * sizes.largest_matrix, 0 if fused else 8 * sizes.largest_other)
        if not self.doubles:
            return 0
        if device == "cuda":
            return 4 * sizes.total
        return 2 * 4 * max(sizes.largest_matrix, sizes.largest_other)


# Temporary tensors of Muon per weight of a matrix: those of torch.optim.Muon for a square one, by
# the storages that are alive at once; 8 for the one with cautious decay or the division by rows.
MUON_BYTES = 12
OPTIMIZERS: dict[str, OptimizerInfo] = {
    "paged_adamw_32bit": OptimizerInfo(
        8.0, "adamw_torch", "adamw_torch", unpaged="adamw_torch_fused"
    ),
    "adamw_torch": OptimizerInfo(8.0, doubles=True, has_dtype_of_weights=True),
    "adamw_8bit": OptimizerInfo(2.0, "", "adamw_torch"),
    "sgd": OptimizerInfo(0.0),
    "adamw_torch_fused": OptimizerInfo(8.0, has_dtype_of_weights=True),
    "paged_adamw_8bit": OptimizerInfo(2.0, "adamw_8bit", "adamw_torch", unpaged="adamw_8bit"),
    # Keeps one row and one column of statistics per matrix.
    "adafactor": OptimizerInfo(0.1),
    "adagrad": OptimizerInfo(4.0, doubles=True, has_dtype_of_weights=True),
    "lion_32bit": OptimizerInfo(4.0, "", "adamw_torch"),
    "lion_8bit": OptimizerInfo(1.0, "", "adamw_torch"),
    "paged_lion_32bit": OptimizerInfo(4.0, "lion_32bit", "adamw_torch", unpaged="lion_32bit"),
    "paged_lion_8bit": OptimizerInfo(1.0, "lion_8bit", "adamw_torch", unpaged="lion_8bit"),
    "ademamix": OptimizerInfo(12.0, "", "adamw_torch"),
    "ademamix_8bit": OptimizerInfo(3.0, "", "adamw_torch"),
    "paged_ademamix_32bit": OptimizerInfo(12.0, "ademamix", "adamw_torch", unpaged="ademamix"),
    "paged_ademamix_8bit": OptimizerInfo(
        3.0, "ademamix_8bit", "adamw_torch", unpaged="ademamix_8bit"
    ),
    # One momentum per weight; the row statistics of normuon are negligible.
    "muon": OptimizerInfo(4.0, has_dtype_of_weights=True, other="adamw_torch"),
    "normuon": OptimizerInfo(4.0, has_dtype_of_weights=True, other="adamw_torch"),
}
assert set(OPTIMIZERS) == set(get_args(Optim)), "an optimizer is missing"

# The setting quantization.scheme as a storage format.
SCHEMES: dict[str, StorageFormat] = {
    "none": "none",
    "bnb-4bit": "4-bit",
    "bnb-8bit": "8-bit",
    "fp8": "fp8",
    "fp8-weight-only": "fp8-weight-only",
    "int8-weight-only": "int8-weight-only",
    "nvfp4": "nvfp4",
    "mxfp4": "mxfp4",
}


def full_schedule_name(value: Any) -> Any:
    """Return the full name of a schedule; `wsd` is short for warmup_stable_decay."""
    return "warmup_stable_decay" if value == "wsd" else value
