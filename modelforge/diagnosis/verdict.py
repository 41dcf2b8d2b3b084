"""How a run went, told from its curves, scores and samples: a kind, two sentences, the numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeGuard

from modelforge.diagnosis.trend import Drift, drift, moved

Kind = Literal["better", "overfit", "no-effect", "broken", "unclear"]
Points = Sequence[tuple[float, float]]
Curves = Mapping[str, Points]

# Where nearly all answers are spoilt, the model is; a bad one now and then is chance.
FEWEST_SAMPLES, SPOILT_SHARE = 3, 2 / 3
# On rows it never saw a loss moves by about this much without meaning anything.
NEAR = 0.02
# A fall by this share in fewer updates than that may be chance, and may be what was learned.
FAR, MANY = 0.1, 30
EXPLODED = 2.0
SCORE_MOVED = 0.02
REWARD_MOVED = 0.05
LESS_IS_BETTER = frozenset({"perplexity", "bits_per_byte"})
NAMES = {
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
    "rougeLsum": "ROUGE-Lsum",
    "exact_match": "the share of exact answers",
    "f1": "F1",
    "perplexity": "the perplexity",
    "bits_per_byte": "the bits per byte",
}


@dataclass(frozen=True)
class Verdict:
    """How a run went: its kind, what that means in two sentences, and the numbers behind."""

    kind: Kind
    text: str
    numbers: dict[str, float | int | None] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the verdict as plain data."""
        return asdict(self)


def judge(
    *,
    loss: Points = (),
    held_out: Points = (),
    metrics: Curves | None = None,
    held: Curves | None = None,
    samples: Iterable[Mapping[str, Any]] = (),
    scores: Mapping[str, Any] | None = None,
    ending: Mapping[str, Any] | None = None,
) -> Verdict:
    """Return how a run went. Points are (update, value); what was not measured is left out.

    `samples` are answers given while it learned, the newest first; `ending` is the last
    milestone with its `kind`. Whatever is too little to tell is `unclear`.
    """
    metrics, held = metrics or {}, held or {}
    numbers = _numbers(loss, held_out, metrics, held, scores)
    for verdict in (
        _broken(loss, held_out, list(samples), ending),
        _of_rewards(metrics, scores),
        _of_preferences(metrics, held),
        _overfit(loss, held_out, ending),
        _of_scores(scores),
        _of_loss(loss, held_out),
    ):
        if verdict is not None:
            kind, text = verdict
            return Verdict(kind, text, numbers)
    return Verdict("unclear", _too_little(loss), numbers)


def spoilt(completion: str) -> str:
    """Say what is wrong with an answer, `empty` or `repeats`; nothing when it reads like one."""
    words = completion.split()
    if not words:
        return "empty"
    if len(words) < 8:
        return ""
    # Text in any language hardly says the same three words again and again.
    threes = [tuple(words[at : at + 3]) for at in range(len(words) - 2)]
    return "repeats" if len(set(threes)) < 0.4 * len(threes) else ""


Told = tuple[Kind, str] | None


def _broken(
    loss: Points,
    held_out: Points,
    samples: Sequence[Mapping[str, Any]],
    ending: Mapping[str, Any] | None,
) -> Told:
    gone = next((step for step, value in (*loss, *held_out) if not math.isfinite(value)), None)
    if (ending or {}).get("cause") == "loss-not-finite" or gone is not None:
        where = "" if gone is None else f" at update {gone:,.0f}"
        return "broken", (
            f"The loss became no number{where}, so the model is spoilt from there on. "
            "Lower the learning rate, and train in bf16 or fp32 instead of fp16."
        )
    end = drift([value for _, value in loss])
    if end and end.end > max(EXPLODED * end.start, end.start + 1):
        return "broken", (
            f"The loss rose from {end.start:.2f} to {end.end:.2f} instead of falling. "
            "The learning rate is too high; a quarter of it is worth a try."
        )
    newest = [spoilt(str(one.get("completion", ""))) for one in samples[:6]]
    bad = [wrong for wrong in newest if wrong]
    if len(newest) >= FEWEST_SAMPLES and len(bad) >= SPOILT_SHARE * len(newest):
        how = "are empty" if bad.count("empty") * 2 >= len(bad) else "repeat themselves"
        return "broken", (
            f"{len(bad)} of its newest {len(newest)} answers {how}. "
            "It has learned too hard: lower the learning rate, or train for fewer updates."
        )
    return None


def _of_rewards(metrics: Curves, scores: Mapping[str, Any] | None) -> Told:
    points = metrics.get("reward") or ()
    if (before_after := _both(scores, "reward")) is not None:
        return _of_held_out_rewards(*before_after)
    if len(points) < 2:
        return None
    way = drift([value for _, value in points])
    if way is None:
        return "unclear", f"{_told('The mean reward', points)} These are too few updates to tell."
    told = f"The mean reward {moved(way, NEAR)}."
    if not way.is_clear or way.share < NEAR:
        return "no-effect", f"{told} Nothing was learned that these rewards can see."
    if way.end > way.start:
        return "better", f"{told} It learned what is rewarded; read its answers to see how."
    return "broken", f"{told} It unlearned what is rewarded; lower the learning rate."


def _of_held_out_rewards(before: float, after: float) -> Told:
    """Return what rewards on held-out prompts say; those of training are of ever other prompts."""
    told = f"On held-out prompts the mean reward went from {before:.2f} to {after:.2f}."
    least = REWARD_MOVED * max(abs(before), abs(after))
    if abs(after - before) <= least:
        return "no-effect", f"{told} Nothing was learned that these rewards can see."
    if after > before:
        return "better", f"{told} It learned what is rewarded; read its answers to see how."
    return "broken", f"{told} It unlearned what is rewarded; lower the learning rate."


def _of_preferences(metrics: Curves, held: Curves) -> Told:
    for margin, right in (("rewards/margins", "rewards/accuracies"), ("margin", "accuracy")):
        of_held = bool(held.get(margin))
        source = held if of_held else metrics
        points, accuracies = source.get(margin) or (), source.get(right) or ()
        if not points:
            continue
        where = "on pairs it never saw" if of_held else "while training"
        told = f"The margin between better and worse answers is {points[-1][1]:.2f} {where}"
        share = accuracies[-1][1] if accuracies else None
        if share is not None:
            told += f"; it prefers the better one in {100 * share:.0f} %"
        if points[-1][1] <= 0 or (share is not None and share <= 0.5):
            return "no-effect", f"{told}. It has not learned to tell them apart."
        if share is not None and share < 0.55:
            return "unclear", f"{told}. That is hardly more than a guess."
        seen = "" if of_held else " None were held out, so it may only know these."
        return "better", f"{told}.{seen or ' It has learned which answers are better.'}"
    return None


def _overfit(loss: Points, held_out: Points, ending: Mapping[str, Any] | None) -> Told:
    if len(held_out) < 2:
        return None
    at, best = min(held_out, key=lambda point: (point[1], point[0]))
    last = held_out[-1][1]
    # Close to nothing any change is large beside what is left, and small beside what was learned.
    began = max(value for _, value in (*loss[:1], held_out[0]))
    if last - best <= NEAR * max(best, began):
        return None
    told = _told("The loss", loss)
    since = "from the first check on" if (at, best) == tuple(held_out[0]) else "again"
    kept = (ending or {}).get("best_step") == at or (ending or {}).get("kind") == "finished"
    return "overfit", (
        f"{told} On rows it never saw it went up {since}, from {best:.2f} at update {at:,.0f} to "
        f"{last:.2f}: it had begun to learn rows by heart."
        + (" The better state was kept." if kept else "")
    ).strip()


def _of_scores(scores: Mapping[str, Any] | None) -> Told:
    for name in NAMES:
        if (found := _both(scores, name)) is None:
            continue
        first, value = found
        told = f"On held-out rows {NAMES[name]} went from {first:.2f} to {value:.2f}."
        gain = first - value if name in LESS_IS_BETTER else value - first
        least = SCORE_MOVED * (max(abs(first), 1e-9) if name in LESS_IS_BETTER else 1)
        if abs(gain) < least:
            return "no-effect", f"{told} That is as good as nothing: the answers are as before."
        if gain > 0:
            return "better", f"{told} Its answers have become better."
        return "broken", f"{told} Its answers have become worse; lower the learning rate."
    return None


def _both(scores: Mapping[str, Any] | None, name: str) -> tuple[float, float] | None:
    """Return a score before and after the training, or None where one of them is unknown."""
    parts = ((scores or {}).get(when) for when in ("before", "after"))
    before, after = (part.get(name) if isinstance(part, Mapping) else None for part in parts)
    return (float(before), float(after)) if _is_number(before) and _is_number(after) else None


def _of_loss(loss: Points, held_out: Points) -> Told:
    way = drift([value for _, value in loss])
    fell = len(held_out) > 1 and held_out[-1][1] < held_out[0][1] * (1 - NEAR)
    if way is None and not fell:
        return None
    told = _told("The loss", loss)
    seen = f" On rows it never saw it is {held_out[-1][1]:.2f}." if held_out else ""
    falls = way is not None and way.is_clear and way.share >= NEAR and way.end < way.start
    if falls or fell:
        unseen = "" if held_out else " No rows were held out, so it may only know these."
        return "better", f"{told}{seen}{unseen}".strip()
    if way is not None and way.end < way.start * (1 - FAR) and len(loss) < MANY:
        return "unclear", f"{told}{seen} These are too few updates to tell that from chance."
    return "no-effect", (
        f"{told}{seen} Nothing to speak of was learned: raise the learning rate, train longer, "
        "or check that the data say what you mean."
    )


def _told(name: str, points: Points) -> str:
    values = [value for _, value in points if math.isfinite(value)]
    if len(values) < 2:
        return f"{name} is {values[0]:.2f}." if values else ""
    return f"{name} {moved(drift(values, fewest=2) or Drift(values[0], values[-1], 0.0), NEAR)}."


def _too_little(loss: Points) -> str:
    if not loss:
        return "No update was measured. There is nothing to tell from."
    return f"{_told('The loss', loss)} These are too few updates to tell what it has learned."


def _numbers(
    loss: Points,
    held_out: Points,
    metrics: Curves,
    held: Curves,
    scores: Mapping[str, Any] | None,
) -> dict[str, float | int | None]:
    numbers: dict[str, float | int | None] = {"updates measured": len(loss)}
    for name, points in (
        ("loss", loss),
        ("held-out loss", held_out),
        ("mean reward", metrics.get("reward") or ()),
        ("margin", metrics.get("rewards/margins") or metrics.get("margin") or ()),
        ("held-out margin", held.get("rewards/margins") or held.get("margin") or ()),
    ):
        whole = [(step, value) for step, value in points if math.isfinite(value)]
        if not whole:
            continue
        numbers[f"{name} at first"] = round(whole[0][1], 4)
        numbers[f"{name} at last"] = round(whole[-1][1], 4)
        if name == "held-out loss":
            best = min(whole, key=lambda point: (point[1], point[0]))
            numbers["held-out loss at its best"] = round(best[1], 4)
            numbers["update of the best check"] = int(best[0])
    for when in ("before", "after"):
        told = (scores or {}).get(when)
        for name, value in told.items() if isinstance(told, Mapping) else ():
            if _is_number(value):
                numbers[f"{name} {when}"] = round(float(value), 4)
    return numbers


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and math.isfinite(value)
