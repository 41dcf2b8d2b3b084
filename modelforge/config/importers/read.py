"""Import a file or a command line of another system."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
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
from modelforge.config.importers.foreign_file import read_command, read_text
from modelforge.config.importers.llama_factory_data import INFO, parse_dataset_info
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


def import_settings(
    text: str,
    name: str,
    system: str | None = None,
    folder: Path | None = None,
    *,
    dataset_info: str = "",
) -> Recognized:
    """Return what the options of a file or a command line become here.

    Args:
        text: Its content.
        name: Shown in messages.
        system: The name of its system; None to recognise it by its options.
        folder: Where it is stored, with the files that it refers to; None if that is unknown.
        dataset_info: The content of LLaMA-Factory's `dataset_info.json`, if there is no folder.

    Raises ConfigError with everything that is wrong; then nothing is taken.
    """
    file = read_command(text, name) if is_command(text) else read_text(text, name)
    signs: tuple[str, ...] = ()
    if system is None:
        chosen, signs = recognize(file, SYSTEMS)
    else:
        chosen = _named(system)
    if folder is not None:
        file = replace(file, beside={**file.beside, **chosen.beside(file.values, folder)})
    if dataset_info:
        file = replace(file, beside={**file.beside, INFO: parse_dataset_info(dataset_info)})
    return Recognized(chosen.read(file), signs)


def is_command(text: str) -> bool:
    """Return whether a text is a command line: one command whose options begin with dashes."""
    joined = text.replace("\\\n", " ").strip()
    is_one = " --" in f" {joined}" and "\n" not in joined
    return is_one and not joined.startswith("{") and not joined.split()[0].endswith(":")


def _named(name: str) -> System:
    found = next((system for system in SYSTEMS if system.name == name), None)
    if found is None:
        known = join_words([system.name for system in SYSTEMS])
        raise ConfigError(Problem("system", f"{shown(name)} is not known.", f"Use {known}."))
    return found
