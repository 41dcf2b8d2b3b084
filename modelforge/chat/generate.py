"""The chat model: loads weights and adapter once, and streams replies."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from peft import PeftModel
from transformers import GenerationConfig, StoppingCriteriaList, TextIteratorStreamer

from modelforge.chat.load import (
    add_adapter,
    check_request,
    load_tokenizer,
    load_weights,
    not_found,
)
from modelforge.chat.protocol import ChatRequest, LoadRequest, StopTexts, too_long
from modelforge.chat.qa import NO_ANSWER, find_answer
from modelforge.data.canonical.convert import SUMMARIZE_PROMPT, summarization_prefix
from modelforge.data.chat_templates import fold_system
from modelforge.errors import Problem, RunError
from modelforge.modeling.generate import StopCriteria
from modelforge.modeling.tokenize.template import TEMPLATE_ERRORS, end_of_turn, stop_ids_of
from modelforge.modeling.tokenize.template_limits import limited_rendering


class ChatModel:
    """One model at a time; each request uses it with or without its adapter."""

    def __init__(self) -> None:
        self._model: Any = None
        self._tokenizer: Any = None
        self._stop_ids: list[int] = []
        self._head = "causal"
        self._pool = ThreadPoolExecutor(1, "reply")

    def load(self, request: LoadRequest) -> Iterator[dict[str, object]]:
        """Load a model, yield each phase, and end with a `loaded` message."""
        check_request(request)
        self._model = None
        started = time.monotonic()
        yield {"phase": "loading", "text": "Loading the model."}
        try:
            model = load_weights(request)
            self._tokenizer = load_tokenizer(request)
        except OSError as error:
            raise not_found(request.model_path, error) from error
        dtype = str(model.dtype).removeprefix("torch.")
        if request.adapter:
            yield {"phase": "loading", "text": "Loading the adapter."}
            model = add_adapter(model, request.adapter, len(self._tokenizer))
        self._model, self._head = model.eval(), request.head
        if request.head != "span":
            self._stop_ids = stop_ids(self._model, self._tokenizer)
        yield {
            "loaded": {
                "model_path": request.model_path,
                "adapter": request.adapter,
                "head": request.head,
                "device": str(self._model.device),
                "precision": dtype,
                "parameters": sum(each.numel() for each in self._model.parameters()),
                "context": _context_length(self._model),
                "seconds": round(time.monotonic() - started, 2),
            }
        }

    def reply(self, request: ChatRequest) -> Iterator[dict[str, object]]:
        """Yield the reply as it is generated, then a `done` message."""
        if self._model is None:
            raise RunError(Problem("chat", "No model is loaded.", "Load one first."))
        started = time.monotonic()
        if self._head == "span":
            yield from self._extract(request, started)
            return
        prompt = self._prompt(request)
        limit = self._max_new_tokens(prompt, request)
        streamer = TextIteratorStreamer(self._tokenizer, skip_prompt=True, skip_special_tokens=True)
        stops = StopTexts(request.stop_texts)
        with self._adapter(enabled=request.adapter):
            job = self._pool.submit(self._generate, prompt, request, limit, streamer)
            # Without this, a failed job would block the reader of the stream for ever.
            job.add_done_callback(lambda _: streamer.end())
            for text in streamer:
                if piece := stops.feed(text):
                    yield {"text": piece}
                if stops.found:
                    request.stop.set()
            new = job.result()
        if rest := stops.rest():
            yield {"text": rest}
        if stops.found or (new and new[-1] in self._stop_ids):
            reason = "end"
        else:
            reason = "stopped" if request.stop.is_set() else "length"
        yield {
            "done": {
                "tokens": len(new),
                "prompt_tokens": prompt["input_ids"].shape[1],
                "seconds": _since(started),
                "reason": reason,
            }
        }

    def _extract(self, request: ChatRequest, started: float) -> Iterator[dict[str, object]]:
        """Yield the answer of an extractive QA model with its position and score."""
        if not request.adapter and isinstance(self._model, PeftModel):
            what = "Without its adapter, the model has no trained head for answers."
            raise RunError(Problem("chat", what, "Ask the trained model."))
        answer = find_answer(self._model, self._tokenizer, request)
        yield {"text": answer.text or NO_ANSWER}
        ids = self._tokenizer(answer.text, add_special_tokens=False)["input_ids"]
        yield {
            "done": {
                "tokens": len(ids),
                "seconds": _since(started),
                "reason": "stopped" if request.stop.is_set() else "end",
                "answer": {
                    "text": answer.text,
                    "start": answer.start,
                    "score": round(answer.score, 4),
                },
            }
        }

    def _prompt(self, request: ChatRequest) -> Any:
        """Return `input_ids` and `attention_mask` of shape (1, seq), on the model's device."""
        if self._head == "seq2seq":
            return self._document(request)
        if request.prompt:
            return self._tokenizer(
                request.prompt, return_tensors="pt", return_token_type_ids=False
            ).to(self._model.device)
        try:
            ids = self._apply_template(request.messages)
        except TEMPLATE_ERRORS:
            try:
                ids = self._apply_template(fold_system(request.messages))
            except TEMPLATE_ERRORS as error:
                raise RunError(
                    Problem(
                        "messages",
                        f"The model's chat template refuses this conversation: {error}.",
                        "Alternate questions and answers, starting with a question.",
                    )
                ) from error
        return ids.to(self._model.device)

    def _apply_template(self, messages: list[dict[str, str]]) -> Any:
        with limited_rendering():
            return self._tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
            )

    def _document(self, request: ChatRequest) -> Any:
        """Return the last user message as a document, as an encoder-decoder is trained."""
        texts = [each["content"] for each in request.messages if each["role"] == "user"]
        text = texts[-1].removeprefix(SUMMARIZE_PROMPT).strip() if texts else ""
        if not text:
            what = "This model rewrites a text, and the request has none."
            raise RunError(Problem("messages", what, "Send the text as the user's message."))
        prefix = summarization_prefix(self._model.config)
        ids = self._tokenizer(f"{prefix}{text}", return_tensors="pt", return_token_type_ids=False)
        return ids.to(self._model.device)

    def _max_new_tokens(self, prompt: Any, request: ChatRequest) -> int:
        """Limit the reply to the context length, which an encoder-decoder has for each side."""
        wanted = request.max_new_tokens
        used, context = prompt["input_ids"].shape[1], _context_length(self._model)
        if context is None:
            return wanted
        if self._head == "seq2seq":
            if used > context:
                raise RunError(too_long(request, used, context, what="text"))
            return min(wanted, context)
        if used >= context:
            raise RunError(too_long(request, used, context))
        return min(wanted, context - used)

    @contextlib.contextmanager
    def _adapter(self, *, enabled: bool) -> Iterator[None]:
        if enabled or not isinstance(self._model, PeftModel):
            yield
            return
        with self._model.disable_adapter():
            yield

    def _generate(self, prompt: Any, request: ChatRequest, limit: int, streamer: Any) -> list[int]:
        if request.seed is not None:
            torch.manual_seed(request.seed)
        samples = request.temperature > 0
        config = GenerationConfig(
            max_new_tokens=limit,
            do_sample=samples,
            eos_token_id=self._stop_ids or None,
            pad_token_id=self._pad_id(),
            **({"temperature": request.temperature, "top_p": request.top_p} if samples else {}),
        )
        ids = self._model.generate(
            **prompt,
            generation_config=config,
            streamer=streamer,
            stopping_criteria=StoppingCriteriaList([StopCriteria(request.stop.is_set)]),
        )
        # The output of an encoder-decoder begins with its decoder start token.
        begin = 1 if self._head == "seq2seq" else prompt["input_ids"].shape[1]
        return list(ids[0, begin:].tolist())

    def _pad_id(self) -> int:
        pad = self._tokenizer.pad_token_id
        return int(pad if pad is not None else (self._stop_ids or [0])[0])


def stop_ids(model: Any, tokenizer: Any) -> list[int]:
    """Return the ids that end a reply: of the model, the tokenizer and the chat template."""
    ids = {*stop_ids_of(model.generation_config), tokenizer.eos_token_id}
    if tokenizer.chat_template:
        ids.add(end_of_turn(tokenizer))
    return sorted(token_id for token_id in ids if token_id is not None)


def _context_length(model: Any) -> int | None:
    return getattr(model.config, "max_position_embeddings", None)


def _since(started: float) -> float:
    return round(time.monotonic() - started, 3)
