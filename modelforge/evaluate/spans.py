"""Extractive question answering: losses and answers of an encoder that marks them in a text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from modelforge.data.canonical.qa_windows import best_answer
from modelforge.evaluate.cases import Case
from modelforge.evaluate.contestants import BASE, Models
from modelforge.evaluate.job import Job
from modelforge.evaluate.known import KnownResults
from modelforge.evaluate.measure import Results
from modelforge.modeling.held_out import NumberedRow
from modelforge.modeling.inference import Loss
from modelforge.modeling.tokenize.qa import QAExample, encode_qa
from modelforge.runs.jobs import StepWriter

BATCH_SIZE = 8
UNTRAINED_HEAD = (
    "The base model has no head that finds answers: its answers come from random weights, as at "
    "the first step of the training."
)


def is_usable(job: Job, row: dict[str, Any]) -> bool:
    """Return whether a row is a question with at least one window of its context."""
    return "context" in row and bool(encode_qa(row, job.tokenizer, job.plan.max_length))


def make_case(numbered: NumberedRow) -> Case:
    """Return the case of a question, without tokens."""
    row = numbered.row
    references = tuple(answer["text"] for answer in row["answers"])
    expected = references[0] if references else ""
    return Case(numbered.number, row, row["question"], expected, references=references, prompt=[0])


class SpanMeasurement:
    """Measures the evaluation rows of a run whose model marks answers in a text."""

    def __init__(
        self, job: Job, models: Models, known: KnownResults, results: Results, steps: StepWriter
    ) -> None:
        self._job, self._models, self._known = job, models, known
        self._results, self._steps = results, steps

    def measure(self, contestants: Sequence[str]) -> None:
        """Measure losses and answers of all contestants."""
        results = self._results
        if BASE in contestants:
            results.notes.append(UNTRAINED_HEAD)
        for name in contestants:
            self._steps.begin(f"answers-{name}", f"The {name} model finds answers")
            found = list(self._all(name))
            results.right[name] = [loss for loss, _text in found]
            results.texts[name] = results.raw[name] = [text for _loss, text in found]

    def _all(self, contestant: str) -> Iterator[tuple[Loss, str]]:
        cases = self._results.cases
        for done, case in enumerate(cases, 1):
            row = case.row
            examples = encode_qa(row, self._job.tokenizer, self._job.plan.max_length)
            windows = [example.input_ids for example in examples]
            key = self._known.text_key("span", windows, [(e.start, e.end) for e in examples])
            loss, text = self._known.loss(contestant, key), self._known.text(contestant, key)
            if loss is None or text is None:
                with self._models.use(contestant) as model:
                    loss, text = self._answer(model, row["context"], examples)
                self._known.add_text(contestant, key, text, loss)
            yield loss, text
            self._steps.share(done / len(cases))

    def _answer(self, model: Any, context: str, examples: list[QAExample]) -> tuple[Loss, str]:
        """Return the mean loss of start and end over the windows of a question, and the answer."""
        starts: list[list[float]] = []
        ends: list[list[float]] = []
        nats = 0.0
        for at in range(0, len(examples), BATCH_SIZE):
            part = examples[at : at + BATCH_SIZE]
            with torch.inference_mode():
                output = model(**self._batch(part, model.device))
            for logits, wanted, kept in (
                (output.start_logits.float(), [example.start for example in part], starts),
                (output.end_logits.float(), [example.end for example in part], ends),
            ):
                targets = torch.tensor(wanted, device=logits.device)
                nats += float(cross_entropy(logits, targets, reduction="sum")) / 2
                kept.extend(logits.tolist())
        windows = [example.window for example in examples]
        return Loss(nats, len(examples)), best_answer(context, windows, starts, ends).text

    def _batch(self, examples: Sequence[QAExample], device: Any) -> dict[str, Any]:
        """Return windows padded on the right; every tensor is (batch, seq) int64."""
        pad = self._job.tokenizer.pad_token_id or 0
        columns = {
            "input_ids": ([example.input_ids for example in examples], pad),
            "attention_mask": ([[1] * len(example.input_ids) for example in examples], 0),
        }
        if examples[0].window.token_type_ids:
            columns["token_type_ids"] = ([e.window.token_type_ids for e in examples], 0)
        return {
            name: pad_sequence(list(map(torch.tensor, rows)), True, fill).to(device)
            for name, (rows, fill) in columns.items()
        }
