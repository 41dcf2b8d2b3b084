"""Checks of the data: findings of its summary, the split, and the kind of its rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from modelforge.config.methods import needs_pairs
from modelforge.errors import Finding, blocker, caution, note
from modelforge.preflight.context import RunContext
from modelforge.preflight.speed import estimate_tokens

if TYPE_CHECKING:
    from modelforge.data.sources.load import LoadedSource

USUAL_SPLIT = 0.1
COMPLETION_KINDS = ("pair", "instruction", "messages", "summary")
KIND_NAMES = {
    "text": "plain text",
    "pair": "questions and answers",
    "instruction": "instructions and answers",
    "messages": "conversations",
    "summary": "documents and summaries",
    "preference": "preferences (a chosen and a rejected completion)",
    "preference-label": "completions marked good or bad",
    "span": "questions with answers from a context",
    "segments": "text in segments",
}
# Per task or method: the kinds it can train on, their description, and their columns.
_TEXT_GENERATION = (
    ("text", "segments", *COMPLETION_KINDS),
    "rows with a question and an answer, conversations, or plain text",
    "input and output",
)
_TASKS = {
    "summarization": (
        COMPLETION_KINDS,
        "rows with a document and a summary",
        "document and summary",
    ),
    "extractive-question-answering": (
        ("span", *COMPLETION_KINDS),
        "rows with a context, a question and its answer",
        "context, question and answers",
    ),
}
_PREFERENCES = (
    ("preference",),
    "rows with a chosen and a rejected completion",
    "prompt, chosen and rejected",
)
# Of rlhf where a rule or a reward model of the user's own gives the rewards.
_PROMPTS = (
    ("preference-label", "preference", *COMPLETION_KINDS),
    "rows with a question and an answer, conversations, or preferences",
    "prompt and completion",
)
_LABELS = (
    ("preference-label", "preference"),
    "rows with a completion marked good or bad, or with a chosen and a rejected one",
    "prompt, completion and label",
)
_TEXTS = (("text",), "plain text", "text")
# Values of data.loss_on that train nothing of plain text.
_TURNS_ONLY = {
    "assistant": "assistant turns",
    "last_round": "the last assistant turn",
}
_TRUNCATION = {
    "right": "tokens beyond {} are cut off.",
    "left": "only the last {} are used.",
    "delete": "rows beyond {} are left out.",
    "split": "rows beyond {} are split.",
}


def dataset_findings(context: RunContext) -> Iterator[Finding]:
    """Pass on the findings of the dataset summary."""
    if context.summary:
        yield from context.summary.findings


def split_is_possible(context: RunContext) -> Iterator[Finding]:
    """Refuse a split that leaves no rows on one side, and note a missing evaluation."""
    share, summary = context.config.eval_split, context.summary
    if context.config.data.validation_sources:
        return  # the plan reports that no rows are split off
    is_divided = context.plan.pretraining is not None
    if share == 0:
        yield note(
            "no-evaluation",
            "Without evaluation rows, overfitting cannot be detected.",
            f"Set the evaluation split to {USUAL_SPLIT:g}.",
            "eval_split",
            USUAL_SPLIT,
        )
    elif share == 1:
        yield blocker(
            "no-training-rows",
            "The evaluation split is 1, which leaves no rows for training.",
            f"Set the evaluation split to {USUAL_SPLIT:g}.",
            "eval_split",
            USUAL_SPLIT,
        )
    elif summary and summary.rows < 2 and not is_divided:
        yield blocker(
            "no-eval-rows",
            f"{summary.rows} row cannot be split into training and evaluation rows.",
            "Use more rows, or set the evaluation split to 0.",
            "eval_split",
            0,
        )


def rows_truncated(context: RunContext) -> Iterator[Finding]:
    """Note that the longest row exceeds the max sequence length."""
    is_joined = context.config.packing or context.plan.pretraining is not None
    if context.summary is None or is_joined:
        return
    longest, limit = int(estimate_tokens(context.summary.longest_chars)), context.plan.max_length
    if longest <= limit:
        return
    model_limit = context.model.context if context.model else None
    better = min(-(-longest // 64) * 64, model_limit or limit)
    remedy = f"Set the max sequence length to {better}, which needs more memory."
    effect = _TRUNCATION[context.config.data.truncation_strategy].format(limit)
    yield note(
        "rows-cut",
        f"The longest row has about {longest} tokens; {effect}",
        remedy if better > limit else "",
        "max_seq_length",
        better if better > limit else None,
    )


def no_prompt_fits(context: RunContext) -> Iterator[Finding]:
    """Refuse data whose prompts are all so long that every row would be left out."""
    found, plan = context.long_prompts, context.plan
    if found is None:
        return
    generated = plan.max_completion_length if plan.facts.generates else 0
    needed = -(-(found.shortest + max(generated, 64)) // 64) * 64
    model_limit = context.model.context if context.model else None
    fits = model_limit is None or needed <= model_limit
    reason = f" less {generated:,} for the completion" if generated else ""
    rows = f"All {found.rows:,}" if found.is_all else f"The first {found.rows:,}"
    yield Finding(
        "blocker" if found.is_all else "caution",
        "no-prompt-fits",
        f"{rows} prompts are too long: the shortest has {found.shortest:,} tokens or more, and "
        f"{found.limit:,} leave room for a completion ({plan.max_length:,}{reason}). Every such "
        "row would be left out.",
        f"Set the max sequence length to {needed:,}, or shorten the prompts."
        if fits
        else f"Shorten the prompts; the model reads at most {model_limit:,} tokens.",
        "max_seq_length",
        needed if fits else None,
    )


def wrong_kind(context: RunContext) -> Iterator[Finding]:
    """Refuse rows that the strategy or the task cannot train on."""
    kinds, wanted, columns = _usable_rows(context)
    for where, source in _all_sources(context):
        kind = source.mapping.kind
        if kind not in kinds:
            yield blocker(
                "wrong-kind",
                f"{source.summary.name} contains {KIND_NAMES.get(kind, kind)}; "
                f"{_trainer_name(context)} trains on {wanted}.",
                _other_rows(context, columns),
                where,
            )


def nothing_to_train(context: RunContext) -> Iterator[Finding]:
    """Report plain text that `data.loss_on` leaves without a trained token."""
    loss_on, sources = context.config.data.loss_on, context.data.sources
    texts = [source.summary.name for source in sources if source.mapping.kind == "text"]
    if loss_on not in _TURNS_ONLY or not texts or context.plan.pretraining is not None:
        return
    names = ", ".join(texts[:3])
    more = f" and {len(texts) - 3} more" if len(texts) > 3 else ""
    verb = "is" if len(texts) == 1 else "are"
    all_texts = len(texts) == len(sources)
    yield Finding(
        "blocker" if all_texts else "caution",
        "no-assistant-turns",
        f"Only {_TURNS_ONLY[loss_on]} would be trained ({loss_on}), but {names}{more} "
        f"{verb} plain text without turns" + ("." if all_texts else "; it is left out."),
        "Set the loss to completion, which trains on all of a text.",
        "data.loss_on",
        "completion",
    )


def trained_validation_file(context: RunContext) -> Iterator[Finding]:
    """Warn of a file that is used for both training and evaluation."""
    trained = {source.summary.sha256 for source in context.data.sources}
    for number, source in enumerate(context.data.validation):
        if source.summary.sha256 in trained:
            yield caution(
                "validation-is-trained",
                f"{source.summary.name} is used for training too, so the evaluation would only "
                "measure memorization.",
                "Evaluate on other rows, or use an evaluation split.",
                context.data.where(number, validation=True),
            )


def _usable_rows(context: RunContext) -> tuple[tuple[str, ...], str, str]:
    facts = context.plan.facts
    if context.plan.pretraining is not None:
        return _TEXTS
    if facts.takes_labels:
        return _LABELS
    if facts.needs_preferences:
        return _PREFERENCES if needs_pairs(context.config) else _PROMPTS
    return _TASKS.get(context.config.task, _TEXT_GENERATION)


def _other_rows(context: RunContext, columns: str) -> str:
    if context.plan.pretraining is not None:
        return "Use text and Markdown files, or rows with a column text; or fine-tune a model."
    return f"Use data with the columns {columns}, or choose a strategy for these rows."


def _trainer_name(context: RunContext) -> str:
    config = context.config
    if context.plan.pretraining is not None:
        return "a training from nothing"
    if context.plan.facts.needs_preferences:
        return context.plan.method
    return config.strategy if config.task == "text-generation" else config.task


def _all_sources(context: RunContext) -> Iterator[tuple[str, LoadedSource]]:
    for number, source in enumerate(context.data.sources):
        yield context.data.where(number), source
    for number, source in enumerate(context.data.validation):
        yield context.data.where(number, validation=True), source
