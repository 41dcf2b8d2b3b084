"""Tools of runs: list, follow, compare, stop, resume and delete."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from modelforge.errors import ConfigError, Problem
from modelforge.forge import Forge
from modelforge.mcp.planning import Part, Wait, plain, wait_for
from modelforge.runs.listing import RunFilter

MAX_RUNS, MAX_EVENTS = 100, 100
# Kinds of events that tell little, and come often.
MINOR = frozenset({"phase", "samples"})

Confirm = Annotated[
    bool, Field(description="True after the user has agreed; otherwise nothing is done.")
]


class RunTools:
    """The tools of runs. Each method is one; its docstring is the description."""

    def __init__(self, forge: Forge) -> None:
        self._forge = forge

    def list_runs(
        self, query: str = "", limit: Annotated[int, Field(ge=1, le=MAX_RUNS)] = 20
    ) -> list[Part]:
        """List runs, the newest first; `query` are words of name, model, data, state or tags."""
        rows = self._forge.history.page(RunFilter(query=query), limit=limit).rows
        return [plain(row) for row in rows]

    def follow_run(
        self, run: str, after: Annotated[int, Field(ge=0)] = 0, wait_seconds: Wait = 0
    ) -> Part:
        """Return state, progress and the newest events after number `after`; give it `last` next.

        A run that is over also has a verdict on its result, or the cause of its failure.
        """
        runs = self._forge.runs
        state = wait_for(lambda: runs.state(run), lambda state: state.is_over, wait_seconds)
        records, _end = runs.events(run)
        new = [each.as_dict() for each in records if each.n > after and each.kind not in MINOR]
        view = plain(runs.view(run))
        verdict = self._forge.diagnosis.verdict(run) if state.is_over else None
        cause = self._forge.diagnosis.cause(run)
        for part in ("config", "origins", "plan", "dataset"):  # the resource of the run has them
            del view[part]
        return {
            **view,
            "verdict": None if verdict is None else plain(verdict),
            "cause": None if cause is None else plain(cause),
            "events": new[-MAX_EVENTS:],
            "last": records[-1].n if records else 0,
        }

    def compare_runs(self, runs: Annotated[list[str], Field(min_length=2, max_length=8)]) -> Part:
        """Compare two to eight runs: results, and what differs in settings, data and versions."""
        comparison = self._forge.history.compare(runs)
        tables = plain(comparison.as_dict(points=0))
        del tables["curves"]
        return {"losses_differ_by": comparison.differing_losses, **tables}

    def stop_run(self, run: str, keep: bool = True, confirm: Confirm = False) -> Part:
        """Stop a run before its end. With `keep` its model and checkpoints are kept."""
        view = self._forge.runs.view(run)
        result = "keeps what it has learned" if keep else "loses what it has learned"
        require(confirm, f"“{view.name}” ({run}) is stopped at step {view.step:,} and {result}.")
        return {"run": run, "state": str(self._forge.runs.stop(run, keep=keep))}

    def resume_run(self, run: str) -> Part:
        """Resume a run that was stopped, failed or was lost, from its newest checkpoint."""
        self._forge.resume.resume(run)
        return {"run": run, "state": str(self._forge.runs.state(run))}

    def delete_run(self, run: str, confirm: Confirm = False) -> Part:
        """Delete a run with its model. It can be restored for a week."""
        view = self._forge.runs.view(run)
        require(confirm, f"“{view.name}” ({run}), which is {view.state}, is deleted.")
        self._forge.trash.delete([run])
        return {"deleted": run}


def require(confirm: bool, what: str) -> None:
    """Raise ConfigError with what would happen, unless it is confirmed."""
    if not confirm:
        raise ConfigError(Problem("confirm", what, "Ask the user, then call with confirm=true."))
