"""Chat: talk to a finished run or to a base model, side by side if wanted."""

from __future__ import annotations

from typing import Any

from modelforge.forge import Forge
from modelforge.models.resolve import STARTER
from modelforge.runs.view import RunView
from ui.html import format as words
from ui.html.gradio_page import Reply, scene, text
from ui.html.markup import Safe, el, join
from ui.pages.runs.table import MOST_OFFERED, with_result
from ui.pages.train import cards


def page(forge: Forge) -> None:
    """Place the page in the current Blocks."""

    def open(sent: Any) -> Reply:
        chosen = text(sent, "chosen")
        tuned, bases = talkers(forge, chosen)
        held = forge.active()
        return {
            "any": bool(tuned or bases),
            "parts": {
                "who": choice(tuned, bases, chosen),
                "chat-busy": busy(held),
                "chat-ideas": _ideas(forge, tuned, chosen),
                "machine-brief": join([cards.machine_brief(forge.machine())]),
            },
        }

    scene(_body(), "face.chat", open)


def _body() -> Safe:
    both = el("input#both", type="checkbox", checked=True)
    over = el("button.btn.s", "Start over", type="button", data_do="chat-clear")
    return el(
        "div.page.one",
        el(
            "div.chat",
            el("div.pagehead", el("h1", "Chat"), over),
            el(
                "div.card",
                el(
                    "div.body",
                    el(
                        "div.controls",
                        el("div.f", data_part="who"),
                        _heat(),
                        el("label.tick", both, "Base model beside it"),
                    ),
                    el("p.reason", data_part="chat-busy", role="status"),
                    style="padding-top:12px",
                ),
            ),
            _passage(),
            el("div.talk", role="log", aria_live="polite", aria_label="Conversation"),
            el("div.ideas", data_part="chat-ideas"),
            _compose(),
        ),
    )  # fmt: skip


def _compose() -> Safe:
    return el(
        "div.compose",
        el("textarea#say", rows=1, placeholder="Ask something", aria_label="Your message"),
        el("button.btn.go", "Send", type="button", data_do="chat-send"),
    )


def _heat() -> Safe:
    choice = el(
        "select#heat",
        el("option", "0: always the likeliest word", value="0"),
        el("option", "0.7: with some freedom", value="0.7"),
        el("option", "1: free", value="1"),
    )
    label = el("div.lab", el("label", "Temperature", for_="heat"))
    return el("div.f", label, el("div.in.pick", choice))


def _passage() -> Safe:
    """Return where the text goes that is asked about; only runs that find answers use it."""
    return el(
        "div.passage",
        el("div.lab", el("label", "Text to answer from", for_="passage")),
        el("textarea.wide-text#passage", rows=6, maxlength=100_000,
           placeholder="Paste the text here; every question is answered from it."),
        hidden=True,
    )  # fmt: skip


def manner(run: RunView) -> str:
    """Return how a run's model is spoken to: in turns, about a passage, or with a document."""
    task = run.config.get("task")
    return {"extractive-question-answering": "passage", "summarization": "document"}.get(
        str(task), "turns"
    )


def talkers(forge: Forge, chosen: str = "") -> tuple[list[RunView], list[tuple[str, str]]]:
    """Return what one can talk to: runs that left a model, and base models with their titles."""
    return with_result(forge, chosen), _bases(forge)


def choice(
    tuned: list[RunView],
    bases: list[tuple[str, str]],
    chosen: str,
    label: str = "Talk to",
    key: str = "who",
) -> Safe:
    """Return the select box of models, or what to do while there is none."""
    if not tuned and not bases:
        return el(
            "p.help",
            "There is nothing to talk to yet. ",
            el("a", "Train a model", href="/"),
            " first.",
        )
    known = {run.id for run in tuned} | {name for name, _ in bases}
    first = chosen if chosen in known else (tuned[0].id if tuned else bases[0][0])

    runs = [_run_option(run, first) for run in tuned]
    plain = [
        el("option", title, value=name, data_tuned="no", selected=name == first)
        for name, title in bases
    ]
    return join(
        [
            el("div.lab", el("label", label, for_=key)),
            el(
                "div.in.pick",
                el(
                    f"select#{key}",
                    el("optgroup", runs, label="Your runs") if runs else None,
                    el("optgroup", plain, label="Base models") if plain else None,
                ),
            ),
        ]
    )


def _run_option(run: RunView, first: str) -> Safe:
    return el(
        "option",
        f"{run.name} · {words.when(run.created)}",
        value=run.id,
        data_tuned="yes",
        data_beside="yes" if has_base_beside(run) else "no",
        data_manner=manner(run),
        selected=run.id == first,
    )


def has_base_beside(run: RunView) -> bool:
    """Say whether the base can answer beside it: its weights are there, and its head can speak."""
    return run.plan.trains == "adapter" and run.plan.facts.head != "span"


def _bases(forge: Forge) -> list[tuple[str, str]]:
    found = (
        [(STARTER, "Starter (SmolLM2 135M)")]
        if (forge.home.starter_model / "config.json").is_file()
        else []
    )
    # A model that finds places in a text has no words of its own to say.
    named = {
        str(run.config.get("model_name", ""))
        for run in forge.runs(limit=MOST_OFFERED)
        if run.plan.facts.head != "span"
    } - {STARTER, ""}
    return found + [(name, name) for name in sorted(named)]


def busy(held: str | None) -> Safe:
    """Return why nobody answers while a run trains; nothing when none does."""
    if held is None:
        return Safe("")
    return join(
        [
            "A run holds the machine, so chat waits until it is over. ",
            el("a", "Look at the run", href=f"/?run={held}"),
        ]
    )


def _ideas(forge: Forge, tuned: list[RunView], chosen: str) -> Safe:
    run = next(
        (run for run in tuned if run.id == chosen), tuned[0] if tuned and not chosen else None
    )
    if run is not None and manner(run) != "turns":
        return Safe("")
    dataset = str(run.config.get("dataset", "")) if run else ""
    asked = [one.question for one in forge.samples() if one.dataset == dataset]
    asked = list(dict.fromkeys([*asked, "Who are you?", "What is the capital of France?"]))
    return el(
        "div.buttons.start",
        [el("button.btn.s", one, type="button", data_do="chat-try") for one in asked[:3]],
        style="margin:14px 0",
    )
