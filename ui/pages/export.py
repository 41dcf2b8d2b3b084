"""Export: take a run's adapter or model away; what else is to come is said, not hinted."""

from __future__ import annotations

from typing import Any

from modelforge.forge import Forge
from modelforge.runs.view import RunView
from modelforge.units import MIB
from ui.html import format as words
from ui.html.gradio_page import Reply, scene, text
from ui.html.markup import Safe, el, join
from ui.pages.runs.table import with_result
from ui.pages.train import cards

COMING = (
    ("Merged model", "Adapter and base as one 16-bit model that needs no PEFT."),
    ("GGUF and Ollama", "One file for llama.cpp, with a Modelfile for Ollama."),
    ("Hugging Face Hub", "A repository with a model card, private unless you say otherwise."),
)


def page(forge: Forge) -> None:
    """Place the page in the current Blocks."""

    def open(sent: Any) -> Reply:
        ready = with_result(forge, text(sent, "chosen"))
        chosen = next((run for run in ready if run.id == text(sent, "chosen")), None)
        return {
            "parts": {
                "export": _export(forge, ready, chosen or (ready[0] if ready else None)),
                "machine-brief": join([cards.machine_brief(forge.machine())]),
            }
        }

    body = el(
        "div.page.one",
        el("div", el("div.pagehead", el("h1", "Export")), el("div", data_part="export")),
    )
    scene(body, "face.page", open)


def _export(forge: Forge, ready: list[RunView], chosen: RunView | None) -> Safe:
    if chosen is None:
        return el(
            "div.card",
            el(
                "div.empty-state",
                el("b", "Nothing to export yet"),
                el(
                    "p",
                    "A finished run leaves an adapter, which changes a model, or a whole model.",
                ),
                el("a.btn.go", "Train a model", href="/"),
            ),
        )
    return join([_result(forge, ready, chosen), _coming()])


def _result(forge: Forge, ready: list[RunView], chosen: RunView) -> Safe:
    folder = forge.folder(chosen.id).output
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / MIB
    options = [
        el(
            "option",
            f"{run.name} · {words.when(run.created)}",
            value=run.id,
            selected=run.id == chosen.id,
        )
        for run in ready
    ]
    address = f"/face/runs/{chosen.id}/result.zip"
    copy = el("button.btn.s", "Copy", type="button", data_do="copy", data_from="snippet")
    whole = forge.folder(chosen.id).has_model
    name, code = "The model" if whole else "The adapter", _code(chosen, str(folder), whole=whole)
    return el(
        "section.card",
        el("div.head", el("h2.name", name), el("div.sum", f"{size:,.1f} MiB")),
        el(
            "div.body",
            el("div.f", el("div.lab", el("label", "Run", for_="which")),
               el("div.in.pick", el("select#which", options, data_choose=True))),
            el("p.help", _about(chosen, whole=whole), style="margin-top:12px!important"),
            el("a.btn.go#zip", "Download as zip", href=address, download=True),
            el("p.help", "Or use it where it lies:", style="margin-top:16px!important"),
            el("pre", code, data_part="snippet", tabindex="0", aria_label="Python"),
            el("div.row.start", copy),
        ),
    )  # fmt: skip


def _about(run: RunView, *, whole: bool) -> Safe:
    if whole:
        told = "All weights as safetensors, with the tokenizer. It needs no other model."
        return join([told])
    base = el("b", words.model(run.config["model_name"]))
    told = "LoRA weights as safetensors, with the tokenizer. It works on top of its base model, "
    return join([told, base, "."])


def _code(run: RunView, folder: str, *, whole: bool) -> str:
    """Return the two lines of Python that load what the run left."""
    head = {"seq2seq": "Seq2SeqLM", "span": "QuestionAnswering"}.get(
        run.plan.facts.head, "CausalLM"
    )
    package, kind = ("transformers", "AutoModelFor") if whole else ("peft", "AutoPeftModelFor")
    return f"from {package} import {kind}{head}\nmodel = {kind}{head}.from_pretrained({folder!r})"


def _coming() -> Safe:
    return el(
        "section.card",
        el("div.head", el("h2.name", "Next"), el("div.sum", "not in this version")),
        el(
            "div.body",
            el("dl.facts", [el("div", el("dt", name), el("dd", told)) for name, told in COMING]),
        ),
    )
