"""Checks of differential privacy: its package, its precision, and how much data there is."""

from __future__ import annotations

from collections.abc import Iterator

from modelforge.config.schema.privacy import auto_delta
from modelforge.errors import Finding, blocker, caution, note
from modelforge.preflight.context import RunContext, train_rows

ENABLED = "privacy.enabled"
PACKAGE = "opacus"
# With fewer rows the noise hides what there is to learn.
FEW_ROWS = 1_000


def privacy_impossible(context: RunContext) -> Iterator[Finding]:
    """Refuse differential privacy without its package, or in fp16."""
    if not context.config.privacy.enabled:
        return
    if PACKAGE not in context.machine.packages:
        yield blocker(
            "privacy-package",
            "Differential privacy needs the package opacus, which is not installed.",
            "Run `python launch.py setup --with privacy`, or set it to false.",
            ENABLED,
            False,
        )
    if context.plan.precision == "fp16":
        yield blocker(
            "privacy-precision",
            "This GPU trains in fp16, which scales the loss; gradients must be clipped at their "
            "true size.",
            "Set hardware.precision to fp32.",
            "hardware.precision",
            "fp32",
        )


def privacy_costs(context: RunContext) -> Iterator[Finding]:
    """Say what differential privacy does to this run, and warn of few rows."""
    config = context.config
    if not config.privacy.enabled:
        return
    rows = _rows(context)
    if rows is None:
        return
    if rows < FEW_ROWS:
        yield caution(
            "privacy-few-rows",
            f"With {rows:,} training rows the noise hides most of what there is to learn; "
            f"differential privacy needs {FEW_ROWS:,} or more.",
            "Use more rows, or larger batches.",
            ENABLED,
        )
    delta = config.privacy.delta or auto_delta(rows)
    yield note(
        "privacy-spent",
        f"The run spends epsilon {config.privacy.epsilon:g} at delta {delta:.1e} for each of "
        f"{rows:,} rows. Each row passes the model alone, which takes longer.",
        where="privacy.epsilon",
    )
    if config.evaluates:
        yield note(
            "privacy-evaluation",
            "Evaluation rows are not protected: the step that is kept depends on them.",
            where="evaluation.keep_best",
        )


def _rows(context: RunContext) -> int | None:
    """Return the number of training rows; without opened sources, by the summary of the data."""
    model, summary = context.model, context.summary
    rows = None if model is None else train_rows(context.config, model, context.data)
    if rows is not None or summary is None:
        return rows
    return round(summary.rows * (1 - context.config.eval_split))
