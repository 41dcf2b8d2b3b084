"""The contestants of an evaluation: base model, base model with examples, and tuned model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import Any, Literal

from modelforge.data.canonical.convert import Canonical
from modelforge.errors import Problem, RunError
from modelforge.evaluate.cases import Case, CaseBuilder, messages_of
from modelforge.evaluate.job import Job
from modelforge.evaluate.known import KnownResults
from modelforge.modeling.inference import Decoding, Generated, Labelled, LanguageModel, Loss
from modelforge.modeling.trained_run import (
    add_adapter_and_tokens,
    free_memory,
    load_base_as_trained,
    use_trained_ends,
)
from modelforge.runs.jobs import StepWriter

BASE, PROMPTED, TUNED = "base", "prompted", "tuned"
# Examples in front of a question: longer prompts cost more than they add, above all on a CPU,
# where every generated token reads the key-value cache of all of them.
MAX_EXAMPLE_TOKENS, MAX_EXAMPLES = 2048, 32
FEWEST_CACHED = 3


class Models:
    """The base model and the tuned model of a run; one of them is in memory at a time.

    With an adapter, they are the same model with the adapter switched off and on.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._model: Any = None
        self._loaded = ""

    @property
    def has_base(self) -> bool:
        """Whether the base model can be measured."""
        return self._job.base is not None

    @property
    def contestants(self) -> list[str]:
        """Base and tuned model; first the one that is in memory."""
        known = [BASE, TUNED] if self.has_base else [TUNED]
        is_reversed = self._job.adapter is None and self._loaded == TUNED
        return known[::-1] if is_reversed else known

    @contextlib.contextmanager
    def use(self, contestant: str) -> Iterator[Any]:
        """Give the model of a contestant, without PEFT's wrapper; loads it if necessary."""
        name = TUNED if contestant == TUNED else BASE
        if self._job.adapter is not None:
            if self._model is None:
                self._model = self._with_adapter()
            off = self._model.disable_adapter() if name == BASE else contextlib.nullcontext()
            with off:
                yield self._model.get_base_model()
            return
        if self._loaded != name:
            self.close()
            self._model, self._loaded = self._whole(name), name
        yield self._model

    def close(self) -> None:
        """Free the memory of the model."""
        self._model, self._loaded = None, ""
        free_memory(self._job.device)

    @property
    def setting(self) -> str:
        """What numbers depend on besides model and tokens: device and precision."""
        with self.use(TUNED) as model:
            return f"{self._job.device} {model.dtype}"

    def _with_adapter(self) -> Any:
        job = self._job
        assert job.base is not None
        assert job.adapter is not None
        model = load_base_as_trained(job.base, job.plan, job.config, job.device)
        model = add_adapter_and_tokens(model, job.adapter, len(job.tokenizer))
        use_trained_ends(model.get_base_model(), job.run.output, job.head)
        return model

    def _whole(self, name: str) -> Any:
        job = self._job
        folder = job.run.output if name == TUNED else job.base
        if folder is None:
            what = "The base model is not on this computer any more."
            raise RunError(Problem("base model", what, "Put its folder back."))
        model = load_base_as_trained(folder, job.plan, job.config, job.device)
        if len(job.tokenizer) > model.get_input_embeddings().weight.shape[0]:
            model.resize_token_embeddings(len(job.tokenizer))
        return model


@dataclass(frozen=True)
class Prompted:
    """Examples in front of every question.

    Attributes:
        cases: Those of the evaluation rows, with the examples in front; None where none fit.
        prefixes: For each case the token ids that it shares with others in front, such as the
            examples behind the same system prompt; they are computed once.
        shots: The training rows that are shown.
    """

    cases: list[Case | None]
    prefixes: list[tuple[int, ...]]
    shots: list[Canonical]

    @property
    def tokens(self) -> int:
        """The tokens of the examples, with what stands before them."""
        return max(map(len, self.prefixes), default=0)

    def groups(self) -> dict[tuple[int, ...], list[int]]:
        """Return the indices of the cases by their prefix."""
        groups: dict[tuple[int, ...], list[int]] = {}
        for index, prefix in enumerate(self.prefixes):
            groups.setdefault(prefix, []).append(index)
        return groups


def with_examples(
    builder: CaseBuilder, cases: Sequence[Case], rows: Sequence[Canonical], limit: int
) -> Prompted | None:
    """Return the cases with as many examples in front as fit into `limit` tokens.

    `rows` are training rows in the order in which they are tried. None if not even one fits.
    """
    longest = max((_tokens(case) for case in cases), default=0)
    front = next((case for case in cases if _tokens(case) == longest), None)
    budget = min(limit, longest + MAX_EXAMPLE_TOKENS)
    shots: list[Canonical] = []
    if front is None:
        return None
    for row in rows:
        if len(shots) == MAX_EXAMPLES or ("text" in row) != ("text" in front.row):
            continue
        if not ("text" in row or messages_of(row)):
            continue
        longer = builder.with_examples(front, [*shots, row])
        if longer is None:
            continue
        if _tokens(longer) <= budget:
            shots.append(row)
        elif len(shots) >= 2:
            break
    if not shots:
        return None
    prompted = [builder.with_examples(case, shots) for case in cases]
    return Prompted(prompted, _prefixes(prompted), shots)


def _tokens(case: Case) -> int:
    """Return the tokens of the longest sequence of a case."""
    rows = [row.ids for row in (*case.parts, *case.rejected)]
    return max([len(case.prompt), *map(len, rows)])


def _prefixes(cases: Sequence[Case | None]) -> list[tuple[int, ...]]:
    """Return for each case the ids that it shares with the others of its system prompt and tools.

    A cache for fewer than three cases would cost more than it saves.
    """
    groups: dict[str, list[int]] = {}
    for index, case in enumerate(cases):
        row = case.row if case is not None else {}
        messages = row.get("messages") or row.get("prompt") or []
        system = messages[0] if messages and messages[0]["role"] == "system" else {}
        groups.setdefault(repr((system.get("content"), row.get("tools"))), []).append(index)
    prefixes: list[tuple[int, ...]] = [()] * len(cases)
    for indices in groups.values():
        if len(indices) >= FEWEST_CACHED:
            shared = tuple(_common_prefix([cases[index] for index in indices]))
            for index in indices:
                prefixes[index] = shared if cases[index] is not None else ()
    return prefixes


def _common_prefix(cases: Sequence[Case | None]) -> list[int]:
    """Return the ids that all sequences begin with, and that no loss is computed on."""
    rows = [
        row
        for case in cases
        if case is not None
        for row in (
            *((part.ids, part.labels) for part in (*case.parts, *case.rejected)),
            *([(case.prompt, [-100] * len(case.prompt))] if case.prompt else []),
        )
    ]
    if not rows:
        return []
    first = rows[0][0]
    size = len(first)
    for ids, labels in rows:
        same = takewhile(lambda pair: pair[0] == pair[1], zip(first[:size], ids, strict=False))
        size = sum(1 for _ in same)
        trained = next((at for at, label in enumerate(labels) if label != -100), len(labels))
        # A sequence of one token at least remains.
        size = min(size, trained - 1, len(ids) - 1)
    return first[: max(0, size)]


class Measurer:
    """Computes losses and answers of the contestants, and keeps them as they are computed."""

    def __init__(self, job: Job, models: Models, known: KnownResults, steps: StepWriter) -> None:
        self._job, self._models, self._known, self._steps = job, models, known, steps
        tokenizer = job.tokenizer
        self._pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0

    def losses(
        self, contestant: str, rows: Sequence[Labelled], prefix: Sequence[int] = ()
    ) -> list[Loss]:
        """Return the loss of each sequence behind the prefix."""
        return self.grouped_losses(contestant, [(prefix, rows)])

    def grouped_losses(
        self, contestant: str, groups: Sequence[tuple[Sequence[int], Sequence[Labelled]]]
    ) -> list[Loss]:
        """Return the loss of each sequence behind the prefix of its group, group by group."""
        keys = [[self._known.loss_key(row, prefix) for row in rows] for prefix, rows in groups]
        missing = [
            _first_of_each(own, lambda key: self._known.loss(contestant, key) is None)
            for own in keys
        ]
        total, done = sum(map(len, missing)), 0
        language: LanguageModel | None = None

        def add(new: Sequence[str], batch: Sequence[int], losses: Sequence[Loss]) -> None:
            nonlocal done
            found = zip(batch, losses, strict=True)
            self._known.add_losses(contestant, [(new[at], loss) for at, loss in found])
            done += len(batch)
            self._steps.share(done / total)

        with self._models.use(contestant) if total else contextlib.nullcontext() as model:
            for (prefix, rows), own, wanted in zip(groups, keys, missing, strict=True):
                if not wanted:
                    continue
                if language is None:
                    language = self._language(model, prefix)
                language.set_prefix(prefix)
                new = [own[index] for index in wanted]
                language.losses([rows[index] for index in wanted], partial(add, new))
        known = [self._known.loss(contestant, key) for own in keys for key in own]
        return [loss for loss in known if loss is not None]

    def answers(
        self,
        contestant: str,
        prompts: Sequence[list[int]],
        decoding: Decoding,
        prefix: Sequence[int] = (),
    ) -> list[Generated]:
        """Return the greedy answer to each prompt behind the prefix."""
        keys = [self._known.answer_key(prompt, decoding, prefix) for prompt in prompts]
        missing = _first_of_each(keys, lambda key: self._known.answer(contestant, key) is None)
        done = 0

        def on_batch(batch: Sequence[int], answers: Sequence[Generated]) -> None:
            nonlocal done
            found = [(keys[missing[at]], new) for at, new in zip(batch, answers, strict=True)]
            lines = [(key, new, self.text(new)) for key, new in found]
            self._known.add_answers(contestant, lines)
            done += len(batch)
            self._steps.share(done / len(missing))

        if missing:
            with self._models.use(contestant) as model:
                language = self._language(model, prefix)
                language.greedy([prompts[index] for index in missing], decoding, on_batch)
        known = [self._known.answer(contestant, key) for key in keys]
        return [answer for answer in known if answer is not None]

    def text(self, answer: Generated, *, special: bool = False) -> str:
        """Return an answer as text, with special tokens if wanted."""
        text: str = self._job.tokenizer.decode(answer.ids, skip_special_tokens=not special)
        return text.strip()

    def _language(self, model: Any, prefix: Sequence[int]) -> LanguageModel:
        head: Literal["causal", "seq2seq"]
        head = "seq2seq" if self._job.head == "seq2seq" else "causal"
        return LanguageModel(model, pad=self._pad, head=head, prefix=prefix)


def _first_of_each(keys: Sequence[str], is_missing: Any) -> list[int]:
    """Return the index of the first of each key that is missing."""
    first: dict[str, int] = {}
    for index, key in enumerate(keys):
        first.setdefault(key, index)
    return [index for key, index in first.items() if is_missing(key)]
