"""Runs: every run there is, with its state, and what can be done with it."""

from __future__ import annotations

import time
from typing import Any

from modelforge.forge import Forge
from modelforge.runs.states import RunState
from modelforge.sight import RunView
from ui import cards, queue, words
from ui.markup import Safe, el, join
from ui.pages.run import chip
from ui.scene import Reply, scene, text


def page(forge: Forge) -> None:
    """Place the page in the current Blocks."""

    def open(sent: Any) -> Reply:
        runs = [run for run in forge.runs() if run.state is not RunState.QUEUED]
        waiting = queue.parts(forge)
        shown = [run for run in runs if matches(run, text(sent, "query"))]
        return {
            "lively": bool(waiting["queue"]) or any(not run.state.is_over for run in runs),
            "parts": {
                **waiting,
                "runs": listing(shown, anything=bool(runs)),
                "machine-brief": join([cards.machine_brief(forge.machine())]),
            },
        }

    def stop(sent: Any) -> Reply:
        forge.stop(text(sent, "run"), keep=True)
        return {"toast": "It stops after the update in hand."}

    def delete(sent: Any) -> Reply:
        forge.delete(text(sent, "run"))
        return {"toast": "Deleted."}

    script = f"((root, server) => {{ {queue.SCRIPT}; face.page(root, server, 2000); }})"
    scene(_body(), script, open, stop, delete, *queue.asked(forge))


def _body() -> Safe:
    return el(
        "div.page.one",
        el(
            "div",
            el(
                "div.pagehead",
                el("h1", "Runs"),
                el(
                    "input.search",
                    type="search",
                    placeholder="Name, model or data",
                    aria_label="Search runs",
                ),
            ),
            queue.section(),
            el("div.card", el("div.runs", data_part="runs")),
        ),
    )


def matches(run: RunView, query: str) -> bool:
    """Say whether every word of the query stands somewhere in the run's line."""
    line = " ".join((run.name, run.id, str(run.state), _model(run), _data(run))).lower()
    return all(word in line for word in query.lower().split())


def listing(runs: list[RunView], *, anything: bool, now: float | None = None) -> Safe:
    """Return the list, or what to do where it is empty."""
    if not anything:
        return el(
            "div.empty-state",
            el("b", "No runs yet"),
            el(
                "p",
                "Choose a sample or a file of your own on the Train page; the run appears here.",
            ),
            el("a.btn.go", "Train a model", href="/"),
        )
    if not runs:
        return el(
            "div.empty-state", el("b", "No run matches"), el("p", "Try fewer or other words.")
        )
    return join([_row(run, now or time.time()) for run in runs])


def _row(run: RunView, now: float) -> Safe:
    over = run.state.is_over
    told = [
        _model(run),
        _data(run),
        words.when(run.began, now),
        words.duration(_seconds(run, now)),
    ]
    if not over and run.total_steps:
        told.append(f"update {run.step:,} of {run.total_steps:,}")
    cause = run.ending.get("what") if run.ending and run.ending.get("kind") == "failed" else None
    about, loss = worth(run)
    return el(
        "div.runrow",
        el("div", chip(str(run.state))),
        el(
            "div.what",
            el("a.open", run.name, href=f"/?run={run.id}"),
            el("small", " · ".join(told)),
            el("small", cause) if cause else None,
        ),
        el("div.loss", words.number(loss, 2), el("small", about))
        if loss is not None
        else el("div.loss"),
        _button(run, over=over),
    )


def worth(run: RunView) -> tuple[str, float | None]:
    """Return the one number that says most about a run, and what it is."""
    for name, about in (("reward", "mean reward"), ("eval_rewards/margins", "held-out margin")):
        if name in run.metrics:
            return about, run.metrics[name]
    if run.eval_loss is not None:
        return "held-out loss", run.eval_loss
    return "loss", run.loss


def _button(run: RunView, *, over: bool) -> Safe:
    return el(
        "button.btn.s",
        "Delete" if over else "Stop",
        type="button",
        data_do="run-delete" if over else "run-stop",
        data_run=run.id,
        data_name=run.name,
        id=f"act-{run.id}",
        aria_label=f"{'Delete' if over else 'Stop'} {run.name}",
    )


def _seconds(run: RunView, now: float) -> float:
    return (run.updated if run.state.is_over else now) - run.began


def _model(run: RunView) -> str:
    return words.model(run.config.get("model_name", ""))


def _data(run: RunView) -> str:
    return str(run.config.get("dataset", "")).replace("\\", "/").rsplit("/", 1)[-1]
