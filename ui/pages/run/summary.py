"""A picture of a run in words: how far it is, and how it went."""

from __future__ import annotations

from modelforge.diagnosis.verdict import Verdict, judge
from ui.html import format as words
from ui.pages.run.state import PHASES, RunPicture


def progress_line(picture: RunPicture) -> str:
    """Return what the worker is at, in words: `update 71 of 154 · epoch 1.4 of 3`."""
    if not picture.is_training and picture.ending is None:
        text = picture.phase_text or PHASES.get(picture.phase, "")
        if picture.done is not None and picture.total:
            text = f"{text} · {words.number(picture.done)} of {words.number(picture.total)}"
        return text
    now = picture.now
    parts = [f"update {now.step:,}"]
    if now.total_steps:
        parts[0] += f" of {words.number(now.total_steps)}"
    if now.epoch is not None:
        epochs = now.plan.get("epochs")
        parts.append(
            f"epoch {now.epoch:.1f}" + (f" of {epochs:.1f}".removesuffix(".0") if epochs else "")
        )
    if picture.phase == "evaluating":
        parts.append("checking on held-out rows")
    return " · ".join(parts)


def judged(picture: RunPicture) -> Verdict:
    """Return how the run went by its numbers: the stage at work, samples, scores and ending."""
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


def verdict(picture: RunPicture) -> str:
    """Return how the run went in a few plain sentences; empty while it goes on."""
    ending = picture.ending
    if ending is None:
        return ""
    if ending.kind == "failed":
        return " ".join(str(ending.data.get(part) or "") for part in ("what", "remedy")).strip()
    if ending.kind == "stopped":
        return stopped(picture)
    return f"{took(picture)} {judged(picture).text}"


def took(picture: RunPicture) -> str:
    """Return how long a finished run was, as in `212 updates in 45 s`."""
    data = picture.ending.data if picture.ending else {}
    steps = words.plural(data.get("steps") or picture.step, "update")
    # A run that was resumed took longer than its last stretch.
    seconds = picture.seconds_taken or data.get("seconds")
    return f"{steps} in {words.duration(seconds)}."


def stopped(picture: RunPicture) -> str:
    """Return when a run was stopped, and what is kept of it."""
    data = picture.ending.data if picture.ending else {}
    kept = "What it had learned by then is kept." if data.get("kept") else "Nothing is kept."
    return f"Stopped after {words.plural(data.get('step') or picture.step, 'update')}. {kept}"
