"""The list of runs: filters, one row per run, and its actions."""

from __future__ import annotations

import time

from modelforge.runs.listing import RunFilter, RunPage, RunRow
from modelforge.runs.states import RunState
from ui.html import format as fmt
from ui.html.components import empty_state, state_chip
from ui.html.markup import EMPTY, Markup, el, join

MAX_SHOWN = 1000
MAX_TAGS = 8
# Filter → its title and states. Waiting runs are shown in the queue above the list.
GROUPS = {
    "": ("All", tuple(state.value for state in RunState if state is not RunState.QUEUED)),
    "active": ("Active", ("starting", "running", "stopping")),
    "finished": ("Finished", ("finished",)),
    "stopped": ("Stopped", ("stopped",)),
    "failed": ("Failed", ("failed", "lost")),
}
# States of runs that ended before they were finished.
RESUMABLE = ("stopped", "failed", "lost")


def filters(runs: RunPage, query: RunFilter, group: str) -> Markup:
    """Return the filters: the states that occur, and the most common tags."""
    if not _has_runs(runs):
        return EMPTY
    shown: list[Markup] = []
    for key, (title, states) in GROUPS.items():
        count = sum(runs.states[state] for state in states)
        if count or key == group:
            shown.append(_filter("group", key, title, count, is_on=key == group))
    tags = [tag for tag, _ in runs.tags.most_common(MAX_TAGS)]
    if query.tag and query.tag not in tags:
        tags.append(query.tag)
    if tags:
        shown.append(el("span.parting"))
    for tag in tags:
        is_on = tag == query.tag
        shown.append(_filter("tag", "" if is_on else tag, f"#{tag}", runs.tags[tag], is_on=is_on))
    return join(shown)


def _has_runs(runs: RunPage) -> bool:
    return any(runs.states[state] for state in GROUPS[""][1])


def _filter(kind: str, value: str, title: str, count: int, *, is_on: bool) -> Markup:
    return el(
        "button.filter",
        f"{title} ",
        el("span", fmt.number(count)),
        type="button",
        data_action="filter",
        data_kind=kind,
        data_value=value,
        aria_pressed="true" if is_on else "false",
        id=f"filter-{kind}-{title}".replace(" ", "-"),
    )


def run_rows(runs: RunPage, now: float | None = None) -> Markup:
    """Return the list, or what to do if it is empty."""
    if not _has_runs(runs):
        text = "Choose a sample or a file of your own on the Train page; the run appears here."
        return empty_state("No runs yet", text, el("a.btn.go", "Train a model", href="/"))
    if not runs.rows:
        button = el("button.btn", "Show all", type="button", data_action="show-all")
        return empty_state("No run matches", "Try other words, or show all runs.", button)
    return join([_row(run, now or time.time()) for run in runs.rows])


def show_more(runs: RunPage) -> Markup:
    """Return how many of the matching runs are shown, and a button for more."""
    shown = len(runs.rows)
    if shown >= runs.total:
        return EMPTY
    text = f"{fmt.number(shown)} of {fmt.plural(runs.total, 'run')}"
    if shown >= MAX_SHOWN:
        return el("span.sub", f"{text}. Search for the others.")
    button = el("button.btn.s#show-more", "Show more", type="button", data_action="show-more")
    return join([el("span.sub", text), button])


def _row(run: RunRow, now: float) -> Markup:
    texts = [
        fmt.model_name(run.model),
        run.data,
        fmt.date(run.began, now),
        fmt.duration(run.seconds(now)),
        fmt.size(run.bytes),
    ]
    if not run.state.is_over and run.total_steps:
        texts.append(f"step {run.step:,} of {run.total_steps:,}")
    name, value = main_metric(run)
    select = el(
        "input",
        type="checkbox",
        data_select_run=run.id,
        id=f"select-{run.id}",
        aria_label=f"Select {run.name}",
    )
    cause = failure_text(run)
    return el(
        "div.runrow",
        el("label.tick", select),
        el("div", state_chip(run.state)),
        el(
            "div.what",
            el("a.open", run.name, href=f"/?run={run.id}"),
            [el("span.tag", f"#{tag}") for tag in run.tags],
            el("small", " · ".join(texts)),
            el("small.cause", cause) if cause else None,
            el("small.note", run.note) if run.note else None,
        ),
        el("div.loss", [fmt.number(value, 2), el("small", name)] if value is not None else None),
        el("div.acts", _actions(run)),
    )


def failure_text(run: RunRow) -> str:
    """Return why a run failed or was lost; empty for all others."""
    if run.state == "lost":
        return "Its worker ended without an error message."
    if run.state != "failed" or not run.ending:
        return ""
    return str(run.ending.get("what") or "")


def main_metric(run: RunRow) -> tuple[str, float | None]:
    """Return the name and the value of the most important metric of a run."""
    for metric, name in (
        ("reward", "mean reward"),
        ("eval_rewards/margins", "evaluation reward margin"),
    ):
        if metric in run.metrics:
            return name, run.metrics[metric]
    if run.eval_loss is not None:
        return "evaluation loss", run.eval_loss
    return "loss", run.loss


def _actions(run: RunRow) -> list[Markup]:
    buttons = []
    if not run.state.is_over:
        buttons.append(_action(run, "run-stop", "Stop", "button.btn.s"))
    if run.state in RESUMABLE:
        buttons.append(_action(run, "resume-run", "Resume", "button.btn.s"))
    return [*buttons, _menu(run)]


def _menu(run: RunRow) -> Markup:
    address = f"/api/runs/{run.id}"
    edit = _action(
        run,
        "run-edit",
        "Name, tags and note",
        "button",
        data_tags=", ".join(run.tags),
        data_note=run.note,
    )
    items = [
        edit,
        _action(run, "run-reuse", "Train with these settings", "button"),
        el("a", "Download recipe", href=f"{address}/recipe.yaml", download=True),
        el("a", "Download metrics", href=f"{address}/numbers.csv", download=True),
        _action(run, "run-delete", "Delete", "button.bad") if run.state.is_over else None,
    ]
    more = el("summary.btn.s", "More", aria_label=f"More for {run.name}", id=f"more-{run.id}")
    return el("details.menu", more, el("div", items))


def _action(run: RunRow, action: str, title: str, kind: str, **more: object) -> Markup:
    return el(
        kind,
        title,
        type="button",
        data_action=action,
        data_run=run.id,
        data_name=run.name,
        id=f"{action}-{run.id}",
        aria_label=f"{title}: {run.name}",
        **more,
    )
