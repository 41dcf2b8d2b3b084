"""The Runs page: search, filter, sort and annotate runs; sweeps and the queue above them."""

from __future__ import annotations

from typing import Any

from modelforge.errors import MissingPackageError
from modelforge.forge import Forge
from modelforge.runs.listing import RunFilter
from modelforge.runs.notes import LONGEST_NAME, LONGEST_NOTE
from modelforge.services.sweeps.service import SweepView
from ui.contract import PollReply, Reply
from ui.html.components import machine_brief
from ui.html.gradio_page import ServerFunction, gradio_page, number, text, texts
from ui.html.markup import Markup
from ui.html.templates import render
from ui.pages.runs import queue, sweep_form
from ui.pages.runs.sweeps import sweep_cards
from ui.pages.runs.table import GROUPS, MAX_SHOWN, filters, run_rows, show_more

PAGE_SIZE = 25
SORT_ORDERS = {
    "age": "Newest first",
    "name": "By name",
    "loss": "By evaluation loss",
    "duration": "Longest first",
    "size": "Largest first",
}


def page(forge: Forge) -> None:
    """Add the page to the current Blocks."""

    def open(request: Any) -> PollReply:
        query = read_query(request)
        runs = forge.history.page(query, limit=_shown(request))
        queued, sweeps = forge.queue.view(), _sweeps(forge)
        waiting = queue.queue_card(queued)
        is_active = any(runs.states[state] for state in GROUPS["active"][1])
        return PollReply(
            poll=is_active or bool(waiting) or not all(sweep.is_over for sweep in sweeps),
            parts={
                "sweeps": sweep_cards(
                    sweeps, texts(request, "opened"), {run.run for run in queued.runs}
                ),
                "queue": waiting,
                "runs": run_rows(runs),
                "run-filters": filters(runs, query, text(request, "group")),
                "run-more": show_more(runs),
                "machine-brief": machine_brief(forge.machine.current()),
            },
        )

    def change_queue(request: Any) -> Reply:
        return queue.change(forge, request)

    functions = (open, change_queue, *_changes(forge), *sweep_form.functions(forge))
    gradio_page(_body(), "runs", *functions)


def _sweeps(forge: Forge) -> list[SweepView]:
    """Return the sweeps; none where the package that reads them has been removed."""
    try:
        return forge.sweeps.list()
    except MissingPackageError:
        return []


def _changes(forge: Forge) -> tuple[ServerFunction, ...]:
    """Return the functions that change runs."""

    def stop(request: Any) -> Reply:
        forge.runs.stop(text(request, "run"), keep=True)
        return Reply(toast="It stops after the current step.")

    def delete(request: Any) -> Reply:
        forge.trash.delete(texts(request, "runs"))
        return Reply()

    def restore(request: Any) -> Reply:
        forge.trash.restore(texts(request, "runs"))
        return Reply(toast="Restored.")

    def tag(request: Any) -> Reply:
        forge.history.tag(texts(request, "runs"), text(request, "tags").split(","))
        return Reply()

    def annotate(request: Any) -> Reply:
        forge.history.annotate(
            text(request, "run"),
            name=text(request, "name"),
            tags=text(request, "tags").split(","),
            note=text(request, "note"),
        )
        return Reply()

    return stop, delete, restore, tag, annotate


def _shown(request: Any) -> int:
    return min(MAX_SHOWN, max(PAGE_SIZE, number(request, "shown")))


def _body() -> Markup:
    return render("runs", "body", SORT_ORDERS, LONGEST_NAME, LONGEST_NOTE)


def read_query(request: Any) -> RunFilter:
    """Return the query of a request; unknown groups and orders fall back to the defaults."""
    group, query = text(request, "group"), text(request, "query")[:500]
    _title, states = GROUPS.get(group, GROUPS[""])
    is_trial: bool | None = group == "trials"
    if is_trial:
        states = ()
    elif query:
        is_trial = None
    sort = text(request, "sort")
    return RunFilter(
        query=query,
        is_trial=is_trial,
        states=frozenset(states),
        tag=text(request, "tag"),
        sort=sort if sort in SORT_ORDERS else "age",
    )
