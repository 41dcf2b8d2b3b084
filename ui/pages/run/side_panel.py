"""What stands beside a run: planned against measured, what can be done, what is trained."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from modelforge.diagnosis.classify import Cause
from modelforge.runs.view import RunView
from modelforge.services.diagnosis import Change
from modelforge.services.resume import Offers
from ui.html import format as words
from ui.html.markup import Safe, el, join
from ui.pages.run.resume import ways
from ui.pages.run.state import RunPicture
from ui.pages.train import plan_panel


@dataclass(frozen=True)
class Seen:
    """One moment of a run: its record, picture, plan, and the worker's own words.

    `cause` is why it failed or was lost, and `changes` are what the button against it changes.
    """

    run: RunView
    picture: RunPicture
    planned: Mapping[str, Any]
    printed: str = ""
    has_result: bool = False
    cause: Cause | None = None
    changes: list[Change] = field(default_factory=list)
    offers: Offers | None = None


def side(seen: Seen) -> Safe:
    """Return what was planned against what is measured, and what can be done."""
    run, picture = seen.run, seen.picture
    over = run.state.is_over
    rows = [
        plan_panel.row("As planned", words.duration(seen.planned.get("seconds"))),
        plan_panel.row("It took" if over else "Now expected", words.duration(expected(seen))),
        plan_panel.row("Planned memory", words.gib(seen.planned.get("memory_total_gib"))),
        plan_panel.row("Measured", words.gib(picture.peak_memory_gib)),
        _speed(seen),
        _adjusted(run.adjusted) if run.adjusted else None,
    ]
    end = _ended(seen) if over else _going(seen)
    onward = ways(run, seen.offers) if over else None
    return join([el("h2.quiet", "This run"), el("hr"), rows, el("hr"), onward, end])


def left(seen: Seen, now: float | None = None) -> float | None:
    """Return the seconds until the run ends, all that is still to come included."""
    told = seen.run.seconds_left
    if told is None or seen.run.state.is_over:
        return None
    return max(0.0, told - max(0.0, (now or time.time()) - seen.run.updated))


def expected(seen: Seen) -> float | None:
    """Return how long the run takes: what it has taken, and what is left while it goes on."""
    taken, told = seen.picture.seconds_taken, seen.run.seconds_left
    if seen.run.state.is_over:
        return taken
    return None if told is None or taken is None else taken + told


def _speed(seen: Seen) -> list[Safe] | None:
    """Return the tokens a second that were foretold and those that are measured."""
    foretold = seen.planned.get("tokens_per_s")
    if not foretold:
        return None
    points = [value for _, value in seen.picture.now.series["tokens_per_s"]]
    # The first update is slower than all others.
    measured = median(points[1:] or points) if points else None
    return [
        plan_panel.row("Planned tokens a second", words.number(foretold)),
        plan_panel.row("Measured", words.number(measured)),
    ]


def _adjusted(told: Mapping[str, Any]) -> Safe:
    """Return how the run goes on since memory ran out."""
    rows = words.plural(int(told.get("micro_batch") or 1), "row")
    again = ", activations worked out again" if told.get("gradient_checkpointing") else ""
    return el(
        "p.fine.adjusted",
        f"Memory ran out at update {words.number(told.get('step'))}: since then {rows} at a time, "
        f"{words.number(told.get('accumulation'))} times an update{again}. What is learned stays "
        "the same.",
    )


def _going(seen: Seen) -> Safe:
    if str(seen.run.state) == "queued":
        return join(
            [
                el("p.help", "It starts by itself when the machine is free and its turn comes."),
                el("div.buttons", el("a.btn", "Show the queue", href="/runs", id="to-queue")),
            ]
        )
    if str(seen.run.state) == "stopping":
        return el(
            "p.help",
            "It ends after the update in hand. A worker that does not listen is ended for it.",
        )
    return join(
        [
            el("p.help", "You can close this page. Training goes on, "
                "and this view comes back as it is."),
            el(
                "div.buttons",
                el("button.btn#stop-keep", "Stop and keep", type="button", data_do="stop-keep"),
                el("button.btn.danger#stop-discard", "Discard", type="button",
                   data_do="stop-discard",
                   aria_label="Stop and discard"),
            ),
        ]
    )  # fmt: skip


def _ended(seen: Seen) -> Safe:
    run = seen.run
    again = el("a.btn", "Train another", href="/?new=1", data_do="new-run", id="again")
    if not seen.has_result:
        return el("div.buttons", again)
    # One way is the first to take; a run that was cut short is gone on with.
    resume = seen.offers.resume if seen.offers else None
    goes_on = resume is not None and resume.step and not resume.why_not
    first = "a.btn.wide" if goes_on else "a.btn.go.wide"
    return join(
        [
            el(first, "Chat with it", href=f"/chat?run={run.id}", id="chat"),
            el(
                "div.buttons",
                again,
                el("a.btn", "Export", href=f"/export?run={run.id}", id="export"),
            ),
        ]
    )


def trained(seen: Seen) -> Safe:
    """Return what the worker trains on, once the rows are tokens."""
    told = seen.picture.now.plan
    trained, whole = told.get("trained_tokens"), told.get("all_tokens")
    rows = [
        ("Trained rows", words.number(told.get("train_rows"))),
        ("Held-out rows", words.number(told.get("eval_rows"))),
        # What is learned from rewards is written only while it learns.
        ("Learned tokens", f"{words.number(trained)} of {words.number(whole)}")
        if trained is not None
        else ("Tokens of the prompts", words.number(whole)),
        ("Rows cut short", words.number(told.get("truncated_rows"))),
        ("Trained weights", words.number(told.get("trainable_parameters"))),
        ("Precision", f"{told.get('precision', '–')} on {told.get('device', '–')}"),
    ]
    if not told:
        return el("p.help", "What is trained appears here once the rows are tokens.")
    return join(
        [el("h2.quiet", "What is trained"), el("hr"), [plan_panel.row(*row) for row in rows]]
    )
