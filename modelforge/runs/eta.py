"""How long a run still takes, told from what it has done so far, and from its rehearsal before."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Any

from modelforge.config.plan.make import Plan
from modelforge.runs.event_types import ENDINGS
from modelforge.runs.events import EventRecord

# Fewer updates say nothing: the first ones are slower, and rows differ.
FEWEST = 3
REMEMBERED = 400
# A rehearsal counts as much as so many updates of the run itself, and soon hardly any more: the
# machine may have been busier then.
REHEARSED = 4
# A check only goes forward; of a frozen model with an adapter that is about so much of an update.
FORWARD = 0.4
FINAL_S = 1.0
# Tokens foretell the time only while they are counted as the data said.
LIKELY = (0.4, 2.5)


@dataclass
class Pace:
    """Follows the events of a run and says how long it still takes; give it every event once.

    `rehearsal` is the `rehearsed` event of a rehearsal of the same settings, where there is one.
    """

    course: Course
    rehearsal: Mapping[str, Any] | None = None
    total: int | None = None
    step: int = 0
    stages: tuple[int, int] | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    windows: deque[tuple[int, float, float]] = field(
        default_factory=lambda: deque(maxlen=REMEMBERED)
    )
    tokens: float = 0.0
    checks: list[float] = field(default_factory=list)
    saves: list[float] = field(default_factory=list)
    checked: int = 0
    saved: int = 0
    latest: float = 0.0
    is_over: bool = False
    number: int = 0
    _began: float | None = None
    _mark: tuple[float, int] = (0.0, -1)
    _has_gap: bool = False
    _phase: tuple[str, float, int, int | None, int] = ("", 0.0, 0, None, 0)

    def take(self, event: EventRecord) -> None:
        """Take in one event; some before it may be left out, as of a long file."""
        is_gap, self.number = 0 < self.number < event.n - 1, event.n
        if is_gap:
            self._mark, self._has_gap = (0.0, -1), True
        self.latest = event.t
        act = getattr(self, f"_on_{event.kind}", None)
        if act is not None:
            act(event.t, event.data)
        elif event.kind in ENDINGS:
            self.is_over = True

    def take_all(self, events: Iterable[EventRecord]) -> Pace:
        """Take in events and return itself."""
        for event in events:
            self.take(event)
        return self

    def left(self, now: float | None = None) -> float | None:
        """Return the seconds until the run ends, all that is to come included; None if unknown."""
        if self.is_over:
            return None
        seconds = self._left()
        if seconds is None:
            return None
        return max(0.0, seconds - (max(0.0, now - self.latest) if now is not None else 0.0))

    def phase_left(self) -> float | None:
        """Return the seconds until what is going on now is done; None if unknown."""
        name, began, first, total, done = self._phase
        if self.is_over or total is None:
            return None
        if name == "training":
            return self._training()
        if done <= first:
            return None
        return (self.latest - began) / (done - first) * max(0, total - done)

    # What is heard

    def _on_started(self, t: float, _data: Mapping[str, Any]) -> None:
        self.is_over, self._began = False, t

    def _on_plan(self, t: float, data: Mapping[str, Any]) -> None:
        self.facts, self.total = dict(data), data.get("total_steps")
        stage, stages = data.get("stage"), data.get("stages")
        if stage and (stage, stages) != self.stages:
            self.stages = (stage, stages or stage)
            self.windows.clear()
            self.step, self.tokens = 0, 0.0
            self.checked = self.saved = 0
        self._mark = (t, self.step)

    def _on_step(self, t: float, data: Mapping[str, Any]) -> None:
        step, seconds = data.get("step", 0), data.get("seconds")
        updates = step - self.step
        self.total = data.get("total_steps", self.total)
        tokens = float(data.get("tokens") or 0.0)
        if self._has_gap:
            # What was read in the updates between is taken to be as much as before.
            known = sum(window[0] for window in self.windows)
            self.tokens += sum(window[1] for window in self.windows) / max(1, known) * updates
        else:
            self.tokens += tokens
        if updates > 0 and seconds is not None and not self._has_gap:
            self.windows.append((updates, tokens, seconds * updates))
        self.step, self._mark, self._has_gap = step, (t, step), False

    def _on_eval(self, t: float, data: Mapping[str, Any]) -> None:
        step = data.get("step", 0)
        since, at = self._mark
        name, began, first, total, _done = self._phase
        if step and at == step:
            self.checks.append(t - since)
        elif step and name == "evaluating" and total and total > first:
            self.checks.append((t - began) * total / (total - first))
        self.checked, self._mark = step, (t, step)

    def _on_saved(self, t: float, data: Mapping[str, Any]) -> None:
        since, at = self._mark
        if at == data.get("step"):
            self.saves.append(t - since)
        self.saved = data.get("step", 0)
        self._mark = (t, self.saved)

    def _on_phase(self, t: float, data: Mapping[str, Any]) -> None:
        name, done, total = data.get("name", ""), data.get("done", 0), data.get("total")
        if (name, total) != (self._phase[0], self._phase[3]) or done < self._phase[4]:
            self._phase = (name, t, done, total, done)
        else:
            self._phase = (*self._phase[:4], done)

    def _on_resumed(self, t: float, data: Mapping[str, Any]) -> None:
        self.step = self.checked = self.saved = data.get("step", 0)
        self._mark = (t, self.step)

    def _on_adjusted(self, _t: float, _data: Mapping[str, Any]) -> None:
        # What was measured before was another way of computing, and so was the rehearsal.
        self.windows.clear()
        self.rehearsal = None

    # What follows

    def _left(self) -> float | None:
        if self.total is None:
            return self._all_of_it()
        if self.stages is not None and self.stages[0] < self.stages[1]:
            return None
        training = self._training()
        if training is None:
            return None
        seconds = training + self._checking() + self._saving()
        if self.step >= self.total and self._phase[0] == "saving":
            seconds -= self.latest - self._phase[1]
        seconds += self._scoring()
        return max(0.0, seconds)

    def _all_of_it(self) -> float | None:
        """Return what is left of a run that has not come to its plan yet."""
        if self.rehearsal is None or self._began is None:
            return None
        whole = _number(self.rehearsal, "seconds")
        return None if whole is None else max(0.0, whole - (self.latest - self._began))

    def _training(self) -> float | None:
        updates = max(0, (self.total or 0) - self.step)
        if updates == 0:
            return 0.0
        seen = list(self.windows)
        before = _number(self.rehearsal, "seconds_per_update")
        if self.stages is not None and self.stages[1] > 1:
            before = None
        if sum(window[0] for window in seen) < FEWEST:
            return None if before is None else before * updates
        if len(seen) > FEWEST:
            seen = seen[1:] if len(seen) < REMEMBERED else seen
        found = self._foretold(seen, updates)
        if before is None:
            return found
        own, other = sum(window[0] for window in seen) ** 2, REHEARSED**2
        return (found * own + before * updates * other) / (own + other)

    def _foretold(self, seen: list[tuple[int, float, float]], updates: int) -> float:
        """Return the seconds of so many updates: each takes a while, and each of its tokens."""
        counts, tokens, seconds = ([window[at] for window in seen] for at in (0, 1, 2))
        plain = sum(seconds) / sum(counts) * updates
        to_come = self._tokens_to_come(sum(tokens) / sum(counts), updates)
        if to_come is None or len(seen) < FEWEST:
            return plain
        # Least squares of seconds = a * updates + b * tokens, by its two normal equations.
        nn, tt = sum(n * n for n in counts), sum(k * k for k in tokens)
        nt = sum(n * k for n, k in zip(counts, tokens, strict=True))
        ny = sum(n * y for n, y in zip(counts, seconds, strict=True))
        ty = sum(k * y for k, y in zip(tokens, seconds, strict=True))
        square = nn * tt - nt * nt
        by_tokens = sum(seconds) / max(1.0, sum(tokens)) * to_come
        if square <= 1e-6 * nn * tt:
            return by_tokens
        each, token = (ny * tt - ty * nt) / square, (ty * nn - ny * nt) / square
        if each < 0:
            return by_tokens
        return plain if token < 0 else each * updates + token * to_come

    def _tokens_to_come(self, seen: float, updates: int) -> float | None:
        """Return the tokens of the updates to come, where the data says; `seen` is an update's."""
        all_tokens, rows = self.facts.get("all_tokens"), self.facts.get("train_rows")
        if not all_tokens or not rows or self.course.rows is None or self.total is None or not seen:
            return None
        each: float = float(all_tokens) / float(rows) * self.course.rows
        if not LIKELY[0] < seen / each < LIKELY[1]:
            return None
        if self.total * self.course.rows >= 0.9 * rows:
            # Every row comes in its turn, so what has not been read is still to come.
            return max(0.0, each * self.total - self.tokens)
        return each * updates

    def _scoring(self) -> float:
        """Return the seconds of the answers at the end, as rehearsed or as they come."""
        name, began, _first, total, _done = self._phase
        all_of_it = float((self.rehearsal or {}).get("score_seconds") or 0.0)
        if name == "scoring" and total is not None:
            found = self.phase_left()
            return max(0.0, all_of_it - (self.latest - began)) if found is None else found
        return 0.0 if self.step >= (self.total or 0) and name == "saving" else all_of_it

    def _checking(self) -> float:
        every, total = self.course.eval_every, self.total or 0
        if not every or not self.facts.get("eval_rows", 1):
            return 0.0
        times = total // every - self.checked // every
        if times <= 0:
            return 0.0
        seconds = self._check_seconds() * times
        if self._phase[0] == "evaluating":
            seconds -= min(self.latest - self._phase[1], self._check_seconds())
        return seconds

    def _check_seconds(self) -> float:
        if self.checks:
            return float(median(self.checks[-5:]))
        rows = self.facts.get("eval_rows") or 0
        batch = _number(self.rehearsal, "seconds_per_eval_batch")
        if batch:
            return batch * -(-rows // self.course.eval_batch)
        if not self.windows or not self.course.rows:
            return 0.0
        update = fmean(seconds / updates for updates, _tokens, seconds in self.windows)
        return update * FORWARD * rows / self.course.rows

    def _saving(self) -> float:
        """Return the seconds of all saves to come, that of what is kept in the end included."""
        total, every = self.total or 0, self.course.save_every
        times = (total // every - self.saved // every) if every else 0
        if self.saved < total and (not every or total % every):
            times += 1
        told = self.rehearsal or {}
        each = median(self.saves[-5:]) if self.saves else float(told.get("save_seconds") or 0.0)
        final = float(told.get("final_seconds") or 0.0) or each or FINAL_S
        return max(0, times) * each + final


def _number(told: Mapping[str, Any] | None, name: str) -> float | None:
    found = told.get(name) if told else None
    return float(found) if isinstance(found, int | float) else None


@dataclass(frozen=True)
class Course:
    """What a run is to do: updates between checks and saves, rows of an update and of a check.

    `rows` is None where rows and updates have nothing to do with each other, as in packing.
    """

    eval_every: int | None = None
    save_every: int | None = None
    rows: int | None = None
    eval_batch: int = 1

    @classmethod
    def of(cls, config: Mapping[str, Any], plan: Mapping[str, Any]) -> Course:
        """Return the course of a run from its record."""
        batch = int(config.get("per_device_train_batch_size", 1))
        made = Plan.from_dict(plan, config)
        every, saved = made.eval_steps, made.save_steps
        rows = batch * made.gradient_accumulation_steps
        if config.get("packing") or not made.facts.counts_tokens:
            rows = 0
        eval_batch = int(config.get("per_device_eval_batch_size", 1))
        return cls(every, None if saved == -1 else saved, rows or None, eval_batch)
