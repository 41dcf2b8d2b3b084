"""The list of runs: one row per run, filters and sorting."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import compress, repeat
from operator import attrgetter, contains, itemgetter
from typing import Annotated, Any

from pydantic import Field

from modelforge.config.schema.base import about
from modelforge.errors import ConfigError, Problem
from modelforge.runs.states import RunState

# What the request ids of the trials of sweeps begin with, and their key in counts of states.
TRIAL_REQUEST, TRIAL = "sweep-", "trial"
SORTS = ("age", "name", "loss", "duration", "size")


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """A run in short. Times are Unix seconds."""

    id: str
    name: str
    state: RunState
    created: float
    launched: Annotated[
        float | None, about("When the worker was started; null while the run waits.")
    ]
    updated: Annotated[float, about("When the worker last wrote an event.")]
    worked_before: Annotated[float, about("Seconds of the workers before the newest launch.")]
    duration: Annotated[
        float,
        about(
            "Seconds that workers have worked on the run, each from its launch to its last event; "
            "waiting and pauses between workers do not count."
        ),
    ]
    step: Annotated[
        int, about("Steps done: of all stages of a growing model, else of the current stage.")
    ]
    total_steps: Annotated[int | None, about("Steps there are, counted in the same way.")]
    loss: Annotated[float | None, about("The latest training loss.")]
    eval_loss: Annotated[float | None, about("The latest evaluation loss.")]
    eval_bits_per_byte: Annotated[
        float | None, about("Bits per byte of the evaluation rows; null where not measured.")
    ]
    metrics: Annotated[
        dict[str, float],
        about("The latest other metrics; those of the evaluation rows begin with `eval_`."),
    ]
    stage: Annotated[int | None, about("The current stage, from 1; null for a run without stages.")]
    scores: Annotated[
        dict[str, Any] | None,
        about("Scores of the answers to evaluation rows: `rows`, `before` and `after`."),
    ]
    core: Annotated[
        dict[str, Any] | None,
        about("The newest scores on CORE: `step`, `score`, `low`, `high`, `tasks`, `seconds`."),
    ]
    ending: Annotated[dict[str, Any] | None, about("The final event: `kind` and its data.")]
    tags: Annotated[tuple[str, ...], about("Tags set by users.")]
    note: Annotated[str, about("The note written by users.")]

    @property
    def began(self) -> float:
        """When the run was launched last, or created while it waits; Unix time."""
        return self.launched or self.created

    def seconds(self, now: float | None = None) -> float:
        """Return the duration of the run; of a run in progress until `now`."""
        if not self.state.is_active:
            return self.duration
        return self.duration + max(0.0, (now or time.time()) - max(self.updated, self.began))


@dataclass(frozen=True, kw_only=True)
class RunRow(RunSummary):
    """A run in the list, with the values used to search, filter and sort."""

    model: Annotated[str, about("The last part of the model's name.")]
    data: Annotated[str, about("The last part of the dataset's name.")]
    task: str
    strategy: str
    sizes: Annotated[dict[str, int], about("Bytes on disk by part.")]
    has_result: Annotated[bool, about("Whether the run has a model to chat with and to download.")]
    request_id: Annotated[str | None, Field(exclude=True)] = None
    target: Annotated[str, about("The target where it trains; empty for this computer.")] = ""

    @property
    def is_trial(self) -> bool:
        """Whether the run is a trial of a sweep."""
        return (self.request_id or "").startswith(TRIAL_REQUEST)

    @property
    def bytes(self) -> int:
        """Size on disk, in bytes."""
        return sum(self.sizes.values())

    @cached_property
    def search_text(self) -> str:
        """The text that a query is searched in, in lower case."""
        parts = (self.name, self.id, self.state, self.model, self.data, self.strategy, self.target)
        return "\n".join((*parts, *self.tags, self.note)).lower()


@dataclass(frozen=True)
class RunFilter:
    """A filter and an order of rows; empty values do not filter.

    A row has one of `states`, and contains every word of `query`.
    """

    query: str = ""
    states: frozenset[str] = frozenset()
    tag: str = ""
    model: str = ""
    data: str = ""
    strategy: str = ""
    has_result: bool | None = None
    is_trial: bool | None = None
    sort: str = "age"
    reverse: bool = False

    def __post_init__(self) -> None:
        if self.sort not in SORTS:
            what = f"Unknown sort key {self.sort[:40]!r}."
            raise ConfigError(Problem("sort", what, f"Use {', '.join(SORTS)}."))
        if unknown := self.states - {state.value for state in RunState}:
            what = f"Unknown state {sorted(unknown)[0][:40]!r}."
            raise ConfigError(Problem("state", what, f"Use {', '.join(RunState)}."))

    def matching(self, rows: Sequence[RunRow], texts: Sequence[str] | None = None) -> list[RunRow]:
        """Return the rows that match, in their order; `texts` are their search texts."""
        matches = list(rows)
        first, *others = self.query.lower().split() or [""]
        if first:
            texts = texts if texts is not None else [row.search_text for row in rows]
            matches = list(compress(rows, map(contains, texts, repeat(first))))
        for word in others:
            matches = [row for row in matches if word in row.search_text]
        for test in self._tests():
            matches = [row for row in matches if test(row)]
        return matches

    def in_order(self, rows: Sequence[RunRow], *, newest_first: bool = False) -> list[RunRow]:
        """Return the sorted rows: newest, best or largest first, names alphabetically.

        Rows without a value come last. `newest_first`: the rows are already sorted by age.
        """
        newest = list(rows) if newest_first else sort_newest_first(rows)
        descending = (self.sort not in ("name", "loss")) != self.reverse
        if self.sort == "age":
            return newest if descending else newest[::-1]
        keyed = [(_KEYS[self.sort](row), row) for row in newest]
        known = [pair for pair in keyed if pair[0] is not None]
        known.sort(key=itemgetter(0), reverse=descending)
        return [row for _key, row in known] + [row for key, row in keyed if key is None]

    def _tests(self) -> list[Callable[[RunRow], bool]]:
        tests: list[Callable[[RunRow], bool]] = []
        if self.states:
            tests.append(lambda row: row.state in self.states)
        for name in ("model", "data", "strategy"):
            if value := getattr(self, name).lower():
                tests.append(partial(_has_value, name, value))
        if self.tag:
            tests.append(lambda row: self.tag.lower() in row.tags)
        if self.has_result is not None:
            tests.append(lambda row: row.has_result is self.has_result)
        if self.is_trial is not None:
            tests.append(lambda row: row.is_trial is self.is_trial)
        return tests


@dataclass(frozen=True)
class RunPage:
    """A page of the rows that match. `total` counts the matches, `all` every run.

    `states` and `tags` count over every run; trials of sweeps count as TRIAL, not by their state.
    """

    rows: list[RunRow]
    total: int
    all: int
    states: Counter[str] = field(default_factory=Counter)
    tags: Counter[str] = field(default_factory=Counter)


def sort_newest_first(rows: Iterable[RunRow]) -> list[RunRow]:
    """Return the rows, newest first; of the same time, the highest id first."""
    return sorted(rows, key=attrgetter("created", "id"), reverse=True)


def _has_value(name: str, value: str, row: RunRow) -> bool:
    return bool(getattr(row, name).lower() == value)


_KEYS: dict[str, Callable[[RunRow], Any]] = {
    "name": lambda row: row.name.lower(),
    "loss": lambda row: row.eval_loss,
    "duration": lambda row: row.seconds(),
    "size": lambda row: row.bytes,
}
