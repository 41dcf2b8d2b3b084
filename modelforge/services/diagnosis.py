"""Aid after a run: why it ended as it did, the button against it, a bundle for who helps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from modelforge.config.fields import specs_by_name
from modelforge.config.resolve import Layer
from modelforge.diagnosis.classify import UNEXPECTED, Cause, diagnose, known
from modelforge.diagnosis.fixes import cure
from modelforge.diagnosis.judging import judge_run
from modelforge.diagnosis.verdict import Verdict
from modelforge.errors import ConfigError, Problem
from modelforge.hardware.doctor import check_machine
from modelforge.paths import Home
from modelforge.runs.atomic_files import find_json, read_json, write_json
from modelforge.runs.events import tail_events
from modelforge.runs.layout import RunFolder
from modelforge.runs.process.identity import ended_with, has_restarted_since
from modelforge.runs.process.oom_killer import memory_kills, memory_ran_out
from modelforge.runs.states import Facts, RunState, gather
from modelforge.runs.store import Store
from modelforge.services.support_bundle import put_together

LOG_BYTES = 32_768
AGAIN = " (again)"
LONGEST_NAME = 80


class Start(Protocol):
    """What starts a run from layers of answers, as the front door does."""

    def __call__(self, *layers: Layer, name: str | None, request_id: str | None) -> str:
        """Start a run and return its id."""
        ...


@dataclass(frozen=True)
class Change:
    """One setting that a remedy changes: its name and label, the value before and after."""

    name: str
    label: str
    before: Any
    after: Any


class Aid:
    """Says what became of a run and what helps. Safe to call from several threads."""

    def __init__(self, home: Home, store: Store, start: Start) -> None:
        self._home = home
        self._store = store
        self._start = start
        self._verdicts: dict[str, tuple[tuple[int, int], Verdict | None]] = {}

    def diagnosis(self, run_id: str) -> Cause | None:
        """Return why a run failed or was lost; None for one that did neither."""
        folder = self._store.get(run_id)
        facts = gather(folder)
        if facts.state is RunState.FAILED:
            return _as_it_said(folder)
        return self._from_outside(folder, facts) if facts.state is RunState.LOST else None

    def verdict(self, run_id: str) -> Verdict | None:
        """Return how a run went by its curves and samples; None while nothing has ended."""
        path = self._store.get(run_id).events
        try:
            stat = path.stat()
        except OSError:
            return None
        mark = (stat.st_mtime_ns, stat.st_size)
        held = self._verdicts.get(run_id)
        if held is None or held[0] != mark:
            held = self._verdicts[run_id] = (mark, judge_run(path))
        return held[1]

    def changes(self, run_id: str) -> list[Change]:
        """Return what the remedy for a run changes, to be confirmed by a person."""
        folder = self._store.get(run_id)
        cause = self.diagnosis(run_id)
        patch = (cause.action or {}).get("settings") if cause else None
        said = _flat(_said(folder))
        return [
            Change(name, spec.label, said.get(name, spec.default), value)
            for name, value in (patch or {}).items()
            if (spec := specs_by_name().get(name))
        ]

    def apply(self, run_id: str, *, request_id: str | None = None) -> str:
        """Start the run once more with the settings that its remedy changes; return the new id.

        Raises ConfigError where no settings help, and whatever a start raises.
        """
        folder = self._store.get(run_id)
        cause = self.diagnosis(run_id)
        settings = (cause.action or {}).get("settings") if cause else None
        if settings is None:
            what = "There is no setting that would help against the way it ended."
            remedy = cause.remedy if cause else "Start a new run."
            raise ConfigError(Problem("run", what, remedy))
        record = read_json(folder.config)
        name = str(record.get("name") or "run").removesuffix(AGAIN)
        return self._start(
            Layer(f"run {folder.id}", record["config"]),
            Layer("remedy", settings),
            name=name[: LONGEST_NAME - len(AGAIN)] + AGAIN,
            request_id=request_id,
        )

    def bundle(
        self, run_id: str, *, doctor: Callable[[], list[dict[str, Any]]] | None = None
    ) -> Path:
        """Return a new zip file for people who help; whoever asked for it deletes it.

        It holds no data rows, tokens, names of people, home folders or addresses.
        """
        folder = self._store.get(run_id)
        cause, verdict = self.diagnosis(run_id), self.verdict(run_id)
        told = {
            "diagnosis": cause.as_dict() if cause else None,
            "verdict": verdict.as_dict() if verdict else None,
            "doctor": (doctor or self._examined)(),
        }
        return put_together(folder, told, self._home)

    def _examined(self) -> list[dict[str, Any]]:
        return [
            {"name": row.name, "state": row.state, "what": row.what, "remedy": row.remedy}
            for row in check_machine(self._home)
        ]

    def _from_outside(self, folder: RunFolder, facts: Facts) -> Cause:
        who = facts.who.as_dict() if facts.who else None
        kept = find_json(folder.diagnosis) or {}
        evidence = kept.get("evidence") if kept.get("who") == who else None
        if not isinstance(evidence, dict):
            evidence = _evidence(folder, facts)
            if evidence["exit_code"] is not None or evidence["memory_ran_out"]:
                # What this server has seen of the end, the next one cannot see any more.
                write_json(folder.diagnosis, {"who": who, "evidence": evidence})
        config = _said(folder)
        if evidence.get("restarted") and (cause := known("restarted", config)):
            return cause
        return diagnose(
            _tail(folder.log),
            exit_code=evidence.get("exit_code"),
            config=config,
            memory_ran_out=bool(evidence.get("memory_ran_out")),
        )


def _evidence(folder: RunFolder, facts: Facts) -> dict[str, Any]:
    launched = find_json(folder.process) or {}
    return {
        "exit_code": ended_with(facts.who) if facts.who else None,
        "memory_ran_out": memory_ran_out(launched.get("memory_kills"), memory_kills()),
        "restarted": has_restarted_since(facts.who) if facts.who else False,
    }


def _as_it_said(folder: RunFolder) -> Cause:
    """Return the cause that the worker itself told, with the button that suits the settings."""
    told = next(
        (event.data for event in reversed(tail_events(folder.events)) if event.kind == "failed"), {}
    )
    code, config = str(told.get("cause") or UNEXPECTED), _said(folder)
    entry = known(code, config)
    action = told.get("action") if isinstance(told.get("action"), dict) else None
    return Cause(
        code,
        entry.where if entry else "run",
        str(told.get("what") or "The worker ended with a failure that it could not tell."),
        str(told.get("remedy") or (entry.remedy if entry else "The run's log has the details.")),
        action or (entry.action if entry else cure("again", config)),
    )


def _said(folder: RunFolder) -> dict[str, Any]:
    """Return the settings of a run, and what the plan made of two of them."""
    record = find_json(folder.config) or {}
    plan, config = record.get("plan"), record.get("config")
    told = dict(config) if isinstance(config, dict) else {}
    if isinstance(plan, dict):
        told |= {f"plan.{name}": plan.get(name) for name in ("precision", "max_length")}
    return told


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in config.items():
        nested = value if isinstance(value, Mapping) else None
        flat |= (
            {f"{name}.{inner}": one for inner, one in nested.items()} if nested else {name: value}
        )
    return flat


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_BYTES))
            return file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
