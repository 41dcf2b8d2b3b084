"""Runs: every run there is, found by words, states and tags, and what can be done with it."""

from __future__ import annotations

from typing import Any

from modelforge.forge import Forge
from modelforge.runs.listing import Wanted
from modelforge.runs.notes import LONGEST_NAME, LONGEST_NOTE
from ui.html.gradio_page import Reply, number, scene, text
from ui.html.markup import Safe, el, join
from ui.pages.runs import queue
from ui.pages.runs.table import GROUPS, MOST_SHOWN, filters, listing, more
from ui.pages.train import cards

AT_ONCE = 25
SORTS = (("age", "Newest first"), ("name", "By name"), ("loss", "By held-out loss"),
         ("duration", "Longest first"), ("size", "Biggest first"))  # fmt: skip


def page(forge: Forge) -> None:
    """Place the page in the current Blocks."""

    def open(sent: Any) -> Reply:
        wanted = wanted_in(sent)
        limit = min(MOST_SHOWN, max(AT_ONCE, number(sent, "shown")))
        found = forge.archive.page(wanted, limit=limit)
        waiting = queue.parts(forge)
        active = any(found.states[state] for state in GROUPS["active"][1])
        return {
            "lively": active or bool(waiting["queue"]),
            "parts": {
                **waiting,
                "runs": listing(found),
                "run-filters": filters(found, wanted, text(sent, "group")),
                "run-more": more(found),
                "machine-brief": join([cards.machine_brief(forge.machine())]),
            },
        }

    def stop(sent: Any) -> Reply:
        forge.stop(text(sent, "run"), keep=True)
        return {"toast": "It stops after the update in hand."}

    def delete(sent: Any) -> Reply:
        forge.delete(text(sent, "run"))
        return {"toast": "Deleted."}

    def annotate(sent: Any) -> Reply:
        forge.archive.annotate(
            text(sent, "run"),
            name=text(sent, "name"),
            tags=text(sent, "tags").split(","),
            note=text(sent, "note"),
        )
        return {"done": True}

    script = f"((root, server) => {{ {queue.SCRIPT}; face.history(root, server); }})"
    scene(_body(), script, open, stop, delete, annotate, *queue.asked(forge))


def wanted_in(sent: Any) -> Wanted:
    """Return which runs the browser asks for; what it cannot mean asks for nothing."""
    _title, states = GROUPS.get(text(sent, "group"), GROUPS[""])
    sort = text(sent, "sort")
    return Wanted(
        query=text(sent, "query")[:500],
        states=frozenset(states),
        tag=text(sent, "tag"),
        sort=sort if sort in dict(SORTS) else "age",
    )


def _body() -> Safe:
    return el(
        "div.page.one",
        el(
            "div",
            el(
                "div.pagehead",
                el("h1", "Runs"),
                el(
                    "div.find-runs",
                    el("input.search", type="search", placeholder="Name, model, data, tag or note",
                       aria_label="Search runs"),
                    el("select#sort.pick-one",
                       [el("option", title, value=value) for value, title in SORTS],
                       aria_label="Order"),
                ),
            ),
            queue.section(),
            el("div.filters", data_part="run-filters", role="group", aria_label="Show"),
            el("div.card", el("div.runs", data_part="runs")),
            el("div.more-runs", data_part="run-more"),
            _chosen_bar(),
            _about(),
        ),
    )  # fmt: skip


def _chosen_bar() -> Safe:
    return el(
        "div.chosen#chosen",
        el("span", role="status"),
        el("button.btn.s", "Clear", type="button", data_do="clear-chosen"),
        el("button.btn.go", "Compare", type="button", data_do="compare", aria_disabled="true"),
        hidden=True,
    )


def _about() -> Safe:
    """Return the dialog in which a run is named, tagged and noted."""

    def field(key: str, label: str, control: Safe, hint: str) -> Safe:
        return el("div.f", el("div.lab", el("label", label, for_=key)), control,
                  el("small.hint", hint))  # fmt: skip

    return el(
        "dialog.ask.about#about",
        el(
            "form",
            el("b", "About this run", id="about-title"),
            field("about-name", "Name", el("input#about-name", maxlength=LONGEST_NAME),
                  "Leave it empty for its first name."),
            field("about-tags", "Tags", el("input#about-tags", maxlength=420),
                  "Parted by commas."),
            field("about-note", "Note",
                  el("textarea#about-note.wide-text", rows=5, maxlength=LONGEST_NOTE), ""),
            el(
                "div.buttons",
                el("button.btn", "Cancel", type="button", data_do="about-close"),
                el("button.btn.go", "Save", type="submit"),
            ),
            method="dialog",
        ),
        aria_labelledby="about-title",
    )  # fmt: skip
