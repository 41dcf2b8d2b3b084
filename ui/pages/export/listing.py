"""Exports in progress, waiting and over: steps, self-test, cause and remedy, and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from modelforge.config.command_line import quote
from modelforge.errors import ForgeError
from modelforge.forge import Forge
from modelforge.runs.exports import ExportRequest
from modelforge.runs.jobs import JobState
from modelforge.runs.view import RunView
from modelforge.services.exports import ExportView
from ui.html import format as fmt
from ui.html.markup import EMPTY, Markup, join
from ui.html.templates import render
from ui.pages.export.choice import perplexity_change, title

SELF_TEST = "self-test"
# Formats that can be uploaded to the Hub as they are.
PUSHED = ("adapter", "merged", "gguf")
AUTO_CLASSES = {"seq2seq": "Seq2SeqLM", "span": "QuestionAnswering"}
MAX_SHOWN = 50
# Share of equal answers from which an export counts as the same for people.
SAME = 0.9
# KL under which a difference is hard to notice; the page says so.
HARD_TO_NOTICE = 0.05
Chip = tuple[str, str]


@dataclass(frozen=True)
class Use:
    """How a finished export is used outside of ModelForge: code or a command."""

    label: str
    text: str


@dataclass(frozen=True)
class Listed:
    """An export that is over, as it is drawn."""

    view: ExportView
    use: Use | None
    is_served: bool
    # Its request if it passed its self-test but could not be uploaded.
    not_uploaded: ExportRequest | None = None

    @property
    def title(self) -> str:
        """Its format and quantization."""
        return title(self.view)

    @property
    def chips(self) -> list[Chip]:
        """The result of the self-test."""
        return chips(self.view)

    @property
    def details(self) -> str:
        """What differs, line by line."""
        return "\n".join((self.view.self_test or {}).get("details", ()))

    @property
    def caution(self) -> str:
        """What to know before it is used, although it passed its self-test."""
        return str((self.view.self_test or {}).get("caution") or "") if self.view.is_usable else ""

    @property
    def is_tested(self) -> bool:
        """Whether its files passed the self-test, although it may have failed after that."""
        return bool(self.view.path and (self.view.self_test or {}).get("passed"))

    @property
    def can_serve(self) -> bool:
        """Whether it can be served here."""
        return self.view.is_usable and bool(self.view.path) and self.view.format != "mlx"

    @property
    def can_push(self) -> bool:
        """Whether it can be uploaded to the Hub as it is."""
        return self.view.is_usable and bool(self.view.path) and self.view.format in PUSHED


def in_progress(views: Sequence[ExportView]) -> Markup:
    """Return the export in progress with its steps, and those that wait."""
    active = [view for view in views if not view.state.is_over]
    # The oldest comes first.
    drawn = [
        render("export", "progress_card", view, title(view), _share(view), _has_test(view))
        if view.state is JobState.RUNNING
        else render("export", "waiting_card", view, title(view))
        for view in reversed(active)
    ]
    return join(drawn)


def status(views: Sequence[ExportView]) -> str:
    """Return what happens now, for screen readers."""
    for view in views:
        if view.state is JobState.RUNNING:
            step = view.steps[-1].text if view.steps else "starting"
            return f"Exporting {title(view)} of {view.run_name}: {step}."
    return ""


def stamp(views: Sequence[ExportView]) -> str:
    """Return a text that changes when an export begins, ends or is deleted."""
    return " ".join(f"{view.id}:{view.state}" for view in views)


def _share(view: ExportView) -> float | None:
    """Return the share that is done, from the time spent and left; None while it is unknown."""
    spent = sum(step.seconds for step in view.steps)
    if view.seconds_left is None or not spent:
        return None
    return spent / (spent + view.seconds_left) if view.seconds_left else 0.99


def _has_test(view: ExportView) -> bool:
    return any(SELF_TEST in step.step.replace("_", "-") for step in view.steps)


def over(forge: Forge, views: Sequence[ExportView], served: str) -> Markup:
    """Return the exports that are over; nothing without any."""
    ended = [view for view in views if view.state.is_over]
    if not ended:
        return EMPTY
    total = sum(view.bytes for view in ended if view.path)
    listed = [_listed(forge, view, served) for view in ended[:MAX_SHOWN]]
    summary = f"{len(ended):,} · {fmt.size(total)} in all"
    return render("export", "over", listed, summary, len(ended) - len(listed))


def _listed(forge: Forge, view: ExportView, served: str) -> Listed:
    use = usage(forge, view) if view.is_usable else None
    listed = Listed(view, use, view.id == served)
    if view.format != "hub" or view.is_usable or not listed.is_tested:
        return listed
    record = forge.exports.folder(view.id).record()
    return replace(listed, not_uploaded=record.request if record else None)


def chips(view: ExportView) -> list[Chip]:
    """Return the result of the self-test in a few words."""
    test: Mapping[str, Any] = view.self_test or {}
    if view.state is JobState.STOPPED:
        return [("Stopped; nothing was kept", "warn")]
    if view.state is JobState.LOST:
        return [("Ended unexpectedly; nothing was kept", "bad")]
    if view.state is JobState.FAILED:
        return [_failure(view, test)]
    return _passed(test)


def _failure(view: ExportView, test: Mapping[str, Any]) -> Chip:
    if cause := test.get("cause"):
        return f"Marked failed: {cause}; not usable", "bad"
    if view.path and test.get("passed"):
        return (
            "Tested, but not uploaded" if view.format == "hub" else "Tested, but not registered"
        ), "bad"
    return ("Marked failed; not usable" if view.path else "Failed; nothing was kept"), "bad"


def _passed(test: Mapping[str, Any]) -> list[Chip]:
    found: list[Chip] = []
    prompts, same = test.get("prompts") or 0, test.get("same_text") or 0
    if prompts:
        tone = "good" if same >= SAME * prompts else ""
        found.append((f"Same answers on {same} of {prompts} prompts", tone))
    if (kl := test.get("kl")) is not None:
        found.append((f"KL {_small(kl)}", "good" if kl < HARD_TO_NOTICE else ""))
    if change := perplexity_change(test):
        found.append((f"Perplexity {change}", ""))
    if (difference := test.get("max_logit_difference")) is not None:
        by = f"Logits differ by up to {difference:.1g}" if difference else "Logits are equal"
        found.append((by, "good"))
    if rounding := test.get("rounding"):
        found.append((f"Rounding to 16 bits moves logits by up to {rounding:.1g}", ""))
    return [*found, ("Stops where it should", "good")] if found else []


def _small(value: float) -> str:
    return f"{value:.3f}" if value >= 0.0005 else "under 0.001"


def usage(forge: Forge, view: ExportView) -> Use | None:
    """Return how to use a finished export elsewhere; None if there is nothing to say."""
    if view.format == "ollama" and view.address:
        return Use("Copy command", view.address)
    if view.format == "hub" and view.address:
        record = forge.exports.folder(view.id).record()
        return Use(
            "Copy command", quote(["hf", "download", record.request.repository if record else ""])
        )
    if view.path is None:
        return None
    if view.format == "ollama":  # it was not installed
        name = view.name.removesuffix(f"-{view.quantization.upper()}.gguf").lower()
        command = ["ollama", "create", name, "-f", str(Path(view.path, "Modelfile"))]
        return Use("Copy command", quote(command))
    files = [file.name for file in view.files if file.name.endswith(".gguf")]
    if files:
        return Use("Copy command", quote(["llama-server", "-m", str(Path(view.path, files[0]))]))
    if view.format == "mlx":
        return Use("Copy command", quote(["mlx_lm.chat", "--model", view.path]))
    return Use("Copy code", load_code(_head(forge, view.run), view.path, is_whole=_is_whole(view)))


def load_code(head: str, folder: str, *, is_whole: bool) -> str:
    """Return the two lines of Python that load an export."""
    package, prefix = ("transformers", "Auto") if is_whole else ("peft", "AutoPeft")
    name = f"{prefix}ModelFor{AUTO_CLASSES.get(head, 'CausalLM')}"
    return f"from {package} import {name}\nmodel = {name}.from_pretrained({folder!r})"


def _head(forge: Forge, run_id: str) -> str:
    try:
        run: RunView = forge.runs.view(run_id)
    except ForgeError:  # the run was deleted
        return ""
    return run.plan.facts.head


def _is_whole(view: ExportView) -> bool:
    return not any(file.name.endswith("adapter_config.json") for file in view.files)
