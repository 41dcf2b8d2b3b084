"""The progress and the result of a run in words."""

from __future__ import annotations

from modelforge.diagnosis.verdict import Verdict, judge
from ui.html import format as fmt
from ui.pages.run.state import PHASES, RunPicture


def progress_line(picture: RunPicture) -> str:
    """Return what the worker does: `step 71 of 154 · epoch 1.4 of 3`."""
    if not picture.is_training and picture.ending is None:
        text = picture.phase_text or PHASES.get(picture.phase, "")
        if picture.done is not None and picture.total:
            text = f"{text} · {fmt.number(picture.done)} of {fmt.number(picture.total)}"
        return text
    now = picture.now
    of_steps = f" of {fmt.number(now.total_steps)}" if now.total_steps else ""
    parts = [f"step {now.step:,}{of_steps}"]
    if now.epoch is not None:
        epochs = now.plan.get("epochs")
        of_epochs = f" of {epochs:.1f}".removesuffix(".0") if epochs else ""
        parts.append(f"epoch {now.epoch:.1f}{of_epochs}")
    if picture.phase == "evaluating":
        parts.append("evaluating")
    return " · ".join(parts)


def judged(picture: RunPicture) -> Verdict:
    """Return the verdict on a run from its metrics, samples, scores and ending."""
    now, ending = picture.now, picture.ending
    return judge(
        loss=now.series["loss"],
        held_out=now.evals,
        metrics=now.metrics,
        held=now.held,
        samples=picture.samples,
        scores=picture.scores,
        ending={"kind": ending.kind, **ending.data} if ending else None,
    )


def verdict_text(picture: RunPicture) -> str:
    """Return how the run went in a few sentences; empty while it is active."""
    ending = picture.ending
    if ending is None:
        return ""
    if ending.kind == "failed":
        return " ".join(str(ending.data.get(part) or "") for part in ("what", "remedy")).strip()
    if ending.kind == "stopped":
        return stopped_text(picture)
    return f"{duration_text(picture)} {judged(picture).text}"


def duration_text(picture: RunPicture) -> str:
    """Return the steps and the duration of a finished run, as in `212 steps in 45 s`."""
    data = picture.ending.data if picture.ending else {}
    steps = fmt.plural(data.get("steps") or picture.step, "step")
    # A resumed run took longer than its last worker reports.
    seconds = picture.seconds_taken or data.get("seconds")
    return f"{steps} in {fmt.duration(seconds)}."


def stopped_text(picture: RunPicture) -> str:
    """Return when a run was stopped, and whether its weights are kept."""
    data = picture.ending.data if picture.ending else {}
    kept = "The weights trained so far are kept." if data.get("kept") else "Nothing is kept."
    return f"Stopped after {fmt.plural(data.get('step') or picture.step, 'step')}. {kept}"
