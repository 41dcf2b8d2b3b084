"""The card of the task: what it should learn, how, and which library does the work."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from ui.html.components import choices, tile
from ui.html.markup import Safe, el, join

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
