"""The sample prompts of a training from nothing: texts that the model continues.

Such a model knows no chat format. It continues the same beginnings every n steps, with the most
likely next token each time, so that one sees what it learns to write.
"""

from __future__ import annotations

from typing import Any

from modelforge.config.sampling import BEGINNINGS
from modelforge.config.schema.training import own_prompts
from modelforge.modeling.generate import GenerationSetup
from modelforge.modeling.pretraining.token_bytes import document_id
from modelforge.runs.events import iter_events
from modelforge.runs.samples import read_samples
from modelforge.train.callbacks.samples import Sampler
from modelforge.train.job import WorkerContext
from modelforge.train.sample_prompts import EncodedPrompt, SamplePrompt, Source


def continuation_sampler(context: WorkerContext, tokenizer: Any) -> Sampler | None:
    """Return the sampler of a training from nothing; None where samples are switched off.

    It continues the user's own prompts, else the seven beginnings. Each has the document token in
    front, as in training. A prompt as long as the context is left out, with a note.
    """
    config, most = context.job.config, context.job.plan.max_length
    if not config.evaluation.samples:
        return None
    own = own_prompts(config.evaluation)
    source: Source = "yours" if own else "general"
    first = document_id(tokenizer)
    prompts = [_prompt(text, tokenizer, first, source) for text in own or BEGINNINGS]
    usable = [each for each in prompts if most is None or len(each.prompt.input_ids) < most]
    if left := len(prompts) - len(usable):
        what = "1 sample prompt is" if left == 1 else f"{left} sample prompts are"
        text = f"{what} left out: as long as the context, which has {most:,} tokens."
        context.log.note("samples-left-out", text)
    if not usable:
        return None
    known = read_samples(iter_events(context.job.run.events))
    setup = _setup(tokenizer, first, most)
    return Sampler(context, usable, setup, asked={time.step for time in known}, continues=True)


def _prompt(text: str, tokenizer: Any, first: int, source: Source) -> SamplePrompt:
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)[
        "input_ids"
    ]
    return SamplePrompt(EncodedPrompt(text, [first, *ids], ""), source)


def _setup(tokenizer: Any, first: int, most: int | None) -> GenerationSetup:
    """Return how to continue texts: the next document begins where this one ends."""
    ends = {first, tokenizer.eos_token_id} - {None}
    return GenerationSetup(
        make_prompt=lambda _row: None,
        tokenizer=tokenizer,
        stop_ids=sorted(ends),
        decoder_only=True,
        max_length=most or tokenizer.model_max_length,
    )
