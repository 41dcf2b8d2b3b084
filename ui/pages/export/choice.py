"""What is chosen on the Export page, the formats with their predictions, and other adapters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeGuard, get_args, get_type_hints

from modelforge.diagnosis.verdict import Verdict
from modelforge.errors import ForgeError, Problem
from modelforge.forge import Forge
from modelforge.runs.exports import (
    IN_GGUF,
    QUANTIZATIONS,
    WITH_PRECISION,
    ExportFormat,
    ExportRequest,
    Precision,
    Quantization,
)
from modelforge.runs.view import RunView
from modelforge.services.exports import ExportView, Prediction
from modelforge.services.exports.service import RESERVE_BYTES, require_token
from modelforge.services.exports.sources import require_packages
from ui.html import format as fmt
from ui.html.gradio_page import flag, text
from ui.html.markup import EMPTY, Markup, join
from ui.html.templates import render
from ui.pages.model_picker import MAX_OFFERED

# Runs that are shown as tiles; the others are in a list.
TILES = 3
# Format → title and what it is for.
FORMATS: dict[ExportFormat, tuple[str, str]] = {
    "adapter": ("Adapter", "Only what was trained. Needs the base model to run."),
    "merged": (
        "Merged model, 16-bit",
        "Base and adapter in one folder, for transformers and vLLM.",
    ),
    "gguf": ("GGUF", "One file for llama.cpp, LM Studio, Jan. Can be made smaller."),
    "ollama": ("Ollama", "The GGUF with its chat template, ready for “ollama run”."),
    "hub": ("Hugging Face Hub", "Upload with a model card. Private unless you say otherwise."),
    "mlx": ("MLX", "A folder for Apple silicon. Made here, runs on a Mac."),
}
WHOLE_MODEL = ("Model", "All weights in one folder, for transformers and vLLM.")
MERGED_32_BIT = "Merged model, 32-bit"
CONTENTS = {"adapter": "Adapter", "merged": "Merged model, 16-bit", "gguf": "GGUF"}
RECOMMENDED = "q4_k_m"
# Quantization → what to expect of it.
EXPECTED: dict[Quantization, str] = {
    "f16": "As trained. For converting further.",
    "bf16": "As trained, in the format of most base models.",
    "q8_0": "No difference you would notice.",
    "q6_k": "Very close.",
    "q5_k_m": "Close. Worth it when memory allows.",
    "q4_k_m": "Good balance of size and quality.",
    "iq4_xs": "Smallest that still answers well. Slower on a CPU.",
}
# Precision of merged weights → title and what to expect of it.
PRECISIONS: dict[Precision, tuple[str, str]] = {
    "base": ("As the base model", "What every program expects. Some answers may change."),
    "float32": ("32 bits", "The answers of the trained model, in twice the size."),
}
COMBINATIONS = {
    "cat": "Stacked: the weighted sum of all (cat)",
    "linear": "Linear: about the sum, at one rank",
    "ties": "TIES: keep the largest values, settle signs",
    "dare_linear": "DARE: drop values at random, then sum",
    "dare_ties": "DARE with TIES",
}
# Numbers that are not smaller are ignored, and so is NaN.
LARGEST = 1e9
# Stands for a repository that is not named yet, so that the upload can be predicted.
ANY_REPOSITORY = "user/name"


@dataclass(frozen=True)
class Predicted:
    """What an export needs, as far as that is known, and why it is not possible."""

    prediction: Prediction | None
    problems: Sequence[Problem] = ()

    @property
    def reason(self) -> str:
        """The first problem with its remedy; empty if the export is possible."""
        return f"{self.problems[0].sentence} {self.problems[0].remedy}" if self.problems else ""


def read_choice(request: Any) -> ExportRequest:
    """Return what the browser has chosen; unknown values become the defaults."""
    chosen = ExportRequest(text(request, "run"), "gguf")
    kinds = get_type_hints(ExportRequest)
    known: dict[str, Any] = {}
    for name in ("format", "quantization", "precision", "content", "combination"):
        if (value := text(request, name)) in get_args(kinds[name]):
            known[name] = value
    return fitting(
        replace(
            chosen,
            **known,
            repository=text(request, "repository").strip(),
            private=flag(request, "private", default=True),
            adapters=_adapters(request),
            weight=number(request, "weight", 1.0),
            density=number(request, "density", 0.5),
        )
    )


def fitting(request: ExportRequest) -> ExportRequest:
    """Return a choice without a precision that belongs to another format."""
    if request.written in WITH_PRECISION:
        return request
    return replace(request, precision="base")


def _adapters(request: Any) -> tuple[tuple[str, float], ...]:
    listed = request.get("adapters") if isinstance(request, dict) else None
    pairs = [pair for pair in listed if isinstance(pair, list)] if isinstance(listed, list) else []
    return tuple(
        (pair[0], float(pair[1]))
        for pair in pairs[:MAX_OFFERED]
        if len(pair) == 2 and isinstance(pair[0], str) and _is_finite(pair[1])
    )


def number(request: Any, name: str, default: float) -> float:
    """Return a number of a request, or the default."""
    value = request.get(name) if isinstance(request, dict) else None
    return float(value) if _is_finite(value) else default


def _is_finite(value: object) -> TypeGuard[float]:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) < LARGEST


def predict(forge: Forge, request: ExportRequest) -> Predicted:
    """Return what an export needs, or every reason why it is not possible."""
    prediction = None
    try:
        prediction = forge.exports.predict(request)
        require_packages(request)
    except ForgeError as error:
        return Predicted(prediction, error.problems)
    needed = prediction.disk_bytes + RESERVE_BYTES
    if needed > prediction.disk_free:
        free = fmt.size(prediction.disk_free)
        what = f"It needs {fmt.size(needed)} of disk space; {free} are free."
        return Predicted(prediction, [Problem("disk", what, "Free disk space first.")])
    return Predicted(prediction)


def predict_chosen(forge: Forge, request: ExportRequest) -> Predicted:
    """Return what the chosen export needs; an upload also needs a repository and a token."""
    predicted = predict(forge, request)
    if predicted.prediction is None and request.format == "hub":
        named = predict(forge, replace(request, repository=ANY_REPOSITORY))
        predicted = replace(predicted, prediction=named.prediction)
    try:
        require_token(request)
    except ForgeError as error:
        return replace(predicted, problems=[*predicted.problems, *error.problems])
    return predicted


def token_note(request: ExportRequest) -> Markup:
    """Return whether this computer has a token for an upload; nothing for other formats."""
    if request.format != "hub":
        return EMPTY
    try:
        require_token(request)
    except ForgeError as error:
        return render("export", "no_token", error.problems[0])
    return join(["The token of this computer is used; it needs write access."])


def predict_formats(forge: Forge, request: ExportRequest) -> dict[ExportFormat, Predicted]:
    """Return what each format needs."""
    named = replace(request, repository=request.repository or ANY_REPOSITORY)
    return {key: predict(forge, fitting(replace(named, format=key))) for key in FORMATS}


def usable_choice(
    request: ExportRequest, predicted: Mapping[ExportFormat, Predicted]
) -> ExportRequest:
    """Return the choice with another format if its own is not possible and another one is."""
    possible = [key for key, each in predicted.items() if not each.problems]
    if request.format in possible or not possible:
        return request
    return fitting(replace(request, format=possible[0]))


def run_tiles(runs: Sequence[RunView], selected: str, verdicts: Sequence[Verdict | None]) -> Markup:
    """Return the runs to choose from; the selected one is among them."""
    shown = [
        (run, fmt.model_name(run.config.get("model_name", "")), _verdict(verdict))
        for run, verdict in zip(runs, verdicts, strict=True)
    ]
    return render("export", "runs", shown, selected)


def tiled_runs(runs: Sequence[RunView], selected: str) -> list[RunView]:
    """Return the runs that are shown as tiles: the newest ones, and the selected one."""
    newest = list(runs[:TILES])
    if any(run.id == selected for run in newest):
        return newest
    return [*(run for run in runs if run.id == selected), *newest][:TILES]


def run_list(runs: Sequence[RunView]) -> Markup:
    """Return a list of all runs; nothing if every run has a tile."""
    return render("export", "all_runs", runs) if len(runs) > TILES else EMPTY


def _verdict(verdict: Verdict | None) -> tuple[str, str]:
    return fmt.VERDICTS[verdict.kind] if verdict else ("no verdict", "")


def format_tiles(
    predicted: Mapping[ExportFormat, Predicted], precision: Precision, *, is_whole: bool
) -> Markup:
    """Return the formats with size, disk space and time."""
    merged = MERGED_32_BIT if precision == "float32" else FORMATS["merged"][0]
    known = FORMATS | {"merged": WHOLE_MODEL if is_whole else (merged, FORMATS["merged"][1])}
    shown = [(key, *texts, predicted[key]) for key, texts in known.items()]
    reasons = {each.reason for each in predicted.values()}
    # A problem of the run or of its combination is shown once, not in each tile.
    return render("export", "formats", shown, reasons.pop() if len(reasons) == 1 else "")


def quantizations(forge: Forge, request: ExportRequest, exports: Sequence[ExportView]) -> Markup:
    """Return the quantizations with bits, size, and what was measured for exports of this run."""
    sizes = {
        name: predict(
            forge, replace(request, format="gguf", quantization=name, precision="base")
        ).prediction
        for name in QUANTIZATIONS
    }
    largest = sizes["f16"].bytes if sizes["f16"] else 0
    rows = [
        (name, _bits(size, sizes["f16"]), size, _share(size, largest), _measured(name, exports))
        for name, size in sizes.items()
    ]
    return render("export", "quantizations", rows, EXPECTED, RECOMMENDED)


def precisions(request: ExportRequest, *, is_whole: bool) -> Markup:
    """Return the precisions of merged weights; nothing if every weight was trained."""
    return EMPTY if is_whole else render("export", "precisions", PRECISIONS, request.precision)


def _bits(size: Prediction | None, f16: Prediction | None) -> float | None:
    """Return the bits for each weight, from the sizes."""
    return 16 * size.bytes / f16.bytes if size and f16 and f16.bytes else None


def _share(size: Prediction | None, largest: int) -> float:
    return min(1.0, size.bytes / largest) if size and largest else 0.0


def _measured(name: str, exports: Sequence[ExportView]) -> str:
    """Return how the newest export of this run in a quantization differs from the trained model."""
    for view in exports:
        test = view.self_test or {}
        if view.quantization == name and view.is_usable and (known := perplexity_change(test)):
            return known
    return ""


def perplexity_change(test: Mapping[str, Any]) -> str:
    """Return the change in perplexity that a self-test measured: +2.4 %; empty if it did not."""
    now, before = test.get("perplexity"), test.get("trained_perplexity")
    if not isinstance(now, float) or not isinstance(before, float) or before <= 0:
        return ""
    change = 100 * (now / before - 1)
    return "same" if abs(change) < 0.05 else f"{change:+.1f} %"


def other_adapters(run: RunView, runs: Sequence[RunView]) -> Markup:
    """Return the runs whose adapters can be combined with that of the run; nothing without any."""
    base = run.config.get("model_name")
    others = [
        other
        for other in runs
        if other.id != run.id
        and other.plan.trains == "adapter"
        and other.config.get("model_name") == base
    ]
    if run.plan.trains != "adapter" or not others:
        return EMPTY
    return render("export", "adapters", run, others, COMBINATIONS)


def title(view: ExportView | ExportRequest) -> str:
    """Return the format with its quantization or precision: GGUF Q4_K_M."""
    if view.format == "merged" and view.precision == "float32":
        return MERGED_32_BIT
    name = FORMATS[view.format][0]
    if not view.quantization or (isinstance(view, ExportRequest) and view.written not in IN_GGUF):
        return name
    return f"{name} {view.quantization.upper()}"
