"""The trained model answers the prompts of the self-test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft.tuners.tuners_utils import BaseTunerLayer
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from modelforge.errors import Problem, RunError
from modelforge.export.answers import (
    ANSWER_TOKENS,
    Answer,
    Answers,
    Message,
    choices_file,
    conversations_of,
    logits_file,
    weight_file,
)
from modelforge.export.float32 import compute_in_float32
from modelforge.modeling.merging.weights import merge_in_place
from modelforge.modeling.tokenize.template import TEMPLATE_ERRORS

Progress = Callable[[float], None]
_PROMPT_TOKENS, _ROW_TOKENS, _ROWS = 512, 256, 10
# Added tokens of which embeddings are compared, those with the highest ids.
_ADDED = 64
# Layers that are compared, by name: no one reorders the rows of their weights. Of each, so many.
_COMPARED = ("o_proj", "down_proj", "gate_up_proj", "up_proj", "gate_proj", "v_proj", "qkv_proj")
_COMPARED_ROWS, _COLUMNS = 256, 1024


def answers_of(
    model: Any,
    tokenizer: Any,
    held_out: Sequence[list[Message]],
    folder: Path,
    progress: Progress,
) -> Answers:
    """Return the greedy answers of a model on its device, with what comparisons need.

    `model` is the trained model in 16 or 32 bits, `held_out` has conversations of the evaluation
    rows with the assistant's answer last. `folder` gets up to `disk_bytes(vocabulary)`.

    Raises:
        RunError: The chat template cannot be rendered.
    """
    compute_in_float32(model.eval())
    stops = stop_ids(model, tokenizer)
    prompts = _prompts(tokenizer, held_out)
    _answer(model, prompts, stops, progress)
    for place, known in enumerate(prompts):
        values = logits(model, known.prompt + known.answer, len(known.answer) + 1)
        np.save(logits_file(folder, place), values)
        progress(0.5 + 0.4 * (place + 1) / len(prompts))
    rows, added = _rows(tokenizer, held_out), _added_tokens(model, tokenizer)
    np.save(folder / "embeddings.npy", embeddings(model, added))
    answers = Answers(
        folder=folder,
        prompts=prompts,
        stops=stops,
        stop_texts=tokenizer.convert_ids_to_tokens(stops),
        begin=tokenizer.bos_token or "",
        rows=rows,
        loss=_loss(model, rows),
        added=added,
        weights=_save_weights(model, folder),
    )
    answers.save()
    progress(1.0)
    return answers


def round_answers(model: Any, answers: Answers) -> Answers:
    """Merge the adapter of a model in place, in 16 bits, and replace the logits of the answers.

    A short training changes weights by less than the last bit of bfloat16, so a right merge into it
    moves the logits further than a wrong file may. Weights of 32 bits are not rounded.
    """
    if model.dtype == torch.float32:
        return answers
    merge_in_place(model)
    largest = 0.0
    for place, known in enumerate(answers.prompts):
        before = answers.logits(place)
        after = logits(model, known.prompt + known.answer, len(known.answer) + 1)
        largest = max(largest, float(np.abs(after - before).max()))
        np.save(choices_file(answers.folder, place), before.argmax(axis=1))
        del before  # the file is mapped into memory
        np.save(logits_file(answers.folder, place), after)
    return replace(answers, rounding=largest)


def render(tokenizer: Any, messages: list[Message], prompt: bool = True) -> str:
    """Return a conversation as text; raises RunError if the template cannot render it."""
    try:
        text: str = tokenizer.apply_chat_template(
            messages, add_generation_prompt=prompt, tokenize=False
        )
    except TEMPLATE_ERRORS as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        what = f"The chat template cannot render a conversation: {first}."
        remedy = "Choose another chat template, and train again."
        raise RunError(Problem("chat_template", what, remedy)) from error
    return text


def token_ids(tokenizer: Any, text: str, is_rendered: bool) -> list[int]:
    """Return the ids of a text; a chat template has already added special tokens."""
    ids: list[int] = tokenizer(text, add_special_tokens=not is_rendered, verbose=False)["input_ids"]
    return ids


def stop_ids(model: Any, tokenizer: Any) -> list[int]:
    """Return the ids that end an answer, the tokenizer's end token first."""
    ends = model.generation_config.eos_token_id
    listed = [ends] if isinstance(ends, int) else list(ends or [])
    return list(dict.fromkeys(i for i in [tokenizer.eos_token_id, *listed] if i is not None))


def logits(model: Any, ids: list[int], count: int) -> NDArray[np.float32]:
    """Return the logits (count, vocabulary) float32 after each of the last `count` tokens."""
    with torch.no_grad():
        rows = model(torch.tensor([ids], device=model.device), logits_to_keep=count).logits[0]
    values: NDArray[np.float32] = rows[-count:].float().cpu().numpy()
    return values


def embeddings(model: Any, ids: list[int]) -> NDArray[np.float32]:
    """Return the embeddings (len(ids), width) float32 of tokens; unknown ones are left out."""
    layer = model.get_input_embeddings()
    known = [token for token in ids if token < layer.weight.shape[0]]
    with torch.no_grad():
        rows = layer(torch.tensor(known, dtype=torch.int64, device=model.device))
    values: NDArray[np.float32] = rows.float().cpu().numpy()
    return values


def _added_tokens(model: Any, tokenizer: Any) -> list[int]:
    rows = model.get_input_embeddings().weight.shape[0]
    known = [token for token in sorted(tokenizer.added_tokens_decoder) if token < rows]
    return known[-_ADDED:]


def _prompts(tokenizer: Any, held_out: Sequence[list[Message]]) -> list[Answer]:
    """Return the prompts without answers; long ones of the evaluation rows are left out."""
    short = [row for row in held_out if len(_prompt(tokenizer, row[:-1]).prompt) <= _PROMPT_TOKENS]
    return [_prompt(tokenizer, messages) for messages in conversations_of(short)]


def _prompt(tokenizer: Any, messages: list[Message]) -> Answer:
    if tokenizer.chat_template:
        text = render(tokenizer, messages)
        return Answer(messages, text, token_ids(tokenizer, text, True), [], None)
    text = "\n".join(message["content"] for message in messages)
    return Answer([], text, token_ids(tokenizer, text, False), [], None)


class _Reported(StoppingCriteria):
    """Reports each token of a batch of answers, and stops none of them."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self._tokens = progress, 0

    def __call__(self, input_ids: Any, *_scores: Any, **_more: Any) -> Any:
        self._tokens += 1
        self._progress(0.5 * min(1.0, self._tokens / ANSWER_TOKENS))
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)


def _answer(model: Any, prompts: list[Answer], stops: list[int], progress: Progress) -> None:
    """Add the greedy answer to each prompt, in one batch."""
    ids = [torch.tensor(known.prompt) for known in prompts]
    mask = [torch.ones(len(row), dtype=torch.int64) for row in ids]
    # Explicit values, since those of the model's generation config would hold otherwise.
    config = GenerationConfig(
        max_new_tokens=ANSWER_TOKENS,
        do_sample=False,
        num_beams=1,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        eos_token_id=stops,
        pad_token_id=stops[0],
    )
    with torch.no_grad():
        output = model.generate(
            input_ids=pad_sequence(ids, True, stops[0], "left").to(model.device),
            attention_mask=pad_sequence(mask, True, 0, "left").to(model.device),
            generation_config=config,
            stopping_criteria=StoppingCriteriaList([_Reported(progress)]),
        )
    start = max(map(len, ids))
    for place, known in enumerate(prompts):
        new: list[int] = output[place, start:].tolist()
        end = next((at for at, token in enumerate(new) if token in stops), None)
        answer, ended_by = (new, None) if end is None else (new[:end], new[end])
        prompts[place] = Answer(known.messages, known.text, known.prompt, answer, ended_by)


def _rows(tokenizer: Any, held_out: Sequence[list[Message]]) -> list[list[int]]:
    rows = []
    for messages in held_out[:_ROWS]:
        if tokenizer.chat_template:
            ids = token_ids(tokenizer, render(tokenizer, messages, prompt=False), True)
        else:
            text = "\n".join(message["content"] for message in messages)
            ids = token_ids(tokenizer, text, False)
        rows.append(ids[:_ROW_TOKENS])
    return [ids for ids in rows if len(ids) > 1]


def _loss(model: Any, rows: list[list[int]]) -> float | None:
    if not rows:
        return None
    total = 0.0
    for ids in rows:
        values = torch.from_numpy(logits(model, ids, len(ids))[:-1])
        loss = torch.nn.functional.cross_entropy(values, torch.tensor(ids[1:]), reduction="sum")
        total += float(loss)
    return total / sum(len(ids) - 1 for ids in rows)


def _save_weights(model: Any, folder: Path) -> list[str]:
    """Save the first rows of three weights as they compute with the adapter; return their names."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    layers = [
        (name, module)
        for name, module in inner.named_modules()
        if name.rpartition(".")[2] in _COMPARED
    ]
    layers = [pair for pair in layers if isinstance(pair[1], BaseTunerLayer)] or layers
    if not layers:
        return []
    chosen = [layers[place] for place in sorted({0, len(layers) // 2, len(layers) - 1})]
    for place, (_name, layer) in enumerate(chosen):
        np.save(weight_file(folder, place), _effective_rows(layer, model.device))
    return [f"{name}.weight" for name, _layer in chosen]


def _effective_rows(layer: Any, device: Any) -> NDArray[np.float32]:
    """Return the first rows (rows, columns) float32 of the matrix by which a layer multiplies."""
    columns, parts = layer.in_features, []
    with torch.no_grad():
        bias = layer(torch.zeros(1, columns, device=device))
        for first in range(0, columns, _COLUMNS):
            count = min(_COLUMNS, columns - first)
            units = torch.zeros(count, columns, device=device)
            units[torch.arange(count), first + torch.arange(count)] = 1.0
            parts.append((layer(units) - bias)[:, :_COMPARED_ROWS].T.cpu())
    values: NDArray[np.float32] = torch.cat(parts, dim=1).float().numpy()
    return values
