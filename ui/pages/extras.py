"""What can be added to the app: Unsloth, its state, and its installation step by step."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any

from modelforge.errors import Problem
from modelforge.forge import Forge
from modelforge.hardware.machine import Machine
from modelforge.preflight.checks.provider import unsloth_status
from modelforge.setup import extras
from ui.html.markup import Safe, el, join

COMMAND = "python launch.py setup --with unsloth"
GIVES = (
    "A second way to load and train models on NVIDIA cards: faster updates in less memory, for "
    "sft, qlora and dpo. Choose it as the provider once it is installed."
)
WORDS = {
    "ready": ("installed", "good"),
    "absent": ("not installed", ""),
    "broken": ("broken", "bad"),
    "unsupported": ("not for this machine", "warn"),
}


def card() -> Safe:
    """Return the card of Unsloth on the Machine page, empty of its state."""
    return el(
        "section.card",
        el("div.head", el("h2.name", "Unsloth")),
        el(
            "div.body",
            el("p.help", GIVES),
            el("div", data_part="unsloth"),
            el("p.help", data_extra="unsloth", role="status"),
        ),
    )


def unsloth(machine: Machine) -> Safe:
    """Return the state of Unsloth in words, and the button where it would help."""
    gpu = machine.gpus[0] if machine.gpus else None
    standing = unsloth_status(machine, gpu)
    word, tone = WORDS[standing.state]
    chip = el("span.chip", word, class_=tone or None)
    said = el("p", chip, " ", standing.message)
    if standing.state not in ("absent", "broken"):
        return said
    label = "Install Unsloth" if standing.state == "absent" else "Install Unsloth again"
    button = el("button.btn.s", label, type="button", data_do="add-unsloth")
    told = el("p.help", "It is fetched from the package index, once. The same by hand:")
    return join([said, el("div.row.start", button), told, el("pre", COMMAND)])


def added(forge: Forge, extra: str) -> Iterator[str]:
    """Yield JSON lines of an installation: progress, then done, or what stands against it."""
    told: SimpleQueue[dict[str, Any]] = SimpleQueue()

    def work() -> None:
        try:
            extras.add(extra, forge.home.root, lambda text: told.put({"progress": text}))
            told.put({"done": extra})
        except extras.SetupError as error:
            told.put({"error": Problem("setup", str(error)).as_dict()})
        except Exception as error:  # noqa: BLE001  # the outermost frame: the page must hear of it
            what = f"The installation broke off: {type(error).__name__}."
            told.put({"error": Problem("setup", what, f"Run `{COMMAND}`.").as_dict()})

    if problem := refused(forge):
        told.put({"error": problem.as_dict()})
    else:
        threading.Thread(target=work, name="adding", daemon=True).start()
    while True:
        one = told.get()
        yield f"{json.dumps(one, ensure_ascii=False)}\n"
        if "progress" not in one:
            return


def refused(forge: Forge) -> Problem | None:
    """Return why nothing can be installed now, or None."""
    if run := forge.active():
        what = f"The run {run} is at work; packages are not changed under it."
        return Problem("setup", what, "Wait for it to end, then try again.")
    if reason := extras.why_not(forge.home.root):
        return Problem("setup", reason, f"Close the app and run `{COMMAND}`.")
    return None
