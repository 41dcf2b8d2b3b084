"""Stack-Wise's options of growing: stages, adapters, rates and masks as `progressive.*`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from modelforge.config.importers.options import ABSENT, Option, Values, by, number, renamed, words
from modelforge.config.importers.report import Outcome
from modelforge.config.progressive.checks import BLOCK_SIZE, BLOCKS, dtype_problem, stages_of_blocks
from modelforge.config.validation_messages import shown
from modelforge.errors import ConfigError, Problem

T, P, M = "training.", "training.progressive.", "model."
MASKS = (
    *("time_step_masking", "num_time_steps", "time_step_mask_fractions"),
    *("min_mask_fraction", "max_mask_fraction", "mask_schedule_type"),
)
NO_MASKS = (
    "The next token is predicted, so nothing is masked; set progressive.objective to mlm for masks."
)
_SIZE: dict[str, Any] = {"kind": "int", "least": 1}
_SHARE: dict[str, Any] = {"kind": "number", "least": 0, "most": 1}
_RATE: dict[str, Any] = {"kind": "number", "least": 0}
_PATTERNS = {name: name for name in ("constant", "increasing", "decreasing", "linear")}
_STRATEGIES = {"simplified": "uniform", "progressive": "pattern", "variable": "table"}


def grows(values: Values) -> bool:
    """Return whether a file asks for growing: by an option of it, or by attention both ways."""
    if values.get(f"{M}attention_mode") == "bidirectional":
        return True
    names = [name for name in values if name in _names()]
    if names == [f"{P}enabled"]:
        return bool(values[f"{P}enabled"])
    return bool(names)


def is_masked(values: Values) -> bool:
    """Return whether masked tokens are predicted: with attention in both directions.

    Where the file does not say how it attends, with an option of masks.
    """
    mode = values.get(f"{M}attention_mode")
    if mode is not None:
        return bool(mode == "bidirectional")
    asked = [name for name in MASKS if f"{T}{name}" in values]
    return bool(asked) and values.get(f"{T}time_step_masking") is not False


def stages_of(values: Values) -> tuple[int, int]:
    """Return the stages and the layers of each.

    Layerwise, each layer is a stage. A file that only describes a model with attention in both
    directions trains it in one stage.

    Raises:
        ConfigError: the blocks do not divide the layers.
    """
    layers, blocks = values.get(f"{M}n_layers"), values.get(f"{T}total_blocks")
    size, mode = values.get(f"{T}block_size"), values.get(f"{T}mode")
    if isinstance(layers, int) and blocks is None and size is None:
        return (layers, 1) if mode == "layerwise" else (1, layers)
    if mode == "layerwise" and blocks is None:
        return (layers or BLOCKS * BLOCK_SIZE), 1
    stages, each = stages_of_blocks(layers, blocks, size)
    return (stages * each, 1) if mode == "layerwise" else (stages, each)


def problems(values: Values) -> Iterator[Problem]:
    """Yield what contradicts itself in the stages and masks of a file."""
    try:
        stages_of(values)
    except ConfigError as error:
        for problem in error.problems:
            prefix = M if problem.where == "n_layers" else T
            yield Problem(f"{prefix}{problem.where}", problem.what, problem.remedy)
        return
    yield from _mask_problems(values)
    stages = stages_of(values)[0]
    stacks = [number(name) for name in values.get(f"{P}qlora_configs") or {}]
    has_blocks = f"{T}total_blocks" in values
    extra = [
        name for name in stacks if not isinstance(name, int) or (has_blocks and name >= stages)
    ]
    if extra:
        what = f"It has stack {extra[0]!r}; stacks are numbers from 0, below total_blocks."
        yield Problem(f"{P}qlora_configs", what, "Leave the stack out, or raise total_blocks.")


def settings(values: Values, known: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the program decides about growing; nothing for a file that does not grow.

    Args:
        values: the options of the file.
        known: the settings so far, by dotted name.
    """
    if not grows(values):
        return {}
    stages, layers = stages_of(values)
    table = values.get(f"{P}qlora_configs") or {}
    is_table = known.get("progressive.rank_strategy") == "table"
    if is_table and f"{T}total_blocks" not in values and f"{M}n_layers" not in values:
        stages = max(stages, len(table))
    found: dict[str, Any] = {
        "progressive.enabled": True,
        "progressive.stages": stages,
        "progressive.layers_per_stage": layers,
        "progressive.objective": "mlm" if is_masked(values) else "clm",
        # The adapter of a run is none of a stage.
        "adapter.enabled": False,
    }
    if "progressive.mode" not in known:
        fused = any(f"{T}{name}" in values for name in ("fusion_mode", "progressive.enabled"))
        found["progressive.mode"] = "fused" if fused or layers > 1 else "layerwise"
    if "progressive.save_each_stage" not in known:
        found["progressive.save_each_stage"] = False
    # Weights of a stage are quantized by its own setting.
    found["quantization.scheme"] = "none"
    found["use_4bit"] = ABSENT
    found["bnb_4bit_quant_type"] = ABSENT
    return found


def quantization(value: str, values: Values) -> Outcome:
    """Return how the trunk of a growing model is stored."""
    if any(name.startswith(M) for name in values):
        return Outcome("no-effect", why="A model from nothing has no weights to quantize.")
    scheme = {"fp4": "bnb-4bit", "fp8": "fp8-weight-only"}[value]
    return Outcome("converted", {"progressive.trunk_quantization": scheme}, "That of the trunk.")


def steps(value: int, values: Values) -> Outcome:
    """Return the steps of a training, or of each stage."""
    if not grows(values):
        return Outcome("renamed", {"max_steps": value})
    if f"{T}epochs_per_layer" in values:
        return Outcome("no-effect", why="epochs_per_layer says how long a stage is trained.")
    return Outcome("renamed", {"progressive.steps_per_stage": value})


def _table(value: dict[Any, Any], _: Values) -> Outcome:
    """Return ranks and alphas by stage; recipes have their names as text."""
    return Outcome(
        "renamed", {"progressive.per_stage": {str(name): row for name, row in value.items()}}
    )


def _mask_problems(values: Values) -> Iterator[Problem]:
    count = values.get(f"{T}num_time_steps")
    fractions = values.get(f"{T}time_step_mask_fractions")
    if isinstance(count, int) and isinstance(fractions, list) and len(fractions) != count:
        what = f"It has {len(fractions)} values, and num_time_steps is {count}."
        yield Problem(f"{T}time_step_mask_fractions", what, "Make them equal.")
    wrong = [
        each for each in fractions or [] if not isinstance(each, (int, float)) or not 0 <= each <= 1
    ]
    if wrong:
        what = f"{shown(wrong[0])} is not a share from 0 to 1."
        yield Problem(f"{T}time_step_mask_fractions", what, "Enter shares.")
    least, most = values.get(f"{T}min_mask_fraction"), values.get(f"{T}max_mask_fraction")
    if least is not None and most is not None and least > most:
        what = f"It is {least:g}, and max_mask_fraction is {most:g}."
        yield Problem(f"{T}min_mask_fraction", what, "Lower it.")


def _names() -> frozenset[str]:
    return frozenset((*(f"{T}{name}" for name in TRAINING), *(f"{P}{name}" for name in OF_STACKS)))


def _masked(name: str, **bounds: Any) -> Option:
    """Return an option of masks, which means something with the masked objective alone."""

    def read(value: Any, values: Values) -> Outcome:
        if not is_masked(values):
            return Outcome("no-effect", why=NO_MASKS)
        return Outcome("renamed", {f"progressive.{name}": value})

    return by(read, **bounds)


def _time_steps(value: bool, values: Values) -> Outcome:
    if not is_masked(values):
        causal = values.get(f"{M}attention_mode") == "causal" and value
        note = "Masks are for bidirectional attention, and attention_mode is causal. "
        return Outcome("no-effect", why=f"{note if causal else ''}{NO_MASKS}")
    new = "depth" if value else "none"
    return Outcome("converted", {"progressive.mask_by": new}, "The time step is the stage.")


def _fractions(value: list[float], values: Values) -> Outcome:
    if not is_masked(values):
        return Outcome("no-effect", why=NO_MASKS)
    found = {"progressive.mask_fractions": value, "progressive.mask_steps": len(value)}
    return Outcome("converted", found, "The number of time steps is that of the list.")


def _stages(name: str) -> Option:
    def read(value: int, values: Values) -> Outcome:
        if values.get(f"{T}mode") == "layerwise":
            found = {"progressive.stages": stages_of(values)[0]}
            return Outcome("converted", found, "Layerwise, each layer is a stage.")
        return Outcome("renamed", {f"progressive.{name}": value})

    return by(read, **_SIZE)


def _trunk(value: str, _: Values) -> Outcome:
    if value == "frozen":
        return Outcome("renamed", {"progressive.trunk": "frozen"})
    why = "The blocks below are trained by an adapter alone."
    return Outcome("converted", {"progressive.trunk": "lora"}, why)


def _fusion(value: str, values: Values) -> Outcome:
    if f"{P}trunk_strategy" in values:
        return Outcome("no-effect", why="trunk_strategy says it.")
    return _trunk(value, values)


def _adapters(value: bool, values: Values) -> Outcome:
    note = "The blocks below are frozen, their adapters too; that of the newest block is trained."
    is_frozen = values.get(f"{T}fusion_mode") == "frozen"
    found = {"progressive.stack_lora": value}
    return Outcome("converted" if value and is_frozen else "renamed", found,
                   note if value and is_frozen else "")  # fmt: skip


def _precision(value: str, _: Values) -> Outcome:
    name = "progressive.new_layer_dtype"
    if value == "half":
        why = "Trained weights lose small updates in float16."
        return Outcome("converted", {name: "bfloat16"}, why)
    if value == "qlora":
        return Outcome("refused", why="It is an adapter, not a precision; trunk_strategy says it.")
    problem = dtype_problem(value)
    if problem is not None:
        return Outcome("refused", why=f"{problem.what} Choose bfloat16 for the new stack.")
    return Outcome("renamed", {name: "float32" if value == "full" else value})


def _enabled(value: bool, _: Values) -> Outcome:
    if not value:
        return Outcome("no-effect", why="The options of blocks say whether a model grows.")
    return Outcome("renamed", {"progressive.enabled": True})


TRAINING: dict[str, Option] = {
    "mode": renamed("progressive.mode", choices=("layerwise", "blockwise", "fused")),
    "fusion_mode": by(_fusion, choices=("frozen", "trainable")),
    "total_blocks": _stages("stages"),
    "block_size": _stages("layers_per_stage"),
    "epochs_per_layer": renamed("progressive.epochs_per_stage", **_SIZE),
    "current_block_lr": renamed("optimizer.new_layer_lr", **_RATE),
    "qlora_lr": renamed("optimizer.adapter_lr", **_RATE),
    "qlora_enabled": by(_adapters, kind="bool"),
    "qlora_rank": renamed("progressive.stack_rank", **_SIZE),
    "qlora_alpha": renamed("progressive.stack_alpha", **_SIZE),
    "save_fused_checkpoints": renamed("progressive.save_each_stage", kind="bool"),
    "time_step_masking": by(_time_steps, kind="bool"),
    "num_time_steps": _masked("mask_steps", **_SIZE),
    "time_step_mask_fractions": by(_fractions, kind="list"),
    "min_mask_fraction": _masked("mask_min", **_SHARE),
    "max_mask_fraction": _masked("mask_max", **_SHARE),
    "mask_schedule_type": _masked("mask_schedule", choices=("linear", "exponential", "cosine")),
}
OF_STACKS: dict[str, Option] = {
    "enabled": by(_enabled, kind="bool"),
    "trunk_strategy": by(_trunk, choices=("frozen", "qlora")),
    "new_stack_precision": by(_precision, choices=("full", "half", "bfloat16", "nvfp4", "qlora")),
    "qlora_enabled": by(_adapters, kind="bool"),
    "qlora_strategy": words("progressive.rank_strategy", _STRATEGIES),
    "qlora_rank": renamed("progressive.stack_rank", **_SIZE),
    "qlora_alpha": renamed("progressive.stack_alpha", **_SIZE),
    "progressive_qlora": renamed("progressive.trunk_lora", kind="bool"),
    "progressive_qlora_rank": renamed("progressive.trunk_rank", **_SIZE),
    "progressive_qlora_alpha": renamed("progressive.trunk_alpha", **_SIZE),
    "qlora_rank_pattern": words("progressive.rank_pattern", _PATTERNS),
    "qlora_alpha_pattern": words("progressive.alpha_pattern", _PATTERNS),
    "qlora_configs": by(_table, kind="map"),
}
