"""The results of a session as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

SHOWN_ROWS = 80


def as_markdown(session: Mapping[str, Any]) -> str:
    """Return the page of a session."""
    steps = session["steps"]
    lines = [
        f"# {session['title']}",
        "",
        f"{session['date']}, Python {session['python']}, {session['seconds']:.0f} s"
        + (", on the CPU with tiny models: the figures mean nothing." if session["play"] else "."),
        "",
        "| step | result | seconds | limit |",
        "| --- | --- | --- | --- |",
        *(
            f"| {step['title']} | {step['state']} | {step['seconds']:.0f} | {step['limit_s']:.0f} |"
            for step in steps
        ),
    ]
    for step in steps:
        lines += ["", f"## {step['title']}", "", *_results(step)]
    return "\n".join(lines).rstrip() + "\n"


def _results(step: Mapping[str, Any]) -> Iterator[str]:
    if step["state"] != "done":
        yield f"The step is {step['state']}."
        yield ""
    for name, value in step["results"].items():
        rows = _rows(value)
        if rows:
            yield from ("", f"{_words(name)}:", "", *_table(rows), "")
        elif isinstance(value, Mapping):
            yield f"- {_words(name)}: {_inline(value)}"
        else:
            yield f"- {_words(name)}: {_cell(value)}"
    if step["output"]:
        yield from ("", "```", *(line.replace("```", "'''") for line in step["output"]), "```")


def _rows(value: Any) -> list[Mapping[str, Any]]:
    if isinstance(value, list) and value and all(isinstance(row, Mapping) for row in value):
        return value[:SHOWN_ROWS]
    return []


def _table(rows: list[Mapping[str, Any]]) -> list[str]:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return [
        f"| {' | '.join(map(_words, columns))} |",
        f"|{' --- |' * len(columns)}",
        *(f"| {' | '.join(_cell(row.get(name, '')) for name in columns)} |" for row in rows),
    ]


def _inline(values: Mapping[str, Any]) -> str:
    return "; ".join(f"{_words(name)} {_cell(value)}" for name, value in values.items())


def _words(name: str) -> str:
    return str(name).replace("_", " ")


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return f"({_inline(value)})"
    if isinstance(value, list):
        return ", ".join(map(_cell, value))
    text = "unknown" if value is None else str(value)
    return text.replace("|", "\\|").replace("\n", "<br>")[:600]
