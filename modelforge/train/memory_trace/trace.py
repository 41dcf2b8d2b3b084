"""How much memory a run takes, from the code that trains, without weights and without a card.

The model's own class is made on the meta device from its config.json, with PEFT's adapter and
packed layers as the run has them, and does one step of its method: forward, backward, and one
evaluation. What is alive is counted call by call. Parts are bytes at the moment of the most.
"""

from __future__ import annotations

import contextlib
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import psutil
import torch
from peft import PeftConfig, get_peft_model
from torch.autograd.graph import _engine_run_backward
from transformers import AutoConfig

from modelforge.config.methods import Head
from modelforge.config.optimizers import OPTIMIZERS
from modelforge.config.plan.make import Plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.modeling.adapters.lora import lora_config
from modelforge.modeling.providers import quantization
from modelforge.modeling.providers.huggingface import (
    AUTO_CLASSES,
    DTYPES,
    hub_arguments,
    load_config,
)
from modelforge.train.memory_trace.cuda_allocator import (
    CudaAllocator,
    peak_allocated,
    peak_reserved,
)
from modelforge.train.memory_trace.meta_kernels import MetaKernels
from modelforge.train.memory_trace.quantized_layers import pack
from modelforge.train.memory_trace.step import Batch, Step, batches, prepare
from modelforge.train.memory_trace.tensors import GRADIENTS, TensorTracker

Bytes = dict[str, int]


def trace(config: TrainingConfig, plan: Plan, length: int) -> dict[str, Any]:
    """Return the bytes of every part of a run with rows of up to `length` tokens.

    Raises WorkError for a model whose config.json cannot be read.
    """
    began = time.monotonic()
    trained, checked = batches(config, plan, length)
    low = DTYPES[plan.precision] if plan.precision != "fp32" else None
    with warnings.catch_warnings(), _as_on(plan, low):
        warnings.simplefilter("ignore")
        shape = load_config(plan)
        with torch.device("meta"):
            model, reference = _model(config, plan, shape), _reference(config, plan, shape)
            judge = _judge(config, plan, shape)
        live = TensorTracker(_vocab(shape), _Reading(trained, plan.loss_piece).answer)
        _own(live, model, plan, {"reference": reference, "judge": judge})
        step = prepare(model, plan, trained, reference, low=low is not None)
        training = _train(live, model, step, trained, plan, low)
        events, passing, small = live.events, live.passing, live.passing_small
        evaluation = _check(live, model, step, checked, config, low)
        kept = {kind: live.now[kind] for kind in ("weights", "adapter", "reference", "judge")}
    cached = (
        peak_reserved(events, CudaAllocator()) - peak_allocated(events)
        if plan.device == "cuda"
        else 0
    )
    found = _parts(plan, model, training, evaluation, kept)
    return {
        "parts": found,
        "transient": passing,
        "small_transient": small,
        "cached": max(0, cached),
        "kv_bytes_per_token": _cache_bytes(shape, plan),
        "process": _process_bytes(),
        "seconds": round(time.monotonic() - began, 3),
    }


def _model(config: TrainingConfig, plan: Plan, shape: Any) -> Any:
    dtype = torch.float32 if plan.trains == "all" else DTYPES[plan.precision]
    model = _plain(plan, shape, dtype)
    if plan.trains == "adapter":
        _store(model, config, plan)
        model = get_peft_model(model, _adapter(config, plan))
        kind = getattr(torch, plan.adapter_dtype)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.to(kind)
        if config.gradient_checkpointing:
            model.enable_input_require_grads()
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model


def _reference(config: TrainingConfig, plan: Plan, shape: Any) -> Any:
    """Return the start model that is kept beside the one that learns, where one is."""
    if not plan.facts.keeps_reference(config.trainer, plan.trains):
        return None
    return _plain(plan, shape, DTYPES[plan.precision])


def _judge(config: TrainingConfig, plan: Plan, shape: Any) -> Any:
    """Return the model that judges answers; one that is not here is taken to be as the other."""
    own = config.trainer
    if not plan.facts.keeps_reward_model(own):
        return None
    with contextlib.suppress(OSError, ValueError, KeyError):
        if own.reward_model is not None:
            which = {"local_files_only": True, "trust_remote_code": False}
            shape = AutoConfig.from_pretrained(own.reward_model, **which)
    dtype = torch.float32 if plan.trains == "all" else DTYPES[plan.precision]
    model = _plain(plan, shape, dtype, "reward")
    _store(model, config, plan, "reward")
    return model


def _store(model: Any, config: TrainingConfig, plan: Plan, head: Head | None = None) -> None:
    """Store the frozen layers as the plan says; mxfp4 is unpacked to be trained on."""
    if plan.quantization in ("none", "mxfp4"):
        return
    head = head or plan.facts.head
    around = quantization.model_facts(plan, config, head, AUTO_CLASSES[head], hub_arguments(plan))
    compute = getattr(torch, plan.bnb_4bit_compute_dtype)
    nested = config.use_nested_quant
    pack(model, plan.quantization, left_out=around.skip_modules, compute=compute, nested=nested)


def _adapter(config: TrainingConfig, plan: Plan) -> Any:
    """Return the adapter's shape. Its numbers are not looked at, so they begin the cheap way."""
    started = plan.start_from
    head = plan.facts.head
    made: Any = PeftConfig.from_pretrained(started) if started else lora_config(config, plan, head)
    made.init_lora_weights, made.inference_mode = True, False
    if plan.facts.compares:
        made.lora_dropout = 0.0  # answers are compared without
    return made


def _plain(plan: Plan, shape: Any, dtype: torch.dtype, head: Head | None = None) -> Any:
    head = head or plan.facts.head
    fused = "eager" if plan.attn_implementation == "eager" else "sdpa"
    try:
        model = AUTO_CLASSES[head].from_config(shape, dtype=dtype, attn_implementation=fused)
    except ValueError:
        model = AUTO_CLASSES[head].from_config(shape, dtype=dtype, attn_implementation="eager")
    model.config.use_cache = False
    return model


def _own(live: TensorTracker, model: Any, plan: Plan, beside: dict[str, Any]) -> None:
    each = list(model.parameters())
    own = "adapter" if plan.trains == "adapter" else "weights"
    live.own((weight for weight in each if weight.requires_grad), own)
    live.own((weight for weight in each if not weight.requires_grad), "weights")
    live.own(model.buffers(), "weights")
    for kind, other in beside.items():
        if other is not None:
            other.requires_grad_(False).eval()
            live.own([*other.parameters(), *other.buffers()], kind)
    live.as_gradients(model)


def _train(
    live: TensorTracker,
    model: Any,
    step: Step,
    batch: Batch,
    plan: Plan,
    low: torch.dtype | None,
) -> Bytes:
    model.train()
    if plan.gradient_accumulation_steps > 1:
        for weight in model.parameters():
            if weight.requires_grad:
                weight.grad = torch.empty_like(weight)
                live.own([weight.grad], GRADIENTS)
    standing = MetaKernels(low, card=plan.device == "cuda")
    with standing, live.watching() as found:
        loss = step(model, batch)
        standing.end_forward()
        live.end_forward()
        # Tensor.backward would leave the mode that stands in, which recomputation needs again.
        ones = (torch.ones_like(loss),)
        _engine_run_backward((loss,), ones, False, False, (), True, accumulate_grad=True)
    for weight in model.parameters():
        weight.grad = None
    return found


def _check(
    live: TensorTracker, model: Any, step: Step, batch: Batch, config: TrainingConfig, low: Any
) -> Bytes:
    if config.eval_split == 0 and not config.data.validation_sources:
        return {}
    model.eval()
    with MetaKernels(low, card=False), live.watching() as found, torch.no_grad():
        step(model, batch)
    return found


def _parts(
    plan: Plan,
    model: Any,
    training: Bytes,
    evaluation: Bytes,
    kept: Bytes,
) -> Bytes:
    """Return the parts of the larger of forward and backward, the update, and the evaluation."""
    sizes = [weight.numel() for weight in model.parameters() if weight.requires_grad]
    each = 2 if plan.adapter_dtype == "bfloat16" and plan.trains == "adapter" else 4
    optimizer = OPTIMIZERS[plan.optim]
    remembered = int(sum(sizes) * optimizer.bytes_per_weight)
    update = Counter(kept) + Counter({GRADIENTS: each * sum(sizes)})
    made = optimizer.transient_bytes(sum(sizes), max(sizes, default=0), plan.device)
    update["optimizer"] = remembered + made
    held = Counter(training)
    held["optimizer"] += remembered
    most = dict(held if held.total() > update.total() else update)
    checks = sum(evaluation.values()) + remembered
    if checks > sum(most.values()):
        most["evaluation"] = checks - sum(most.values())
    return {name: size for name, size in most.items() if size}


class _Reading:
    """What is read off tensors while a step is planned: numbers of tokens, and whether all are."""

    def __init__(self, batch: Batch, piece: int) -> None:
        self._tokens = -(-batch.rows * batch.length // piece) * piece
        self._whole = not (batch.padded or batch.end_to_end)

    def answer(self, tensor: torch.Tensor) -> Any:
        """Return what would stand in a tensor of one number."""
        if tensor.dtype == torch.bool:
            return self._whole
        return self._tokens if tensor.dtype == torch.int64 else 1.0


def _vocab(shape: Any) -> int:
    return int(getattr(shape.get_text_config(), "vocab_size", 0) or 0)


def _cache_bytes(shape: Any, plan: Plan) -> int:
    """Return what a token of an answer that is being written leaves in the cache."""
    text = shape.get_text_config(decoder=True)
    heads = getattr(text, "num_attention_heads", 0) or 0
    width = getattr(text, "head_dim", None) or (text.hidden_size // heads if heads else 0)
    kept = getattr(text, "num_key_value_heads", None) or heads
    layers = getattr(text, "num_hidden_layers", 0) or 0
    return int(2 * layers * kept * width * (4 if plan.precision == "fp32" else 2))


def _process_bytes() -> int:
    """Return what this process holds, with the training stack in it and no weights."""
    return int(psutil.Process().memory_info().rss)


@contextmanager
def _as_on(plan: Plan, low: torch.dtype | None) -> Iterator[None]:
    """Let PEFT find autocast as it would on the plan's device: on a card only it sees it."""
    on = low is not None and plan.device == "cuda"

    def said(device_type: str | None = None) -> bool:
        return on if device_type is None else False

    with patch.object(torch, "is_autocast_enabled", said):
        yield
