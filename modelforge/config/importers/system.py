"""A system whose files open here, and the walk through the options of one file."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from modelforge.config.importers.foreign_file import ForeignFile
from modelforge.config.importers.options import ABSENT, TYPES, Option, Values, number
from modelforge.config.importers.report import Imported, Outcome, ReportLine
from modelforge.config.resolve import Layer, flatten, nest, value_problems
from modelforge.config.validation_messages import join_words, shown
from modelforge.errors import ConfigError, Problem

Check = Callable[[Values], Iterator[Problem]]
Finish = Callable[[Values, Mapping[str, Any]], Mapping[str, Any]]
Beside = Callable[[Mapping[str, Any], Path], Mapping[str, Any]]
# Options with a secret, which the report does not repeat.
SECRET = re.compile(
    r"(?:^|[._-])(?:(?:hub|hf|wandb|auth|access)[._-]?token|api[._-]?key|secrets?|password|env)$"
)
HIDDEN = "…"
# Settings of rows that are learned word by word; preferences are compared as a whole.
ROW_SETTINGS = {"packing", "data.loss_on", "data.packing_strategy", "data.padding_free"}
# Names that are compared with those of a system; longer files are not settings.
MAX_OPTIONS = 500


def _no_problems(_: Values) -> Iterator[Problem]:
    return iter(())


def _nothing_beside(_: Mapping[str, Any], __: Path) -> Mapping[str, Any]:
    return {}


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
        beside: Returns the content of files that its files refer to, by name; it is given the
            content of a file and its folder, and raises ConfigError.
        is_dashed: Whether its options have dashes, which older versions wrote as underscores.
    """

    name: str
    title: str
    options: Mapping[str, Option]
    groups: frozenset[str] = frozenset()
    check: Check = _no_problems
    finish: Finish = _nothing
    section: str = ""
    programs: tuple[str, ...] = ()
    beside: Beside = _nothing_beside
    is_dashed: bool = False

    def flatten(self, values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
        """Return the options of a file by dotted name, in its order."""
        flat: dict[str, Any] = {}
        for key, value in values.items():
            name = f"{prefix}{key}"
            name = name.replace("_", "-") if self.is_dashed else name
            if name == self.section and isinstance(value, Mapping):
                flat |= self.flatten(value)
            elif name in self.groups and isinstance(value, Mapping) and value:
                flat |= self.flatten(value, f"{name}.")
            else:
                flat[name] = value
        return flat

    def read(self, file: ForeignFile) -> Imported:
        """Return the settings and the report; raises ConfigError with everything that is wrong.

        An option without a value is one that is left out.
        """
        given = self.flatten(file.values)
        if len(given) > MAX_OPTIONS:
            what = f"It has {len(given):,} options."
            remedy = f"Files have up to {MAX_OPTIONS:,} options."
            raise ConfigError(Problem(file.name, what, remedy))
        file = self._with_own_names(file)
        wrong = {
            name: Problem(file.where(name), *words)
            for name, value in given.items()
            if (words := self._wrong(name, value))
        }
        # The rest is read too, so that all problems are reported at once.
        given = {name: value for name, value in given.items() if name not in wrong}
        filled = {name: value for name, value in given.items() if value is not None}
        defaults = {
            name: option.default
            for name, option in self.options.items()
            if name not in filled and option.default is not ABSENT
        }
        values = {**file.beside, **defaults, **filled}
        problems = [*wrong.values(), *self._contradictions(values, file)]
        if len(problems) > len(wrong):
            raise ConfigError(problems)
        lines = [*self._lines(given, values, file), *self._lines(defaults, values, None)]
        lines = _without_row_settings(lines, self._settings(lines, values))
        settings = self._settings(lines, values)
        problems += _setting_problems(settings, lines, file)
        if problems:
            raise ConfigError(problems)
        report = tuple(line.as_line() for line in lines)
        return Imported(self.name, self.title, nest(settings), report)

    def _with_own_names(self, file: ForeignFile) -> ForeignFile:
        """Return a file that has the lines of its options by the names that the table has."""
        prefix = f"{self.section}."
        lines = {
            name.removeprefix(prefix) if self.section else name: line
            for name, line in file.lines.items()
        }
        if self.is_dashed:
            lines |= {name.replace("_", "-"): line for name, line in lines.items()}
        return replace(file, lines={**lines, **file.lines})

    def _contradictions(self, values: Values, file: ForeignFile) -> list[Problem]:
        found = self.check(values)
        return [Problem(file.where(each.where), each.what, each.remedy) for each in found]

    def _lines(
        self, names: Mapping[str, Any], values: Values, file: ForeignFile | None
    ) -> Iterator[_Read]:
        for name, value in names.items():
            yield from _reads(name, value, self._outcome(name, value, values, file), file)

    def _outcome(self, name: str, value: Any, values: Values, file: ForeignFile | None) -> Outcome:
        option = self.options.get(name)
        if name in self.groups:
            return Outcome("no-effect", why="It has no options.")
        if option is None:
            return self._unknown(name)
        if value is None and file is not None:
            return Outcome("no-effect", why="It is empty, as if it were left out.")
        return _explained(option.read(value, values))

    def _wrong(self, name: str, value: Any) -> tuple[str, str] | None:
        """Return what is wrong with a value and what its system allows; None if nothing is."""
        if name in self.groups and value and not isinstance(value, Mapping):
            return f"{shown(value)} is not a group of options.", "Write its options below it."
        return wrong_value(self.options.get(name), value)

    def _unknown(self, name: str) -> Outcome:
        if name == "config":
            return Outcome("refused", why="Import that file by itself.")
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
        value = HIDDEN if self.value and SECRET.search(self.name.lower()) else self.value
        return ReportLine(
            self.line, self.name, value, outcome.result, setting, outcome.why, self.is_default
        )


def _explained(outcome: Outcome) -> Outcome:
    """Return an outcome with the words for one that has none of its own."""
    if outcome.why or outcome.lines or outcome.result in ("no-effect", "refused"):
        return outcome
    if not outcome.settings:
        return Outcome("no-effect", why="This value asks for nothing.")
    return replace(outcome, why="Its name here." if outcome.result == "converted" else "")


def _without_row_settings(lines: list[_Read], settings: Mapping[str, Any]) -> list[_Read]:
    """Return the lines of a training on preferences without the settings that it does not have."""
    if settings.get("strategy") not in ("dpo", "rlhf"):
        return lines
    without = Outcome("no-effect", why="Preferences are compared as a whole.")
    return [
        replace(line, outcome=without)
        if line.outcome.settings and line.outcome.settings.keys() <= ROW_SETTINGS
        else line
        for line in lines
    ]


def _reads(
    name: str, value: Any, outcome: Outcome, file: ForeignFile | None, is_inner: bool = False
) -> Iterator[_Read]:
    yield _Read(name, value, outcome, file.line(name) if file else None, file is None, is_inner)
    for inner, part, inner_outcome in outcome.lines:
        yield from _reads(f"{name}{inner}", part, inner_outcome, file, is_inner=True)


def wrong_value(option: Option | None, value: Any) -> tuple[str, str] | None:
    """Return what is wrong with a value and what its system allows; None if nothing is."""
    if option is None or value is None:
        return None
    kinds, called = TYPES.get(option.kind), _called(option.kind)
    is_bool = isinstance(value, bool)
    is_number = isinstance(value, (int, float)) and not is_bool
    is_other = kinds and (not isinstance(value, kinds) or (is_bool and bool not in kinds))
    if is_other or not _is_readable(option.kind, value):
        return f"{shown(value)} is not {called}.", f"Enter {called}."
    if is_number and not math.isfinite(value):
        return f"{value} is not a number with a size.", "Enter a finite number."
    if option.choices and value not in option.choices:
        known = join_words([shown(choice) for choice in option.choices])
        return f"{shown(value)} is not known there.", f"Its values are {known}."
    if is_number and option.least is not None and value < option.least:
        return f"It is {value}; the least is {option.least:g}.", "Raise it."
    if is_number and option.most is not None and value > option.most:
        return f"It is {value}; the most is {option.most:g}.", "Lower it."
    return None


def _is_readable(kind: str, value: Any) -> bool:
    """Return whether text is a number where it shall be one, and the names of a list are text."""
    if kind == "numeric":
        return not isinstance(number(value), str)
    if kind == "names" and isinstance(value, list):
        return all(isinstance(name, str) for name in value)
    return True


def _called(kind: str) -> str:
    names = {
        "bool": "true or false",
        "int": "a whole number",
        "map": "a group of options",
        "names": "a name or a list of names",
        "numeric": "a number",
    }
    return names.get(kind, kind if kind == "text" else f"a {kind}")


def _setting_problems(
    settings: Mapping[str, Any], lines: Sequence[_Read], file: ForeignFile
) -> Iterator[Problem]:
    """Yield the settings whose values this program does not take, at the options they come from."""
    # Options of the file come last: their values are used, not the defaults of the system.
    outer = sorted(
        (line for line in lines if not line.is_inner), key=lambda line: not line.is_default
    )
    sources = {name: line.name for line in outer for name in line.outcome.settings}
    for problem in value_problems(Layer(file.name, flatten(nest(settings)))):
        setting = problem.where.partition("[")[0]
        option = sources.get(setting)
        where = file.where(option) if option else f"{file.name}, {problem.where}"
        yield Problem(where, problem.sentence, problem.remedy)
