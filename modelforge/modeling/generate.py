"""Generation-based evaluation: the model answers evaluation rows, and the answers are scored."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from modelforge.data.canonical.convert import Canonical
from modelforge.data.canonical.qa import NO_ANSWER, to_chat_example
from modelforge.modeling.tokenize.options import TokenizeOptions
from modelforge.modeling.tokenize.render import with_system_prompt
from modelforge.modeling.tokenize.seq2seq import encode_seq2seq
from modelforge.modeling.tokenize.template import TEMPLATE_ERRORS, ChatTemplate

MIN_NEW_TOKENS = 32
MAX_NEW_TOKENS = 256
BATCH_SIZE = 8

Scores = dict[str, float]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class EvalPrompt:
    """The token ids of one prompt, and its reference answers; no references mean "no answer"."""

    input_ids: list[int]
    references: list[str]


@dataclass(frozen=True)
class GenerationSetup:
    """How one kind of model is prompted for evaluation.

    Attributes:
        make_prompt: Returns the prompt of a canonical row, or None for an unusable row.
        tokenizer: Pads prompts and decodes answers.
        stop_ids: Token ids that end generation.
        decoder_only: Whether the generated ids repeat the prompt; decides the padding side.
        max_length: Upper limit for new tokens.
    """

    make_prompt: Callable[[Canonical], EvalPrompt | None]
    tokenizer: Any
    stop_ids: Sequence[int]
    decoder_only: bool
    max_length: int

    def prompts(self, rows: Sequence[Canonical]) -> list[EvalPrompt]:
        """Return the prompts of all usable rows."""
        made = (self.make_prompt(row) for row in rows)
        return [prompt for prompt in made if prompt is not None]


def chat_generation(template: ChatTemplate, options: TokenizeOptions) -> GenerationSetup:
    """Return the setup for a decoder: the conversation up to its last answer is the prompt."""
    tokenizer = template.tokenizer

    def make_prompt(row: Canonical) -> EvalPrompt | None:
        is_qa = "context" in row
        messages = (to_chat_example(row) if is_qa else row).get("messages", [])
        answers = [at for at, message in enumerate(messages) if message["role"] == "assistant"]
        if not answers or not answers[-1]:
            return None
        question = with_system_prompt(messages[: answers[-1]], template.system_prompt)
        try:
            text = template.render(question, prompt=True)
        except TEMPLATE_ERRORS:
            return None
        ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        if len(ids) >= options.max_length:
            return None
        if is_qa:
            return EvalPrompt(ids, [answer["text"] for answer in row["answers"]])
        return EvalPrompt(ids, [messages[answers[-1]]["content"]])

    stops = sorted(template.stop_ids)
    return GenerationSetup(make_prompt, tokenizer, stops, True, options.max_length)


def seq2seq_generation(template: ChatTemplate, options: TokenizeOptions) -> GenerationSetup:
    """Return the setup for an encoder-decoder: the document, as in training, is the prompt."""

    def make_prompt(row: Canonical) -> EvalPrompt | None:
        example = encode_seq2seq(row, template, options)
        if example is None:
            return None
        summary = template.tokenizer.decode(example.target_ids, skip_special_tokens=True)
        return EvalPrompt(example.source_ids, [summary])

    stops = sorted(template.stop_ids)
    return GenerationSetup(make_prompt, template.tokenizer, stops, False, options.max_length)


class StopCriteria(StoppingCriteria):
    """Ends generation as soon as `should_stop` returns True."""

    def __init__(self, should_stop: Callable[[], bool]) -> None:
        self._should_stop = should_stop

    def __call__(self, input_ids: Any, *_: Any, **__: Any) -> Any:
        """Return a bool tensor of shape (batch,)."""
        return torch.full((len(input_ids),), self._should_stop(), device=input_ids.device)


@dataclass(frozen=True)
class GenerationEvaluator:
    """Generates answers to evaluation prompts with `trainer.model` and scores them.

    `should_stop` is asked at every token; a progress callback may raise to end the evaluation.
    """

    trainer: Any
    prompts: list[EvalPrompt]
    setup: GenerationSetup
    summarizes: bool
    should_stop: Callable[[], bool]

    def evaluate(self, progress: Progress) -> tuple[Scores | None, Scores]:
        """Return the scores without the adapter (None without one) and those of the model."""
        model, count = self.trainer.model, len(self.prompts)
        before, done, total = None, 0, count * self._passes

        def report(at: int, _count: int) -> None:
            progress(done + at, total)

        with generating(model):
            if self._passes > 1:
                with model.disable_adapter():
                    before = self._score(self._generate(self.prompts, report))
                done = count
            return before, self._score(self._generate(self.prompts, report))

    def estimate_seconds(self, progress: Progress) -> float:
        """Generate one batch of prompts of median length; return the seconds for all prompts."""
        order = sorted(self.prompts, key=lambda prompt: len(prompt.input_ids))
        first = max(0, (len(order) - BATCH_SIZE) // 2)
        batch = order[first : first + BATCH_SIZE]
        began = time.perf_counter()
        with generating(self.trainer.model):
            self._generate(batch, progress)
        per_prompt = (time.perf_counter() - began) / len(batch)
        return per_prompt * len(order) * self._passes

    @property
    def _passes(self) -> int:
        return 2 if hasattr(self.trainer.model, "disable_adapter") else 1

    def _generate(self, prompts: Sequence[EvalPrompt], progress: Progress) -> list[str]:
        """Return the greedy answer to each prompt; prompts of similar length share a batch."""
        model, setup = self.trainer.model, self.setup
        order = sorted(range(len(prompts)), key=lambda index: len(prompts[index].input_ids))
        answers = [""] * len(prompts)
        config = _generation_config(prompts, setup)
        criteria = StoppingCriteriaList([StopCriteria(self.should_stop)])
        for at in range(0, len(order), BATCH_SIZE):
            progress(at, len(order))
            part = order[at : at + BATCH_SIZE]
            batch = padded([prompts[index].input_ids for index in part], setup, model.device)
            with torch.no_grad():
                ids = model.generate(**batch, generation_config=config, stopping_criteria=criteria)
            new = ids[:, batch["input_ids"].shape[1] :] if setup.decoder_only else ids
            texts = setup.tokenizer.batch_decode(new, skip_special_tokens=True)
            for index, text in zip(part, texts, strict=True):
                answers[index] = text.strip()
        progress(len(order), len(order))
        return answers

    def _score(self, answers: Sequence[str]) -> Scores:
        # torchmetrics takes a second to import.
        metrics = import_module("modelforge.modeling.text_metrics")
        references = [prompt.references for prompt in self.prompts]
        if self.summarizes:
            return dict(metrics.rouge_scores(answers, references))
        predictions = ["" if text == NO_ANSWER else text for text in answers]
        return dict(metrics.squad_scores(predictions, references))


def _generation_config(prompts: Sequence[EvalPrompt], setup: GenerationSetup) -> GenerationConfig:
    """Return greedy decoding of up to twice the longest reference."""
    sizes = [
        len(setup.tokenizer(text, add_special_tokens=False)["input_ids"])
        for prompt in prompts
        for text in prompt.references
    ]
    wanted = 2 * max(sizes, default=0)
    return GenerationConfig(
        max_new_tokens=min(max(MIN_NEW_TOKENS, wanted), MAX_NEW_TOKENS, setup.max_length),
        do_sample=False,
        use_cache=True,
        eos_token_id=sorted(setup.stop_ids),
        pad_token_id=setup.tokenizer.pad_token_id,
    )


def padded(
    prompts: list[list[int]], setup: GenerationSetup, device: Any
) -> dict[str, torch.Tensor]:
    """Return a batch of `input_ids` and `attention_mask`, both (batch, seq) int64.

    Decoders are padded on the left, so that new tokens follow the prompt.
    """
    side = "left" if setup.decoder_only else "right"
    columns = {
        "input_ids": ([torch.tensor(ids) for ids in prompts], setup.tokenizer.pad_token_id),
        "attention_mask": ([torch.ones(len(ids), dtype=torch.int64) for ids in prompts], 0),
    }
    return {
        name: pad_sequence(rows, True, fill, side).to(device)
        for name, (rows, fill) in columns.items()
    }


@contextlib.contextmanager
def generating(model: Any) -> Iterator[None]:
    """Put the model into evaluation mode with a key-value cache for a while."""
    was_training, used_cache = model.training, model.config.use_cache
    model.eval()
    model.config.use_cache = True
    try:
        yield
    finally:
        model.config.use_cache = used_cache
        model.train(was_training)
