"""The cards of the Train page: what stands still, and the parts that follow the answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec

from modelforge.config.profiles import Profile
from modelforge.data.sources.library import Sample
from modelforge.hardware.machine import Machine
from ui.html import format as words
from ui.html.components import choices, tabs, tile
from ui.html.markup import Safe, el, join
from ui.pages.train import data_card, form, model_card


def column() -> Safe:
    """Return the five cards, empty of answers."""
    return join(
        [
            card("machine", 1, "Your machine", el("div", data_part="machine")),
            card("task", 2, "What should it learn?", body()),
            card("model", 3, "Which model?", model_card.body()),
            card("data", 4, "Your data", data_card.body(), is_open=True),
            card("settings", 5, "Settings", _settings(), is_open=True),
        ]
    )


def card(key: str, place: int, title: str, body: Safe, *, is_open: bool = False) -> Safe:
    """Return a card that folds to its summary line."""
    return el(
        "section.card",
        el(
            "h2",
            el(
                "button.head",
                el("span.n", str(place), data_n=key, data_place=place),
                el("span.name", title),
                el("span.sum", data_part=f"sum-{key}"),
                type="button",
                data_do="fold",
                aria_expanded="true" if is_open else "false",
                aria_controls=f"body-{key}",
            ),
        ),
        el(f"div.body#body-{key}", body, hidden=not is_open),
        id=f"card-{key}",
    )


def machine(found: Machine, profiles: Mapping[str, Profile], reason: str) -> Safe:
    """Return what the first card says of this computer, and the profiles to choose from."""
    facts = [("Processor", f"{found.cpu or 'unknown'} · {found.cores or '?'} cores")]
    facts.append(("Memory", f"{_of(found.ram_free_gib, found.ram_total_gib)} free"))
    facts.append(("Disk", f"{_of(found.disk_free_gib, found.disk_total_gib)} free"))
    cards = [
        tile(
            "hardware.gpu_index",
            str(gpu.index),
            gpu.name,
            f"{_of(gpu.free_gib, gpu.total_gib)} free",
        )
        for gpu in found.gpus
    ]
    tiles = [tile("profile", name, one.title, one.description) for name, one in profiles.items()]
    note = found.gpu_note if found.practice_mode else ""
    return join(
        [
            el("p.help", reason),
            el("dl.facts", [el("div", el("dt", key), el("dd", value)) for key, value in facts]),
            el("p.help", note) if note else None,
            choices("GPU", cards) if len(cards) > 1 else None,
            choices("Start the settings from", tiles),
        ]
    )


def machine_summary(found: Machine, profile: str, gpu_index: int = 0) -> Safe:
    """Return the first card's summary line."""
    gpu = next((gpu for gpu in found.gpus if gpu.index == gpu_index), None)
    if gpu is not None:
        told = f"{gpu.name} · {words.gib(gpu.total_gib)} · "
    else:
        told = f"{'Apple GPU' if found.apple_gpu else 'CPU'}, practice mode · "
    return join([told, el("span.chip", profile.lower())])


def machine_brief(found: Machine) -> str:
    """Return the few words of the top bar."""
    if found.gpus:
        gpu = found.gpus[0]
        return f"{gpu.name} · {_of(gpu.free_gib, gpu.total_gib)} free"
    return f"{found.cores or '?'} cores · {_of(found.ram_free_gib, found.ram_total_gib)} RAM free"


def samples(listed: Sequence[Sample], task: str) -> Safe:
    """Return the bundled data sets for a task to choose from."""
    tiles = [
        tile(
            "dataset",
            one.dataset,
            one.title,
            one.description,
            words.plural(one.rows, "row"),
            strategies=one.strategies,
        )
        for one in listed
        if one.task == task
    ]
    return choices("Try a sample", tiles)


def _settings() -> Safe:
    every = join(["All ", el("span", data_part="count-all")])
    recipe = el(
        "div#settings-recipe.panel",
        el("p.help", "The same settings as a file, for `modelforge train`, REST or a friend."),
        el("pre", data_part="recipe", tabindex="0", aria_label="Recipe"),
        el(
            "div.row.start",
            el("button.btn.s", "Copy", type="button", data_do="copy", data_from="recipe"),
            el("button.btn.s", "Download", type="button", data_do="save-recipe"),
            el(
                "label.btn.s",
                "Open a recipe",
                el("input#recipe-file", type="file", accept=".yaml,.yml,.json"),
            ),
        ),
        role="tabpanel",
        hidden=True,
        aria_labelledby="tab-settings-recipe",
    )
    return join(
        [
            tabs("settings", (("basic", "Basic"), ("all", every), ("recipe", "Recipe")), "all"),
            el("div#settings-basic", form.settings(), class_="basic-only", role="tabpanel",
               aria_labelledby="tab-settings-basic"),
            recipe,
        ]
    )  # fmt: skip


def _of(part: float | None, whole: float | None) -> str:
    if part is None or whole is None:
        return words.gib(whole)
    return f"{part:,.1f} of {whole:,.1f} GiB"


Way = tuple[str, str, str]
TASKS: tuple[Way, ...] = (
    ("text-generation", "Chat and text", "Answers, styles and personas from examples."),
    ("summarization", "Summarise", "Long texts made short, as in your examples."),
    ("extractive-question-answering", "Find answers", "The passage of a text that answers."),
)
STRATEGIES: tuple[Way, ...] = (
    ("sft", "From answers", "It learns to answer as your rows do (SFT)."),
    ("qlora", "From answers, 4-bit", "The same over 4-bit weights: a quarter of the memory."),
    ("dpo", "From preferences", "A better and a worse answer each; it learns to tell (DPO)."),
    ("rlhf", "From rewards", "It writes, a judge rewards, it writes better (RLHF)."),
)
PROVIDERS: tuple[Way, ...] = (
    ("huggingface", "Hugging Face", "Transformers, TRL and PEFT: every task, every machine."),
    ("unsloth", "Unsloth", "Faster and smaller on an NVIDIA card; chat and text only."),
)
ONLY_TEXT = frozenset({"dpo", "rlhf", "unsloth"})


def body() -> Safe:
    """Return the card's inside, empty of answers."""
    return join(
        [
            el("div", data_part="tasks"),
            [el("p.wrong", data_wrong=name, aria_live="polite")
             for name in ("task", "strategy", "provider")],
        ]
    )  # fmt: skip


def tasks(task: str) -> Safe:
    """Return the tiles; what the task does not allow stands there and cannot be chosen."""
    return join(
        [
            choices("It learns to", [tile("task", *one) for one in TASKS]),
            el("div.four", choices("How", _tiles("strategy", STRATEGIES, task))),
            el("div.pair", choices("By", _tiles("provider", PROVIDERS, task))),
        ]
    )


def title(ways: Sequence[Way], value: str) -> str:
    """Return what a value is called on its tile."""
    return next((name for known, name, _ in ways if known == value), value)


def _tiles(name: str, ways: Sequence[Way], task: str) -> list[Safe]:
    off = ONLY_TEXT if task != "text-generation" else frozenset()
    return [
        tile(
            name,
            value,
            called,
            "For chat and text only." if value in off else line,
            disabled=value in off,
            chip=_chip(value),
        )
        for value, called, line in ways
    ]


def _chip(value: str) -> str | None:
    # Asked without importing it: Unsloth must come before everything else, in the worker.
    return "not set up" if value == "unsloth" and find_spec("unsloth") is None else None
