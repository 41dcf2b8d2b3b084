"""Measure the contestants on the evaluation rows: losses, exchanged answers and answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelforge.errors import ForgeError
from modelforge.evaluate.cases import Case, CaseBuilder, exchanged
from modelforge.evaluate.contestants import (
    BASE,
    PROMPTED,
    TUNED,
    Measurer,
    Models,
    Prompted,
    with_examples,
)
from modelforge.evaluate.exchange import Block, exchange_blocks
from modelforge.evaluate.job import Job
from modelforge.modeling.held_out import RunRows
from modelforge.modeling.inference import Decoding, Generated, Labelled, Loss
from modelforge.modeling.rope import context_length
from modelforge.modeling.tokenize.template import ChatTemplate
from modelforge.runs.jobs import StepWriter

MIN_NEW_TOKENS, MAX_NEW_TOKENS = 32, 256
# Usual context of a model whose config does not say.
CONTEXT = 2048
NAMES = {BASE: "base model", PROMPTED: "base model with examples", TUNED: "tuned model"}

Losses = list[Loss | None]
Texts = list[str | None]


@dataclass
class Results:
    """What has been measured so far, by contestant and in the order of the cases.

    Attributes:
        right, rejected: Losses of the right answers, and of the worse completions of pairs.
        blocks: What was exchanged.
        exchanged: Losses of the answers behind the questions of their block.
        texts: Answers; `raw` with their special tokens.
        prompted: The examples of the contestant `prompted`.
        longest_answer: The most tokens of an answer; 0 if nothing is answered.
        notes: Sentences for people.
        seconds: How long it took.
    """

    rows: RunRows = field(default_factory=RunRows)
    cases: list[Case] = field(default_factory=list)
    right: dict[str, Losses] = field(default_factory=dict)
    rejected: dict[str, Losses] = field(default_factory=dict)
    blocks: list[Block] = field(default_factory=list)
    exchanged: dict[str, list[float]] = field(default_factory=dict)
    texts: dict[str, Texts] = field(default_factory=dict)
    raw: dict[str, Texts] = field(default_factory=dict)
    prompted: Prompted | None = None
    longest_answer: int = 0
    parts: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0


class RowMeasurement:
    """Measures the evaluation rows of a run whose models write text."""

    def __init__(
        self,
        job: Job,
        builder: CaseBuilder,
        models: Models,
        measurer: Measurer,
        results: Results,
        steps: StepWriter,
    ) -> None:
        self._job, self._builder, self._steps = job, builder, steps
        self._models, self._measurer, self._results = models, measurer, results
        self._decoding: Decoding | None = None

    def losses(self) -> None:
        """Measure the losses of right and rejected answers."""
        cases = self._results.cases
        for name in self._models.contestants:
            self._begin(name, "losses", "reads the expected answers")
            self._results.right[name] = self._losses(name, [case.parts for case in cases])
            if any(case.rejected for case in cases):
                rows = [case.rejected for case in cases]
                self._results.rejected[name] = self._losses(name, rows)

    def exchanged(self) -> None:
        """Measure the losses of right answers and of answers to other questions."""
        cases, results = self._results.cases, self._results
        blocks = exchange_blocks(cases)
        if not blocks or not self._models.has_base:
            return
        groups = [
            self._behind_prompt(
                [exchanged(cases[question], cases[answer]) for answer in block.rows]
            )
            for block in blocks
            for question in block.rows
        ]
        for name in self._models.contestants:
            self._begin(name, "exchanged", "reads exchanged answers")
            losses = self._measurer.grouped_losses(name, groups)
            results.exchanged[name] = [loss.mean for loss in losses]
        results.blocks = blocks

    def _behind_prompt(self, rows: list[Labelled]) -> tuple[list[int], list[Labelled]]:
        """Return the prompt of sequences that all have it, without its last token, and the rest."""
        size = max(0, len(rows[0].ids) - rows[0].window - 1) if self._job.head == "causal" else 0
        return rows[0].ids[:size], [Labelled(row.ids[size:], row.labels[size:]) for row in rows]

    def answers(self) -> None:
        """Generate the answers."""
        cases = self._results.cases
        decoding = self._decoding_of(cases)
        if decoding is None:
            return
        for name in self._models.contestants:
            self._begin(name, "answers", "answers")
            self._answer(name, [case.prompt for case in cases], decoding)

    def prompted(self) -> None:
        """Measure the base model with as many training rows in its prompt as fit."""
        results = self._results
        if not self._models.has_base or not results.cases:
            return
        decoding = self._decoding_of(results.cases)
        new_tokens = decoding.max_new_tokens if decoding else 0
        shots = [numbered.row for numbered in results.rows.training]
        limit = self.context() - new_tokens
        prompted = with_examples(self._builder, results.cases, shots, limit)
        if prompted is None:
            results.notes.append(
                "No training row fits in front of the evaluation rows, so there is no base model "
                "with examples."
            )
            return
        self._begin(PROMPTED, "prompted", "reads the expected answers")
        whole = [case or Case(0, {}, "", "") for case in prompted.cases]
        results.right[PROMPTED] = self._losses(PROMPTED, [case.parts for case in whole], prompted)
        if any(case.rejected for case in whole):
            rows = [case.rejected for case in whole]
            results.rejected[PROMPTED] = self._losses(PROMPTED, rows, prompted)
        results.prompted = prompted
        if decoding is not None and TUNED in results.texts:
            self._begin(PROMPTED, "prompted-answers", "answers")
            self._answer(PROMPTED, [case.prompt for case in whole], decoding, prompted)

    def fits(self, prompt: list[int], new_tokens: int) -> bool:
        """Return whether a prompt leaves room for an answer."""
        return 0 < len(prompt) <= self.context() - new_tokens

    def answer_texts(
        self, contestant: str, prompts: Sequence[list[int]], new_tokens: int
    ) -> list[str]:
        """Return the greedy answers to prompts, as text."""
        answers = self._measurer.answers(contestant, prompts, self.decoding(new_tokens))
        return [self._measurer.text(answer) for answer in answers]

    @property
    def template(self) -> ChatTemplate:
        """The chat template of the run."""
        return self._builder.template

    def _losses(
        self,
        contestant: str,
        cases: Sequence[Sequence[Labelled]],
        prompted: Prompted | None = None,
    ) -> Losses:
        """Return the loss of each case, which may have several parts; None without one."""
        found: Losses = [None] * len(cases)
        for prefix, indices in _groups(prompted, len(cases)).items():
            size = len(prefix)
            rows = [
                Labelled(part.ids[size:], part.labels[size:])
                for index in indices
                for part in cases[index]
            ]
            losses = iter(self._measurer.losses(contestant, rows, prefix))
            for index in indices:
                found[index] = _sum([next(losses) for _part in cases[index]])
        return found

    def _answer(
        self,
        contestant: str,
        prompts: Sequence[list[int]],
        decoding: Decoding,
        prompted: Prompted | None = None,
    ) -> None:
        answers: list[Generated | None] = [None] * len(prompts)
        for prefix, indices in _groups(prompted, len(prompts)).items():
            asked = [at for at in indices if len(prompts[at]) > len(prefix)]
            rows = [prompts[at][len(prefix) :] for at in asked]
            found = self._measurer.answers(contestant, rows, decoding, prefix)
            for at, answer in zip(asked, found, strict=True):
                answers[at] = answer
        text = self._measurer.text
        results = self._results
        results.texts[contestant] = [text(one) if one else None for one in answers]
        results.raw[contestant] = [text(one, special=True) if one else None for one in answers]

    def _decoding_of(self, cases: Sequence[Case]) -> Decoding | None:
        """Return greedy decoding of up to twice the longest reference; None without a prompt."""
        asked = [case for case in cases if case.prompt]
        if not asked:
            return None
        if self._decoding is None:
            tokenizer = self._job.tokenizer
            texts = [text for case in asked for text in (*case.references, case.expected)]
            sizes = [len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
            sizes += [len(case.answer) for case in asked]
            wanted = max(MIN_NEW_TOKENS, 2 * max(sizes, default=0))
            longest = max(len(case.prompt) for case in asked)
            room = self.context() - longest if self._job.head == "causal" else self.context()
            most = max(1, min(wanted, MAX_NEW_TOKENS, room))
            self._decoding = self.decoding(most)
            self._results.longest_answer = most
        return self._decoding

    def decoding(self, max_new_tokens: int) -> Decoding:
        """Return greedy decoding that ends where the answers of the run end."""
        pad = self._job.tokenizer.pad_token_id
        stops = tuple(sorted(self.template.stop_ids))
        return Decoding(stops, stops[0] if pad is None else pad, max_new_tokens)

    def context(self) -> int:
        """Return the most tokens of prompt and answer."""
        with self._models.use(BASE if self._models.has_base else TUNED) as model:
            return context_length(model.config) or CONTEXT

    def _begin(self, contestant: str, step: str, what: str) -> None:
        self._steps.begin(f"{step}-{contestant}", f"The {NAMES[contestant]} {what}")


def optional(results: Results, what: str, stage: Callable[[], None]) -> None:
    """Run a stage without which the report is still of use; an error becomes a note."""
    try:
        stage()
    except ForgeError as error:
        results.notes += [f"{what} could not be measured: {each}" for each in error.problems]
    except (RuntimeError, ValueError, MemoryError) as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        results.notes.append(f"{what} could not be measured: {first[:200]}")


def _groups(prompted: Prompted | None, count: int) -> dict[tuple[int, ...], list[int]]:
    return prompted.groups() if prompted else {(): list(range(count))}


def _sum(losses: Sequence[Loss]) -> Loss | None:
    if not losses:
        return None
    return Loss(sum(loss.nats for loss in losses), sum(loss.tokens for loss in losses))
