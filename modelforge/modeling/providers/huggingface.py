"""Load model and tokenizer with Transformers, quantized by bitsandbytes, torchao or itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    GenerationConfig,
)
from transformers.integrations import sdpa_attention

from modelforge.config.methods import Head
from modelforge.config.plan.make import Plan
from modelforge.config.plan.weights import VARLEN
from modelforge.config.schema.config import TrainingConfig
from modelforge.config.schema.model import is_hub_kernel
from modelforge.diagnosis.classify import match_text
from modelforge.errors import Problem
from modelforge.modeling.errors import WorkerError, import_cause
from modelforge.modeling.float8 import use_float8
from modelforge.modeling.generation_config import Note, generation_config_of
from modelforge.modeling.providers import quantization
from modelforge.modeling.recomputation import choose_layers
from modelforge.modeling.rope import scale_rope, scaled_config
from modelforge.modeling.tokenizer_files import open_tokenizer
from modelforge.modeling.varlen_attention import use_varlen_attention

Progress = Callable[[int, int], None]

AUTO_CLASSES: dict[Head, Any] = {
    "causal": AutoModelForCausalLM,
    "seq2seq": AutoModelForSeq2SeqLM,
    "span": AutoModelForQuestionAnswering,
    "reward": AutoModelForSequenceClassification,
}
# Heads whose models have a generation config.
GENERATING = ("causal", "seq2seq")
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
# The last two come from files whose content has the wrong type.
_LOAD_ERRORS = (OSError, ValueError, KeyError, ImportError, AttributeError, TypeError)
# In the message of Transformers about a kernel of the Hub.
_NO_KERNEL = "An error occurred while trying to load from"
# Causes that get a message with the model's name below, instead of the general one.
_WORDED_HERE = {
    "model-gated",
    "model-missing",
    "model-unsafe",
    "model-unsupported",
    "package-missing",
}


@dataclass
class LoadedModel:
    """A model and its tokenizer, without an adapter, and notes for the user about them."""

    model: Any
    tokenizer: Any
    notes: list[Note] = field(default_factory=list)


def load(
    plan: Plan, config: TrainingConfig, progress: Progress, head: Head = "causal"
) -> LoadedModel:
    """Load model and tokenizer for training; only safetensors, never remote code.

    `progress` receives the number of loaded weights and their total.

    Raises:
        WorkerError: The model is missing, gated, or of an unsupported kind.
    """
    with report_loading(plan, progress):
        tokenizer = open_plan_tokenizer(plan)
        model = quantization.make_trainable(load_weights(plan, config, head))
    use_float8(model, config, plan, quantization.block_names(model), gpu_capability(plan))
    _require_offsets(tokenizer, plan)
    _require_rows(model, tokenizer, plan)
    _require_finite(model, plan)
    model.config.use_cache = False
    notes = list(generation_config_of(plan)[1]) if head in GENERATING else []
    notes += choose_layers(model, config, plan)
    if plan.attn_implementation == VARLEN and (reason := use_varlen_attention(model)):
        notes.append(("attention-changed", f"Attention is sdpa instead of varlen. {reason}"))
    return LoadedModel(model, tokenizer, notes)


def load_weights(plan: Plan, config: TrainingConfig, head: Head) -> Any:
    """Return the model in the precision and quantization of the plan, on the plan's device.

    Raises the errors of Transformers, and WorkerError for unsupported quantization.
    """
    hub = hub_arguments(plan)
    if head == "reward":
        hub["num_labels"] = 1
    scaled = scaled_config(plan.model_path, plan, **hub)
    auto = AUTO_CLASSES[head]
    capability = gpu_capability(plan)
    quantization.require_fp8_gpu(plan, capability)
    use_efficient_attention(capability)
    facts = quantization.model_facts(plan, config, head, auto, hub)
    arguments: dict[str, Any] = {
        **hub,
        "dtype": getattr(torch, plan.weights_dtype),
        "use_safetensors": True,
        "quantization_config": quantization.quantization_config(plan, config, facts),
    }
    if scaled is not None:
        arguments.pop("num_labels", None)  # in the config already
        arguments["config"] = scaled
    if head in GENERATING:
        arguments["generation_config"] = generation_config_of(plan)[0]
    if plan.device == "cuda":
        arguments["device_map"] = {"": "cpu" if plan.divides_weights else 0}
    elif plan.quantization != "none":
        arguments["device_map"] = {"": plan.device}
    # A loaded model is asked whether it can do without masks.
    attention = "sdpa" if plan.attn_implementation == VARLEN else plan.attn_implementation
    if is_hub_kernel(attention):
        arguments["allow_all_kernels"] = True  # as the settings of the run do
    try:
        return auto.from_pretrained(plan.model_path, attn_implementation=attention, **arguments)
    except ValueError as error:
        # Some architectures have no fused attention; only the message identifies this error.
        if attention != "sdpa" or "scaled_dot_product_attention" not in str(error):
            raise
        return auto.from_pretrained(plan.model_path, attn_implementation="eager", **arguments)


def gpu_capability(plan: Plan) -> tuple[int, int] | None:
    """Return the compute capability of the GPU of the run; None on other devices."""
    return torch.cuda.get_device_capability() if plan.device == "cuda" else None


def use_efficient_attention(capability: tuple[int, int] | None) -> None:
    """Repeat the key and value heads of grouped attention on GPUs below compute capability 8.0.

    They have no flash kernel, and the memory-efficient one takes no grouped heads: PyTorch would
    fall back to the math kernel, which holds the scores of all pairs of tokens. Transformers
    (integrations/sdpa_attention.py) leaves the heads grouped wherever there is no mask.
    """
    if capability is not None and capability < (8, 0):
        sdpa_attention.use_gqa_in_sdpa = lambda *_: False


def load_tokenizer(plan: Plan) -> tuple[Any, GenerationConfig]:
    """Return tokenizer and generation config without loading weights.

    Raises:
        WorkerError: As `load` does.
    """
    try:
        tokenizer = open_plan_tokenizer(plan)
    except _LOAD_ERRORS as error:
        raise _worker_error(plan, error) from error
    _require_offsets(tokenizer, plan)
    return tokenizer, generation_config_of(plan)[0]


def open_plan_tokenizer(plan: Plan) -> Any:
    """Return the tokenizer of the run: the model's own, or the one of another model."""
    if plan.tokenizer_path is not None:
        return open_tokenizer(plan.tokenizer_path, local_files_only=True)
    return open_tokenizer(plan.model_path, **hub_arguments(plan))


def load_config(plan: Plan) -> Any:
    """Return the config of the model, with the rope scaling of the plan."""
    try:
        config = AutoConfig.from_pretrained(plan.model_path, **hub_arguments(plan))
        return scale_rope(config, plan)
    except _LOAD_ERRORS as error:
        raise _worker_error(plan, error) from error


def hub_arguments(plan: Plan) -> dict[str, Any]:
    """Return the `from_pretrained` arguments that name the source and forbid remote code."""
    return {
        "revision": plan.model_revision,
        "trust_remote_code": False,
        "local_files_only": Path(plan.model_path).is_dir(),
    }


@contextmanager
def report_loading(plan: Plan, progress: Progress) -> Iterator[None]:
    """Report the progress bars of Transformers to `progress`, and its errors as WorkerError."""
    previous = transformers.utils.logging.set_tqdm_hook(_bar_factory(progress))
    try:
        yield
    except _LOAD_ERRORS as error:
        raise _worker_error(plan, error) from error
    finally:
        transformers.utils.logging.set_tqdm_hook(previous)


def _require_offsets(tokenizer: Any, plan: Plan) -> None:
    if not tokenizer.is_fast:
        what = (
            f"The tokenizer of {plan.model_path} has no character offsets, so answers cannot be "
            "separated from prompts."
        )
        problem = Problem("model_name", what, "Choose a model with a tokenizer.json.")
        raise WorkerError("tokenizer-unsupported", problem)


def _require_rows(model: Any, tokenizer: Any, plan: Plan) -> None:
    """Raise WorkerError unless the embeddings have a row for every token."""
    rows = model.get_input_embeddings().weight.shape[0]
    tokens = max(tokenizer.get_vocab().values(), default=-1) + 1
    if tokens > rows:
        name = plan.tokenizer_path or plan.model_path
        what = f"The tokenizer of {name} has {tokens:,} tokens, the embeddings have {rows:,} rows."
        remedy = "Enlarge the embeddings with resize_token_embeddings and save the model."
        raise WorkerError("tokens-without-rows", Problem("model_name", what, remedy))


def _require_finite(model: Any, plan: Plan) -> None:
    """Raise WorkerError if a weight is NaN or infinite."""
    for name, weight in model.named_parameters():
        # Quantized weights are integers or tensors of another class.
        is_plain = type(weight.data) is torch.Tensor and weight.dtype in DTYPES.values()
        if not is_plain or not weight.numel():
            continue
        if not all(torch.isfinite(bound) for bound in torch.aminmax(weight.detach())):
            what = f"The weights of {plan.model_path} contain NaN or infinity, in {name}."
            remedy = "Download the model again, or choose another one."
            raise WorkerError("weights-not-finite", Problem("model_name", what, remedy))


def _bar_factory(progress: Progress) -> Callable[..., Any]:
    """Return the hook that gives Transformers progress bars which only report."""

    def make(_factory: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Bar:
        items = args[0] if args else kwargs.get("iterable", ())
        total = kwargs.get("total") or (len(items) if hasattr(items, "__len__") else 0)
        return _Bar(items, total, progress)

    return make


class _Bar:
    """The part of tqdm's interface that Transformers uses while it loads weights."""

    def __init__(self, items: Any, total: int, progress: Progress) -> None:
        self._items, self._total, self._progress = items, total, progress

    def __iter__(self) -> Any:
        for done, item in enumerate(self._items, 1):
            yield item
            self._progress(done, self._total)

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_exception: object) -> None:
        pass

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return lambda *_args, **_kwargs: None


def _worker_error(plan: Plan, error: Exception) -> WorkerError:
    """Return an error of Transformers as one with a cause, a message and a remedy."""
    cause = import_cause(error)
    name, text = plan.model_path, str(cause)
    first = text.strip().split("\n", 1)[0]
    other = "Choose another model."
    if "gated" in text.lower() or "403" in first:
        what = f"{name} is gated: its authors must grant you access."
        remedy = "Request access on its Hub page, then log in with `hf auth login`."
        return WorkerError("model-gated", Problem("model_name", what, remedy))
    known = match_text(f"{type(cause).__name__}: {text}")
    if known is not None and known.code not in _WORDED_HERE:
        what = f"{known.what.rstrip('.')}: {first.rstrip('.')}."
        return WorkerError(known.code, Problem(known.where, what, known.remedy))
    if isinstance(error, ImportError):
        remedy = "Run `python launch.py doctor`, which names what is wrong and how to repair it."
        return WorkerError("package-missing", Problem("model_name", first, remedy))
    if "safetensors" in text and ("no file named" in text or "does not appear" in text):
        what = f"{name} has no safetensors weights; other formats can run code and are refused."
        return WorkerError("model-unsafe", Problem("model_name", what, other))
    if is_hub_kernel(plan.attn_implementation) and _NO_KERNEL in text:
        what = f"The kernel {plan.attn_implementation} cannot be loaded: {first}"
        problem = Problem("model.attn_implementation", what, "Check its name, or choose sdpa.")
        return WorkerError("kernel-unavailable", problem)
    if "trust_remote_code" in text:
        what = f"{name} needs its own code, which ModelForge never runs."
        return WorkerError("model-unsafe", Problem("model_name", what, other))
    if isinstance(error, OSError) and getattr(error, "errno", None) is None:
        what = f"{name} cannot be found or read: {first}"
        remedy = "Check the name or folder, and the network if the model is on the Hub."
        return WorkerError("model-missing", Problem("model_name", what, remedy))
    if isinstance(error, OSError):
        raise error
    what = f"{name} cannot be loaded as a text generation model: {first}"
    return WorkerError("model-unsupported", Problem("model_name", what, other))
