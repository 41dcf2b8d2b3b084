"""What preflight says of the data: what the first look found, and whether it suits the settings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from modelforge.errors import Finding
from modelforge.preflight.context import RunContext
from modelforge.preflight.speed import estimate_tokens

USUAL_SPLIT = 0.1


def data_findings(case: RunContext) -> Iterator[Finding]:
    """Pass on what the first look at the data found."""
    if case.look:
        yield from case.look.findings


def split_is_possible(case: RunContext) -> Iterator[Finding]:
    """Refuse a split that leaves nothing on one side, and tell when nothing is held out."""
    share = case.config.eval_split
    if case.config.data.validation_sources:
        return  # the plan tells that no share is held out then
    if share == 0:
        yield Finding(
            "note",
            "no-evaluation",
            "No rows are held out, so the run cannot tell learning from memorising.",
            f"Hold out {USUAL_SPLIT:g} of the rows.",
            "eval_split",
            USUAL_SPLIT,
        )
    elif share == 1:
        yield Finding(
            "blocker",
            "no-training-rows",
            "All rows are held out (1), which leaves nothing to train on.",
            f"Hold out {USUAL_SPLIT:g} of the rows.",
            "eval_split",
            USUAL_SPLIT,
        )
    elif case.look and case.look.rows < 2:
        yield Finding(
            "blocker",
            "no-eval-rows",
            f"{case.look.rows} row cannot be split into rows to train on and rows to check with.",
            "Use more rows, or hold out 0.",
            "eval_split",
            0,
        )


def rows_cut(case: RunContext) -> Iterator[Finding]:
    """Tell when the longest row is longer than what the run reads of it."""
    if case.look is None or case.config.packing:
        return
    longest, limit = int(estimate_tokens(case.look.longest_chars)), case.plan.max_length
    if longest <= limit:
        return
    context = case.facts.context if case.facts else None
    room = min(-(-longest // 64) * 64, context or limit)
    yield Finding(
        "note",
        "rows-cut",
        f"The longest row has about {longest} tokens; {_FATE[_strategy(case)].format(limit)}",
        f"Set the longest row to {room}, which needs more memory." if room > limit else "",
        "max_seq_length",
        room if room > limit else None,
    )


_FATE = {
    "right": "what lies beyond {} is cut.",
    "left": "only the last {} are read.",
    "delete": "rows beyond {} are left out.",
    "split": "rows beyond {} become several.",
}


def _strategy(case: RunContext) -> str:
    return case.config.data.truncation_strategy


if TYPE_CHECKING:
    from modelforge.data.sources.load import LoadedSource

ANSWERS = ("pair", "instruction", "messages", "summary")
HOLDS = {
    "text": "plain text",
    "pair": "questions and answers",
    "instruction": "instructions and answers",
    "messages": "conversations",
    "summary": "documents and summaries",
    "preference": "preferences (a better and a worse answer)",
    "preference-label": "answers marked good or bad",
    "span": "questions whose answers stand in a context",
}
_ANY_ANSWERS = "rows with a question and an answer, conversations, or plain text"
_TASKS = {
    "summarization": (ANSWERS, "rows with a document and a summary", "document and summary"),
    "extractive-question-answering": (
        ("span", *ANSWERS),
        "rows with a context, a question and its answer",
        "context, question and answers",
    ),
}
_PREFERENCES = (
    ("preference",),
    "rows with a better and a worse answer",
    "prompt, chosen and rejected",
)
_JUDGED = (
    ("preference-label", "preference"),
    "rows with an answer marked good or bad, or with a better and a worse one",
    "prompt, completion and label",
)
_TEXTLESS = {
    "assistant": "assistant turns",
    "last_round": "the last assistant turn",
}


def wrong_kind(case: RunContext) -> Iterator[Finding]:
    """Refuse rows that the strategy or the task cannot learn from."""
    usable, wanted, columns = _wanted(case)
    for where, supply in _all(case):
        kind = supply.mapping.kind
        if kind in usable:
            continue
        yield Finding(
            "blocker",
            "wrong-kind",
            f"{supply.summary.name} holds {HOLDS.get(kind, kind)}; {_learner(case)} learns from "
            f"{wanted}.",
            f"Give data with the columns {columns}, or choose what suits these rows.",
            where,
        )


def nothing_to_learn(case: RunContext) -> Iterator[Finding]:
    """Tell where `data.loss_on` leaves plain text without a token to learn."""
    loss_on = case.config.data.loss_on
    if loss_on not in _TEXTLESS:
        return
    supplies = case.material.sources
    texts = [supply for supply in supplies if supply.mapping.kind == "text"]
    if not texts:
        return
    names = ", ".join(supply.summary.name for supply in texts[:3])
    more = f" and {len(texts) - 3} more" if len(texts) > 3 else ""
    whole = len(texts) == len(supplies)
    yield Finding(
        "blocker" if whole else "caution",
        "no-assistant-turns",
        f"Only {_TEXTLESS[loss_on]} would be learned ({loss_on}), but {names}{more} "
        f"{'holds' if len(texts) == 1 else 'hold'} plain text, which has no turns"
        + ("." if whole else "; it is left out."),
        "Learn from completion, which learns the whole of a text.",
        "data.loss_on",
        "completion",
    )


def same_in_validation(case: RunContext) -> Iterator[Finding]:
    """Warn of a file that is both learned from and checked on."""
    learned = {supply.summary.sha256: supply.summary.name for supply in case.material.sources}
    for number, supply in enumerate(case.material.validation):
        if supply.summary.sha256 in learned:
            yield Finding(
                "caution",
                "validation-is-trained",
                f"{supply.summary.name} is checked on and also learned from, so the check would "
                "only tell how well the model remembers.",
                "Check on other rows, or let a share of the rows be held out.",
                case.material.where(number, validation=True),
            )


def _wanted(case: RunContext) -> tuple[tuple[str, ...], str, str]:
    if case.plan.method == "kto":
        return _JUDGED
    if case.config.strategy in ("dpo", "rlhf"):
        return _PREFERENCES
    if case.config.task in _TASKS:
        return _TASKS[case.config.task]
    return ("text", *ANSWERS), _ANY_ANSWERS, "input and output"


def _learner(case: RunContext) -> str:
    config = case.config
    if case.plan.method in ("kto", "orpo"):
        return case.plan.method
    if config.strategy in ("dpo", "rlhf") or config.task == "text-generation":
        return config.strategy
    return config.task


def _all(case: RunContext) -> Iterator[tuple[str, LoadedSource]]:
    for number, supply in enumerate(case.material.sources):
        yield case.material.where(number), supply
    for number, supply in enumerate(case.material.validation):
        yield case.material.where(number, validation=True), supply
