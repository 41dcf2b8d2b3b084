"""The Chat page: chat with the model of a run, side by side with its base model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from modelforge.data.sources.library import load_samples
from modelforge.errors import ForgeError
from modelforge.forge import Forge
from modelforge.runs.view import RunView
from ui.contract import ChatLine, ChatPageReply, ChatStats, error_text, json_line
from ui.html.components import field, machine_brief, select
from ui.html.gradio_page import gradio_page, text
from ui.html.markup import EMPTY, Markup, el
from ui.pages import model_picker

TEMPERATURES = (
    ("0", "0: always the likeliest token"),
    ("0.7", "0.7: some variety"),
    ("1", "1: as the model predicts"),
)
QUESTIONS = ("Who are you?", "What is the capital of France?")


def page(forge: Forge) -> None:
    """Add the page to the current Blocks."""

    def open(request: Any) -> ChatPageReply:
        selected = text(request, "selected")
        runs = model_picker.runs_with_result(forge, selected)
        bases = model_picker.base_models(forge)
        return ChatPageReply(
            has_models=bool(runs or bases),
            parts={
                "chat-model": model_picker.model_select(
                    runs, bases, selected, key="chat-model", label="Model"
                ),
                "chat-busy": model_picker.busy_note(forge.runs.active()),
                "chat-ideas": _ideas(runs, selected),
                "machine-brief": machine_brief(forge.machine.current()),
            },
        )

    gradio_page(_body(), "chat", open)


def _body() -> Markup:
    options = [el("option", title, value=value) for value, title in TEMPERATURES]
    controls = el(
        "div.controls",
        el("div.f", data_part="chat-model"),
        field("temperature", "Temperature", select("temperature", options)),
        el("label.tick", el("input#side-by-side", type="checkbox", checked=True), "Side by side"),
    )
    busy = el("p.reason", data_part="chat-busy", role="status")
    clear = el("button.btn.s", "New chat", type="button", data_action="chat-clear")
    return el(
        "div.page.one",
        el(
            "div.chat",
            el("div.pagehead", el("h1", "Chat"), clear),
            el("div.card", el("div.body.first", controls, busy)),
            _passage(),
            el("div.talk", role="log", aria_live="polite", aria_label="Conversation"),
            el("div.ideas", data_part="chat-ideas"),
            el(
                "div.compose",
                el("textarea#message", rows=1, placeholder="Write a message",
                   aria_label="Your message"),
                el("button.btn.go", "Send", type="button", data_action="chat-send"),
            ),
        ),
    )  # fmt: skip


def _passage() -> Markup:
    """Return the field for the text that holds the answers; only extractive QA uses it."""
    box = el(
        "textarea.wide-text#passage",
        rows=6,
        maxlength=100_000,
        placeholder="Paste the text here; the model finds every answer in it.",
    )
    label = el("div.lab", el("label", "Text with the answers", for_="passage"))
    return el("div.passage", label, box, hidden=True)


def _ideas(runs: list[RunView], selected: str) -> Markup:
    run = next((run for run in runs if run.id == selected or not selected), None)
    if run is not None and model_picker.chat_format(run) != "conversation":
        return EMPTY
    dataset = str(run.config.get("dataset", "")) if run else ""
    asked = [sample.question for sample in load_samples() if sample.dataset == dataset]
    questions = list(dict.fromkeys([*asked, *QUESTIONS]))[:3]
    buttons = [
        el("button.btn.s", question, type="button", data_action="chat-try")
        for question in questions
    ]
    return el("div.buttons.start", buttons)


def answer_lines(forge: Forge, request: dict[str, Any]) -> Iterator[str]:
    """Yield JSON lines of one answer: phases, pieces of text, and the end or an error."""
    try:
        for event in forge.chat.ask(
            request["target"],
            request["messages"],
            tuned=request["tuned"],
            temperature=request["temperature"],
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
