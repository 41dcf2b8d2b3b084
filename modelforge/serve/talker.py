"""The model that speaks: loads weights and adapter once, and streams replies."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from jinja2.exceptions import TemplateError
from peft import PeftModel
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    GenerationConfig,
    StoppingCriteria,
    StoppingCriteriaList,
    TextIteratorStreamer,
)

from modelforge.errors import NotFoundError, Problem, RunError
from modelforge.serve.desk import Ask, Order

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


class Talker:
    """One model at a time. Base and tuned share the weights: the adapter is switched per ask."""

    def __init__(self) -> None:
        self._model: Any = None
        self._tokenizer: Any = None
        self._stops: list[int] = []
        self._pool = ThreadPoolExecutor(1, "reply")

    def load(self, order: Order) -> Iterator[dict[str, object]]:
        """Load what is ordered, saying each phase, and end with the facts."""
        _refuse_unfit(order)
        self._model = None
        started = time.monotonic()
        yield {"phase": "loading", "text": "Loading the model."}
        dtype = _dtype(order.device)
        try:
            model = _weights(order, dtype)
            self._tokenizer = _tokenizer(order)
        except OSError as error:
            raise _not_there(order.model_path, error) from error
        if order.adapter:
            yield {"phase": "loading", "text": "Loading the adapter."}
            model = _with_adapter(model, order.adapter, len(self._tokenizer))
        self._model = model.eval()
        self._stops = stop_tokens(self._model, self._tokenizer)
        yield {
            "loaded": {
                "model_path": order.model_path,
                "adapter": order.adapter,
                "device": str(self._model.device),
                "precision": str(dtype).removeprefix("torch."),
                "parameters": sum(each.numel() for each in self._model.parameters()),
                "context": _context(self._model),
                "seconds": round(time.monotonic() - started, 2),
            }
        }

    def reply(self, ask: Ask) -> Iterator[dict[str, object]]:
        """Yield the reply as it comes, then its length, time and the reason it ended."""
        if self._model is None:
            raise RunError(Problem("chat", "No model is loaded.", "Load one first."))
        started = time.monotonic()
        prompt = self._prompt(ask)
        room = self._room(prompt, ask.max_new_tokens)
        streamer = TextIteratorStreamer(self._tokenizer, skip_prompt=True, skip_special_tokens=True)
        with self._voice(adapter=ask.adapter):
            job = self._pool.submit(self._generate, prompt, ask, room, streamer)
            # A failed job would leave the reader of the stream waiting for ever.
            job.add_done_callback(lambda _: streamer.end())
            for text in streamer:
                if text:
                    yield {"text": text}
            new = job.result()
        yield {
            "done": {
                "tokens": len(new),
                "seconds": round(time.monotonic() - started, 3),
                "reason": _reason(new, ask, self._stops),
            }
        }

    def _prompt(self, ask: Ask) -> Any:
        how = {"add_generation_prompt": True, "return_tensors": "pt", "return_dict": True}
        try:
            ids = self._tokenizer.apply_chat_template(ask.messages, **how)
        except TemplateError:
            # Some templates know no system role; training folds it in the same way.
            ids = self._template_strictly(_folded(ask.messages), how)
        return ids.to(self._model.device)

    def _template_strictly(self, messages: list[dict[str, str]], how: dict[str, Any]) -> Any:
        try:
            return self._tokenizer.apply_chat_template(messages, **how)
        except TemplateError as error:
            raise RunError(
                Problem(
                    "messages",
                    f"The model's chat template refuses this conversation: {error}.",
                    "Let questions and answers take turns, a question first.",
                )
            ) from error

    def _room(self, prompt: Any, wanted: int) -> int:
        used, context = prompt["input_ids"].shape[1], _context(self._model)
        if context is not None and used >= context:
            raise RunError(
                Problem(
                    "messages",
                    f"The conversation has {used} tokens; the model reads at most {context}.",
                    "Start a new conversation.",
                )
            )
        return wanted if context is None else min(wanted, context - used)

    @contextlib.contextmanager
    def _voice(self, *, adapter: bool) -> Iterator[None]:
        if adapter or not isinstance(self._model, PeftModel):
            yield
            return
        with self._model.disable_adapter():
            yield

    def _generate(self, prompt: Any, ask: Ask, room: int, streamer: Any) -> list[int]:
        warm = ask.temperature > 0
        how = GenerationConfig(
            max_new_tokens=room,
            do_sample=warm,
            eos_token_id=self._stops or None,
            pad_token_id=self._pad(),
            **({"temperature": ask.temperature, "top_p": 0.95} if warm else {}),
        )
        ids = self._model.generate(
            **prompt,
            generation_config=how,
            streamer=streamer,
            stopping_criteria=StoppingCriteriaList([_Stopped(ask)]),
        )
        return list(ids[0, prompt["input_ids"].shape[1] :].tolist())

    def _pad(self) -> int:
        pad = self._tokenizer.pad_token_id
        return int(pad if pad is not None else (self._stops or [0])[0])


class _Stopped(StoppingCriteria):
    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def __call__(self, input_ids: Any, *_: Any, **__: Any) -> Any:
        return torch.full((len(input_ids),), self._ask.stop.is_set(), device=input_ids.device)


def stop_tokens(model: Any, tokenizer: Any) -> list[int]:
    """Return the ids that end a reply: the model's, the tokenizer's, and the end of a turn."""
    said = model.generation_config.eos_token_id
    ids = {*(said if isinstance(said, list) else [said]), tokenizer.eos_token_id}
    turn = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "\N{BULLET}end"}]
    text = tokenizer.apply_chat_template(turn, tokenize=False)
    after = tokenizer.encode(text.rpartition("\N{BULLET}end")[2], add_special_tokens=False)
    if after and after[0] in tokenizer.all_special_ids + list(tokenizer.added_tokens_decoder):
        ids.add(after[0])
    return sorted(each for each in ids if each is not None)


def _folded(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return the conversation with its system text in the first question."""
    if len(messages) < 2 or messages[0]["role"] != "system" or messages[1]["role"] != "user":
        return messages
    first = f"{messages[0]['content']}\n\n{messages[1]['content']}"
    return [{"role": "user", "content": first}, *messages[2:]]


def _refuse_unfit(order: Order) -> None:
    folder = Path(order.model_path)
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


def _dtype(device: str) -> torch.dtype:
    if device == "cuda":
        # The capability decides: torch also says yes to bf16 that is only emulated.
        new = torch.cuda.get_device_capability() >= (8, 0)
        return torch.bfloat16 if new else torch.float16
    return torch.float16 if device == "mps" else torch.float32


def _weights(order: Order, dtype: torch.dtype) -> Any:
    bits = order.quantization if order.device == "cuda" else "none"
    quantization = {
        "4-bit": lambda: BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_compute_dtype=dtype, bnb_4bit_quant_type="nf4"
        ),
        "8-bit": lambda: BitsAndBytesConfig(load_in_8bit=True),
    }.get(bits, lambda: None)()
    model = AutoModelForCausalLM.from_pretrained(
        order.model_path,
        revision=order.revision,
        dtype=dtype,
        use_safetensors=True,
        trust_remote_code=False,
        quantization_config=quantization,
        device_map={"": order.device} if quantization else None,
    )
    return model if quantization else model.to(order.device)


def _tokenizer(order: Order) -> Any:
    source, revision = order.model_path, order.revision
    if order.adapter and any(Path(order.adapter).glob("tokenizer*")):
        source, revision = order.adapter, None
    tokenizer = AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=False)
    if not tokenizer.chat_template:
        known = tokenizer.get_vocab()
        chatml = "<|im_start|>" in known and "<|im_end|>" in known
        tokenizer.chat_template = CHATML if chatml else PLAIN
    return tokenizer


def _with_adapter(model: Any, adapter: str, vocabulary: int) -> Any:
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


def _context(model: Any) -> int | None:
    return getattr(model.config, "max_position_embeddings", None)


def _reason(new: list[int], ask: Ask, stops: list[int]) -> str:
    if new and new[-1] in stops:
        return "end"
    return "stopped" if ask.stop.is_set() else "length"


def _not_there(model: str, error: OSError) -> NotFoundError:
    return NotFoundError(
        Problem(
            "model_path",
            f"{model} cannot be loaded: {str(error).splitlines()[0]}",
            "Give a folder or a Hub id with safetensors weights, and check the network.",
        )
    )
