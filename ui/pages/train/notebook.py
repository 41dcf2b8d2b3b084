"""Notebook on the Train page: the form as a file for Colab or Kaggle."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from modelforge.config.fields import specs_by_name
from modelforge.errors import ForgeError, Problem
from modelforge.forge import Forge
from modelforge.units import human_bytes
from ui.contract import NotebookReply
from ui.html.gradio_page import ServerFunction
from ui.html.templates import render
from ui.pages.train.form import Entered

FILE_NAME = "training-run.ipynb"
CODE = "ModelForge"


def functions(forge: Forge) -> list[ServerFunction]:
    """Return the function of the dialog Notebook."""

    def notebook(request: Any) -> NotebookReply:
        layers = forge.layers.stack(Entered.read(request)).layers
        try:
            # All that the recipe shows, the values of the profile too.
            made = forge.notebooks.make(layers, layers)
        except ForgeError as error:
            return NotebookReply(problem=_sentence(error.problems[0]))
        parts = [
            (CODE if name == "code" else name, human_bytes(size))
            for name, size in made.sizes.items()
        ]
        size = human_bytes(len(made.text))
        shown = render("import", "notebook", parts, size, made.downloads)
        return NotebookReply(shown=shown, text=made.text, file_name=FILE_NAME)

    return [notebook]


def _sentence(problem: Problem) -> str:
    """Return a problem with the label of the setting that it is about."""
    spec = specs_by_name().get(problem.where)
    return str(replace(problem, where=spec.label) if spec else problem)
