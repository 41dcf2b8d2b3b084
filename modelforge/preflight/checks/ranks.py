"""Checks of training on several GPUs: which methods and number formats can be divided, and how."""

from __future__ import annotations

from collections.abc import Iterator

from modelforge.config.plan.ranks import DIVISIBLE_OPTIMIZERS
from modelforge.config.providers import PROVIDER_FACTS
from modelforge.config.schema.runtime import DEEPSPEED
from modelforge.errors import Finding, blocker, caution, note
from modelforge.preflight.context import RunContext
from modelforge.units import GIB

GPUS, SHARDING, SEQUENCE = "hardware.gpus", "hardware.sharding", "hardware.sequence_parallel_size"
BATCHES = "gradient_accumulation_steps"
# Methods whose loss is a sum over tokens, or whose steps have whole batches: a last step that is
# not full is the same on several GPUs.
_EXACT = ("sft", "pretraining")


def gpus_missing(context: RunContext) -> Iterator[Finding]:
    """Refuse more GPUs than there are."""
    plan, first = context.plan, context.config.hardware.gpu_index
    there = sum(gpu.index >= first for gpu in context.machine.gpus)
    if plan.device == "cuda" and plan.ranks > max(1, there):
        where = f" from GPU {first} on" if first else ""
        nodes = context.machine.nodes
        place = f"the {nodes} nodes have" if nodes > 1 else "this computer has"
        yield blocker(
            "gpus-missing",
            f"The run needs {plan.ranks} GPUs; {place} {there}{where}.",
            f"Set it to {max(1, there)}, or to 0 for all.",
            GPUS,
            max(1, there),
        )


def nodes_not_filled(context: RunContext) -> Iterator[Finding]:
    """Refuse processes that several computers cannot share equally; one process uses one."""
    ranks, nodes = context.plan.ranks, context.machine.nodes
    if ranks > 1 and ranks % nodes:
        filled = -(-ranks // nodes) * nodes
        yield blocker(
            "nodes-not-filled",
            f"{ranks} GPUs cannot be the same number on each of the {nodes} nodes that train a "
            "run of this target together.",
            f"Use {filled}: {filled // nodes} on each. A run on 1 GPU uses one node.",
            GPUS,
            filled,
        )


def gpus_impossible(context: RunContext) -> Iterator[Finding]:
    """Refuse what is trained on one GPU alone."""
    if context.plan.ranks > 1 and (why := _why_alone(context)):
        yield blocker("gpus-impossible", why, "Set the number of GPUs to 1.", GPUS, 1)


def sharding_impossible(context: RunContext) -> Iterator[Finding]:
    """Refuse what cannot be divided among GPUs, of which each can hold the whole."""
    plan = context.plan
    why = _why_no_deepspeed(context) if plan.sharding in DEEPSPEED else _why_no_fsdp(context)
    if plan.sharding not in ("none", "ddp") and why:
        remedy = "Choose ddp, with which each GPU holds the whole model."
        yield blocker("sharding-impossible", why, remedy, SHARDING, "ddp")


def deepspeed_missing(context: RunContext) -> Iterator[Finding]:
    """Refuse DeepSpeed where it is not installed."""
    plan = context.plan
    is_there = "deepspeed" in context.machine.packages
    if plan.sharding in DEEPSPEED and plan.device == "cuda" and not is_there:
        yield blocker(
            "deepspeed-missing",
            f"{plan.sharding} needs the package deepspeed, which is not installed.",
            "Run `python launch.py setup --with deepspeed`, or choose fsdp2.",
            SHARDING,
            "fsdp2",
        )


def rows_not_shared(context: RunContext) -> Iterator[Finding]:
    """Refuse a step whose rows the GPUs cannot share equally."""
    plan, ranks = context.plan, context.plan.replicas
    size = context.config.per_device_train_batch_size
    rows = size * context.batches
    if rows % ranks == 0:
        return
    batches = -(-context.batches // ranks) * ranks
    is_new = plan.pretraining is not None
    yield blocker(
        "rows-not-shared",
        f"A step has {rows} {'row' if rows == 1 else 'rows'}, which {ranks} GPUs cannot share "
        "equally.",
        f"Use {batches} batches of {size}: a step then has {batches * size} rows.",
        "pretraining.total_batch_tokens" if is_new else BATCHES,
        batches * size * plan.max_length if is_new else batches,
    )


def sequence_not_shared(context: RunContext) -> Iterator[Finding]:
    """Refuse rows that cannot be shared by GPUs."""
    plan, size = context.plan, context.plan.sequence_parallel_size
    if size == 1:
        return
    why = ""
    if plan.device != "cuda" or plan.sharding != "fsdp2":
        why = "Tokens of a row are shared on NVIDIA GPUs with fsdp2 alone."
    elif plan.ranks % size:
        why = f"{plan.ranks} GPUs cannot form groups of {size}."
    elif plan.method != "sft" or context.config.packing or plan.attn_implementation != "sdpa":
        why = "Tokens of a row are shared in SFT without packing and with the attention sdpa."
    if why:
        yield blocker("sequence-not-shared", why, "Set it to 1.", SEQUENCE, 1)


def loading_memory(context: RunContext) -> Iterator[Finding]:
    """Warn where the computer cannot hold a model for each GPU while it is loaded."""
    plan, free, model = context.plan, context.machine.ram_free_gib, context.model
    ranks = context.ranks_here
    if not plan.divides_weights or plan.device != "cuda" or not free or model is None:
        return
    size = (model.parameters or 0) * (4 if plan.weights_dtype == "float32" else 2) / GIB
    if ranks * size > free:
        yield caution(
            "loading-memory",
            f"Each of {ranks} processes loads the whole model before it is divided, "
            f"{ranks * size:.1f} GiB together; the computer has {free:.1f} GiB free.",
            "Use fewer GPUs or a smaller model, or ddp if the model fits on one GPU.",
            GPUS,
        )


def last_step_repeats(context: RunContext) -> Iterator[Finding]:
    """Note where the last step of an epoch differs from that of one GPU."""
    plan = context.plan
    if plan.ranks > 1 and plan.method not in _EXACT:
        yield note(
            "last-step-repeats",
            f"Where the last step of an epoch is not full, {plan.facts.label} repeats some rows "
            "in it, so that all GPUs have as many; on one GPU it has fewer rows.",
            "Use a number of rows that fills every step, if that matters.",
            GPUS,
        )


def _why_alone(context: RunContext) -> str:
    """Return why the run needs one GPU; empty where several can train it."""
    config, plan = context.config, context.plan
    if plan.device == "cuda" and context.machine.system.startswith("Windows"):
        return "Training on several GPUs needs Linux: NCCL, which connects them, is not on Windows."
    if PROVIDER_FACTS[config.provider].patches:
        return f"The provider {config.provider} trains on one GPU."
    if config.privacy.enabled:
        return "With differential privacy the rows of a step are drawn and clipped on one GPU."
    if plan.growing is not None:
        return "A model grows on one GPU: its stages and what its trunk has computed stay there."
    if plan.facts.generates:
        return f"{plan.facts.label} generates and rewards its completions on one GPU."
    if plan.facts.min_rows > 1:
        return f"{plan.facts.label} compares the rows of a batch, which would be those of all GPUs."
    return ""


def _why_no_fsdp(context: RunContext) -> str:
    """Return why fsdp2 cannot divide the run; empty where it can."""
    config, plan = context.config, context.plan
    if plan.quantization != "none":
        return f"fsdp2 divides weights of 16 or 32 bits; these are stored in {plan.quantization}."
    if plan.method != "sft":
        return f"fsdp2 divides models that SFT trains; this is {plan.facts.label}."
    if plan.optim not in DIVISIBLE_OPTIMIZERS:
        names = ", ".join(sorted(DIVISIBLE_OPTIMIZERS))
        return f"The state of {plan.optim} cannot be divided; fsdp2 works with {names}."
    others = {
        "torch.compile": plan.torch_compile,
        "training in FP8": plan.fp8_recipe is not None,
        "offloaded activations": plan.activation_offload,
        "precision fp16": plan.precision == "fp16",
        "DoRA": config.adapter.enabled and config.adapter.use_dora,
    }
    found = next((name for name, is_on in others.items() if is_on), None)
    return f"fsdp2 does not work with {found}." if found else ""


def _why_no_deepspeed(context: RunContext) -> str:
    """Return why DeepSpeed cannot divide the run; empty where it can."""
    plan = context.plan
    if plan.device != "cuda":
        return f"{plan.sharding} needs NVIDIA GPUs; this run uses the device {plan.device}."
    if plan.method != "sft":
        return f"{plan.sharding} divides models that SFT trains; this is {plan.facts.label}."
    if plan.sharding == "zero3" and plan.quantization != "none":
        return f"zero3 divides weights of 16 or 32 bits; these are stored in {plan.quantization}."
    return ""
