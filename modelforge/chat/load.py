"""Load weights, adapter and tokenizer for chat."""

from __future__ import annotations

import contextlib
import sys
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoConfig

from modelforge.chat.requests import LoadRequest
from modelforge.config.plan.make import Plan
from modelforge.config.plan.weights import overflows_in_fp16
from modelforge.config.schema.config import TrainingConfig
from modelforge.errors import NotFoundError, Problem, RunError
from modelforge.modeling.adapters.lora import with_token_types
from modelforge.modeling.generation_config import load_generation_config
from modelforge.modeling.providers import huggingface
from modelforge.modeling.rope import scaled_config
from modelforge.modeling.tokenize.template import set_default_template
from modelforge.modeling.tokenizer_files import open_tokenizer
from modelforge.runs.atomic_files import read_json
from modelforge.runs.layout import RunFolder

HEADS = ("causal", "seq2seq", "span")


def check_request(request: LoadRequest) -> None:
    """Refuse unknown heads and folders without safetensors files; raises NotFoundError."""
    folder = Path(request.model_path)
    if request.head not in HEADS:
        what = f"{request.head} is not a head."
        raise NotFoundError(Problem("head", what, f"Choose one of {', '.join(HEADS)}."))
    if folder.is_dir() and not any(folder.glob("*.safetensors")):
        raise NotFoundError(
            Problem(
                "model_path",
                f"{folder.name} has no safetensors weights.",
                "Other weight files can run code when opened; save the model as safetensors.",
            )
        )
    if request.adapter and not (Path(request.adapter) / "adapter_model.safetensors").is_file():
        raise NotFoundError(
            Problem(
                "adapter",
                f"{Path(request.adapter).name} has no adapter_model.safetensors.",
                "Choose a run that finished, or was stopped and kept.",
            )
        )


def load_weights(request: LoadRequest) -> Any:
    """Return the base model on its device.

    With a run, the weights are quantized exactly as they were while its adapter was trained,
    where this is the same kind of device; otherwise they are loaded unquantized. The rope scaling
    is that of the run.
    """
    precision = _precision(request)
    arguments: dict[str, Any] = {}
    if request.run:
        record = read_json(RunFolder(Path(request.run)).config)
        plan = Plan.from_dict(record["plan"], record["config"])
        if plan.device == request.device and plan.quantization != "none":
            config = TrainingConfig.from_record(record["config"])
            return huggingface.load_weights(_here(plan, request, precision), config, request.head)
        scaled = scaled_config(request.model_path, plan, revision=request.revision)
        arguments = {} if scaled is None else {"config": scaled}
    if request.device == "cuda":
        huggingface.use_efficient_attention(torch.cuda.get_device_capability())
    if request.head in huggingface.GENERATING:
        generation, _notes = load_generation_config(
            request.model_path, revision=request.revision, local_files_only=False
        )
        arguments["generation_config"] = generation
    model = huggingface.AUTO_CLASSES[request.head].from_pretrained(
        request.model_path,
        revision=request.revision,
        dtype=huggingface.DTYPES[precision],
        use_safetensors=True,
        trust_remote_code=False,
        **arguments,
    )
    return model.to(request.device)


def _here(plan: Plan, request: LoadRequest, precision: Any) -> Plan:
    """Return the plan of a run for chat: another place of its model, precision and attention."""
    return replace(
        plan,
        model_path=request.model_path,
        model_revision=request.revision,
        precision=precision,
        dtype=None,
        attn_implementation=plan.local_attention,
    )


def load_tokenizer(request: LoadRequest, adapter: str | None) -> Any:
    """Return the tokenizer, the adapter's own if it has one; chat models get a chat template."""
    source, revision = request.model_path, request.revision
    if adapter and any(Path(adapter).glob("tokenizer*")):
        source, revision = adapter, None
    tokenizer = open_tokenizer(source, revision=revision)
    if not tokenizer.chat_template and request.head == "causal":
        set_default_template(tokenizer)
    return tokenizer


def add_adapter(model: Any, adapter: str, vocabulary: int) -> Any:
    """Return the model with the adapter; raises RunError when they do not fit."""
    if vocabulary > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(vocabulary)
    try:
        return with_token_types(PeftModel.from_pretrained(model, adapter))
    except (ValueError, RuntimeError) as error:
        raise RunError(
            Problem(
                "adapter",
                f"The adapter does not fit the model: {str(error).splitlines()[0]}",
                "Load it with the model that it was trained on.",
            )
        ) from error


def add_other_adapter(model: Any, adapter: str, name: str, vocabulary: int) -> bool:
    """Load a further adapter under a name; return whether it fits beside those that are loaded.

    Two adapters that both store embeddings of their own, of different sizes, do not.
    """
    is_there = (Path(adapter) / "adapter_model.safetensors").is_file()
    if not is_there or vocabulary > model.get_input_embeddings().num_embeddings:
        return False
    try:
        model.load_adapter(adapter, adapter_name=name)
    except (ValueError, RuntimeError, KeyError, OSError):
        traceback.print_exc(file=sys.stderr)
        with contextlib.suppress(ValueError, KeyError):
            model.delete_adapter(name)
        return False
    return True


def not_found(model: str, error: OSError) -> NotFoundError:
    """Return the error for a model that cannot be opened."""
    return NotFoundError(
        Problem(
            "model_path",
            f"{model} cannot be loaded: {str(error).splitlines()[0]}",
            "Give a folder or a Hub id with safetensors weights, and check the network.",
        )
    )


def _precision(request: LoadRequest) -> Any:
    # torch also reports bf16 as supported where it is only emulated.
    if request.device == "cuda" and torch.cuda.get_device_capability() >= (8, 0):
        return "bf16"
    if request.device == "cpu":
        return "fp32"
    config = AutoConfig.from_pretrained(
        request.model_path, revision=request.revision, trust_remote_code=False
    )
    return "fp32" if overflows_in_fp16(config.model_type) else "fp16"
