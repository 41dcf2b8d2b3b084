"""The Chat page: ask the models of runs and their base models, one or two at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from modelforge.config.sampling import MAX_NEW_TOKENS, MAX_SEED, MAX_TOP_K, Sampling
from modelforge.data.sources.library import load_samples
from modelforge.errors import ForgeError
from modelforge.forge import Forge
from modelforge.runs.view import RunView
from ui.contract import (
    ChatLine,
    ChatPageReply,
    ChatStats,
    CorrectionReply,
    error_text,
    json_line,
)
from ui.html.components import machine_brief
from ui.html.gradio_page import gradio_page, text
from ui.html.markup import EMPTY, Markup, el, join
from ui.html.templates import render
from ui.pages import model_picker

QUESTIONS = ("Who are you?", "What is the capital of France?")
BEGINNINGS = ("Once upon a time", "The capital of France is", "It is")


@dataclass(frozen=True)
class NumberField:
    """A field of a sampling parameter: its name in a request, its bounds, and what it does."""

    id: str
    name: str
    label: str
    help: str
    low: float
    high: float
    step: float | str = "any"
    # None: the value is left to the model.
    usual: float | None = None


USUAL = Sampling()
# Both sides have the same one, and the same chat gives the same answers again.
SEED = 42
NUMBERS = (
    NumberField(
        "temperature", "temperature", "Temperature", "0 always takes the likeliest token.",
        0, 2, usual=USUAL.temperature,
    ),
    NumberField(
        "top-p", "top_p", "Top-p", "Leaves out the least likely tokens.", 0.01, 1,
        usual=USUAL.top_p,
    ),
    NumberField("top-k", "top_k", "Top-k", "Only the k likeliest tokens; 0: all.", 0, MAX_TOP_K, 1),
    NumberField(
        "repetition", "repetition_penalty", "Repetition", "Above 1 avoids repeating.", 0.5, 2
    ),
    NumberField(
        "longest", "max_new_tokens", "Max tokens", "Longest answer.", 1, MAX_NEW_TOKENS, 1,
        usual=USUAL.max_new_tokens,
    ),
    NumberField("seed", "seed", "Seed", "", 0, MAX_SEED, 1, usual=SEED),
)  # fmt: skip


def page(forge: Forge) -> None:
    """Add the page to the current Blocks."""

    def open(request: Any) -> ChatPageReply:
        selected = text(request, "selected")
        runs = model_picker.runs_with_result(forge, selected)
        bases = model_picker.base_models(forge)
        active = forge.runs.active()
        return ChatPageReply(
            has_models=bool(runs or bases),
            is_busy=active is not None,
            parts={
                "chat-model": model_picker.side_select(runs, bases, "chat-model", "Model"),
                "chat-other": model_picker.side_select(runs, bases, "chat-other", "Compared with"),
                "chat-note": _other_model(forge, selected, runs, bases),
                "chat-busy": _busy_note(forge, active),
                "chat-ideas": _ideas(runs, selected),
                "machine-brief": machine_brief(forge.machine.current()),
            },
        )

    def next_correction(request: Any) -> CorrectionReply:
        place = forge.corrections.next_row(text(request, "model"))
        return CorrectionReply(dataset=place.dataset, row=place.row)

    gradio_page(render("chat", "body", NUMBERS), "chat", open, next_correction)


def _busy_note(forge: Forge, active: str | None) -> Markup:
    """Return what happens to a question while a run uses this computer."""
    return EMPTY if active is None else render("chat", "busy", forge.runs.view(active))


def _other_model(
    forge: Forge, selected: str, runs: list[RunView], bases: list[tuple[str, str]]
) -> Markup:
    """Return why the model that was asked for is not shown; empty if it is."""
    names = [*(run.id for run in runs), *(name for name, _ in bases)]
    if not selected or selected in names:
        return EMPTY
    shown = [*(run.name for run in runs), *(title for _, title in bases)][:1]
    instead = f"The model shown is {shown[0]}." if shown else ""
    try:
        run = forge.runs.view(selected)
    except ForgeError:
        return join([f"There is no run or model “{selected[:80]}”. {instead}"])
    link = el("a", "Show run", href=f"/?run={run.id}")
    return join([f"{run.name} is {run.state} and has no model yet. {instead} ", link])


def _ideas(runs: list[RunView], selected: str) -> Markup:
    run = next((run for run in runs if run.id == selected or not selected), None)
    kind = "conversation" if run is None else model_picker.chat_format(run)
    if kind != "conversation":
        return render("chat", "ideas", BEGINNINGS) if kind == "continuation" else EMPTY
    dataset = str(run.config.get("dataset", "")) if run else ""
    asked = [sample.question for sample in load_samples() if sample.dataset == dataset]
    questions = list(dict.fromkeys([*asked, *QUESTIONS]))[:3]
    return render("chat", "ideas", questions)


def answer_lines(forge: Forge, request: dict[str, Any]) -> Iterator[str]:
    """Yield JSON lines of one answer: phases, pieces of text, and the end or an error."""
    try:
        sampling = Sampling(
            temperature=request["temperature"],
            top_p=request["top_p"],
            max_new_tokens=request["max_new_tokens"],
        )
        for event in forge.chat.ask(
            request["target"], request["messages"], sampling, tuned=request["tuned"]
        ):
            yield json_line(_line(event))
    except ForgeError as error:
        yield json_line(ChatLine(error=error_text(error)))


def _line(event: dict[str, Any]) -> ChatLine:
    done = event.get("done")
    return ChatLine(
        phase=event.get("phase"),
        text=event.get("text"),
        done=ChatStats(tokens=done["tokens"], seconds=done["seconds"]) if done else None,
    )
