"""The Evaluation tab of a run: its server functions, the states of an evaluation, the side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelforge.errors import ForgeError
from modelforge.forge import Forge
from modelforge.runs.disk_usage import folder_bytes
from modelforge.runs.evaluations import ROWS, EvaluationRequest
from modelforge.runs.view import RunView
from modelforge.services.evaluations import EvaluationView
from modelforge.services.evaluations.sources import ITS_SCORES, NEW_MODEL
from ui.contract import EvaluationReply, Reply
from ui.html import format as fmt
from ui.html.gradio_page import ServerFunction, flag, text
from ui.html.markup import EMPTY, Markup, join
from ui.html.templates import render
from ui.pages.run import report as cards
from ui.pages.run import report_metrics as metrics
from ui.pages.run.pretraining import is_from_nothing

# State → the title of its card, and what is left.
ENDINGS = {
    "failed": ("The evaluation failed", "bad"),
    "lost": ("The evaluation ended unexpectedly", "bad"),
    "stopped": ("The evaluation was stopped", "warn"),
}
ENDED = {
    "lost": "Its process is gone without a result.",
    "stopped": "What was computed is kept and is not computed again.",
    "failed": "Its log says more.",
}
HELP = (
    "All contestants answered the same rows with the same settings. Greedy means the likeliest "
    "token each time, so the numbers repeat."
)
SIDE = {"loss": "Evaluation loss", "perplexity": "Perplexity"}


def functions(forge: Forge) -> list[ServerFunction]:
    """Return the functions of the tab."""

    def show_evaluation(request: Any) -> EvaluationReply:
        run = forge.runs.view(text(request, "run"))
        return _reply(forge, run, text(request, "evaluation"))

    def predict_evaluation(request: Any) -> Reply:
        return Reply(parts={"evaluation-prediction": _prediction(forge, read_request(request))})

    def evaluate(request: Any) -> Reply:
        key = text(request, "request_id")[:200]
        view = forge.evaluations.start(read_request(request), request_id=key or None)
        return Reply(toast=view.queued_behind and f"Added. {view.queued_behind}")

    def stop_evaluation(request: Any) -> Reply:
        forge.evaluations.stop(text(request, "evaluation"))
        return Reply()

    def delete_evaluation(request: Any) -> Reply:
        forge.evaluations.delete(text(request, "evaluation"))
        return Reply(toast="Deleted.")

    return [show_evaluation, predict_evaluation, evaluate, stop_evaluation, delete_evaluation]


def read_request(request: Any) -> EvaluationRequest:
    """Return what the fields of the tab ask for; a number that is none is left to the service."""
    digits = "".join(text(request, "rows").split()).replace(",", "")
    names = text(request, "tasks").replace(",", " ").split()
    return EvaluationRequest(
        run=text(request, "run"),
        rows=int(digits) if digits.isdecimal() and len(digits) < 10 else ROWS,
        answers=flag(request, "answers", default=True),
        prompted=flag(request, "prompted", default=True),
        general=flag(request, "general", default=True),
        prompts=text(request, "prompts").strip(),
        tasks=tuple(names),
    )


def _prediction(forge: Forge, request: EvaluationRequest) -> Markup:
    try:
        found = forge.evaluations.predict(request)
    except ForgeError as error:
        return render("evaluation", "problem", error.problems[0])
    return render("evaluation", "prediction", found)


def _reply(forge: Forge, run: RunView, wanted: str) -> EvaluationReply:
    """Return the tab; `wanted` is the id of the evaluation whose report is shown."""
    has_result = forge.runs.folder(run.id).has_result
    views = forge.evaluations.list(run.id)
    newest = views[0] if views else None
    reported = [view for view in views if view.report]
    newest_report = reported[0] if reported else None
    shown = next((view for view in reported if view.id == wanted), newest_report)
    is_active = newest is not None and not newest.state.is_over
    is_new = is_from_nothing(run.plan)
    can_start = has_result and not is_active and not is_new
    parts: dict[str, str] = {
        "evaluation-progress": _progress(newest, shown),
        "evaluation-status": join([status(newest)]),
        "evaluation-start": render("evaluation", "start", shown is None) if can_start else EMPTY,
        "evaluation-side": _this_run(forge, run, shown, has_result=has_result),
        **_report_parts(run, shown, reported),
    }
    if (is_new or not has_result) and shown is None:
        parts["evaluation-report"] = render("evaluation", "nothing", _why_not(run))
    return EvaluationReply(
        parts=parts,
        shown=shown.id if shown else "",
        is_active=is_active,
        is_first=shown is None and not (newest and newest.state.is_over),
        stamp=" ".join(f"{view.id}:{view.state}" for view in views),
    )


def _why_not(run: RunView) -> str:
    if is_from_nothing(run.plan):
        return f"This model {NEW_MODEL} {ITS_SCORES}"
    if not run.state.is_over:
        return "The run is still in progress. Its model can be evaluated when it is over."
    return "This run kept no model. A run that finished, or was stopped and kept, can be evaluated."


def _report_parts(
    run: RunView, shown: EvaluationView | None, reported: Sequence[EvaluationView]
) -> dict[str, str]:
    if shown is None or shown.report is None:
        return {"evaluation-report": EMPTY, "evaluation-measured": EMPTY}
    all_rows = int(run.dataset.get("rows") or 0)
    markdown = metrics.as_table(shown.report)
    measured = _measured_rows(shown)
    return {
        "evaluation-report": cards.cards(shown.report, run.id, all_rows),
        "evaluation-measured": render(
            "evaluation", "measured", measured, HELP, shown, markdown, _choices(reported)
        ),
    }


def _choices(reported: Sequence[EvaluationView]) -> list[tuple[str, str]]:
    """Return ids and titles of the evaluations with a report, the newest first."""
    found = []
    for view in reported:
        used = ((view.report or {}).get("facts") or {}).get("rows_used")
        rows = f" · {fmt.plural(used, 'row')}" if used is not None else ""
        found.append((view.id, f"{fmt.date(view.created)}{rows}"))
    return found


def _measured_rows(view: EvaluationView) -> list[tuple[str, str]]:
    report = view.report or {}
    facts: Mapping[str, Any] = report.get("facts") or {}
    longest = facts.get("longest_answer")
    rows = [
        ("Evaluation rows", fmt.number(facts.get("evaluation_rows"))),
        ("Used", fmt.number(facts.get("rows_used"))),
        ("Never trained on", str(facts.get("never_trained_on") or fmt.UNKNOWN)),
        ("Decoding", str(facts.get("decoding") or fmt.UNKNOWN)),
        ("Longest answer", fmt.plural(longest, "token") if longest else fmt.UNKNOWN),
        ("Device", str(facts.get("device") or fmt.UNKNOWN)),
        ("Seed", fmt.number(facts.get("seed"))),
        ("Duration", fmt.duration(report.get("seconds"))),
        ("Evaluated", fmt.date(view.created)),
    ]
    return [(name, value) for name, value in rows if value != fmt.UNKNOWN]


def _progress(newest: EvaluationView | None, shown: EvaluationView | None) -> Markup:
    """Return the card of an evaluation that waits, runs, or ended without a result."""
    if newest is None:
        return EMPTY
    state = str(newest.state)
    if state == "running":
        return render("evaluation", "running", newest, _share(newest))
    if state == "queued":
        return render("evaluation", "waiting", newest)
    if state not in ENDINGS:
        return EMPTY
    title, tone = ENDINGS[state]
    problem = newest.problem
    what = problem.sentence if problem else ENDED[state]
    remedy = problem.remedy if problem else ""
    is_earlier = shown is not None and shown.id != newest.id
    return render("evaluation", "ended", newest, title, what, remedy, tone, is_earlier)


def _share(view: EvaluationView) -> float | None:
    """Return the share that is done, from 0 to 1; None before the first step."""
    if not view.steps:
        return None
    spent = sum(step.seconds for step in view.steps)
    return spent / (spent + view.seconds_left) if view.seconds_left else 0.99


def status(newest: EvaluationView | None) -> str:
    """Return the state of the newest evaluation, for screen readers."""
    if newest is None:
        return ""
    state = str(newest.state)
    if state == "running":
        return f"Evaluating: {newest.steps[-1].text}." if newest.steps else "Evaluating."
    if state == "queued":
        return newest.queued_behind or "The evaluation is about to start."
    if state == "finished":
        return "The evaluation is finished."
    return f"{ENDINGS[state][0]}."


def _this_run(
    forge: Forge, run: RunView, shown: EvaluationView | None, *, has_result: bool
) -> Markup:
    report: Mapping[str, Any] = (shown.report if shown else None) or {}
    tuned = {
        metric.get("name"): ((metric.get("contestants") or {}).get("tuned") or {}).get("value")
        for metric in report.get("metrics") or ()
    }
    loss = tuned.get("loss")
    rows = [
        (SIDE["loss"], fmt.number(run.eval_loss if loss is None else loss, 2)),
        (SIDE["perplexity"], fmt.number(tuned.get("perplexity"), 2)),
        ("Steps", fmt.number(run.step)),
        ("Duration", fmt.duration(run.duration)),
    ]
    if has_result:
        name = "Model" if run.plan.trains == "all" else "Adapter"
        rows.append((name, fmt.size(folder_bytes(forge.runs.folder(run.id).output))))
    kind = str((report.get("verdict") or {}).get("kind", ""))
    used = (report.get("facts") or {}).get("rows_used")
    known = [(name, value) for name, value in rows if value != fmt.UNKNOWN]
    return render(
        "evaluation",
        "this_run",
        cards.VERDICTS.get(kind),
        fmt.plural(used, "row") if used is not None else "",
        known,
        run.id,
        has_result,
    )
