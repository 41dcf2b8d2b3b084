"""Duration and memory of an evaluation, before it is started."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from modelforge.models.architecture import ModelInfo
from modelforge.preflight.evaluation_time import EXAMPLE_TOKENS, EvaluationWork
from modelforge.runs.evaluations import EvaluationFolder, EvaluationRequest
from modelforge.services.evaluations.sources import EvaluationSources
from modelforge.services.evaluations.view import Prediction
from modelforge.services.jobs.view import correction
from modelforge.units import GIB, MIB

# The evaluator before it has opened a model.
PROCESS_BYTES = 600 * MIB
# Tokens per second of a training where the run tells none: of all parameters on two cores, and on a
# GPU.
TRAINED_PER_S, ON_GPU_PER_S = 6e9, 8e3
# Sequences of a batch.
BATCH = 32


def predict(
    request: EvaluationRequest,
    sources: EvaluationSources,
    earlier: Iterable[EvaluationFolder],
    answers: Sequence[Path] = (),
) -> tuple[Prediction, float]:
    """Return what an evaluation needs, and its duration before the correction by earlier ones.

    `answers` are the files of what is known of the run's model.
    """
    formula = formula_seconds(request, sources, answers)
    prediction = Prediction(
        seconds=round(formula * correction(earlier), 1),
        memory_bytes=_memory(sources),
        rows=sources.rows,
        device=sources.device,
        notes=sources.notes,
    )
    return prediction, formula


def formula_seconds(
    request: EvaluationRequest, sources: EvaluationSources, answers: Sequence[Path] = ()
) -> float:
    """Return the duration by the tokens that are read and generated."""
    work = EvaluationWork(
        sources.rows,
        sources.row_tokens,
        prompted=request.prompted,
        answers=request.answers and sources.plan.facts.head != "span",
        general=request.general,
        tasks=len(request.tasks),
    )
    return work.seconds(sources.model, _training_speed(sources), _known(work, answers))


def _known(work: EvaluationWork, answers: Sequence[Path]) -> tuple[float, float]:
    """Return about which shares of the losses and of the answers are known, 0 to 1."""
    losses = texts = 0
    for path in answers:
        try:
            lines = path.read_bytes().splitlines()
        except OSError:
            continue
        with_text = sum(b'"text":' in line for line in lines)
        texts += with_text
        losses += len(lines) - with_text
    return (
        min(1.0, losses / work.loss_count) if work.loss_count else 0.0,
        min(1.0, texts / work.answer_count) if work.answer_count else 0.0,
    )


def _training_speed(sources: EvaluationSources) -> float:
    """Return tokens per second of training on the device: those of the run if it used it."""
    if sources.speed and sources.plan.device == sources.device:
        return sources.speed
    return ON_GPU_PER_S if sources.gpu is not None else TRAINED_PER_S / _parameters(sources)


def _parameters(sources: EvaluationSources) -> int:
    return max(1, sources.model.parameters or 0)


def _memory(sources: EvaluationSources) -> int:
    model = sources.model
    weights = model.weights_gib * GIB
    length = min(EXAMPLE_TOKENS + 2 * sources.row_tokens, float(model.context or 2**20))
    logits = BATCH * (model.vocab or 0) * 4 + sources.row_tokens * (model.vocab or 0) * 8
    return round(PROCESS_BYTES + weights + logits + _cache_bytes(model, length) * BATCH)


def _cache_bytes(model: ModelInfo, length: float) -> float:
    """Return the bytes of the keys and values of a sequence, with two bytes each."""
    return 4.0 * (model.layers or 0) * (model.kv_heads or 0) * (model.head_dim or 0) * length
