"""Why a run failed, how it went, which settings would fix it, and the support bundle."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from modelforge.config.fields import specs_by_name
from modelforge.config.resolve import Layer, flatten
from modelforge.diagnosis.classify import UNEXPECTED, Cause, cause_of, diagnose_exit
from modelforge.diagnosis.fixes import fix_action
from modelforge.diagnosis.verdict import Verdict, judge_run
from modelforge.errors import ConfigError, Problem
from modelforge.hardware.doctor import check_machine
from modelforge.paths import Home
from modelforge.runs.atomic_files import find_json, read_json, write_json
from modelforge.runs.events import tail_events
from modelforge.runs.layout import RunFolder
from modelforge.runs.process.identity import CHILDREN, rebooted_since
from modelforge.runs.process.oom_killer import oom_kill_counts, was_oom_killed
from modelforge.runs.states import RunFacts, RunState, read_facts
from modelforge.services.cache import Cache, file_stamp
from modelforge.services.runs import RunService, log_tail
from modelforge.services.support_bundle import write_bundle

LOG_BYTES = 32_768
RETRIED = " (again)"
NAME_LIMIT = 80
CACHE_SIZE = 64


@dataclass(frozen=True)
class Change:
    """One setting that a fix changes: its name and label, the value before and after."""

    name: str
    label: str
    before: Any
    after: Any


class DiagnosisService:
    """Explain how runs ended and apply fixes. Thread-safe."""

    def __init__(self, home: Home, runs: RunService) -> None:
        self._home = home
        self._runs = runs
        self._verdicts: Cache[tuple[str, tuple[int, int]], Verdict | None] = Cache(CACHE_SIZE)

    def cause(self, run_id: str) -> Cause | None:
        """Return why a run failed or was lost; None for other runs."""
        folder = self._runs.folder(run_id)
        facts = read_facts(folder)
        if facts.state is RunState.FAILED:
            return _reported_cause(folder)
        return self._inferred_cause(folder, facts) if facts.state is RunState.LOST else None

    def verdict(self, run_id: str) -> Verdict | None:
        """Return how a run went by its curves and samples; None before its end."""
        path = self._runs.folder(run_id).events
        return self._verdicts.get((run_id, file_stamp(path)), lambda: judge_run(path))

    def changes(self, run_id: str) -> list[Change]:
        """Return the settings that the fix for a run changes."""
        config = flatten(_config(self._runs.folder(run_id)))
        cause = self.cause(run_id)
        patch = (cause.action or {}).get("settings") if cause else None
        changes = []
        for name, value in (patch or {}).items():
            if spec := specs_by_name().get(name):
                before = config.get(name, spec.default)
                changes.append(Change(name, spec.label, before, value))
        return changes

    def apply_fix(self, run_id: str, *, request_id: str | None = None) -> str:
        """Start a new run with the settings of the fix; return the new id.

        Raises ConfigError if no settings help, and what `RunService.start` raises.
        """
        folder = self._runs.folder(run_id)
        cause = self.cause(run_id)
        settings = (cause.action or {}).get("settings") if cause else None
        if settings is None:
            what = "No setting prevents the way this run ended."
            remedy = cause.remedy if cause else "Start a new run."
            raise ConfigError(Problem("run", what, remedy))
        record = read_json(folder.config)
        name = str(record.get("name") or "run").removesuffix(RETRIED)
        return self._runs.start(
            Layer(f"run {folder.id}", record["config"]),
            Layer("remedy", settings),
            name=name[: NAME_LIMIT - len(RETRIED)] + RETRIED,
            request_id=request_id,
        )

    def support_bundle(self, run_id: str, *, doctor: list[dict[str, Any]] | None = None) -> Path:
        """Return a new zip file for support, which the caller deletes.

        It holds no data rows, tokens, user names, home folders or addresses. `doctor` replaces
        the checks of the computer.
        """
        folder = self._runs.folder(run_id)
        cause, verdict = self.cause(run_id), self.verdict(run_id)
        reports = {
            "diagnosis": asdict(cause) if cause else None,
            "verdict": asdict(verdict) if verdict else None,
            "doctor": doctor if doctor is not None else self._examine_machine(),
        }
        return write_bundle(folder, reports, self._home)

    def _examine_machine(self) -> list[dict[str, Any]]:
        return [
            {"name": row.name, "state": row.state, "what": row.what, "remedy": row.remedy}
            # The run itself has imported the stack, and another run may be using the GPU.
            for row in check_machine(self._home, stack=lambda _machine: [])
        ]

    def _inferred_cause(self, folder: RunFolder, facts: RunFacts) -> Cause:
        """Return the cause of a lost run from its exit code, the OOM killer and its log.

        That of a run elsewhere is what its relay has found.
        """
        if facts.launch is not None and facts.launch.what:
            place, what, remedy = facts.launch.target.name, facts.launch.what, facts.launch.remedy
            action = fix_action("again", _config(folder))
            return Cause("target", place, what, remedy, action, certain=False)
        who = facts.process.as_dict() if facts.process else None
        stored = find_json(folder.diagnosis) or {}
        evidence = stored.get("evidence") if stored.get("who") == who else None
        if not isinstance(evidence, dict):
            evidence = _evidence(folder, facts)
            if evidence["exit_code"] is not None or evidence["memory_ran_out"]:
                # Only this server can see them; the next one reads the file.
                write_json(folder.diagnosis, {"who": who, "evidence": evidence})
        config = _config(folder)
        if evidence.get("restarted") and (cause := cause_of("restarted", config)):
            return cause
        text = ""
        with contextlib.suppress(OSError):
            text = log_tail(folder.log, LOG_BYTES)
        return diagnose_exit(
            text,
            exit_code=evidence.get("exit_code"),
            config=config,
            memory_ran_out=bool(evidence.get("memory_ran_out")),
        )


def _evidence(folder: RunFolder, facts: RunFacts) -> dict[str, Any]:
    launched = find_json(folder.process) or {}
    return {
        "exit_code": CHILDREN.exit_code(facts.process) if facts.process else None,
        "memory_ran_out": was_oom_killed(launched.get("memory_kills"), oom_kill_counts()),
        "restarted": rebooted_since(facts.process) if facts.process else False,
    }


def _reported_cause(folder: RunFolder) -> Cause:
    """Return the cause in the worker's `failed` event, with an action for the settings."""
    events = reversed(tail_events(folder.events))
    data: Mapping[str, Any] = next((event.data for event in events if event.kind == "failed"), {})
    code, config = str(data.get("cause") or UNEXPECTED), _config(folder)
    entry = cause_of(code, config)
    action = data.get("action") if isinstance(data.get("action"), dict) else None
    default_remedy = entry.remedy if entry else "The log of the run has the details."
    return Cause(
        code,
        entry.where if entry else "run",
        str(data.get("what") or "The worker failed without a reason in its last event."),
        str(data.get("remedy") or default_remedy),
        action or (entry.action if entry else fix_action("again", config)),
    )


def _config(folder: RunFolder) -> dict[str, Any]:
    """Return the settings of a run, and two effective values of its plan."""
    record = find_json(folder.config) or {}
    plan, config = record.get("plan"), record.get("config")
    values = dict(config) if isinstance(config, dict) else {}
    if isinstance(plan, dict):
        values |= {f"plan.{name}": plan.get(name) for name in ("precision", "max_length")}
    return values
