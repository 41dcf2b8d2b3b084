"""Duration and memory of an evaluation, before it is started."""

from __future__ import annotations

from collections.abc import Iterable

from modelforge.models.architecture import ModelInfo
from modelforge.runs.evaluations import EvaluationFolder, EvaluationRequest
from modelforge.services.evaluations.sources import EvaluationSources
from modelforge.services.evaluations.view import Prediction
from modelforge.services.jobs.view import correction
from modelforge.units import GIB, MIB

# The evaluator before it has opened a model.
PROCESS_BYTES = 600 * MIB
START_S, LOADED_PER_S = 12.0, 200 * MIB
# Forward passes are this many times as fast as training, whose backward pass takes twice as long.
FORWARD_SPEEDUP = 2.5
# Tokens that are generated in a batch take this many times as long as tokens that are read.
GENERATION_FACTOR = 5.0
# Parameters times tokens per second of a forward pass on two cores, where the run tells no speed.
FORWARD_PER_S = 15e9
# Tokens of an answer, as a share of its row; and those of a general prompt with its answer.
ANSWER_SHARE, GENERAL_TOKENS, GENERAL_PROMPTS = 0.5, 64, 100
# Tokens of the examples in front of each prompt.
EXAMPLE_TOKENS = 2048
# Sequences of a batch.
BATCH = 32
TASK_S = 120.0


def predict(
    request: EvaluationRequest,
    sources: EvaluationSources,
    earlier: Iterable[EvaluationFolder],
) -> tuple[Prediction, float]:
    """Return what an evaluation needs, and its duration before the correction by earlier ones."""
    formula = formula_seconds(request, sources)
    prediction = Prediction(
        seconds=round(formula * correction(earlier), 1),
        memory_bytes=_memory(sources),
        rows=sources.rows,
        device=sources.device,
        notes=sources.notes,
    )
    return prediction, formula


def formula_seconds(request: EvaluationRequest, sources: EvaluationSources) -> float:
    """Return the duration by the tokens that are read and generated."""
    forward = _forward_speed(sources)
    read, generated = _tokens(request, sources)
    loading = START_S + sources.model.weights_gib * GIB / LOADED_PER_S
    tasks = TASK_S * len(request.tasks)
    return loading + tasks + (read + generated * GENERATION_FACTOR) / forward


def _tokens(request: EvaluationRequest, sources: EvaluationSources) -> tuple[float, float]:
    """Return the tokens that are read and those that are generated."""
    contestants = 3 if request.prompted else 2
    # The losses on right answers, and on exchanged ones without examples.
    read = sources.rows * sources.row_tokens * (contestants + 2)
    read += EXAMPLE_TOKENS if request.prompted and sources.rows else 0
    generated = 0.0
    if request.answers and sources.plan.facts.head != "span":
        generated += contestants * sources.rows * sources.row_tokens * ANSWER_SHARE
    if request.general:
        generated += 2 * GENERAL_PROMPTS * GENERAL_TOKENS
    return read, generated


def _forward_speed(sources: EvaluationSources) -> float:
    """Return tokens per second of a forward pass: measured in training on the same device."""
    if sources.speed and sources.plan.device == sources.device:
        return sources.speed * FORWARD_SPEEDUP
    return FORWARD_PER_S / max(1, sources.model.parameters or 0) if sources.gpu is None else 2e4


def _memory(sources: EvaluationSources) -> int:
    model = sources.model
    weights = model.weights_gib * GIB
    length = min(EXAMPLE_TOKENS + 2 * sources.row_tokens, float(model.context or 2**20))
    logits = BATCH * (model.vocab or 0) * 4 + sources.row_tokens * (model.vocab or 0) * 8
    return round(PROCESS_BYTES + weights + logits + _cache_bytes(model, length) * BATCH)


def _cache_bytes(model: ModelInfo, length: float) -> float:
    """Return the bytes of the keys and values of a sequence, with two bytes each."""
    return 4.0 * (model.layers or 0) * (model.kv_heads or 0) * (model.head_dim or 0) * length
