"""The side panel of a run: planned and measured values, actions, and facts on the training."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from modelforge.diagnosis.classify import Cause
from modelforge.preflight.duration import LONGEST_FACTOR
from modelforge.preflight.report import Report
from modelforge.runs.event_types import PlanEvent
from modelforge.runs.progress.measured_events import PrivacyEvent
from modelforge.runs.timeline import Timeline
from modelforge.runs.view import RunView
from modelforge.services.diagnosis import Change
from modelforge.services.evaluations.growth_comparisons import GrowthComparison
from modelforge.services.queue import QueueView
from modelforge.services.resume import ResumeOption, ResumeOptions, length_measure
from ui.html import format as fmt
from ui.html.components import card, row
from ui.html.markup import EMPTY, Markup, el, join
from ui.html.templates import render
from ui.pages.run import pretraining

MAX_NEXT_RUNS = 5
# Tracker → the command that shows or uploads what it has written into the run folder.
TRACKER_COMMANDS = {
    "tensorboard": "tensorboard --logdir {}",
    "wandb": "wandb sync --sync-all {}",
    "mlflow": "mlflow ui --backend-store-uri sqlite:///{}/mlflow.db",
    "aim": "aim up --repo {}",
}


@dataclass(frozen=True)
class RunSnapshot:
    """A run at one moment: its record, the state from its events, its plan and its output.

    `cause` is why it failed or was lost, and `changes` are what the suggested fix would change;
    `trackers`, `merged` and `output` are the folders of the logs of trackers, of the merged model
    and of the result; `chat` is the report of the run that teaches a new model to chat.
    """

    run: RunView
    timeline: Timeline
    planned: Mapping[str, Any]
    printed: str = ""
    has_result: bool = False
    cause: Cause | None = None
    changes: list[Change] = field(default_factory=list)
    offers: ResumeOptions | None = None
    trackers: Path | None = None
    merged: Path | None = None
    output: Path | None = None
    chat: Report | None = None
    comparisons: list[GrowthComparison] = field(default_factory=list)


def next_runs(queue: QueueView, run_id: str) -> Markup:
    """Return the card of the other queued runs, the next one first; empty if there are none."""
    names = [
        row(el("a", run.name, href=f"/?run={run.run}"), "held" if run.held else run.when or "")
        for run in queue.runs
        if run.run != run_id
    ]
    more = len(names) - MAX_NEXT_RUNS
    rest = el("p.fine", el("a", f"{more} more", href="/runs")) if more > 0 else None
    return card("Next in the queue", [names[:MAX_NEXT_RUNS], rest]) if names else EMPTY


def side(snapshot: RunSnapshot) -> Markup:
    """Return planned and measured values, and the actions for the run."""
    run, timeline, planned = snapshot.run, snapshot.timeline, snapshot.planned
    is_over = run.state.is_over
    rows = [
        row("As planned", _planned_duration(planned)),
        row("Duration" if is_over else "Now expected", fmt.duration(expected_seconds(snapshot))),
        row("Planned memory", fmt.gib(planned.get("memory_total_gib"))),
        row("Measured", fmt.gib(timeline.peak_memory_gib)),
        _speed(snapshot),
        _of_new_model(snapshot),
        _oom_recovery(run.adjusted) if run.adjusted else None,
    ]
    resume = resume_actions(run, snapshot.offers) if is_over else None
    if is_over:
        # The main action is to resume the run, where that is possible.
        first = snapshot.offers.resume if snapshot.offers else None
        can_resume = first is not None and first.continues and not first.why_not
        # That of a new model is to teach it to chat.
        has_other = can_resume or run.plan.pretraining is not None
        # Its card has chat and export, too.
        has_links = snapshot.has_result and run.plan.pretraining is None
        actions = render("run", "finished_actions", run.id, has_links, has_other)
    else:
        actions = render("run", "active_actions", str(run.state))
    return join([el("h2.quiet", "This run"), el("hr"), rows, el("hr"), resume, actions])


def _of_new_model(snapshot: RunSnapshot) -> list[Markup] | None:
    """Return what a training from nothing has computed and read, and the size of its result."""
    planned = snapshot.run.plan.pretraining
    if planned is None:
        return None
    texts = pretraining.progress_rows(snapshot.timeline, planned)
    rows = [row(name, text) for name, text in texts]
    if snapshot.has_result and snapshot.output is not None:
        size = sum(file.stat().st_size for file in snapshot.output.iterdir() if file.is_file())
        folder = el("span", f"output, {fmt.size(size)}", title=str(snapshot.output))
        rows.append(row("Folder", folder))
    return rows


def expected_seconds(snapshot: RunSnapshot) -> float | None:
    """Return the duration of the run: elapsed time plus the time left."""
    run, left = snapshot.run, snapshot.run.seconds_left
    if run.state.is_over:
        return run.duration
    # Both are counted until the newest event.
    return None if left is None else run.duration + left


def _planned_duration(planned: Mapping[str, Any]) -> str:
    """Return the planned duration as the plan showed it."""
    names = ("seconds", "seconds_basis", "seconds_longest")
    return fmt.planned_duration(*(planned.get(name) for name in names))


def _speed(snapshot: RunSnapshot) -> list[Markup] | None:
    planned = snapshot.planned.get("tokens_per_s")
    is_unknown = bool(snapshot.planned.get("seconds_longest"))
    if not planned:
        return None
    least = f"{fmt.number(planned / LONGEST_FACTOR)} to " if is_unknown else ""
    points = [value for _, value in snapshot.timeline.stage.train["tokens_per_s"]]
    # The first step is slower than all others.
    measured = median(points[1:] or points) if points else None
    return [
        row("Planned tokens per second", f"{least}{fmt.number(planned)}"),
        row("Measured", fmt.number(measured)),
    ]


def _oom_recovery(adjusted: Mapping[str, Any]) -> Markup:
    """Return how the batch was split after the GPU ran out of memory."""
    rows = fmt.plural(int(adjusted.get("micro_batch") or 1), "row")
    checkpointing = (
        ", with gradient checkpointing" if adjusted.get("gradient_checkpointing") else ""
    )
    return el(
        "p.fine.adjusted",
        f"Out of memory at step {fmt.number(adjusted.get('step'))}. Since then {rows} at a time, "
        f"{fmt.number(adjusted.get('accumulation'))} accumulation steps{checkpointing}. "
        "The result is the same.",
    )


def several_gpus(plan: PlanEvent) -> list[Markup]:
    """Return how many GPUs train together and what they divide; nothing for one."""
    if not plan.ranks:
        return []
    name = "GPUs" if plan.device == "cuda" else "Processes"
    held = fmt.number(plan.rank_parameters)
    return [row(name, f"{plan.ranks}, {plan.sharding}"), row("Parameters of each", held)]


def trained(snapshot: RunSnapshot) -> Markup:
    """Return facts on the training, once the data is tokenized."""
    plan = snapshot.timeline.stage.plan
    if plan is None:
        return el("p.help", "Facts on the training appear here once the data is tokenized.")
    rows = [
        *(_of_windows(plan) if snapshot.run.plan.pretraining else _of_rows(plan)),
        row("Trainable parameters", fmt.number(plan.trainable_parameters)),
        row("Precision", f"{plan.precision or '–'} on {plan.device or '–'}"),
        *several_gpus(plan),
        *_privacy(snapshot.timeline),
    ]
    parts = [rows, merged_model(snapshot.merged), tracker_commands(snapshot.trackers)]
    return join([el("h2.quiet", "Training"), el("hr"), parts])


def _of_rows(plan: PlanEvent) -> list[Markup]:
    return [
        row("Training rows", fmt.number(plan.train_rows)),
        row("Evaluation rows", fmt.number(plan.eval_rows)),
        _token_row(plan),
        row("Truncated rows", fmt.number(plan.truncated_rows)),
    ]


def _of_windows(plan: PlanEvent) -> list[Markup]:
    """Return the windows of a training from nothing, in place of rows."""
    length = fmt.plural(plan.max_length or 0, "token")
    each = plan.bytes_per_token
    return [
        row("Tokens of the text", fmt.number(plan.all_tokens)),
        row("Bytes per token", fmt.number(each, 2)) if each else EMPTY,
        row(f"Windows of {length}", fmt.number(plan.train_rows)),
        row("Evaluation windows", fmt.number(plan.eval_rows)),
    ]


def _privacy(timeline: Timeline) -> list[Markup]:
    """Return the privacy that was spent, for a run with differential privacy."""
    spent = timeline.newest(PrivacyEvent)
    if spent is None:
        return []
    return [
        row("Privacy", f"ε {spent.epsilon:.2f} at δ {spent.delta:.1e}"),
        row("Noise", f"{spent.noise_multiplier:.2f} × the norm of a row"),
    ]


def merged_model(folder: Path | None) -> Markup:
    """Return where the merged model is; empty if there is none."""
    if folder is None or not folder.is_dir():
        return EMPTY
    return render("run", "merged", str(folder))


def _token_row(plan: PlanEvent) -> Markup:
    """Return the tokens of an epoch; empty where another program counts them."""
    if plan.all_tokens is None:
        return EMPTY
    if plan.trained_tokens is None:  # online methods generate the tokens they train on
        return row("Prompt tokens", fmt.number(plan.all_tokens))
    counts = fmt.number(plan.trained_tokens), fmt.number(plan.all_tokens)
    return row("Trained tokens", " of ".join(counts))


def tracker_commands(folder: Path | None) -> Markup:
    """Return the command that shows the logs of each tracker of a run; empty if it has none."""
    if folder is None or not folder.is_dir():
        return EMPTY
    commands = []
    for tracker, command in TRACKER_COMMANDS.items():
        path = folder / tracker
        if path.is_dir():
            quoted = f'"{path}"' if os.name == "nt" else shlex.quote(str(path))
            commands.append((tracker, command.format(quoted)))
    return render("run", "trackers", commands) if commands else EMPTY


def resume_actions(run: RunView, offers: ResumeOptions | None) -> Markup:
    """Return the available actions; nothing if there are none."""
    if offers is None:
        return EMPTY
    resume, is_in_epochs = offers.resume, length_measure(run) == "num_train_epochs"
    max_steps = int(run.config.get("max_steps", -1))
    steps = max_steps if max_steps > 0 else run.total_steps or run.step
    more = {
        "data_run": run.id,
        "data_unit": "epochs" if is_in_epochs else "steps",
        "data_amount": 1 if is_in_epochs else max(1, steps),
    }
    main = "btn go" if resume.continues else "btn"
    buttons = [
        ("resume-run", resume, resume_label(resume), main, more),
        ("continue-run", offers.continue_, "Train longer", "btn", more),
        ("start-from-run", offers.start_from, "New run from its adapter", "btn", more),
    ]
    possible = [button for button in buttons if not button[1].why_not]
    return render("run", "resume", offers, possible) if possible else EMPTY


def resume_label(offer: ResumeOption) -> str:
    """Return the label of the button that resumes a run."""
    if offer.step:
        return f"Resume from {offer.place}"
    return f"Resume with stage {offer.stage}" if offer.stage else "Start again"
