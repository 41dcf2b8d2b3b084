"""Write settings for a system by its name, or as a script."""

from __future__ import annotations

from typing import Final

from modelforge.config.exporters import (
    axolotl,
    llama_factory,
    nanochat,
    script,
    stack_wise,
    surogate,
    trl,
)
from modelforge.config.exporters.facts import Facts
from modelforge.config.exporters.report import Exported
from modelforge.config.exporters.system import TargetSystem
from modelforge.config.validation_messages import join_words, shown
from modelforge.errors import ConfigError, Problem

SYSTEMS: Final[tuple[TargetSystem, ...]] = (
    trl.SYSTEM,
    surogate.SYSTEM,
    axolotl.SYSTEM,
    llama_factory.SYSTEM,
    nanochat.SYSTEM,
    stack_wise.SYSTEM,
)
SCRIPT = "script"
NAMES: Final[tuple[str, ...]] = (*(system.name for system in SYSTEMS), SCRIPT)


def export_settings(facts: Facts, system: str) -> Exported:
    """Return the file of a system and a line for each of our settings.

    Raises ConfigError for an unknown system, and for a method that the system does not train.
    """
    if system == SCRIPT:
        return script.write(facts)
    chosen = next((each for each in SYSTEMS if each.name == system), None)
    if chosen is None:
        raise ConfigError(Problem("--to", f"{shown(system)} is not known.",
                                  f"Use {join_words(list(NAMES))}."))  # fmt: skip
    return chosen.write(facts)
