"""The list of runs: one row per run, filters and sorting."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from itertools import compress, repeat
from operator import attrgetter, contains, itemgetter
from typing import Any

from modelforge.errors import ConfigError, Problem
from modelforge.runs.states import RunState

SORTS = ("age", "name", "loss", "duration", "size")


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run in the list. Times are Unix seconds, `sizes` bytes by part.

    `model` and `data` are the last parts of the configured names and paths.
    """

    id: str
    name: str
    state: str
    created: float
    launched: float | None
    updated: float
    step: int
    total_steps: int | None
    loss: float | None
    eval_loss: float | None
    metrics: dict[str, float]
    stage: int | None
    scores: dict[str, Any] | None
    ending: dict[str, Any] | None
    model: str
    data: str
    task: str
    strategy: str
    method: str
    tags: tuple[str, ...]
    note: str
    sizes: dict[str, int]
    has_result: bool
    request_id: str | None = None
    _search_text: str = field(default="", init=False, compare=False, repr=False)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RunRow:
        """Return the row of an `as_dict`; raises TypeError when the fields differ."""
        return cls(**{**values, "tags": tuple(values["tags"])})

    def as_dict(self) -> dict[str, Any]:
        """Return the row as plain data."""
        return {part.name: getattr(self, part.name) for part in fields(self) if part.init}

    @property
    def is_over(self) -> bool:
        """Whether the run has ended."""
        return RunState(self.state).is_over

    @property
    def bytes(self) -> int:
        """Size on disk, in bytes."""
        return sum(self.sizes.values())

    @property
    def began(self) -> float:
        """When the run was launched, or created while it waits; Unix time."""
        return self.launched or self.created

    def seconds(self, now: float | None = None) -> float:
        """Return the duration so far, in seconds."""
        return (self.updated if self.is_over else now or time.time()) - self.began

    @property
    def search_text(self) -> str:
        """The text that a query is searched in, in lower case; computed once."""
        if not self._search_text:
            parts = (self.name, self.id, self.state, self.model, self.data, self.strategy)
            text = "\n".join((*parts, *self.tags, self.note)).lower()
            object.__setattr__(self, "_search_text", text)
        return self._search_text


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
        return tests


@dataclass(frozen=True)
class RunPage:
    """A page of the rows that match. `total` counts the matches, `all` every run.

    `states` and `tags` count over every run.
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
