"""Size, disk space, memory and duration of an export, before it is started."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from modelforge.models.architecture import ModelInfo
from modelforge.models.gguf_size import gguf_bytes
from modelforge.runs.exports import IN_GGUF, ExportFolder, ExportRequest
from modelforge.services.exports.sources import ExportSources
from modelforge.services.exports.view import Prediction
from modelforge.services.jobs.view import correction
from modelforge.units import GIB, MIB

# The exporter before it has opened a model. Measured on 2026-11-29: 511 MiB after its imports, and
# 1,107 MiB at most while it exported an adapter of the starter; 1,192 MiB are predicted with this.
PROCESS_BYTES = 600 * MIB
# The process of llama.cpp, beside the file that it has opened.
LLAMA_CPP_BYTES = 400 * MIB
# Answers of the self-test, in files: logits of 20 prompts, 65 tokens each, in float32.
ANSWER, PROMPTS = 65 * 4, 20
# Tokens of a prompt and its answer, which are answered in one batch.
TOKENS = 192
TOKENIZER_BYTES = 8 * MIB
# For two cores of a laptop processor; earlier exports of a home correct them. An adapter of the
# starter took 108 s of one core on 2026-11-29 (59 s predicted for two), 9 s of it for imports.
START_S = 12.0
BYTES_PER_S, UPLOADED_PER_S = 120 * MIB, 5 * MIB
QUANTIZED_PER_S = 12e6
ANSWERED_PER_S = 6e6


def predict(
    request: ExportRequest,
    sources: ExportSources,
    name: str,
    exports: Path,
    earlier: Iterable[ExportFolder],
) -> tuple[Prediction, float]:
    """Return what an export needs, and its duration before the correction by earlier exports."""
    model = sources.weights
    size, work = _sizes(request, sources)
    formula = _seconds(request, model, size, work)
    alike = (folder for folder in earlier if _format(folder) == request.format)
    prediction = Prediction(
        name=name,
        device="cpu" if sources.gpu is None else "cuda",
        bytes=size,
        disk_bytes=size + work,
        memory_bytes=_memory(request, sources, size),
        seconds=round(formula * correction(alike), 1),
        disk_free=free_bytes(exports),
    )
    return prediction, formula


def _sizes(request: ExportRequest, sources: ExportSources) -> tuple[int, int]:
    """Return the bytes of the export, and of what is beside it while it works."""
    if sources.pushed:  # linked, not copied
        return sources.output_bytes, 0
    whole = _whole_bytes(request, sources.weights) + TOKENIZER_BYTES
    merged = whole if sources.adapters else 0
    combined = sources.adapter_bytes if len(sources.adapters) > 1 else 0
    answers = (sources.weights.vocab or 0) * ANSWER * PROMPTS
    if request.written == "adapter":
        return sources.output_bytes, answers + combined
    if request.written not in IN_GGUF:
        return whole, answers + combined
    size = _gguf_bytes(sources.weights, request.quantization)
    # Ollama stores a copy of its own. The merged weights are removed before the self-test.
    copies = size if request.format == "ollama" else 0
    return size, max(merged, answers, copies) + combined


def _whole_bytes(request: ExportRequest, model: ModelInfo) -> int:
    """Return the bytes of all weights in the precision of the export."""
    stored = round(model.weights_gib * GIB)
    return max(stored, 4 * (model.parameters or 0)) if request.precision == "float32" else stored


def _gguf_bytes(model: ModelInfo, quantization: str) -> int:
    tokens = model.tokens or model.vocab or 0
    groups = (model.heads or 1) // (model.kv_heads or 1)
    shapes = model.shapes or {"model.layers.0.weight": (model.parameters or 0, 256)}
    return gguf_bytes(shapes, quantization, layers=model.layers or 1, groups=groups, tokens=tokens)


def _memory(request: ExportRequest, sources: ExportSources, size: int) -> int:
    model = sources.weights
    whole = _whole_bytes(request, model)
    rows = (model.vocab or 0) * ANSWER
    # The trained model, then the export; a layer in float32 while it computes.
    largest = (model.vocab or 0) * (model.hidden_size or 0) * 4
    keys = 2 * (model.layers or 0) * (model.kv_heads or 0) * (model.head_dim or 0) * 4
    cache = keys * PROMPTS * TOKENS
    answering = whole + sources.adapter_bytes + largest + cache + 3 * rows
    if request.written in IN_GGUF:
        answering = max(answering, LLAMA_CPP_BYTES + size + 3 * rows)
    return PROCESS_BYTES + answering


def _seconds(request: ExportRequest, model: ModelInfo, size: int, work: int) -> float:
    parameters = model.parameters or 0
    seconds = START_S + (size + work) / BYTES_PER_S + 2 * parameters / ANSWERED_PER_S
    if request.format == "hub":
        seconds += size / UPLOADED_PER_S
    if request.written in IN_GGUF and request.quantization not in ("f16", "bf16"):
        seconds += parameters / QUANTIZED_PER_S
    return seconds


def _format(folder: ExportFolder) -> str:
    record = folder.record()
    return record.request.format if record else ""


def free_bytes(folder: Path) -> int:
    """Return the free space of the disk of a folder, which may not exist yet."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free
