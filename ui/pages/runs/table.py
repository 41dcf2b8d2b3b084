"""The list of runs: a line for each, what it can be narrowed to, and what a line offers."""

from __future__ import annotations

import contextlib
import time

from modelforge.errors import ForgeError
from modelforge.forge import Forge
from modelforge.runs.listing import Page, Row, Wanted
from modelforge.runs.states import RunState
from modelforge.runs.view import RunView
from ui.html import format as words
from ui.html.markup import Safe, el, join
from ui.pages.run.page import chip
from ui.pages.run.resume import row_action

MOST_SHOWN = 1000
MOST_TAGS = 8
MOST_OFFERED = 50
# What a person looks for → the states that are meant.
GROUPS = {
    # What waits to be run stands above the list, in the queue.
    "": ("All", tuple(state.value for state in RunState if state is not RunState.QUEUED)),
    "active": ("Going on", ("starting", "running", "stopping")),
    "finished": ("Finished", ("finished",)),
    "stopped": ("Stopped", ("stopped",)),
    "failed": ("Failed", ("failed", "lost")),
}


def filters(found: Page, wanted: Wanted, group: str) -> Safe:
    """Return what the list can be narrowed to: states that occur, and the commonest tags."""
    if not _were(found):
        return Safe("")
    shown: list[Safe] = []
    for key, (title, states) in GROUPS.items():
        count = sum(found.states[state] for state in states)
        if count or key == group:
            shown.append(_filter("group", key, title, count, on=key == group))
    tags = [tag for tag, _ in found.tags.most_common(MOST_TAGS)]
    if wanted.tag and wanted.tag not in tags:
        tags.append(wanted.tag)
    marked = [
        _filter("tag", "" if tag == wanted.tag else tag, f"#{tag}", found.tags[tag],
                on=tag == wanted.tag)
        for tag in tags
    ]  # fmt: skip
    return join([*shown, el("span.parting") if marked else "", *marked])


def _were(found: Page) -> bool:
    """Say whether any run has begun."""
    return any(found.states[state] for state in GROUPS[""][1])


def _filter(kind: str, value: str, title: str, count: int, *, on: bool) -> Safe:
    return el(
        "button.filter",
        f"{title} ",
        el("span", words.number(count)),
        type="button",
        data_do="filter",
        data_kind=kind,
        data_value=value,
        aria_pressed="true" if on else "false",
        id=f"filter-{kind}-{title}".replace(" ", "-"),
    )


def listing(found: Page, now: float | None = None) -> Safe:
    """Return the list, or what to do where it is empty."""
    if not _were(found):
        return el(
            "div.empty-state",
            el("b", "No runs yet"),
            el(
                "p",
                "Choose a sample or a file of your own on the Train page; the run appears here.",
            ),
            el("a.btn.go", "Train a model", href="/"),
        )
    if not found.rows:
        return el(
            "div.empty-state",
            el("b", "No run matches"),
            el("p", "Try fewer or other words, or show all of them."),
            el("button.btn", "Show all", type="button", data_do="show-all"),
        )
    return join([_row(run, now or time.time()) for run in found.rows])


def more(found: Page) -> Safe:
    """Return how many of the wanted runs are shown, and the way to the rest."""
    shown = len(found.rows)
    if shown >= found.total:
        return Safe("")
    told = f"{words.number(shown)} of {words.plural(found.total, 'run')}"
    if shown >= MOST_SHOWN:
        return el("span.sub", f"{told}. Search for the others.")
    return join(
        [
            el("span.sub", told),
            el("button.btn.s", "Show more", type="button", data_do="show-more", id="show-more"),
        ]
    )


def _row(run: Row, now: float) -> Safe:
    told = [
        words.model(run.model),
        run.data,
        words.when(run.began, now),
        words.duration(run.seconds(now)),
        words.size(run.bytes),
    ]
    if not run.is_over and run.total_steps:
        told.append(f"update {run.step:,} of {run.total_steps:,}")
    about, value = worth(run)
    return el(
        "div.runrow",
        el(
            "label.tick",
            el("input", type="checkbox", data_choose_run=run.id, id=f"choose-{run.id}",
               aria_label=f"Choose {run.name}"),
        ),
        el("div", chip(run.state)),
        el(
            "div.what",
            el("a.open", run.name, href=f"/?run={run.id}"),
            [el("span.tag", f"#{tag}") for tag in run.tags],
            el("small", " · ".join(told)),
            el("small.cause", cause) if (cause := cause_of(run)) else None,
            el("small.note", run.note) if run.note else None,
        ),
        el("div.loss", words.number(value, 2), el("small", about))
        if value is not None
        else el("div.loss"),
        el("div.acts", _acts(run)),
    )  # fmt: skip


def cause_of(run: Row) -> str:
    """Return why a run ended that did not finish, as far as anybody knows."""
    if run.state == "lost":
        return "Its worker went away without a word."
    if run.state != "failed" or not run.ending:
        return ""
    return str(run.ending.get("what") or "")


def with_result(forge: Forge, chosen: str) -> list[RunView]:
    """Return the newest runs that left something, and the chosen one however old it is."""
    ready = forge.runs(Wanted(result=True), limit=MOST_OFFERED)
    if chosen and all(run.id != chosen for run in ready):
        with contextlib.suppress(ForgeError):
            if forge.folder(chosen).has_result:
                ready.append(forge.run(chosen))
    return ready


def worth(run: Row | RunView) -> tuple[str, float | None]:
    """Return the one number that says most about a run, and what it is."""
    for name, about in (("reward", "mean reward"), ("eval_rewards/margins", "held-out margin")):
        if name in run.metrics:
            return about, run.metrics[name]
    if run.eval_loss is not None:
        return "held-out loss", run.eval_loss
    return "loss", run.loss


def _acts(run: Row) -> list[Safe]:
    """Return what can be done with a run: the one thing to do next, and a menu of the rest."""
    stop = None if run.is_over else _act(run, "run-stop", "Stop", "button.btn.s")
    return [one for one in (stop, row_action(run), _menu(run)) if one]


def _menu(run: Row) -> Safe:
    saved = el("a", "Download recipe", href=f"/api/runs/{run.id}/recipe.yaml", download=True)
    numbers = el("a", "Download numbers", href=f"/api/runs/{run.id}/numbers.csv", download=True)
    return el(
        "details.menu",
        el("summary.btn.s", "More", aria_label=f"More about {run.name}", id=f"more-{run.id}"),
        el(
            "div",
            _act(run, "run-about", "Name, tags and note", "button",
                 data_tags=", ".join(run.tags), data_note=run.note),
            _act(run, "run-again", "Train with its settings", "button"),
            saved,
            numbers,
            _act(run, "run-delete", "Delete", "button.bad") if run.is_over else None,
        ),
    )  # fmt: skip


def _act(run: Row, does: str, title: str, kind: str, **more: object) -> Safe:
    return el(
        kind,
        title,
        type="button",
        data_do=does,
        data_run=run.id,
        data_name=run.name,
        id=f"{does}-{run.id}",
        aria_label=f"{title}: {run.name}",
        **more,
    )
