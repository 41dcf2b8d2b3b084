"""Train: five cards and the plan beside them; after Start the page is the run."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from modelforge.config.recipe import load_recipe
from modelforge.errors import ForgeError
from modelforge.forge import Forge
from ui.html.gradio_page import Asked, Reply, number, scene, text
from ui.html.markup import Safe, el, join
from ui.pages.run import page as run
from ui.pages.runs import queue
from ui.pages.train import cards, data_actions, model_card, plan_panel, response, trial_run
from ui.pages.train.form import Entered
from ui.pages.train.layers import needing, stack


def page(forge: Forge) -> None:
    """Place the page in the current Blocks."""

    def open(sent: Any) -> Reply:
        return {"active": forge.active(), **response.reply(forge, Entered.read(sent))}

    def check(sent: Any) -> Reply:
        return response.reply(forge, Entered.read(sent))

    def start(sent: Any) -> Reply:
        entered = Entered.read(sent)
        layers = stack(forge, entered).layers
        return queue.offered(
            lambda: forge.start(*layers, name=entered.name, request_id=entered.request_id)
        )

    def read_recipe(sent: Any) -> Reply:
        return {"recipe": recipe(text(sent, "name"), text(sent, "text"))}

    def stop(sent: Any) -> Reply:
        keep = not (isinstance(sent, dict) and sent.get("keep") is False)
        return {"state": str(forge.stop(text(sent, "run"), keep=keep))}

    def find_models(sent: Any) -> Reply:
        from modelforge.models.hub import search_models  # noqa: PLC0415 - brings in httpx

        query = text(sent, "query")
        found, needs = search_models(query, text(sent, "task")), needing(forge, Entered.read(sent))
        return {"parts": {"found": model_card.found(found, query, needs)}}

    asked = [open, check, tracing(forge), start, queue.adding(forge), read_recipe, stop]
    asked += [find_models, *of_data(forge), *trial_run.asked(forge)]
    scene(body(), "face.train", *asked, mode="wait")


def tracing(forge: Forge) -> Asked:
    """Return what the page asks for better numbers of memory, in the background."""

    def trace(sent: Any) -> Reply:
        entered = Entered.read(sent)
        try:
            forge.footprints.ask(*stack(forge, entered).layers)
        except ForgeError:
            return {}  # nobody asked for it: what was worked out still stands
        return response.reply(forge, entered)

    return trace


def of_data(forge: Forge) -> list[Asked]:
    """Return what the card of the data asks."""

    def examine(sent: Any) -> Reply:
        return data_actions.examined(forge, Entered.read(sent))

    def tokens(sent: Any) -> Reply:
        together = isinstance(sent, dict) and sent.get("together") is True
        return data_actions.seen(forge, Entered.read(sent), number(sent, "row"), together=together)

    def lengths(sent: Any) -> Reply:
        return data_actions.measured(forge, Entered.read(sent))

    def repair(sent: Any) -> Reply:
        return data_actions.mended(forge, Entered.read(sent), text(sent, "code"))

    def glimpse(sent: Any) -> Reply:
        return data_actions.glimpsed(forge, Entered.read(sent))

    return [glimpse, examine, tokens, lengths, repair]


def body() -> Safe:
    """Return the form and the run, of which the page shows one at a time."""
    return join(
        [
            el("div.page.for-form", el("div", cards.column()), plan_panel.skeleton()),
            el("div.page.for-run", run.skeleton()),
        ]
    )


def recipe(name: str, text: str) -> dict[str, Any]:
    """Return the answers in a recipe's text; raises ConfigError, which names the line."""
    suffix = ".json" if name.lower().endswith(".json") else ".yaml"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"recipe{suffix}"
        path.write_text(text, encoding="utf-8")
        return load_recipe(path)
