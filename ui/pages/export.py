"""The Export page: download the adapter or the model of a run."""

from __future__ import annotations

from typing import Any

from modelforge.forge import Forge
from modelforge.runs.view import RunView
from ui.contract import Reply
from ui.html.components import machine_brief
from ui.html.gradio_page import gradio_page, text
from ui.html.markup import Markup
from ui.html.templates import render
from ui.pages.model_picker import runs_with_result

AUTO_CLASSES = {"seq2seq": "Seq2SeqLM", "span": "QuestionAnswering"}


def page(forge: Forge) -> None:
    """Add the page to the current Blocks."""

    def open(request: Any) -> Reply:
        runs = runs_with_result(forge, text(request, "selected"))
        selected = [run for run in runs if run.id == text(request, "selected")]
        content = _export(forge, runs, (selected or runs)[0]) if runs else render("export", "empty")
        return Reply(
            parts={"export": content, "machine-brief": machine_brief(forge.machine.current())}
        )

    gradio_page(render("export", "body"), "export", open)


def _export(forge: Forge, runs: list[RunView], selected: RunView) -> Markup:
    folder = forge.runs.folder(selected.id).output
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    is_whole = forge.runs.folder(selected.id).has_model
    code = load_code(selected, str(folder), is_whole=is_whole)
    return render("export", "export", runs, selected, is_whole, size, code)


def load_code(run: RunView, folder: str, *, is_whole: bool) -> str:
    """Return the two lines of Python that load the result of a run."""
    head = AUTO_CLASSES.get(run.plan.facts.head, "CausalLM")
    package, prefix = ("transformers", "Auto") if is_whole else ("peft", "AutoPeft")
    name = f"{prefix}ModelFor{head}"
    return f"from {package} import {name}\nmodel = {name}.from_pretrained({folder!r})"
