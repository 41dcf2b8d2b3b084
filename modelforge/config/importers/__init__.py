"""Files of other systems: read them, and return our settings with a line for each option."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from modelforge.config.importers import (
    axolotl,
    h2o,
    llama_factory,
    nanochat,
    safe_synthesizer,
    stack_wise,
    surogate,
    trl,
    unsloth,
)
from modelforge.config.importers.foreign_file import ForeignFile, read_command, read_text
from modelforge.config.importers.recognize import recognize
from modelforge.config.importers.report import Imported
from modelforge.config.importers.system import System
from modelforge.config.validation_messages import join_words, shown
from modelforge.errors import ConfigError, Problem

SYSTEMS: Final[tuple[System, ...]] = (
    surogate.SYSTEM,
    nanochat.SYSTEM,
    safe_synthesizer.SYSTEM,
    stack_wise.SYSTEM,
    trl.SYSTEM,
    llama_factory.SYSTEM,
    axolotl.SYSTEM,
    unsloth.SYSTEM,
    h2o.SYSTEM,
)


@dataclass(frozen=True)
class Recognized:
    """An imported file, and the options by which its system was recognised."""

    imported: Imported
    signs: tuple[str, ...]


def import_settings(text: str, name: str, system: str | None = None) -> Recognized:
    """Return what the options of a file or a command line become here.

    `name` is shown in messages; `system` is the name of its system if that is known. Raises
    ConfigError with everything that is wrong; then nothing is taken.
    """
    file = read_command(text, name) if is_command(text) else read_text(text, name)
    if system is None:
        found, signs = recognize(file, SYSTEMS)
        return Recognized(found.read(file), signs)
    chosen = next((each for each in SYSTEMS if each.name == system), None)
    if chosen is None:
        known = join_words([each.name for each in SYSTEMS])
        raise ConfigError(Problem("--from", f"{shown(system)} is not known.", f"Use {known}."))
    return Recognized(chosen.read(file), ())


def is_command(text: str) -> bool:
    """Return whether a text is a command line: one command whose options begin with dashes."""
    joined = text.replace("\\\n", " ").strip()
    return " --" in f" {joined}" and "\n" not in joined


__all__ = ["SYSTEMS", "ForeignFile", "Recognized", "import_settings", "is_command"]
