"""From answers to a checked plan: config, model, data and preflight, all problems at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from modelforge.config.plan import Ground, Plan, make_plan
from modelforge.config.resolve import Layer, Resolved, resolve
from modelforge.config.schema import TrainingConfig
from modelforge.data.look import FirstLook, look
from modelforge.data.samples import locate
from modelforge.data.split import split_counts
from modelforge.errors import ForgeError, Problem
from modelforge.home import Home
from modelforge.machine import Machine
from modelforge.models import find_model
from modelforge.preflight import Report, preflight
from modelforge.shape import ModelFacts

Thing = TypeVar("Thing")
REMEMBERED = 16


@dataclass(frozen=True)
class Checked:
    """All there is to say about some answers. What could not be reached is None."""

    resolved: Resolved | None = None
    plan: Plan | None = None
    report: Report | None = None
    look: FirstLook | None = None
    facts: ModelFacts | None = None
    errors: list[ForgeError] = field(default_factory=list)

    @property
    def problems(self) -> list[Problem]:
        """Return every problem: of the answers, the model and the data."""
        return [problem for error in self.errors for problem in error.problems]

    @property
    def ready(self) -> bool:
        """Say whether Start would be accepted."""
        return not self.errors and self.report is not None and not self.report.blocked

    def require(self) -> tuple[Resolved, Plan, Report, FirstLook]:
        """Return the parts of a start; raises the first error with the problems of all."""
        if self.errors:
            first = self.errors[0]
            raise type(first)(self.problems)
        if not (self.resolved and self.plan and self.report and self.look):
            raise AssertionError("a check without errors is complete")
        return self.resolved, self.plan, self.report, self.look

    def as_dict(self) -> dict[str, Any]:
        """Return what REST and `check --json` give."""
        return {
            "ready": self.ready,
            "problems": [problem.as_dict() for problem in self.problems],
            **(self.report.as_dict() if self.report else {"findings": [], "memory": []}),
            "plan": self.plan.as_dict() if self.plan else None,
        }


class Inquiry:
    """Asks the rooms below in order, and remembers looks at unchanged files."""

    def __init__(self, home: Home, machine: Callable[..., Machine]) -> None:
        self._home = home
        self._machine = machine
        self._looks: dict[tuple[str, int, int], FirstLook] = {}
        self._models: dict[str, ModelFacts] = {}
        self._lock = threading.Lock()

    def check(self, *layers: Layer) -> Checked:
        """Return what config, model, data and preflight say of these layers."""
        try:
            resolved = resolve(*layers)
        except ForgeError as error:
            return Checked(errors=[error])
        config = resolved.config
        errors: list[ForgeError] = []
        facts = _collect(errors, lambda: self.model(config.model_name))
        seen = _collect(errors, lambda: self.look(config.dataset))
        plan = self._plan(config, facts, seen)
        report = None
        if plan is not None:
            report = preflight(config, plan, self._machine(), facts, seen, self._home)
        return Checked(resolved, plan, report, seen, facts, errors)

    def look(self, dataset: str) -> FirstLook:
        """Return the first look at a data file, remembered until the file changes."""
        path = locate(dataset, self._home)
        stat = path.stat()
        key = (str(path), stat.st_mtime_ns, stat.st_size)
        with self._lock:
            known = self._looks.get(key)
        if known is None:
            known = look(path)
            self._remember(self._looks, key, known)
        return known

    def model(self, name: str) -> ModelFacts:
        """Return the facts of a model. Found ones are remembered, failures asked again."""
        with self._lock:
            known = self._models.get(name)
        if known is None:
            known = find_model(name, self._home)
            self._remember(self._models, name, known)
        return known

    def _plan(
        self,
        config: TrainingConfig,
        facts: ModelFacts | None,
        seen: FirstLook | None,
    ) -> Plan | None:
        rows = None
        if seen is not None:
            # A share that cannot be split is preflight's to say, with the value that mends it.
            counts = _collect([], lambda: split_counts(seen.rows, config.eval_split))
            rows = counts[0] if counts else None
        if facts is None:
            return None
        machine = self._machine()
        device = machine.device if config.hardware.device == "auto" else config.hardware.device
        gpu = next((g for g in machine.gpus if g.index == config.hardware.gpu_index), None)
        ground = Ground(
            device=device,
            model_path=facts.path,
            model_revision=facts.revision,
            compute_capability=gpu.compute_capability if gpu else None,
            context=facts.context,
            train_rows=rows,
        )
        return make_plan(config, ground)

    def _remember(self, memory: dict[Any, Any], key: Any, value: Any) -> None:
        with self._lock:
            if len(memory) >= REMEMBERED:
                memory.pop(next(iter(memory)))
            memory[key] = value


def _collect(errors: list[ForgeError], ask: Callable[[], Thing]) -> Thing | None:
    try:
        return ask()
    except ForgeError as error:
        errors.append(error)
        return None
