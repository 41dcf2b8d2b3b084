"""Prepare the next run from a report: mix in general rows, hold out more rows, other rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from modelforge.data.sources.library import load_samples
from modelforge.errors import ConfigError, Problem
from modelforge.forge import Forge
from modelforge.runs.view import RunView
from ui.contract import NextRunReply
from ui.html import format as fmt
from ui.html.gradio_page import ServerFunction, number, text
from ui.pages.run.report import MOST_HELD_OUT

GENERAL = "sample:general"
SOURCES = "data.sources"
Values = Mapping[str, Any]


def functions(forge: Forge) -> list[ServerFunction]:
    """Return the functions that change the settings of the next run."""

    def mix_general(request: Any) -> NextRunReply:
        run, values = forge.runs.view(text(request, "run")), _values(request)
        rows = number(request, "rows")
        sources = with_general(current_sources(run, values), rows)
        return NextRunReply(values={SOURCES: sources}, toast=_mixed_text(rows))

    def hold_out_rows(request: Any) -> NextRunReply:
        run, rows = forge.runs.view(text(request, "run")), number(request, "rows")
        share = eval_share(rows, int(run.dataset.get("rows") or 0))
        toast = f"The next run keeps {fmt.plural(rows, 'row')} for its evaluation."
        return NextRunReply(values={"eval_split": share}, toast=toast)

    return [mix_general, hold_out_rows]


def _values(request: Any) -> Values:
    values = request.get("values") if isinstance(request, Mapping) else None
    return values if isinstance(values, Mapping) else {}


def _mixed_text(rows: int) -> str:
    return f"The next run mixes in {fmt.plural(rows, 'general row')}."


def current_sources(run: RunView, values: Values) -> list[dict[str, Any]]:
    """Return the sources of the next run as far as it is prepared, otherwise those of the run."""
    nested = run.config.get("data") or {}
    for listed in (values.get(SOURCES), run.config.get(SOURCES), nested.get("sources")):
        if isinstance(listed, list) and listed:
            return [dict(source) for source in listed]
        if listed == []:  # the single dataset overrides the sources of the run
            break
    return [{"path": values.get("dataset") or run.config.get("dataset", "")}]


def with_general(sources: Sequence[Mapping[str, Any]], rows: int) -> list[dict[str, Any]]:
    """Return the sources with this number of general rows; repeated where the sample has fewer."""
    size = next((sample.rows for sample in load_samples() if sample.dataset == GENERAL), 0)
    if not size:
        raise ConfigError(
            Problem("data.sources", f"{GENERAL} is not a sample.", "Add general rows of your own.")
        )
    share: dict[str, Any] = {"samples": rows}
    if rows > size:
        share = {"weight": round(rows / size, 4)}
    kept = [dict(source) for source in sources if source.get("path") != GENERAL]
    return [*kept, {"path": GENERAL, **share}]


def eval_share(rows: int, all_rows: int) -> float:
    """Return the share of all rows that holds out this number; raises ConfigError."""
    if not 0 < rows <= all_rows * MOST_HELD_OUT:
        what = f"{rows:,} of {all_rows:,} rows would leave too few to train on."
        raise ConfigError(Problem("eval_split", what, "Add rows to the data."))
    return math.ceil(1000 * rows / all_rows) / 1000
