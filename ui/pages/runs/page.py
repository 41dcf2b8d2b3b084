"""The Runs page: search, filter, sort and annotate runs, and the queue above them."""

from __future__ import annotations

from typing import Any

from modelforge.forge import Forge
from modelforge.runs.listing import RunFilter
from modelforge.runs.notes import LONGEST_NAME, LONGEST_NOTE
from ui.contract import PollReply, Reply
from ui.html.components import field, machine_brief
from ui.html.gradio_page import gradio_page, number, text
from ui.html.markup import Markup, el
from ui.pages.runs import queue
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
        waiting = queue.queue_card(forge.queue.view())
        is_active = any(runs.states[state] for state in GROUPS["active"][1])
        return PollReply(
            poll=is_active or bool(waiting),
            parts={
                "queue": waiting,
                "runs": run_rows(runs),
                "run-filters": filters(runs, query, text(request, "group")),
                "run-more": show_more(runs),
                "machine-brief": machine_brief(forge.machine.current()),
            },
        )

    def stop(request: Any) -> Reply:
        forge.runs.stop(text(request, "run"), keep=True)
        return Reply(toast="It stops after the current step.")

    def delete(request: Any) -> Reply:
        forge.runs.delete(text(request, "run"))
        return Reply(toast="Deleted.")

    def annotate(request: Any) -> Reply:
        forge.history.annotate(
            text(request, "run"),
            name=text(request, "name"),
            tags=text(request, "tags").split(","),
            note=text(request, "note"),
        )
        return Reply()

    def change_queue(request: Any) -> Reply:
        return queue.change(forge, request)

    gradio_page(_body(), "runs", open, stop, delete, annotate, change_queue)


def _shown(request: Any) -> int:
    return min(MAX_SHOWN, max(PAGE_SIZE, number(request, "shown")))


def read_query(request: Any) -> RunFilter:
    """Return the query of a request; unknown groups and orders fall back to the defaults."""
    _title, states = GROUPS.get(text(request, "group"), GROUPS[""])
    sort = text(request, "sort")
    return RunFilter(
        query=text(request, "query")[:500],
        states=frozenset(states),
        tag=text(request, "tag"),
        sort=sort if sort in SORT_ORDERS else "age",
    )


def _body() -> Markup:
    search = el(
        "input.search",
        type="search",
        placeholder="Name, model, data, tag or note",
        aria_label="Search runs",
    )
    orders = [el("option", title, value=value) for value, title in SORT_ORDERS.items()]
    sort = el("select#sort.pick-one", orders, aria_label="Sort order")
    head = el("div.pagehead", el("h1", "Runs"), el("div.find-runs", search, sort))
    return el(
        "div.page.one",
        el(
            "div",
            head,
            queue.queue_section(),
            el("div.filters", data_part="run-filters", role="group", aria_label="Filter"),
            el("div.card", el("div.runs", data_part="runs")),
            el("div.more-runs", data_part="run-more"),
            _selection_bar(),
            _details_dialog(),
        ),
    )


def _selection_bar() -> Markup:
    return el(
        "div.chosen#selection",
        el("span", role="status"),
        el("button.btn.s", "Clear", type="button", data_action="clear-selection"),
        el("button.btn.go", "Compare", type="button", data_action="compare", aria_disabled="true"),
        hidden=True,
    )


def _details_dialog() -> Markup:
    name = el("input#details-name", maxlength=LONGEST_NAME)
    tags = el("input#details-tags", maxlength=420)
    note = el("textarea#details-note.wide-text", rows=5, maxlength=LONGEST_NOTE)
    buttons = el(
        "div.buttons",
        el("button.btn", "Cancel", type="button", data_action="details-close"),
        el("button.btn.go", "Save", type="submit"),
    )
    form = el(
        "form",
        el("b", "Name, tags and note", id="details-title"),
        field("details-name", "Name", name, "Leave it empty for the original name."),
        field("details-tags", "Tags", tags, "Separated by commas."),
        field("details-note", "Note", note),
        buttons,
        method="dialog",
    )
    return el("dialog.ask.about#run-details", form, aria_labelledby="details-title")
