"""The model that speaks: loads weights and adapter once, and streams replies."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from jinja2.exceptions import TemplateError
from peft import PeftModel
from transformers import (
    GenerationConfig,
    StoppingCriteria,
    StoppingCriteriaList,
    TextIteratorStreamer,
)

from modelforge.chat.load import (
    dtype_for,
    not_there,
    open_tokenizer,
    open_weights,
    refuse_unfit,
    with_adapter,
)
from modelforge.chat.protocol import ChatRequest, LoadRequest
from modelforge.chat.qa import NOWHERE, find_answer
from modelforge.data.canonical.convert import SUMMARIZE_PROMPT, summarization_prefix
from modelforge.errors import Problem, RunError


class ChatModel:
    """One model at a time. Base and tuned share the weights: the adapter is switched per ask."""

    def __init__(self) -> None:
        self._model: Any = None
        self._tokenizer: Any = None
        self._stops: list[int] = []
        self._head = "causal"
        self._pool = ThreadPoolExecutor(1, "reply")

    def load(self, order: LoadRequest) -> Iterator[dict[str, object]]:
        """Load what is ordered, saying each phase, and end with the facts."""
        refuse_unfit(order)
        self._model = None
        started = time.monotonic()
        yield {"phase": "loading", "text": "Loading the model."}
        dtype = dtype_for(order.device)
        try:
            model = open_weights(order, dtype)
            self._tokenizer = open_tokenizer(order)
        except OSError as error:
            raise not_there(order.model_path, error) from error
        if order.adapter:
            yield {"phase": "loading", "text": "Loading the adapter."}
            model = with_adapter(model, order.adapter, len(self._tokenizer))
        self._model, self._head = model.eval(), order.head
        if order.head != "span":
            self._stops = stop_tokens(self._model, self._tokenizer)
        yield {
            "loaded": {
                "model_path": order.model_path,
                "adapter": order.adapter,
                "head": order.head,
                "device": str(self._model.device),
                "precision": str(dtype).removeprefix("torch."),
                "parameters": sum(each.numel() for each in self._model.parameters()),
                "context": _context(self._model),
                "seconds": round(time.monotonic() - started, 2),
            }
        }

    def reply(self, ask: ChatRequest) -> Iterator[dict[str, object]]:
        """Yield the reply as it comes, then its length, time and the reason it ended."""
        if self._model is None:
            raise RunError(Problem("chat", "No model is loaded.", "Load one first."))
        started = time.monotonic()
        if self._head == "span":
            yield from self._pointed(ask, started)
            return
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

    def _pointed(self, ask: ChatRequest, started: float) -> Iterator[dict[str, object]]:
        """Yield the answer of a model that points, and how far it is believed in."""
        if not ask.adapter and isinstance(self._model, PeftModel):
            what = "The model has not learned to point at answers without its adapter."
            raise RunError(Problem("chat", what, "Ask the tuned model."))
        found = find_answer(self._model, self._tokenizer, ask)
        yield {"text": found.text or NOWHERE}
        size = len(self._tokenizer(found.text, add_special_tokens=False)["input_ids"])
        yield {
            "done": {
                "tokens": size,
                "seconds": round(time.monotonic() - started, 3),
                "reason": "stopped" if ask.stop.is_set() else "end",
                "answer": {
                    "text": found.text,
                    "start": found.start,
                    "score": round(found.score, 4),
                },
            }
        }

    def _document(self, ask: ChatRequest) -> Any:
        """Return the last message as it was trained: as a document, and not as a conversation."""
        asked = [each["content"] for each in ask.messages if each["role"] == "user"]
        text = asked[-1].removeprefix(SUMMARIZE_PROMPT).strip() if asked else ""
        if not text:
            what = "This model turns one text into another, and needs the text."
            raise RunError(Problem("messages", what, "Send the text as the user's message."))
        lead = summarization_prefix(self._model.config)
        ids = self._tokenizer(f"{lead}{text}", return_tensors="pt", return_token_type_ids=False)
        return ids.to(self._model.device)

    def _prompt(self, ask: ChatRequest) -> Any:
        if self._head == "seq2seq":
            return self._document(ask)
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
        if self._head == "seq2seq":
            return self._room_beside(used, wanted)
        if context is not None and used >= context:
            raise RunError(
                Problem(
                    "messages",
                    f"The conversation has {used} tokens; the model reads at most {context}.",
                    "Start a new conversation.",
                )
            )
        return wanted if context is None else min(wanted, context - used)

    def _room_beside(self, document: int, wanted: int) -> int:
        """Return the room of an encoder-decoder: what it reads takes none from what it writes."""
        context = _context(self._model)
        if context is None or document <= context:
            return wanted if context is None else min(wanted, context)
        what = f"The text has {document} tokens; the model reads at most {context}."
        raise RunError(Problem("messages", what, "Send a part of it."))

    @contextlib.contextmanager
    def _voice(self, *, adapter: bool) -> Iterator[None]:
        if adapter or not isinstance(self._model, PeftModel):
            yield
            return
        with self._model.disable_adapter():
            yield

    def _generate(self, prompt: Any, ask: ChatRequest, room: int, streamer: Any) -> list[int]:
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
        # What an encoder-decoder writes begins with a token of its own.
        begin = 1 if self._head == "seq2seq" else prompt["input_ids"].shape[1]
        return list(ids[0, begin:].tolist())

    def _pad(self) -> int:
        pad = self._tokenizer.pad_token_id
        return int(pad if pad is not None else (self._stops or [0])[0])


class _Stopped(StoppingCriteria):
    def __init__(self, ask: ChatRequest) -> None:
        self._ask = ask

    def __call__(self, input_ids: Any, *_: Any, **__: Any) -> Any:
        return torch.full((len(input_ids),), self._ask.stop.is_set(), device=input_ids.device)


def stop_tokens(model: Any, tokenizer: Any) -> list[int]:
    """Return the ids that end a reply: the model's, the tokenizer's, and the end of a turn."""
    said = model.generation_config.eos_token_id
    ids = {*(said if isinstance(said, list) else [said]), tokenizer.eos_token_id}
    if not tokenizer.chat_template:
        return sorted(each for each in ids if each is not None)
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


def _context(model: Any) -> int | None:
    return getattr(model.config, "max_position_embeddings", None)


def _reason(new: list[int], ask: ChatRequest, stops: list[int]) -> str:
    if new and new[-1] in stops:
        return "end"
    return "stopped" if ask.stop.is_set() else "length"
