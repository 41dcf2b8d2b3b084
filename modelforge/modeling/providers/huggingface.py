"""Loads model and tokenizer with transformers and, for 4 and 8 bits, bitsandbytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
    AutoTokenizer,
    GenerationConfig,
)

from modelforge.config.methods import Head
from modelforge.config.plan.make import Plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.diagnosis.classify import recognise
from modelforge.errors import Problem
from modelforge.modeling.errors import WorkerError
from modelforge.modeling.providers import quantization

Progress = Callable[[int, int], None]

AUTO_CLASSES: dict[Head, Any] = {
    "causal": AutoModelForCausalLM,
    "seq2seq": AutoModelForSeq2SeqLM,
    "span": AutoModelForQuestionAnswering,
    "reward": AutoModelForSequenceClassification,
}
# Causes that are told here, with the model's name.
_SAID_HERE = {
    "model-gated",
    "model-missing",
    "model-unsafe",
    "model-unsupported",
    "package-missing",
}
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass
class LoadedModel:
    """A model and its tokenizer, ready for an adapter."""

    model: Any
    tokenizer: Any


def load(
    plan: Plan, config: TrainingConfig, progress: Progress, head: Head = "causal"
) -> LoadedModel:
    """Load what the plan names, onto the plan's device. Only safetensors, never remote code.

    `head` is what the model ends in. `progress` hears weights loaded and weights in all. Raises
    WorkError for a model that is missing, gated or of a kind that cannot be trained here.
    """
    where = hub_arguments(plan)
    # A reward is one number; transformers would put two labels there.
    labels = {"num_labels": 1} if head == "reward" else {}
    with report_loading(plan, progress):
        tokenizer = AutoTokenizer.from_pretrained(plan.model_path, **where)
        model = _model(plan, config, where | labels, head)
    _require_offsets(tokenizer, plan)
    model.config.use_cache = False
    return LoadedModel(model, tokenizer)


@contextmanager
def report_loading(plan: Plan, progress: Progress) -> Iterator[None]:
    """Tell `progress` how far transformers is with the weights; put its errors in words."""
    earlier = transformers.utils.logging.set_tqdm_hook(_bars(progress))
    try:
        yield
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise _in_words(plan, error) from error
    finally:
        transformers.utils.logging.set_tqdm_hook(earlier)


def load_tokenizer(plan: Plan) -> tuple[Any, GenerationConfig]:
    """Load what turns rows into tokens and says where answers stop, without any weights.

    Raises WorkError as `load` does.
    """
    where = hub_arguments(plan)
    try:
        tokenizer = AutoTokenizer.from_pretrained(plan.model_path, **where)
        # A model without this file takes its generation config from the other, as here.
        try:
            generation = GenerationConfig.from_pretrained(plan.model_path, **where)
        except OSError:
            config = AutoConfig.from_pretrained(plan.model_path, **where)
            generation = GenerationConfig.from_model_config(config)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise _in_words(plan, error) from error
    _require_offsets(tokenizer, plan)
    return tokenizer, generation


def load_config(plan: Plan) -> Any:
    """Load the model's config alone."""
    try:
        return AutoConfig.from_pretrained(plan.model_path, **hub_arguments(plan))
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise _in_words(plan, error) from error


def hub_arguments(plan: Plan) -> dict[str, Any]:
    """Return where the files come from, and that no code comes with them."""
    return {
        "revision": plan.model_revision,
        "trust_remote_code": False,
        "local_files_only": Path(plan.model_path).is_dir(),
    }


def _require_offsets(tokenizer: Any, plan: Plan) -> None:
    if not tokenizer.is_fast:
        raise WorkerError("tokenizer-unsupported", _slow_tokenizer(plan))


def _model(plan: Plan, config: TrainingConfig, place: dict[str, Any], head: Head) -> Any:
    auto = AUTO_CLASSES[head]
    quantization.require_fp8_gpu(plan, _capability(plan))
    around = quantization.model_facts(plan, config, head, auto, place)
    arguments: dict[str, Any] = {
        **place,
        # What is trained in full is kept in full, whatever it is multiplied in.
        "dtype": torch.float32 if plan.trains == "all" else DTYPES[plan.precision],
        "use_safetensors": True,
        "quantization_config": quantization.quantization_config(plan, config, around),
    }
    if plan.device == "cuda":
        arguments["device_map"] = {"": 0}
    elif plan.quantization != "none":
        arguments["device_map"] = {"": plan.device}
    return quantization.make_trainable(_attending(auto, plan, arguments))


def _attending(auto: Any, plan: Plan, arguments: dict[str, Any]) -> Any:
    attention = plan.attn_implementation
    try:
        return auto.from_pretrained(plan.model_path, attn_implementation=attention, **arguments)
    except ValueError as error:
        # A few architectures have no fused attention; they say so by this name only.
        if attention != "sdpa" or "scaled_dot_product_attention" not in str(error):
            raise
        return auto.from_pretrained(plan.model_path, attn_implementation="eager", **arguments)


def _capability(plan: Plan) -> tuple[int, int] | None:
    return torch.cuda.get_device_capability() if plan.device == "cuda" else None


def _bars(progress: Progress) -> Callable[..., Any]:
    """Return what transformers makes its progress bars with: ones that only report."""

    def make(_factory: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Bar:
        things = args[0] if args else kwargs.get("iterable", ())
        total = kwargs.get("total") or (len(things) if hasattr(things, "__len__") else 0)
        return _Bar(things, total, progress)

    return make


class _Bar:
    def __init__(self, things: Any, total: int, progress: Progress) -> None:
        self._things, self._total, self._progress = things, total, progress

    def __iter__(self) -> Any:
        for done, thing in enumerate(self._things, 1):
            yield thing
            self._progress(done, self._total)

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_ended: object) -> None:
        pass

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return lambda *_args, **_kwargs: None


def _in_words(plan: Plan, error: Exception) -> WorkerError:
    name, text = plan.model_path, str(error)
    first = text.strip().split("\n", 1)[0]
    if "gated" in text.lower() or "403" in first:
        what = f"{name} is gated: its authors must let you in first."
        remedy = "Ask for access on its Hub page, then log in with `hf auth login`."
        return WorkerError("model-gated", Problem("model_name", what, remedy))
    known = recognise(f"{type(error).__name__}: {text}")
    if known is not None and known.code not in _SAID_HERE:
        what = f"{known.what.rstrip('.')}: {first.rstrip('.')}."
        return WorkerError(known.code, Problem(known.where, what, known.remedy))
    if isinstance(error, ImportError):
        remedy = "Run `python launch.py setup`."
        return WorkerError("package-missing", Problem("model_name", first, remedy))
    if "safetensors" in text and ("no file named" in text or "does not appear" in text):
        what = f"{name} has no safetensors weights; other formats can run code and are refused."
        return WorkerError("model-unsafe", Problem("model_name", what, "Choose another model."))
    if "trust_remote_code" in text:
        what = f"{name} brings its own code, which is never run here."
        return WorkerError("model-unsafe", Problem("model_name", what, "Choose another model."))
    if isinstance(error, OSError) and getattr(error, "errno", None) is None:
        what = f"{name} cannot be found or read: {first}"
        remedy = "Check the name or folder, and the network if the model is on the Hub."
        return WorkerError("model-missing", Problem("model_name", what, remedy))
    if isinstance(error, OSError):
        raise error
    what = f"{name} cannot be loaded as a text generator: {first}"
    return WorkerError("model-unsupported", Problem("model_name", what, "Choose another model."))


def _slow_tokenizer(plan: Plan) -> Problem:
    return Problem(
        "model_name",
        f"The tokenizer of {plan.model_path} cannot say where its tokens stand in the text, "
        "so answers cannot be told from questions.",
        "Choose a model with a tokenizer.json.",
    )
