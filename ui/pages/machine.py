"""Machine: what was detected, what the doctor says, and where everything lies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modelforge.forge import Forge
from modelforge.hardware.doctor import check_machine as examine_machine
from modelforge.hardware.machine import Machine
from modelforge.setup.system_checks import Row
from ui.html import format as words
from ui.html.gradio_page import Reply, scene, text
from ui.html.markup import Safe, el, join
from ui.pages import extras, storage
from ui.pages.train import cards

LOOKS_AT = "Looks at Python, PyTorch, driver, packages, disk, browser and network."
TONES = {"good": "good", "note": "warn", "bad": "bad"}
Facts = list[tuple[str, str]]


def page(forge: Forge) -> None:
    """Place the page in the current Blocks."""

    def open(_sent: Any) -> Reply:
        machine = forge.machine(refresh=True)
        prefill = forge.prefill()
        return {
            "lively": True,
            "parts": {
                "computer": _table(_computer(machine)),
                "gpus": _gpus(machine),
                "profile": join([el("span.chip", prefill.title.lower()), " ", prefill.reason]),
                "unsloth": extras.unsloth(machine),
                **storage.parts(forge.archive.storage()),
                "home": _table(_home(forge, machine)),
                "machine-brief": join([cards.machine_brief(machine)]),
            },
        }

    def examine(_sent: Any) -> Reply:
        return {"parts": {"doctor": doctor(examine_machine(forge.home))}}

    def free(sent: Any) -> Reply:
        gone = forge.archive.free(text(sent, "kind"), text(sent, "run") or None)
        return {"toast": storage.freed(gone)}

    scene(_body(), "((root, server) => face.page(root, server, 10000))", open, examine, free)


def doctor(found: Sequence[Row]) -> Safe:
    """Return the doctor's rows: a word for each, what was seen, and what helps."""
    return el(
        "div.finds",
        [
            el(
                "div.find",
                el(
                    "span.chip",
                    {"good": "fine", "note": "note", "bad": "wrong"}[row.state],
                    class_=TONES[row.state],
                ),
                el(
                    "div",
                    el("b", row.name),
                    el("br"),
                    row.what,
                    el("small", row.remedy) if row.remedy else None,
                ),
            )
            for row in found
        ],
    )


def _body() -> Safe:
    ask = el("button.btn.s", "Examine", type="button", data_do="examine")
    return el(
        "div.page.one",
        el(
            "div",
            el("div.pagehead", el("h1", "Machine")),
            _card("This computer", "computer"),
            _card("GPU", "gpus"),
            _card("Profile", "profile"),
            el(
                "section.card",
                el("div.head", el("h2.name", "Doctor"), el("div.sum", ask)),
                el(
                    "div.body",
                    el("div", el("p.help", LOOKS_AT), data_part="doctor"),
                    aria_live="polite",
                ),
            ),
            storage.card(),
            extras.card(),
            _card("Where things lie", "home"),
        ),
    )


def _card(title: str, part: str) -> Safe:
    return el("section.card", el("div.head", el("h2.name", title)), el("div.body", data_part=part))


def _computer(machine: Machine) -> Facts:
    return [
        ("System", f"{machine.system} · Python {machine.python}"),
        ("Processor", f"{machine.cpu or 'unknown'} · {machine.cores or '?'} cores"),
        ("Memory", f"{words.gib(machine.ram_free_gib)} free of {words.gib(machine.ram_total_gib)}"),
    ]


def _gpus(machine: Machine) -> Safe:
    if not machine.gpus:
        return el("p.help", machine.gpu_note or "No GPU was found.")
    return join([_table(_gpu_facts(gpu)) for gpu in machine.gpus])


def _gpu_facts(gpu: Any) -> Facts:
    can = gpu.compute_capability
    return [
        (f"GPU {gpu.index}", f"{gpu.name}"),
        ("Memory", f"{words.gib(gpu.free_gib)} free of {words.gib(gpu.total_gib)}"),
        ("Held by others", words.gib(gpu.other_gib)),
        ("Capability", f"{can[0]}.{can[1]}" if can else "unknown"),
        ("Driver", gpu.driver or "unknown"),
    ]


def _home(forge: Forge, machine: Machine) -> Facts:
    return [
        ("Home folder", str(forge.home.root)),
        ("Runs", str(forge.home.runs)),
        ("Uploads", str(forge.home.uploads)),
        ("Logs", str(forge.home.logs)),
        ("Disk", f"{words.gib(machine.disk_free_gib)} free of {words.gib(machine.disk_total_gib)}"),
    ]


def _table(facts: Facts) -> Safe:
    return el("dl.facts", [el("div", el("dt", key), el("dd", value)) for key, value in facts])
