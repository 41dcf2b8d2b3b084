"""A picture of a run in words: how far it is, and how it went."""

from __future__ import annotations

from collections.abc import Sequence

from modelforge.runs.trace import Point
from ui import words
from ui.picture import PHASES, RunPicture
from ui.stretch import Stretch


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


def verdict(picture: RunPicture) -> str:
    """Return how the run went in one or two plain sentences; empty while it goes on."""
    ending = picture.ending
    if ending is None:
        return ""
    if ending.kind == "failed":
        return " ".join(str(ending.data.get(part) or "") for part in ("what", "remedy")).strip()
    if ending.kind == "stopped":
        kept = (
            "What it had learned by then is kept."
            if ending.data.get("kept")
            else "Nothing is kept."
        )
        made = words.plural(ending.data.get("step") or picture.step, "update")
        return f"Stopped after {made}. {kept}"
    took = words.duration(ending.data.get("seconds"))
    steps = words.plural(ending.data.get("steps") or picture.step, "update")
    return " ".join(part for part in (f"{steps} in {took}.", _learned(picture)) if part)


def _learned(picture: RunPicture) -> str:
    """Return what the numbers say: rewards and margins where there are any, else the loss."""
    told = [words_of(picture.now) for words_of in (_rewarded, _preferred)]
    return " ".join(filter(None, told)) or _of_the_loss(picture.now)


def _rewarded(stretch: Stretch) -> str:
    points: Sequence[Point] = stretch.metrics.get("reward", ())
    if len(points) < 2:
        return ""
    start, end = _mean(points[:3]), _mean(points[-3:])
    return f"The mean reward {_moved(start, end)}."


def _preferred(stretch: Stretch) -> str:
    held: Sequence[Point] = stretch.held.get("rewards/margins", ())
    points = held or stretch.metrics.get("rewards/margins", ())
    if not points:
        return ""
    where = "on pairs it never saw" if held else "while training"
    right = stretch.last_held("rewards/accuracies") if held else stretch.last("rewards/accuracies")
    told = f"The margin between better and worse answers is {points[-1][1]:.2f} {where}"
    return f"{told}; it prefers the better one in {100 * right:.0f} %." if right else f"{told}."


def _moved(start: float, end: float) -> str:
    near = abs(end - start) <= 0.02 * max(abs(start), abs(end))
    word = "stayed near" if near else "rose" if end > start else "fell"
    return f"{word} {start:.2f}" if near else f"{word} from {start:.2f} to {end:.2f}"


def _of_the_loss(stretch: Stretch) -> str:
    loss = stretch.series["loss"]
    told = ""
    if len(loss) > 1:
        start, end = _mean(loss[:3]), _mean(loss[-3:])
        told = f"The loss {_moved(start, end)}."
    if not stretch.evals:
        return told
    best = stretch.best or min(stretch.evals, key=lambda point: point[1])
    last = stretch.evals[-1][1]
    if last > best[1] * 1.02:
        return (
            f"{told} On rows it never saw it went up again, from {best[1]:.2f} at update "
            f"{best[0]:,.0f} to {last:.2f}: it had begun to learn rows by heart. "
            "The better state was kept."
        )
    return f"{told} On rows it never saw it is {last:.2f}."


def _mean(points: Sequence[Point]) -> float:
    return sum(value for _, value in points) / len(points)
