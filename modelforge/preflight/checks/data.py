"""What preflight says of the data: what the first look found, and whether it suits the settings."""

from __future__ import annotations

from collections.abc import Iterator

from modelforge.errors import Finding
from modelforge.preflight.context import Case
from modelforge.preflight.speed import tokens_in

USUAL_SPLIT = 0.1


def data_findings(case: Case) -> Iterator[Finding]:
    """Pass on what the first look at the data found."""
    if case.look:
        yield from case.look.findings


def split_is_possible(case: Case) -> Iterator[Finding]:
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


def rows_cut(case: Case) -> Iterator[Finding]:
    """Tell when the longest row is longer than what the run reads of it."""
    if case.look is None or case.config.packing:
        return
    longest, limit = int(tokens_in(case.look.longest_chars)), case.plan.max_length
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


def _strategy(case: Case) -> str:
    return case.config.data.truncation_strategy
