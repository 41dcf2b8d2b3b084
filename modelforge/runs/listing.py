"""One run as a line of a list: what is shown of it, searched, filtered and sorted by."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from itertools import compress, repeat
from operator import attrgetter, contains, itemgetter
from typing import Any

from modelforge.errors import ConfigError, Problem
from modelforge.runs.states import RunState

SORTS = ("age", "name", "loss", "duration", "size")


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run without what only its own page shows. Times are Unix seconds, sizes bytes by part.

    `model` and `data` are the last parts of what the settings say.
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
    _line: str = field(default="", init=False, compare=False, repr=False)

    @classmethod
    def from_dict(cls, said: dict[str, Any]) -> RunRow:
        """Return the row that `as_dict` gave; raises TypeError where the fields are others."""
        return cls(**{**said, "tags": tuple(said["tags"])})

    def as_dict(self) -> dict[str, Any]:
        """Return the row as plain data."""
        named = (each.name for each in fields(self) if each.init)
        return {name: getattr(self, name) for name in named}

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen in it."""
        return RunState(self.state).is_over

    @property
    def bytes(self) -> int:
        """Return what it takes on the disk."""
        return sum(self.sizes.values())

    @property
    def began(self) -> float:
        """When the work on it began; while it waits, when it was made."""
        return self.launched or self.created

    def seconds(self, now: float | None = None) -> float:
        """Return how long it took, or has taken so far."""
        return (self.updated if self.is_over else now or time.time()) - self.began

    @property
    def search_text(self) -> str:
        """Return what a query is looked for in, in small letters; made when first asked for."""
        if not self._line:
            said = (self.name, self.id, self.state, self.model, self.data, self.strategy)
            line = "\n".join((*said, *self.tags, self.note)).lower()
            object.__setattr__(self, "_line", line)
        return self._line


@dataclass(frozen=True)
class RunFilter:
    """Which rows are wanted, and in which order; what is empty asks for nothing.

    Of `states` one must hold; every word of `query` stands somewhere in the row.
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
            what = f"Runs are not sorted by {self.sort[:40]!r}."
            raise ConfigError(Problem("sort", what, f"Use {', '.join(SORTS)}."))
        if unknown := self.states - {state.value for state in RunState}:
            what = f"There is no state {sorted(unknown)[0][:40]!r}."
            raise ConfigError(Problem("state", what, f"Use {', '.join(RunState)}."))

    def matching(self, rows: Sequence[RunRow], lines: Sequence[str] | None = None) -> list[RunRow]:
        """Return the rows that are wanted, in their order; `lines` is what each is searched by."""
        left = list(rows)
        first, *others = self.query.lower().split() or [""]
        if first:
            searched = lines if lines is not None else [row.search_text for row in rows]
            left = list(compress(rows, map(contains, searched, repeat(first))))
        for word in others:
            left = [row for row in left if word in row.search_text]
        for holds in self._tests():
            left = [row for row in left if holds(row)]
        return left

    def in_order(self, rows: Sequence[RunRow], *, newest_first: bool = False) -> list[RunRow]:
        """Return rows in the wanted order: newest, best or largest first, names from A.

        What has no value comes last. Say so if they come newest first already.
        """
        newest = list(rows) if newest_first else sort_newest_first(rows)
        # A smaller loss is the better one, and A is before B.
        backwards = (self.sort not in ("name", "loss")) != self.reverse
        if self.sort == "age":
            return newest if backwards else newest[::-1]
        keyed = [(_KEYS[self.sort](row), row) for row in newest]
        told = [pair for pair in keyed if pair[0] is not None]
        told.sort(key=itemgetter(0), reverse=backwards)
        return [row for _key, row in told] + [row for key, row in keyed if key is None]

    def _tests(self) -> list[Callable[[RunRow], bool]]:
        tests: list[Callable[[RunRow], bool]] = []
        if self.states:
            tests.append(lambda row: row.state in self.states)
        for name in ("model", "data", "strategy"):
            if said := getattr(self, name).lower():
                tests.append(lambda row, name=name, said=said: getattr(row, name).lower() == said)  # type: ignore[misc]
        if self.tag:
            tests.append(lambda row: self.tag.lower() in row.tags)
        if self.has_result is not None:
            tests.append(lambda row: row.has_result is self.has_result)
        return tests


@dataclass(frozen=True)
class RunPage:
    """Some of the wanted rows, how many there are in all, and what the others could be asked for.

    `states` and `tags` count over every run, whatever is wanted.
    """

    rows: list[RunRow]
    total: int
    all: int
    states: Counter[str] = field(default_factory=Counter)
    tags: Counter[str] = field(default_factory=Counter)


def sort_newest_first(rows: Iterable[RunRow]) -> list[RunRow]:
    """Return rows newest first; of the same moment the later id comes first."""
    return sorted(rows, key=attrgetter("created", "id"), reverse=True)


_KEYS: dict[str, Callable[[RunRow], Any]] = {
    "name": lambda row: row.name.lower(),
    "loss": lambda row: row.eval_loss,
    "duration": lambda row: row.seconds(),
    "size": lambda row: row.bytes,
}
