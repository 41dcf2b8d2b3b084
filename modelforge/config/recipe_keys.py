"""Keys of a recipe that are not settings, each with the most similar setting."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from modelforge.config.fields import nested_groups, source_specs, specs_by_name
from modelforge.config.resolve import MAX_UNKNOWN, flatten
from modelforge.config.validation_messages import most_similar

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class UnknownKey:
    """A key of a recipe that is not a setting.

    Attributes:
        path: The keys and positions that lead to it.
        value: Its value.
        kind: What it is not: a setting, a group of settings, or a setting of a source.
        similar: The path of the most similar setting that has no value yet, if any.
    """

    path: Path
    value: Any
    kind: str = "a setting"
    similar: Path | None = None

    @property
    def name(self) -> str:
        """Return its dotted name, as in the problem that `resolve` reports."""
        name = ""
        for part in self.path:
            name += f"[{part}]" if isinstance(part, int) else f".{part}" if name else part
        return name


def unknown_keys(recipe: Mapping[str, Any]) -> list[UnknownKey]:
    """Return the first 50 keys of a recipe that are not settings, in its order."""
    return list(islice(_walk(recipe), MAX_UNKNOWN))


def _walk(recipe: Mapping[str, Any]) -> Iterator[UnknownKey]:
    taken = flatten(recipe)
    for key, value in recipe.items():
        if key in specs_by_name():
            if key == "data.sources":
                yield from _in_sources((key,), value)
        elif key not in nested_groups():
            yield UnknownKey((key,), value, similar=_similar(key, taken))
        elif isinstance(value, Mapping):
            for inner, part in value.items():
                if f"{key}.{inner}" == "data.sources":
                    yield from _in_sources((key, inner), part)
                elif f"{key}.{inner}" not in specs_by_name():
                    similar = _similar(f"{key}.{inner}", taken)
                    yield UnknownKey((key, inner), part, similar=similar)
        elif value is not None:  # YAML reads a group without settings as null
            yield UnknownKey((key,), value, "a group of settings")


def _similar(name: str, taken: Mapping[str, Any]) -> Path | None:
    similar = most_similar(name)
    return (similar,) if similar and similar not in taken else None


def _in_sources(path: Path, sources: object) -> Iterator[UnknownKey]:
    listed = sources if isinstance(sources, list) else []
    for place, source in enumerate(listed):
        for key, value in source.items() if isinstance(source, Mapping) else ():
            if key in source_specs():
                continue
            names = [name for name in source_specs() if name not in source]
            near = difflib.get_close_matches(key.strip().lower()[:100], names, n=1, cutoff=0.6)
            similar = (*path, place, near[0]) if near else None
            yield UnknownKey((*path, place, key), value, "a setting of a source", similar)
