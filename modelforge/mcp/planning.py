"""Tools before a run: look at data, check, plan, try and start."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from pydantic import Field
from pydantic_core import to_jsonable_python

from modelforge.config.resolve import Layer
from modelforge.forge import Forge
from modelforge.services.layers import FormInput

MAX_ROWS, MAX_WAIT_S = 50, 300.0
POLL_S = 0.3

Part = dict[str, Any]
Result = TypeVar("Result")
Dataset = Annotated[
    str, Field(description="A path, the name of an upload, sample:NAME, or OWNER/NAME of the Hub.")
]
Settings = Annotated[
    dict[str, Any],
    Field(
        description="Settings by name, such as model_name, dataset, strategy, lora_r and "
        "trainer.seed; those left out have the defaults of this computer and of the strategy. "
        "See the resource modelforge://settings."
    ),
]
Wait = Annotated[
    float, Field(ge=0, le=MAX_WAIT_S, description="Wait up to so many seconds for the end.")
]


class PlanningTools:
    """The tools before a run. Each method is one; its docstring is the description."""

    def __init__(self, forge: Forge) -> None:
        self._forge = forge

    def list_datasets(self) -> list[Part]:
        """List the datasets of this computer: uploads, downloads and samples."""
        return [plain(each) for each in self._forge.datasets.available()]

    def look_at_data(
        self, dataset: Dataset, rows: Annotated[int, Field(ge=1, le=MAX_ROWS)] = 5
    ) -> Part:
        """Return how a dataset is read (columns, kind of rows) and its first rows."""
        sources = self._forge.datasets.parse_sources(dataset)
        summary = plain(self._forge.datasets.summarize_head(sources))
        preview = plain(self._forge.datasets.preview(sources, first=rows))
        return {"summary_of_the_beginning": summary, **preview}

    def check_data(self, dataset: Dataset) -> Part:
        """Check every row of a dataset: findings with places and fixes, and statistics."""
        reports = self._forge.datasets.check(self._forge.datasets.parse_sources(dataset))
        is_trainable = not any(report.blocked for report in reports)
        return {"trainable": is_trainable, "files": [plain(each.as_dict()) for each in reports]}

    def plan_run(self, settings: Settings) -> Part:
        """Check settings without starting anything: findings, memory, duration, plan and its hash.

        `start_run` needs the `plan_hash`. With `ready` false the findings or problems say why.
        """
        return plain(self._forge.preflight.check(*self._layers(settings)).as_preflight())

    def start_trial_run(self, settings: Settings) -> Part:
        """Start a trial run: a few real steps that measure memory and time. It keeps no model.

        Afterwards `plan_run` with the same settings returns the measured values.
        """
        trial_run = self._forge.trial_runs.start(*self._layers(settings))
        return plain(self._forge.trial_runs.view(trial_run))

    def follow_trial_run(self, trial_run: str, wait_seconds: Wait = 60) -> Part:
        """Return the state and the measurements of a trial run."""
        view = wait_for(
            lambda: self._forge.trial_runs.view(trial_run),
            lambda view: view.state.is_over,
            wait_seconds,
        )
        return plain(view)

    def start_run(
        self, settings: Settings, plan_hash: str, name: str | None = None, queue: bool = True
    ) -> Part:
        """Start a run with the `plan_hash` that `plan_run` gave for the same settings.

        If anything has changed since, the start is refused: plan again. While the computer is in
        use the run waits; without `queue` it is refused then.
        """
        start = self._forge.queue.add if queue else self._forge.runs.start
        run = start(*self._layers(settings), name=name, plan_hash=plan_hash)
        return {"run": run, "state": str(self._forge.runs.state(run))}

    def _layers(self, settings: Part) -> list[Layer]:
        return self._forge.layers.stack(FormInput(recipe=settings)).layers


def plain(value: Any) -> Part:
    """Return a dataclass or a dict, also with enums and paths in it, as plain data for JSON."""
    content: Part = to_jsonable_python(value, by_alias=True, inf_nan_mode="null")
    return content


def wait_for(
    read: Callable[[], Result], is_over: Callable[[Result], bool], seconds: float
) -> Result:
    """Return what `read` gives as soon as it is over, or after some seconds."""
    deadline = time.monotonic() + seconds
    while not is_over(found := read()) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    return found
