"""Runs and base models that can be chatted with, sampled from and exported."""

from __future__ import annotations

import contextlib

from modelforge.errors import ForgeError
from modelforge.forge import Forge
from modelforge.models.resolve import STARTER
from modelforge.runs.listing import RunFilter
from modelforge.runs.view import RunView
from ui.html.markup import EMPTY, Markup
from ui.html.templates import render

MAX_OFFERED = 50
# Task → how a model of that task is asked; all others take part in a conversation.
FORMATS = {"extractive-question-answering": "passage", "summarization": "document"}


def runs_with_result(forge: Forge, selected: str) -> list[RunView]:
    """Return the newest runs with a result, and the selected one however old it is."""
    runs = forge.runs.views(RunFilter(has_result=True), limit=MAX_OFFERED)
    if selected and all(run.id != selected for run in runs):
        with contextlib.suppress(ForgeError):
            if forge.runs.folder(selected).has_result:
                runs.append(forge.runs.view(selected))
    return runs


def base_models(forge: Forge) -> list[tuple[str, str]]:
    """Return the base models of earlier runs and the starter model, each with its title."""
    has_starter = (forge.home.starter_model / "config.json").is_file()
    starter = [(STARTER, "Starter (SmolLM2 135M)")] if has_starter else []
    # Models for extractive QA do not generate text.
    used = {
        str(run.config.get("model_name", ""))
        for run in forge.runs.views(limit=MAX_OFFERED)
        if run.plan.facts.head != "span" and run.plan.pretraining is None
    }
    return starter + [(name, name) for name in sorted(used - {STARTER, ""})]


def model_select(
    runs: list[RunView],
    bases: list[tuple[str, str]],
    selected: str,
    *,
    key: str,
    label: str,
) -> Markup:
    """Return a list of models, or a hint if there are none."""
    if not runs and not bases:
        return render("models", "missing")
    names = [*(run.id for run in runs), *(name for name, _ in bases)]
    current = selected if selected in names else names[0]
    described = [(run, has_base(run), chat_format(run)) for run in runs]
    return render("models", "select", described, bases, current, key, label)


def side_select(runs: list[RunView], bases: list[tuple[str, str]], key: str, label: str) -> Markup:
    """Return the list of models of one side of a chat, or a hint if there are none."""
    if not runs and not bases:
        return render("chat", "empty") if key == "chat-model" else EMPTY
    described = [(run, has_base(run), chat_format(run)) for run in runs]
    return render("models", "side_select", described, bases, key, label)


def chat_format(run: RunView) -> str:
    """Return how the model of a run is asked: as a conversation, or otherwise."""
    if run.plan.pretraining is not None:
        return "continuation"
    return FORMATS.get(str(run.config.get("task")), "conversation")


def has_base(run: RunView) -> bool:
    """Return whether the base model can answer too: the run has an adapter and generates text."""
    return run.plan.trains == "adapter" and run.plan.facts.head != "span"


def busy_note(run_id: str | None) -> Markup:
    """Return why no model can answer while a run uses the GPU."""
    if run_id is None:
        return EMPTY
    return render("models", "busy", run_id)
