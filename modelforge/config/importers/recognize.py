"""Recognise the system that a file of settings was written for, by its options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modelforge.config.importers.foreign_file import ForeignFile
from modelforge.config.importers.system import System
from modelforge.config.validation_messages import join_words
from modelforge.errors import ConfigError, Problem

# Options of another system that the recognised one does not have: from here on it is a mixture.
MIXED = 2
# Recognised if it knows this share of the options.
KNOWN_SHARE = 0.5
NAMED = 4


@dataclass(frozen=True)
class _Match:
    """How well a file fits a system: the options that it knows, and those that it alone knows."""

    system: System
    known: tuple[str, ...]
    own: tuple[str, ...]

    @property
    def rank(self) -> tuple[int, int]:
        return len(self.known), len(self.own)


def recognize(file: ForeignFile, systems: Sequence[System]) -> tuple[System, tuple[str, ...]]:
    """Return the system of a file, and the options by which it was recognised.

    Raises ConfigError for a file of no known system, or of two.
    """
    if file.command:
        for system in systems:
            if any(program in file.program for program in system.programs):
                return system, tuple(file.program.split()[:2])
    matches = sorted((_match(file, each, systems) for each in systems), key=lambda m: m.rank)
    best = matches[-1]
    names = best.system.flatten(file.values)
    if not best.known or len(best.known) < KNOWN_SHARE * len(names):
        raise ConfigError(_unknown(file, systems))
    equal = [match for match in matches if match.rank == best.rank]
    if len(equal) > 1:
        titles = join_words([match.system.title for match in equal], "and")
        shared = join_words(best.known[:NAMED], "and")
        what = f"Its options, such as {shared}, are those of {titles}."
        which = join_words([f"--from {match.system.name}" for match in equal])
        raise ConfigError(Problem(file.name, what, f"Say which one it is: {which}."))
    _refuse_mixture(file, best, matches[:-1])
    return best.system, (best.own or best.known)[:NAMED]


def _match(file: ForeignFile, system: System, systems: Sequence[System]) -> _Match:
    known = tuple(name for name in system.flatten(file.values) if name in system.options)
    return _Match(system, known, tuple(name for name in known if _owner(name, systems) is system))


def _owner(name: str, systems: Sequence[System]) -> System | None:
    """Return the only system with this option; None if there are several, or none."""
    names = {name, name.replace("-", "_")}
    owners = [system for system in systems if names & system.options.keys()]
    return owners[0] if len(owners) == 1 else None


def _refuse_mixture(file: ForeignFile, best: _Match, others: Sequence[_Match]) -> None:
    for other in others:
        # A group of one system can have the name of an option of another one.
        section = best.system.section
        own = {*best.known, *best.system.groups, section}
        strange = [name for name in other.own if name.removeprefix(f"{section}.") not in own]
        if len(strange) < MIXED or not best.own:
            continue
        first, second = best.own[0], strange[0]
        line = f" (line {file.line(first)})" if file.line(first) else ""
        what = f"It is an option of {other.system.title}, {first}{line} one of {best.system.title}."
        remedy = "A file has the options of one system: divide it."
        raise ConfigError(Problem(file.where(second), what, remedy))


def _unknown(file: ForeignFile, systems: Sequence[System]) -> Problem:
    seen: Mapping[str, object] = file.values
    options = join_words(list(seen)[:NAMED], "and") if seen else "nothing"
    what = f"It is not recognised by its options, such as {options}."
    titles = join_words([f"{system.title} ({system.name})" for system in systems], "and")
    return Problem(file.name, what, f"Known are {titles}; name one with --from.")
