"""The Export page: download the adapter or the model of a run."""

from __future__ import annotations

from typing import Any

from modelforge.forge import Forge
from modelforge.runs.view import RunView
from ui.contract import Reply
from ui.html import format as fmt
from ui.html.components import card, empty_state, facts, field, machine_brief, select
from ui.html.gradio_page import gradio_page, text
from ui.html.markup import Markup, el, join
from ui.pages.model_picker import runs_with_result

PLANNED = (
    ("Merged model", "Adapter and base model as one 16-bit model that does not need PEFT."),
    ("GGUF and Ollama", "One file for llama.cpp, with a Modelfile for Ollama."),
    ("Hugging Face Hub", "A repository with a model card, private by default."),
)
AUTO_CLASSES = {"seq2seq": "Seq2SeqLM", "span": "QuestionAnswering"}


def page(forge: Forge) -> None:
    """Add the page to the current Blocks."""

    def open(request: Any) -> Reply:
        runs = runs_with_result(forge, text(request, "selected"))
        selected = [run for run in runs if run.id == text(request, "selected")]
        content = _export(forge, runs, (selected or runs)[0]) if runs else _empty()
        return Reply(
            parts={"export": content, "machine-brief": machine_brief(forge.machine.current())}
        )

    body = el(
        "div.page.one",
        el("div", el("div.pagehead", el("h1", "Export")), el("div", data_part="export")),
    )
    gradio_page(body, "export", open)


def _empty() -> Markup:
    text = "A finished run has an adapter for its base model, or a whole model."
    return el(
        "div.card",
        empty_state("Nothing to export yet", text, el("a.btn.go", "Train a model", href="/")),
    )


def _export(forge: Forge, runs: list[RunView], selected: RunView) -> Markup:
    folder = forge.runs.folder(selected.id).output
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    options = [
        el(
            "option",
            f"{run.name} · {fmt.date(run.created)}",
            value=run.id,
            selected=run.id == selected.id,
        )
        for run in runs
    ]
    is_whole = forge.runs.folder(selected.id).has_model
    address = f"/ui/runs/{selected.id}/result.zip"
    copy = el("button.btn.s", "Copy", type="button", data_action="copy", data_from="snippet")
    code = load_code(selected, str(folder), is_whole=is_whole)
    body = [
        field("export-run", "Run", select("export-run", options)),
        el("p.help.after", _about(selected, is_whole=is_whole)),
        el("a.btn.go#zip", "Download as zip", href=address, download=True),
        el("p.help.after", "Or load it from its folder:"),
        el("pre", code, data_part="snippet", tabindex="0", aria_label="Python"),
        el("div.row.start", copy),
    ]
    return join(
        [
            card("Model" if is_whole else "Adapter", body, fmt.size(size)),
            card("Planned formats", facts(PLANNED), "not in this version"),
        ]
    )


def _about(run: RunView, *, is_whole: bool) -> list[object]:
    if is_whole:
        return ["All weights as safetensors, with the tokenizer. It needs no other model."]
    base = el("b", fmt.model_name(run.config["model_name"]))
    return ["LoRA weights as safetensors, with the tokenizer. It needs its base model, ", base, "."]


def load_code(run: RunView, folder: str, *, is_whole: bool) -> str:
    """Return the two lines of Python that load the result of a run."""
    head = AUTO_CLASSES.get(run.plan.facts.head, "CausalLM")
    package, prefix = ("transformers", "Auto") if is_whole else ("peft", "AutoPeft")
    name = f"{prefix}ModelFor{head}"
    return f"from {package} import {name}\nmodel = {name}.from_pretrained({folder!r})"
