"""The list of runs: filters, one row per run, and its actions."""

from __future__ import annotations

import time

from modelforge.runs.listing import TRIAL, RunFilter, RunPage, RunRow
from modelforge.runs.states import RunState
from ui.html import format as fmt
from ui.html.components import empty_state
from ui.html.markup import EMPTY, Markup, el, join
from ui.html.templates import render

MAX_SHOWN = 1000
MAX_TAGS = 8
# Filter → its title and states. Waiting runs are shown in the queue above the list, and trials of
# sweeps in their card.
GROUPS = {
    "": ("All", tuple(state.value for state in RunState if state is not RunState.QUEUED)),
    "active": ("Active", ("starting", "running", "stopping")),
    "finished": ("Finished", ("finished",)),
    "stopped": ("Stopped", ("stopped",)),
    "failed": ("Failed", ("failed", "lost")),
    "trials": ("Trials", (TRIAL,)),
}
# States of runs that ended before they were finished.
RESUMABLE = ("stopped", "failed", "lost")


def filters(runs: RunPage, query: RunFilter, group: str) -> Markup:
    """Return the filters: the states that occur, and the most common tags."""
    if not (_has_runs(runs) or runs.states[TRIAL]):
        return EMPTY
    shown: list[Markup] = []
    for key, (title, states) in GROUPS.items():
        count = sum(runs.states[state] for state in states)
        if count or key == group:
            shown.append(render("runs", "filter", "group", key, title, count, key == group))
    tags = [tag for tag, _ in runs.tags.most_common(MAX_TAGS)]
    if query.tag and query.tag not in tags:
        tags.append(query.tag)
    if tags:
        shown.append(el("span.parting"))
    for tag in tags:
        is_on = tag == query.tag
        value = "" if is_on else tag
        shown.append(render("runs", "filter", "tag", value, f"#{tag}", runs.tags[tag], is_on))
    return join(shown)


def _has_runs(runs: RunPage) -> bool:
    return any(runs.states[state] for state in GROUPS[""][1])


def run_rows(runs: RunPage, now: float | None = None) -> Markup:
    """Return the list, or what to do if it is empty."""
    if not runs.rows and not _has_runs(runs):
        if runs.states[TRIAL]:
            text = "The trials of sweeps are under the filter Trials."
            return empty_state("Only trials yet", text)
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
        return render("runs", "more", f"{text}. Search for the others.", has_button=False)
    return render("runs", "more", text, has_button=True)


def _row(run: RunRow, now: float) -> Markup:
    texts = [
        fmt.model_name(run.model),
        fmt.method(run.strategy),
        fmt.dataset(run.data),
        fmt.date(run.began, now),
        fmt.duration(run.seconds(now)),
        fmt.size(run.bytes),
    ]
    if run.target:
        texts.insert(0, f"on {run.target}")
    if not run.state.is_over and run.total_steps:
        texts.append(f"step {fmt.progress(run.step, run.total_steps)}")
    name, value = main_metric(run)
    summary, cause = " · ".join(texts), failure_text(run)
    return render("runs", "row", run, summary, cause, name, value, resume_label(run))


def resume_label(run: RunRow) -> str:
    """Return the label of the button that continues a run; empty if it cannot be continued."""
    if run.state not in RESUMABLE:
        return ""
    return "Resume" if run.sizes.keys() & {"checkpoints", "reward_model"} else "Start again"


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
