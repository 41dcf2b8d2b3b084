"""The memory of a run, computed by its own code without weights and without a GPU.

The model class is instantiated on the meta device from its config.json, with the PEFT adapter and
the quantized layers of the run, and does one step of its method: forward, backward and an
evaluation. Live tensors are counted operator by operator.
"""

from __future__ import annotations

import contextlib
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from peft import PeftConfig, get_peft_model
from transformers import AutoConfig

from modelforge.config.methods import Head
from modelforge.config.optimizers import OPTIMIZERS
from modelforge.config.plan.make import Plan
from modelforge.config.plan.weights import VARLEN
from modelforge.config.schema.config import TrainingConfig
from modelforge.modeling.adapters.lora import lora_config
from modelforge.modeling.float8 import float8_layers
from modelforge.modeling.providers import quantization
from modelforge.modeling.providers.huggingface import (
    AUTO_CLASSES,
    DTYPES,
    hub_arguments,
    load_config,
)
from modelforge.modeling.recomputation import choose_layers
from modelforge.modeling.varlen_attention import use_varlen_attention
from modelforge.train.environment import has_expandable_segments
from modelforge.train.memory_trace.cuda_allocator import (
    CudaAllocator,
    peak_allocated,
    peak_reserved,
)
from modelforge.train.memory_trace.meta_kernels import MetaKernels
from modelforge.train.memory_trace.offload import offloading
from modelforge.train.memory_trace.quantized_layers import quantize_layers, use_float8_layers
from modelforge.train.memory_trace.step import BatchShape, Step, largest_batches, prepare_step
from modelforge.train.memory_trace.tensors import GRADIENTS, TensorTracker
from modelforge.train.optimizer.groups import trained_sizes
from modelforge.train.trainer.private import backward

# Bytes by kind of tensor.
Bytes = dict[str, int]
_KEPT_KINDS = ("weights", "adapter", "reference", "judge")


def trace(config: TrainingConfig, plan: Plan, length: int) -> dict[str, Any]:
    """Return the memory of a run with rows of up to `length` tokens, in bytes.

    Raises:
        WorkerError: The config.json of the model cannot be read.
    """
    began = time.monotonic()
    low = DTYPES[plan.precision] if plan.precision != "fp32" else None
    with warnings.catch_warnings(), _autocast_reported(low is not None and plan.device == "cuda"):
        warnings.simplefilter("ignore")
        result = _Tracer(config, plan, load_config(plan), low).run(length)
    return {
        **result,
        "process": int(psutil.Process().memory_info().rss),
        "seconds": round(time.monotonic() - began, 3),
    }


@dataclass(frozen=True)
class _Tracer:
    """One trace. `low` is the dtype of autocast, or None without it."""

    config: TrainingConfig
    plan: Plan
    model_config: Any
    low: torch.dtype | None

    def run(self, length: int) -> dict[str, Any]:
        """Trace a training step and an evaluation step."""
        plan = self.plan
        train_batch, eval_batch = largest_batches(self.config, plan, length)
        with torch.device("meta"):
            model, reference, reward = self._model(), self._reference(), self._reward_model()
        items = _ItemValues(train_batch, plan.loss_piece)
        vocab_size = getattr(self.model_config.get_text_config(), "vocab_size", 0)
        tracker = TensorTracker(vocab_size, items.read)
        self._register(tracker, model, {"reference": reference, "judge": reward})
        step = prepare_step(model, plan, reference, low=self.low is not None)
        training = self._trace_training(tracker, model, step, train_batch)
        events, transient, small = tracker.events, tracker.transient, tracker.small_transient
        evaluation = self._trace_evaluation(tracker, model, step, eval_batch)
        kept = {kind: tracker.now[kind] for kind in _KEPT_KINDS}
        cached = 0
        if plan.device == "cuda":
            allocator = CudaAllocator(expandable=has_expandable_segments())
            cached = peak_reserved(events, allocator) - peak_allocated(events)
        return {
            "parts": self._parts(model, training, evaluation, kept),
            "transient": transient,
            "small_transient": small,
            "cached": max(0, cached),
            "kv_bytes_per_token": _kv_bytes_per_token(self.model_config, plan),
        }

    def _model(self) -> Any:
        config, plan = self.config, self.plan
        dtype = getattr(torch, plan.weights_dtype)
        model = self._from_config(self.model_config, dtype, plan.facts.head)
        if plan.attn_implementation == VARLEN:
            use_varlen_attention(model)
        if plan.fp8_recipe is not None:
            names = float8_layers(model, config, quantization.block_names(model))
            use_float8_layers(model, names, self.low)
        if plan.trains == "adapter":
            self._quantize(model, plan.facts.head)
            model = get_peft_model(model, self._adapter_config())
            adapter_dtype = getattr(torch, plan.adapter_dtype)
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.data = parameter.data.to(adapter_dtype)
            if config.gradient_checkpointing:
                model.enable_input_require_grads()
        choose_layers(getattr(model, "get_base_model", lambda: model)(), config, plan)
        if config.gradient_checkpointing:
            model.gradient_checkpointing_enable(
                gradient_checkpointing_kwargs={"use_reentrant": False}
            )
        return model

    def _reference(self) -> Any:
        """Return the separate reference model, or None where none is needed."""
        plan = self.plan
        if not plan.facts.keeps_reference(self.config.trainer, plan.trains):
            return None
        return self._from_config(self.model_config, DTYPES[plan.precision], plan.facts.head)

    def _reward_model(self) -> Any:
        """Return the reward model; like the model if it is not on this machine."""
        settings, plan = self.config.trainer, self.plan
        if not plan.facts.keeps_reward_model(settings):
            return None
        model_config = self.model_config
        with contextlib.suppress(OSError, ValueError, KeyError):
            if settings.reward_model is not None:
                model_config = AutoConfig.from_pretrained(
                    settings.reward_model, local_files_only=True, trust_remote_code=False
                )
        model = self._from_config(model_config, getattr(torch, plan.weights_dtype), "reward")
        self._quantize(model, "reward")
        return model

    def _from_config(self, model_config: Any, dtype: torch.dtype, head: Head) -> Any:
        attention = "eager" if self.plan.attn_implementation == "eager" else "sdpa"
        create = AUTO_CLASSES[head].from_config
        try:
            model = create(model_config, dtype=dtype, attn_implementation=attention)
        except ValueError:
            model = create(model_config, dtype=dtype, attn_implementation="eager")
        model.config.use_cache = False
        return model

    def _quantize(self, model: Any, head: Head) -> None:
        """Quantize the frozen layers; some schemes keep 16-bit weights for training."""
        config, plan = self.config, self.plan
        if plan.quantization in ("none", "mxfp4") or config.quantization.four_over_six:
            return
        source = hub_arguments(plan)
        facts = quantization.model_facts(plan, config, head, AUTO_CLASSES[head], source)
        quantize_layers(
            model,
            plan.quantization,
            excluded=facts.skip_modules,
            compute=getattr(torch, plan.bnb_4bit_compute_dtype),
            nested=config.use_nested_quant,
        )

    def _adapter_config(self) -> Any:
        """Return the adapter config, with the cheapest initialization."""
        config, plan = self.config, self.plan
        if plan.start_from:
            adapter: Any = PeftConfig.from_pretrained(plan.start_from)
        else:
            adapter = lora_config(config, plan, plan.facts.head)
        adapter.init_lora_weights, adapter.inference_mode = True, False
        if plan.facts.compares:
            adapter.lora_dropout = 0.0  # these methods disable dropout
        return adapter

    def _register(self, tracker: TensorTracker, model: Any, others: dict[str, Any]) -> None:
        parameters = list(model.parameters())
        trained_kind = "adapter" if self.plan.trains == "adapter" else "weights"
        tracker.register((p for p in parameters if p.requires_grad), trained_kind)
        tracker.register((p for p in parameters if not p.requires_grad), "weights")
        tracker.register(model.buffers(), "weights")
        for kind, other in others.items():
            if other is not None:
                other.requires_grad_(False).eval()
                tracker.register([*other.parameters(), *other.buffers()], kind)
        tracker.register_gradients(model)

    def _trace_training(
        self, tracker: TensorTracker, model: Any, step: Step, batch: BatchShape
    ) -> Bytes:
        model.train()
        if self.plan.gradient_accumulation_steps > 1:
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.grad = torch.empty_like(parameter)
                    tracker.register([parameter.grad], GRADIENTS)
        kernels = MetaKernels(self.low, cuda=self.plan.device == "cuda")
        with kernels, tracker.recording() as peak:
            with offloading(self.config, self.plan, model):
                loss = step(model, batch)
            kernels.end_forward()
            tracker.end_forward()
            backward(loss)
        for parameter in model.parameters():
            parameter.grad = None
        return peak

    def _trace_evaluation(
        self, tracker: TensorTracker, model: Any, step: Step, batch: BatchShape
    ) -> Bytes:
        if not self.config.evaluates:
            return {}
        model.eval()
        with MetaKernels(self.low, cuda=False), tracker.recording() as peak, torch.no_grad():
            step(model, batch)
        return peak

    def _parts(self, model: Any, training: Bytes, evaluation: Bytes, kept: Bytes) -> Bytes:
        """Return the bytes by kind at the peak of the step, the optimizer and the evaluation."""
        plan, optimizer = self.plan, OPTIMIZERS[self.plan.optim]
        sizes = trained_sizes(model)
        gradient_bytes = plan.trained_bytes
        optimizer_state = int(optimizer.state_bytes(sizes, plan.trained_bytes))
        transient = optimizer.transient_bytes(sizes, plan.device)
        update = Counter(kept) + Counter({GRADIENTS: gradient_bytes * sizes.total})
        update["optimizer"] = optimizer_state + transient
        step = Counter(training)
        step["optimizer"] += optimizer_state
        parts = dict(step if step.total() > update.total() else update)
        evaluation_total = sum(evaluation.values()) + optimizer_state
        if evaluation_total > sum(parts.values()):
            parts["evaluation"] = evaluation_total - sum(parts.values())
        return {kind: size for kind, size in parts.items() if size}


@dataclass(frozen=True)
class _ItemValues:
    """Values of `Tensor.item()` during a step: token counts, and whether a mask is all ones."""

    batch: BatchShape
    chunk: int

    def read(self, tensor: torch.Tensor) -> Any:
        """Return the value of a tensor with one element."""
        if tensor.dtype == torch.bool:
            return not (self.batch.padded or self.batch.padding_free)
        if tensor.dtype == torch.int64:
            return -(-self.batch.rows * self.batch.length // self.chunk) * self.chunk
        return 1.0


def _kv_bytes_per_token(model_config: Any, plan: Plan) -> int:
    """Return the bytes that one generated token takes in the KV cache."""
    text = model_config.get_text_config(decoder=True)
    heads = getattr(text, "num_attention_heads", 0) or 0
    head_dim = getattr(text, "head_dim", None) or (text.hidden_size // heads if heads else 0)
    kv_heads = getattr(text, "num_key_value_heads", None) or heads
    layers = getattr(text, "num_hidden_layers", 0) or 0
    return int(2 * layers * kv_heads * head_dim * (4 if plan.precision == "fp32" else 2))


@contextmanager
def _autocast_reported(enabled: bool) -> Iterator[None]:
    """Let PEFT see autocast as on the plan's device, without turning it on.

    PEFT calls `torch.is_autocast_enabled()`, which reports the state of CUDA. Real autocast cannot
    be used: gradient checkpointing would restore it, and disable it on a machine without a GPU.
    """
    original = torch.is_autocast_enabled

    def report(device_type: str | None = None) -> bool:
        return enabled if device_type is None else False

    torch.is_autocast_enabled = report
    try:
        yield
    finally:
        torch.is_autocast_enabled = original
