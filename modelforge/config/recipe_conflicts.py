"""Settings of a recipe that are not used, because of what the user has chosen since."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelforge.config.defaults import strategy_defaults
from modelforge.config.resolve import Layer, flatten, resolve
from modelforge.config.visibility import inapplicable_settings
from modelforge.errors import ForgeError

SFT = "sft"


def overridden_settings(
    profile: Mapping[str, Any],
    recipe: Mapping[str, Any],
    values: Mapping[str, Any],
    *,
    practice: bool = False,
) -> frozenset[str]:
    """Return the settings of `recipe` that give way to the later `values` of the user.

    These do not apply to the values, contradict them, or are defaults of another strategy, such as
    its learning rate. What is unused or wrong in the recipe alone is kept, so that it is reported.
    """
    if not recipe or not values:
        return frozenset()
    opened, chosen = flatten(recipe), flatten(values)
    before = _Effect.of(profile, opened, practice=practice)
    dropped: frozenset[str] = frozenset()
    while True:
        kept = {name: value for name, value in opened.items() if name not in dropped}
        after = _Effect.of(profile, {**kept, **chosen}, practice=practice)
        unused = after.unusable - before.unusable
        if after.strategy != before.strategy:
            unused |= after.defaults | before.defaults
        found = unused & (opened.keys() - chosen.keys() - dropped)
        if not found:
            return dropped
        dropped |= found


@dataclass(frozen=True)
class _Effect:
    """The strategy of a form, the settings it has defaults for, and what is wrong or unused."""

    strategy: str
    defaults: frozenset[str]
    unusable: frozenset[str]

    @classmethod
    def of(
        cls, profile: Mapping[str, Any], values: Mapping[str, Any], *, practice: bool
    ) -> _Effect:
        strategy = str({"strategy": SFT, **profile, **values}["strategy"])
        defaults = strategy_defaults(strategy, practice=practice)
        form = {**profile, **defaults, **values}
        unusable = inapplicable_settings(form)
        try:
            resolve(Layer("form", form))
        except ForgeError as error:
            unusable |= {problem.where for problem in error.problems}
        return cls(strategy, frozenset(defaults), unusable)
