"""A system whose files open here, and the walk through the options of one file."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelforge.config.importers.foreign_file import ForeignFile
from modelforge.config.importers.options import ABSENT, TYPES, Option, Values
from modelforge.config.importers.report import Imported, Outcome, ReportLine
from modelforge.config.resolve import Layer, flatten, nest, value_problems
from modelforge.config.validation_messages import join_words, shown
from modelforge.errors import ConfigError, Problem

Check = Callable[[Values], Iterator[Problem]]
Finish = Callable[[Values, Mapping[str, Any]], Mapping[str, Any]]


def _no_problems(_: Values) -> Iterator[Problem]:
    return iter(())


def _nothing(_: Values, __: Mapping[str, Any]) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True)
class System:
    """Another system: its options and how it is recognised.

    Attributes:
        name: As `--from` takes it, such as `llama-factory`.
        title: As it writes itself.
        options: Every option that it documents, by dotted name.
        groups: Options that hold options, such as `training`; all others are values as a whole.
        check: Yields what contradicts itself there; `where` is the name of an option.
        finish: Returns settings that follow from several options, by dotted name; it is given the
            options, with defaults, and the settings so far.
        section: A group that may stand around all options, such as `training`.
        programs: Beginnings of its command line, such as `trl sft`.
    """

    name: str
    title: str
    options: Mapping[str, Option]
    groups: frozenset[str] = frozenset()
    check: Check = _no_problems
    finish: Finish = _nothing
    section: str = ""
    programs: tuple[str, ...] = ()

    def flatten(self, values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
        """Return the options of a file by dotted name, in its order."""
        flat: dict[str, Any] = {}
        for key, value in values.items():
            name = f"{prefix}{key}"
            if name == self.section and isinstance(value, Mapping):
                flat |= self.flatten(value)
            elif name in self.groups and isinstance(value, Mapping):
                flat |= self.flatten(value, f"{name}.")
            elif name not in self.groups or value is not None:
                flat[name] = value
        return flat

    def read(self, file: ForeignFile) -> Imported:
        """Return the settings and the report; raises ConfigError with everything that is wrong."""
        said = self.flatten(file.values)
        wrong = {
            name: Problem(file.where(name), *words)
            for name, value in said.items()
            if (words := _wrong(self.options.get(name), value))
        }
        # The rest is read too, so that all problems are told at once.
        said = {name: value for name, value in said.items() if name not in wrong}
        defaults = {
            name: option.default
            for name, option in self.options.items()
            if name not in said and name not in wrong and option.default is not ABSENT
        }
        values = defaults | said
        problems = [*wrong.values(), *self._contradictions(values, file)]
        if any(problem not in wrong.values() for problem in problems):
            raise ConfigError(problems)
        lines = [*self._lines(said, values, file), *self._lines(defaults, values, None)]
        settings = self._settings(lines, values)
        problems += _setting_problems(settings, lines, file)
        if problems:
            raise ConfigError(problems)
        report = tuple(line.as_line() for line in lines)
        return Imported(self.name, self.title, nest(settings), report)

    def _contradictions(self, values: Values, file: ForeignFile) -> list[Problem]:
        found = self.check(values)
        return [Problem(file.where(each.where), each.what, each.remedy) for each in found]

    def _lines(
        self, names: Mapping[str, Any], values: Values, file: ForeignFile | None
    ) -> Iterator[_Read]:
        for name, value in names.items():
            option = self.options.get(name)
            outcome = option.read(value, values) if option else self._unknown(name)
            yield from _reads(name, value, outcome, file)

    def _unknown(self, name: str) -> Outcome:
        last = name.rpartition(".")[2]
        near = difflib.get_close_matches(name, self.options, n=1, cutoff=0.75)
        near = near or [known for known in self.options if known.rpartition(".")[2] == last][:1]
        hint = f" Did you mean {near[0]}?" if near else ""
        return Outcome("refused", why=f"It is not a known option of {self.title}.{hint}")

    def _settings(self, lines: Sequence[_Read], values: Values) -> dict[str, Any]:
        """Return the settings by dotted name."""
        settings: dict[str, Any] = {}
        # What the file says comes after the defaults of the system.
        for line in sorted(lines, key=lambda line: not line.is_default):
            settings |= {} if line.is_inner else line.outcome.settings
        settings |= self.finish(values, settings)
        return {name: value for name, value in settings.items() if value is not ABSENT}


@dataclass(frozen=True)
class _Read:
    """An option with its outcome and its place; `is_inner` if it stands inside another one."""

    name: str
    value: Any
    outcome: Outcome
    line: int | None = None
    is_default: bool = False
    is_inner: bool = False

    def as_line(self) -> ReportLine:
        setting = ", ".join(self.outcome.settings)
        outcome = self.outcome
        return ReportLine(
            self.line, self.name, self.value, outcome.result, setting, outcome.why, self.is_default
        )


def _reads(
    name: str, value: Any, outcome: Outcome, file: ForeignFile | None, is_inner: bool = False
) -> Iterator[_Read]:
    yield _Read(name, value, outcome, file.line(name) if file else None, file is None, is_inner)
    for inner, part, inner_outcome in outcome.lines:
        yield from _reads(f"{name}{inner}", part, inner_outcome, file, is_inner=True)


def _wrong(option: Option | None, value: Any) -> tuple[str, str] | None:
    """Return what is wrong with a value and what its system allows; None if nothing is."""
    if option is None or value is None:
        return None
    kinds, called = TYPES.get(option.kind), _called(option.kind)
    is_bool = isinstance(value, bool)
    is_number = isinstance(value, (int, float)) and not is_bool
    if kinds and (not isinstance(value, kinds) or (is_bool and bool not in kinds)):
        return f"{shown(value)} is not {called}.", f"Enter {called}."
    if option.choices and value not in option.choices:
        known = join_words([shown(choice) for choice in option.choices])
        return f"{shown(value)} is not known there.", f"Its values are {known}."
    if is_number and option.least is not None and value < option.least:
        return f"It is {value}; the least is {option.least:g}.", "Raise it."
    if is_number and option.most is not None and value > option.most:
        return f"It is {value}; the most is {option.most:g}.", "Lower it."
    return None


def _called(kind: str) -> str:
    names = {"bool": "true or false", "int": "a whole number", "map": "a group of options"}
    return names.get(kind, kind if kind == "text" else f"a {kind}")


def _setting_problems(
    settings: Mapping[str, Any], lines: Sequence[_Read], file: ForeignFile
) -> Iterator[Problem]:
    """Yield the settings whose values this program does not take, at the options they come from."""
    outer = [line for line in lines if not line.is_inner]
    sources = {name: line.name for line in outer for name in line.outcome.settings}
    for problem in value_problems(Layer(file.name, flatten(nest(settings)))):
        setting = problem.where.partition("[")[0]
        option = sources.get(setting)
        where = file.where(option) if option else f"{file.name}, {problem.where}"
        yield Problem(where, problem.sentence, problem.remedy)
