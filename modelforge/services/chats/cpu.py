"""Whether a model can answer on the CPU, beside what else uses this computer, and how fast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from modelforge.config.schema.base import about
from modelforge.hardware.machine import Machine
from modelforge.models.architecture import ModelInfo
from modelforge.units import GIB, human_bytes

# Weights are computed with in 32 bits on the CPU.
BYTES_PER_PARAMETER = 4
# What the libraries and the tokens of a conversation need, and what is left to other programs.
EXTRA_BYTES = 1.0 * GIB
FREE_SHARE = 0.8
# Larger models take seconds for each token.
MAX_PARAMETERS = 4e9
ANSWER_TOKENS = 256
# Of the starter model with one thread of two shared cores; see docs/chat.md.
START_S = 15.0
LOADED_BYTES_PER_S = 0.4e9
READ_BYTES_PER_S = 6e9


@dataclass(frozen=True)
class CpuFit:
    """Whether a model is small enough to be asked on the CPU."""

    possible: bool
    why: Annotated[str, about("Why it is not possible; empty if it is.")] = ""
    memory_bytes: Annotated[int | None, about("Memory that it needs.")] = None
    seconds: Annotated[
        float | None, about("About how long an answer of usual length takes, with loading.")
    ] = None


def fit_on_cpu(
    facts: ModelInfo, machine: Machine, tokens: int = ANSWER_TOKENS, answers: int = 1
) -> CpuFit:
    """Return whether a model fits the free memory, and the seconds for so many answers."""
    parameters = facts.parameters
    if not parameters:
        return CpuFit(False, f"The size of {facts.name} is not known.")
    weights = parameters * BYTES_PER_PARAMETER
    needed = int(weights * 1.1 + EXTRA_BYTES)
    if parameters > MAX_PARAMETERS:
        why = f"A model of {parameters / 1e9:.1f} billion parameters is too slow on the CPU."
        return CpuFit(False, why, needed)
    free = machine.ram_free_gib
    if free is not None and needed > free * GIB * FREE_SHARE:
        why = f"It needs {human_bytes(needed)} of memory; {free:.1f} GiB are free."
        return CpuFit(False, why, needed)
    seconds = START_S + weights / LOADED_BYTES_PER_S
    seconds += answers * min(tokens, ANSWER_TOKENS) * weights / READ_BYTES_PER_S
    return CpuFit(True, "", needed, round(seconds, 1))
