"""Load the result of a run: the base model with its adapter, or the fully trained model."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from peft import PeftModel
from transformers import AutoConfig

from modelforge.config.methods import Head
from modelforge.config.plan.make import Plan
from modelforge.config.plan.weights import overflows_in_fp16
from modelforge.config.schema.config import TrainingConfig
from modelforge.errors import Problem, RunError
from modelforge.modeling.adapters.lora import with_token_types
from modelforge.modeling.errors import first_line
from modelforge.modeling.generation_config import FILE, load_generation_config
from modelforge.modeling.providers import huggingface
from modelforge.modeling.providers.huggingface import AUTO_CLASSES, DTYPES, GENERATING
from modelforge.modeling.rope import scaled_config
from modelforge.modeling.tokenize.template import set_default_template
from modelforge.modeling.tokenizer_files import open_tokenizer


def load_model(
    folder: Path, head: Head, device: str = "cpu", dtype: Any = "auto", *, plan: Plan | None = None
) -> Any:
    """Return the model in a folder, by default in the precision of its files.

    `plan` is that of the run whose rope scaling a base model needs.
    """
    arguments: dict[str, Any] = {}
    scaled = None if plan is None else scaled_config(folder, plan, local_files_only=True)
    if scaled is not None:
        arguments["config"] = scaled
    if head in GENERATING:
        generation, _notes = load_generation_config(
            str(folder), revision=None, local_files_only=True
        )
        arguments["generation_config"] = generation
    model = AUTO_CLASSES[head].from_pretrained(
        folder,
        dtype=dtype,
        use_safetensors=True,
        trust_remote_code=False,
        local_files_only=True,
        **arguments,
    )
    # A quantized model is on its device already.
    return model.eval() if getattr(model, "is_quantized", False) else model.to(device).eval()


def load_base_as_trained(folder: Path, plan: Plan, config: TrainingConfig, device: str) -> Any:
    """Return the base model for a comparison, in the fastest exact precision of the device.

    Weights are quantized exactly as they were while an adapter was trained, where this is the same
    kind of device; otherwise they are loaded unquantized.
    """
    head = plan.facts.head
    precision = _precision(folder, device)
    if plan.device == device and plan.quantization != "none" and plan.trains == "adapter":
        local = replace(
            plan,
            model_path=str(folder),
            model_revision=None,
            precision=precision,
            dtype=None,
            attn_implementation=plan.local_attention,
        )
        return huggingface.load_weights(local, config, head).eval()
    if device == "cuda":
        huggingface.use_efficient_attention(torch.cuda.get_device_capability())
    return load_model(folder, head, device, DTYPES[precision], plan=plan)


def add_adapter(model: Any, adapter: Path) -> Any:
    """Return the model with an adapter; raises RunError if they do not fit."""
    try:
        return PeftModel.from_pretrained(model, adapter).eval()
    except (RuntimeError, ValueError, KeyError) as error:
        what = f"The adapter does not fit the base model: {first_line(error)}"
        remedy = "Choose the model that it was trained on."
        raise RunError(Problem("adapter", what, remedy)) from error


def add_adapter_and_tokens(model: Any, adapter: Path, vocabulary: int) -> Any:
    """Return the model with an adapter, and as many embeddings as the tokenizer of the run has."""
    if vocabulary > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(vocabulary)
    return with_token_types(add_adapter(model, adapter))


@contextmanager
def trained_model(
    source: Path,
    adapter: Path | None,
    output: Path,
    head: Head,
    device: str,
    *,
    plan: Plan | None = None,
) -> Iterator[Any]:
    """Give the model in `source` with an adapter, if there is one; free it afterwards.

    `output` is the result of the run, whose generation config ends the answers; `plan` is that of
    `load_model`.
    """
    model = load_model(source, head, device, plan=plan)
    if adapter is not None:
        model = add_adapter(model, adapter)
    use_trained_ends(model, output, head)
    try:
        yield model
    finally:
        del model
        free_memory(device)


def use_trained_ends(model: Any, output: Path, head: Head) -> None:
    """Give a model the generation config that the training has saved, if there is one.

    The training has set the tokens at which answers end.
    """
    if head in GENERATING and (output / FILE).is_file():
        model.generation_config, _notes = load_generation_config(
            str(output), revision=None, local_files_only=True
        )


def open_run_tokenizer(folder: Path, head: Head) -> Any:
    """Return the tokenizer in a folder, with the chat template that a run is trained with."""
    tokenizer = open_tokenizer(str(folder))
    if not tokenizer.chat_template and head == "causal":
        set_default_template(tokenizer)
    return tokenizer


def tokenizer_folder(output: Path, base: Path | None) -> Path:
    """Return the folder of the tokenizer of a run: its result, or its base model."""
    has_own = any(output.glob("tokenizer*"))
    return output if has_own or base is None else base


def free_memory(device: str) -> None:
    """Return the memory of a model that was just dropped to the system or the GPU."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


def _precision(folder: Path, device: str) -> Literal["fp32", "fp16", "bf16"]:
    if device == "cpu":
        return "fp32"
    # torch also reports bf16 as supported where it is only emulated.
    if device == "cuda" and torch.cuda.get_device_capability() >= (8, 0):
        return "bf16"
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    return "fp32" if overflows_in_fp16(config.model_type) else "fp16"
