"""Opens what is to speak: weights with the head they are used with, adapter and tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import (
    AutoModelForCausalLM,
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    BitsAndBytesConfig,
)

from modelforge.chat.protocol import LoadRequest
from modelforge.errors import NotFoundError, Problem, RunError

# The turn formats of models that bring none of their own; training uses the same two.
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PLAIN = (
    "{% for message in messages %}### {{ message['role'] | capitalize }}:\n"
    "{{ message['content'] }}{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}"
    "\n\n{% endfor %}{% if add_generation_prompt %}### Assistant:\n{% endif %}"
)
HEADS: dict[str, Any] = {
    "causal": AutoModelForCausalLM,
    "seq2seq": AutoModelForSeq2SeqLM,
    "span": AutoModelForQuestionAnswering,
}


def refuse_unfit(order: LoadRequest) -> None:
    """Refuse weights that could run code, and folders without any; raises NotFoundError."""
    folder = Path(order.model_path)
    if order.head not in HEADS:
        what = f"{order.head} is no head; there are {', '.join(HEADS)}."
        raise NotFoundError(Problem("head", what, "Choose one of these."))
    if folder.is_dir() and not any(folder.glob("*.safetensors")):
        raise NotFoundError(
            Problem(
                "model_path",
                f"{folder.name} holds no safetensors weights.",
                "Other weight files can run code when opened; save the model as safetensors.",
            )
        )
    if order.adapter and not (Path(order.adapter) / "adapter_model.safetensors").is_file():
        raise NotFoundError(
            Problem(
                "adapter",
                f"{Path(order.adapter).name} holds no adapter_model.safetensors.",
                "Choose a run that has finished or was stopped and kept.",
            )
        )


def dtype_for(device: str) -> torch.dtype:
    """Return what a model is computed in on this device."""
    if device == "cuda":
        # The capability decides: torch also says yes to bf16 that is only emulated.
        new = torch.cuda.get_device_capability() >= (8, 0)
        return torch.bfloat16 if new else torch.float16
    return torch.float16 if device == "mps" else torch.float32


def open_weights(order: LoadRequest, dtype: torch.dtype) -> Any:
    """Return the model on its device."""
    quantization = _quantization(order, dtype)
    model = HEADS[order.head].from_pretrained(
        order.model_path,
        revision=order.revision,
        dtype=dtype,
        use_safetensors=True,
        trust_remote_code=False,
        quantization_config=quantization,
        device_map={"": order.device} if quantization else None,
    )
    return model if quantization else model.to(order.device)


def _quantization(order: LoadRequest, dtype: torch.dtype) -> BitsAndBytesConfig | None:
    bits = order.quantization if order.device == "cuda" else "none"
    # The head for answers comes with the adapter, in full.
    more = {"llm_int8_skip_modules": ["qa_outputs"]} if order.head == "span" else {}
    if bits == "4-bit":
        return BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_compute_dtype=dtype, bnb_4bit_quant_type="nf4", **more
        )
    return BitsAndBytesConfig(load_in_8bit=True, **more) if bits == "8-bit" else None


def open_tokenizer(order: LoadRequest) -> Any:
    """Return the tokenizer, the adapter's own where it has one; it can write conversations."""
    source, revision = order.model_path, order.revision
    if order.adapter and any(Path(order.adapter).glob("tokenizer*")):
        source, revision = order.adapter, None
    tokenizer = AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=False)
    if not tokenizer.chat_template and order.head == "causal":
        known = tokenizer.get_vocab()
        chatml = "<|im_start|>" in known and "<|im_end|>" in known
        tokenizer.chat_template = CHATML if chatml else PLAIN
    return tokenizer


def with_adapter(model: Any, adapter: str, vocabulary: int) -> Any:
    """Return the model with the adapter on; raises RunError when they do not fit."""
    if vocabulary > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(vocabulary)
    try:
        return PeftModel.from_pretrained(model, adapter)
    except (ValueError, RuntimeError) as error:
        raise RunError(
            Problem(
                "adapter",
                f"The adapter does not fit the model: {str(error).splitlines()[0]}",
                "Load it with the model it was trained on.",
            )
        ) from error


def not_there(model: str, error: OSError) -> NotFoundError:
    """Return what it means that a model could not be opened."""
    return NotFoundError(
        Problem(
            "model_path",
            f"{model} cannot be loaded: {str(error).splitlines()[0]}",
            "Give a folder or a Hub id with safetensors weights, and check the network.",
        )
    )
