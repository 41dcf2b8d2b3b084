"""Train: five cards and the plan beside them; after Start the page is the run."""

from __future__ import annotations

from typing import Any

from modelforge.forge import Forge
from ui import answers, cards, incoming, plan
from ui.form import Entered
from ui.markup import Safe, el, join
from ui.pages import run
from ui.scene import Reply, scene, text


def page(forge: Forge) -> None:
    """Place the page in the current Blocks."""

    def open(sent: Any) -> Reply:
        return {"active": forge.active(), **answers.reply(forge, Entered.read(sent))}

    def check(sent: Any) -> Reply:
        return answers.reply(forge, Entered.read(sent))

    def start(sent: Any) -> Reply:
        entered = Entered.read(sent)
        layers = answers.stack(forge, entered).layers
        return {"run": forge.start(*layers, name=entered.name, request_id=entered.request_id)}

    def read_recipe(sent: Any) -> Reply:
        return {"recipe": incoming.recipe(text(sent, "name"), text(sent, "text"))}

    def stop(sent: Any) -> Reply:
        keep = not (isinstance(sent, dict) and sent.get("keep") is False)
        return {"state": str(forge.stop(text(sent, "run"), keep=keep))}

    scene(body(), "face.train", open, check, start, read_recipe, stop, mode="wait")


def body() -> Safe:
    """Return the form and the run, of which the page shows one at a time."""
    return join(
        [
            el("div.page.for-form", el("div", cards.column()), plan.skeleton()),
            el("div.page.for-run", run.skeleton()),
        ]
    )
