"""Held-out rows answered by the model itself, and what the answers are worth."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from modelforge.data.canonical.convert import Canonical
from modelforge.data.canonical.qa import NO_ANSWER, to_chat_example
from modelforge.modeling.tokenize.options import TokenizeOptions
from modelforge.modeling.tokenize.render import with_system_prompt
from modelforge.modeling.tokenize.seq2seq import encode_seq2seq
from modelforge.modeling.tokenize.template import TEMPLATE_ERRORS, ChatTemplate
from modelforge.runs.event_types import ScoresEvent
from modelforge.train.job import WorkerContext
from modelforge.train.stop import Stop

LEAST_NEW = 32
MOST_NEW = 256
BATCH = 8

Scores = dict[str, float]


@dataclass(frozen=True)
class EvalPrompt:
    """One question: its prompt as tokens, and the answers that are right, none for no answer."""

    prompt: list[int]
    references: list[str]


@dataclass(frozen=True)
class GenerationSetup:
    """What answering needs: a tokenizer, the tokens to stop on, and whether prompts are kept apart.

    A decoder's answer follows its prompt; an encoder-decoder's stands alone.
    """

    tokenizer: Any
    stops: Sequence[int]
    follows: bool
    most: int


PromptBuilder = Callable[[Canonical], EvalPrompt | None]


@dataclass(frozen=True)
class GenerationEvaluator:
    """Has held-out rows answered and tells what the answers are worth; call it once trained."""

    context: WorkerContext
    trainer: Any
    exams: list[EvalPrompt]
    hall: GenerationSetup

    def __call__(self) -> None:
        """Answer all rows, with an adapter also as the model did before, and tell the scores."""
        context, model, exams = self.context, self.trainer.model, self.exams
        summarises = context.job.config.task == "summarization"
        rounds = len(exams) * self._times
        before, done = None, 0
        with _answering(model):
            if self._times > 1:
                with model.disable_adapter():
                    given = _answers(context, model, exams, self.hall, (done, rounds))
                before, done = _worth(given, exams, summarises=summarises), len(exams)
            given = _answers(context, model, exams, self.hall, (done, rounds))
        after = _worth(given, exams, summarises=summarises)
        context.log.scores(ScoresEvent(rows=len(exams), before=before, after=after))

    def sample(self) -> float:
        """Answer one batch of middling questions; return the seconds that all would take."""
        order = sorted(self.exams, key=lambda exam: len(exam.prompt))
        first = max(0, (len(order) - BATCH) // 2)
        few, model = order[first : first + BATCH], self.trainer.model
        began = time.perf_counter()
        with _answering(model):
            _answers(self.context, model, few, self.hall, (0, len(few)), "trial_run")
        each = (time.perf_counter() - began) / len(few)
        return each * len(order) * self._times

    @property
    def _times(self) -> int:
        return 2 if hasattr(self.trainer.model, "disable_adapter") else 1


def make_evaluator(
    context: WorkerContext,
    trainer: Any,
    kept: Sequence[Canonical],
    asking: tuple[PromptBuilder, GenerationSetup],
) -> GenerationEvaluator | None:
    """Return what answers these held-out rows and tells the scores, or None without any."""
    examine, hall = asking
    exams = [exam for row in kept if (exam := examine(row)) is not None]
    return GenerationEvaluator(context, trainer, exams, hall) if exams else None


def _answers(
    context: WorkerContext,
    model: Any,
    exams: Sequence[EvalPrompt],
    hall: GenerationSetup,
    so_far: tuple[int, int],
    phase: str = "scoring",
) -> list[str]:
    """Return an answer to each question, the likeliest words, a few questions at a time."""
    order = sorted(range(len(exams)), key=lambda number: len(exams[number].prompt))
    answers = [""] * len(exams)
    how = _how(exams, hall)
    heed = StoppingCriteriaList([_Heed(context.stop)])
    done, total = so_far
    for at in range(0, len(order), BATCH):
        context.log.phase(phase, "Answering held-out rows", done=done + at, total=total)
        part = order[at : at + BATCH]
        batch = _padded([exams[number].prompt for number in part], hall, model.device)
        with torch.no_grad():
            ids = model.generate(**batch, generation_config=how, stopping_criteria=heed)
        context.stop.check()
        new = ids[:, batch["input_ids"].shape[1] :] if hall.follows else ids
        texts = hall.tokenizer.batch_decode(new, skip_special_tokens=True)
        for number, text in zip(part, texts, strict=True):
            answers[number] = text.strip()
    context.log.phase(phase, "Answering held-out rows", done=done + len(order), total=total)
    return answers


def _how(exams: Sequence[EvalPrompt], hall: GenerationSetup) -> GenerationConfig:
    sizes = [
        len(hall.tokenizer(text, add_special_tokens=False)["input_ids"])
        for exam in exams
        for text in exam.references
    ]
    longest = 2 * max(sizes, default=0)
    return GenerationConfig(
        max_new_tokens=min(max(LEAST_NEW, longest), MOST_NEW, hall.most),
        do_sample=False,
        use_cache=True,
        eos_token_id=sorted(hall.stops),
        pad_token_id=hall.tokenizer.pad_token_id,
    )


def _padded(
    prompts: list[list[int]], hall: GenerationSetup, device: Any
) -> dict[str, torch.Tensor]:
    """Return prompts as one batch. Where an answer follows, the gaps stand before the prompts."""
    width = max(map(len, prompts))
    pad = hall.tokenizer.pad_token_id
    ids, masks = [], []
    for prompt in prompts:
        gap, ones = [pad] * (width - len(prompt)), [1] * len(prompt)
        zeros = [0] * len(gap)
        ids.append([*gap, *prompt] if hall.follows else [*prompt, *gap])
        masks.append([*zeros, *ones] if hall.follows else [*ones, *zeros])
    return {
        "input_ids": torch.tensor(ids, device=device),
        "attention_mask": torch.tensor(masks, device=device),
    }


def _worth(given: Sequence[str], exams: Sequence[EvalPrompt], *, summarises: bool) -> Scores:
    scoring = import_module("modelforge.modeling.text_metrics")
    references = [exam.references for exam in exams]
    if summarises:
        found: Scores = scoring.score_summaries(given, references)
        return found
    answers = ["" if text == NO_ANSWER else text for text in given]
    found = scoring.score_answers(answers, references)
    return dict(found)


@contextlib.contextmanager
def _answering(model: Any) -> Iterator[None]:
    """Let the model write for a while: nothing is learned, and what was read is remembered."""
    learns, cached = model.training, model.config.use_cache
    model.eval()
    model.config.use_cache = True
    try:
        yield
    finally:
        model.config.use_cache = cached
        model.train(learns)


class _Heed(StoppingCriteria):
    """Ends an answer in the middle when somebody wants the run to end."""

    def __init__(self, stop: Stop) -> None:
        self._stop = stop

    def __call__(self, input_ids: Any, *_: Any, **__: Any) -> Any:
        ends = self._stop.mode is not None
        return torch.full((len(input_ids),), ends, device=input_ids.device)


def chat_generation(
    dialect: ChatTemplate, manner: TokenizeOptions
) -> tuple[PromptBuilder, GenerationSetup]:
    """Return how a decoder is asked: in a conversation that ends where its answer begins."""
    tokenizer = dialect.tokenizer

    def examine(row: Canonical) -> EvalPrompt | None:
        turns = (to_chat_example(row) if "context" in row else row).get("messages", [])
        places = [at for at, turn in enumerate(turns) if turn["role"] == "assistant"]
        if not places or not places[-1]:
            return None
        said = with_system_prompt(turns[: places[-1]], dialect.system_prompt)
        try:
            text = dialect.render(said, prompt=True)
        except TEMPLATE_ERRORS:
            return None
        ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        if "context" in row:
            wanted = [answer["text"] for answer in row["answers"]]
        else:
            wanted = [turns[places[-1]]["content"]]
        # A prompt that fills all there is to read leaves no room for an answer.
        return EvalPrompt(ids, wanted) if len(ids) < manner.max_length else None

    return examine, GenerationSetup(
        tokenizer, sorted(dialect.stop_ids), follows=True, most=manner.max_length
    )


def seq2seq_generation(
    dialect: ChatTemplate, manner: TokenizeOptions
) -> tuple[PromptBuilder, GenerationSetup]:
    """Return how an encoder-decoder is asked: with the document as it was trained."""

    def examine(row: Canonical) -> EvalPrompt | None:
        found = encode_seq2seq(row, dialect, manner)
        if found is None:
            return None
        text = dialect.tokenizer.decode(found.target_ids, skip_special_tokens=True)
        return EvalPrompt(found.source_ids, [text])

    hall = GenerationSetup(
        dialect.tokenizer, sorted(dialect.stop_ids), follows=False, most=manner.max_length
    )
    return examine, hall
