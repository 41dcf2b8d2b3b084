"""The chat model: loads weights and adapter once, and streams replies."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import (
    BatchEncoding,
    GenerationConfig,
    StoppingCriteriaList,
    TextIteratorStreamer,
)

from modelforge.chat.load import (
    add_adapter,
    add_other_adapter,
    check_request,
    load_tokenizer,
    load_weights,
    not_found,
)
from modelforge.chat.qa import NO_ANSWER, find_answer
from modelforge.chat.requests import (
    ChatRequest,
    LoadRequest,
    Message,
    StopTexts,
    as_beginning,
    too_long,
)
from modelforge.config.sampling import Sampling
from modelforge.data.canonical.convert import SUMMARIZE_PROMPT, summarization_prefix
from modelforge.data.chat_templates import fold_system
from modelforge.errors import Problem, RunError
from modelforge.modeling.generate import StopCriteria
from modelforge.modeling.pretraining.token_bytes import document_id
from modelforge.modeling.rope import context_length
from modelforge.modeling.tokenize.template import TEMPLATE_ERRORS, end_of_turn, stop_ids_of
from modelforge.modeling.tokenize.template_limits import limited_rendering


@dataclass(frozen=True)
class LoadedAdapter:
    """An adapter in the model: its name there, its tokenizer and the ids that end a reply.

    The name is empty for a model without an adapter.
    """

    name: str
    tokenizer: Any
    stop_ids: list[int]


class ChatModel:
    """One model at a time; each request uses it with one of its adapters, or without."""

    def __init__(self) -> None:
        self._model: Any = None
        # By the folder of the adapter, the first one first; of a model without one under "".
        self._adapters: dict[str, LoadedAdapter] = {}
        self._current = LoadedAdapter("", None, [])
        self._head = "causal"
        self._continues = False
        self._pool = ThreadPoolExecutor(1, "reply")

    def load(self, request: LoadRequest) -> Iterator[dict[str, object]]:
        """Load a model, yield each phase, and end with a `loaded` message."""
        check_request(request)
        self._free()
        started = time.monotonic()
        yield {"phase": "loading", "text": "Loading the model."}
        try:
            model = load_weights(request)
            tokenizer = load_tokenizer(request, request.adapter)
        except OSError as error:
            raise not_found(request.model_path, error) from error
        dtype = str(model.dtype).removeprefix("torch.")
        if request.adapter:
            yield {"phase": "loading", "text": "Loading the adapter."}
            model = add_adapter(model, request.adapter, len(tokenizer))
        self._model, self._head = model.eval(), request.head
        self._continues = request.continues
        self._add(request.adapter or "", "default" if request.adapter else "", tokenizer)
        if request.others and request.adapter:
            yield {"phase": "loading", "text": "Loading the second adapter."}
            self._add_others(request)
        yield {
            "loaded": {
                "model_path": request.model_path,
                "adapter": request.adapter,
                "adapters": [folder for folder in self._adapters if folder],
                "head": request.head,
                "device": str(self._model.device),
                "precision": dtype,
                "parameters": sum(each.numel() for each in self._model.parameters()),
                "context": context_length(self._model.config),
                "tools": "tools" in str(tokenizer.chat_template),
                "seconds": round(time.monotonic() - started, 2),
            }
        }

    def _free(self) -> None:
        """Drop the model and give its memory back to the device."""
        self._model, self._adapters = None, {}
        self._current = LoadedAdapter("", None, [])
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _add(self, folder: str, name: str, tokenizer: Any) -> None:
        ids = [] if self._head == "span" else stop_ids(self._model, tokenizer)
        self._adapters[folder] = LoadedAdapter(name, tokenizer, ids)
        if len(self._adapters) == 1:
            self._current = self._adapters[folder]

    def _add_others(self, request: LoadRequest) -> None:
        """Load the further adapters; one that does not fit is left out."""
        for number, folder in enumerate(request.others, start=2):
            name, tokenizer = f"adapter-{number}", load_tokenizer(request, folder)
            if add_other_adapter(self._model, folder, name, len(tokenizer)):
                self._add(folder, name, tokenizer)
        self._model.eval()

    def reply(self, request: ChatRequest) -> Iterator[dict[str, object]]:
        """Yield the reply as it is generated, then a `done` message."""
        if self._model is None:
            raise RunError(Problem("chat", "No model is loaded.", "Load one first."))
        started = time.monotonic()
        request = as_beginning(request) if self._continues else request
        self._current = self._find_adapter(request.adapter)
        if self._head == "span":
            yield from self._extract(request, started)
            return
        prompt = self._prompt(request)
        limit = self._max_new_tokens(prompt, request)
        tokenizer = self._current.tokenizer
        streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
        stops = StopTexts(request.stop_texts)
        with self._adapter(enabled=request.adapter is not False):
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
        if stops.found or (new and new[-1] in self._current.stop_ids):
            reason = "end"
        else:
            reason = "stopped" if request.stop.is_set() else "length"
        yield {
            "done": {
                "tokens": len(new),
                "prompt_tokens": prompt["input_ids"].shape[1],
                "context": context_length(self._model.config),
                "seconds": _since(started),
                "reason": reason,
            }
        }

    def _extract(self, request: ChatRequest, started: float) -> Iterator[dict[str, object]]:
        """Yield the answer of an extractive QA model with its position and score."""
        if not request.adapter and isinstance(self._model, PeftModel):
            what = "Without its adapter, the model has no trained head for answers."
            raise RunError(Problem("chat", what, "Ask the trained model."))
        answer = find_answer(self._model, self._current.tokenizer, request)
        yield {"text": answer.text or NO_ANSWER}
        ids = self._current.tokenizer(answer.text, add_special_tokens=False)["input_ids"]
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
        if self._continues:
            return self._document_text(request.prompt)
        if request.prompt:
            return self._current.tokenizer(
                request.prompt, return_tensors="pt", return_token_type_ids=False
            ).to(self._model.device)
        try:
            ids = self._apply_template(request, request.messages)
        except TEMPLATE_ERRORS:
            try:
                ids = self._apply_template(request, fold_system(request.messages))
            except TEMPLATE_ERRORS as error:
                raise RunError(
                    Problem(
                        "messages",
                        f"The model's chat template refuses this conversation: {error}.",
                        "Alternate questions and answers, starting with a question.",
                    )
                ) from error
        return ids.to(self._model.device)

    def _apply_template(self, request: ChatRequest, messages: list[Message]) -> Any:
        with limited_rendering():
            return self._current.tokenizer.apply_chat_template(
                messages,
                tools=list(request.tools) or None,
                add_generation_prompt=True,
                return_tensors="pt",
                return_dict=True,
            )

    def _document_text(self, text: str) -> Any:
        """Return a text as in a training from nothing, whose documents begin with a token."""
        tokenizer = self._current.tokenizer
        ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        rows = [[document_id(tokenizer), *ids]]
        return BatchEncoding(
            {"input_ids": rows, "attention_mask": [[1] * len(rows[0])]}, tensor_type="pt"
        ).to(self._model.device)

    def _document(self, request: ChatRequest) -> Any:
        """Return the last user message as a document, as an encoder-decoder is trained."""
        texts = [each["content"] for each in request.messages if each["role"] == "user"]
        text = texts[-1].removeprefix(SUMMARIZE_PROMPT).strip() if texts else ""
        if not text:
            what = "This model rewrites a text, and the request has none."
            raise RunError(Problem("messages", what, "Send the text as the user's message."))
        prefix = summarization_prefix(self._model.config)
        ids = self._current.tokenizer(
            f"{prefix}{text}", return_tensors="pt", return_token_type_ids=False
        )
        return ids.to(self._model.device)

    def _max_new_tokens(self, prompt: Any, request: ChatRequest) -> int:
        """Limit the reply to the context length, which an encoder-decoder has for each side."""
        wanted = request.sampling.max_new_tokens
        used, context = prompt["input_ids"].shape[1], context_length(self._model.config)
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
        if not isinstance(self._model, PeftModel):
            yield
        elif enabled:
            if len(self._adapters) > 1:
                self._model.set_adapter(self._current.name)
            yield
        else:
            with self._model.disable_adapter():
                yield

    def _find_adapter(self, choice: bool | str) -> LoadedAdapter:
        """Return a loaded adapter by its folder; the first one for true and false."""
        if isinstance(choice, bool):
            return next(iter(self._adapters.values()))
        if choice not in self._adapters:
            what = f"The adapter {Path(choice).parent.name} is not loaded."
            raise RunError(Problem("adapter", what, "Load it first."))
        return self._adapters[choice]

    def _generate(self, prompt: Any, request: ChatRequest, limit: int, streamer: Any) -> list[int]:
        sampling = request.sampling
        if sampling.seed is not None:
            torch.manual_seed(sampling.seed)
        samples = sampling.temperature > 0
        config = GenerationConfig(
            max_new_tokens=limit,
            do_sample=samples,
            eos_token_id=self._current.stop_ids or None,
            pad_token_id=self._pad_id(),
            # Null: as in the generation config of the model.
            repetition_penalty=sampling.repetition_penalty,
            **_sampled(sampling) if samples else {},
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
        pad = self._current.tokenizer.pad_token_id
        return int(pad if pad is not None else (self._current.stop_ids or [0])[0])


def _sampled(sampling: Sampling) -> dict[str, float | int | None]:
    """Return the fields of the generation config that only count when tokens are sampled."""
    return {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
    }


def stop_ids(model: Any, tokenizer: Any) -> list[int]:
    """Return the ids that end a reply: of the model, the tokenizer and the chat template."""
    ids = {*stop_ids_of(model.generation_config), tokenizer.eos_token_id}
    if tokenizer.chat_template:
        ids.add(end_of_turn(tokenizer))
    return sorted(token_id for token_id in ids if token_id is not None)


def _since(started: float) -> float:
    return round(time.monotonic() - started, 3)
