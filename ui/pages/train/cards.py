"""The cards of the Train page: machine, task, samples and settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from types import MappingProxyType

from modelforge.config.fields import specs_by_name
from modelforge.config.profiles import Profile
from modelforge.config.resolve import flatten
from modelforge.config.validation_messages import join_words
from modelforge.data.sources.library import Sample
from modelforge.errors import Problem
from modelforge.hardware.machine import Machine
from modelforge.services.layers import FormInput, LayerStack, gpu_index
from modelforge.services.targets.service import KnownTarget
from ui.html import format as fmt
from ui.html.components import chip, choices, facts, finding, tile
from ui.html.markup import EMPTY, Markup, el, join

# Value, title and description of each choice.
Choice = tuple[str, str, str]
TASKS: tuple[Choice, ...] = (
    ("text-generation", "Chat and text", "Answers, styles and personas from examples."),
    ("summarization", "Summarization", "Short summaries of long texts."),
    ("extractive-question-answering", "Extractive QA", "The passage of a text with the answer."),
)
STRATEGIES: tuple[Choice, ...] = (
    ("sft", "Supervised (SFT)", "Learn to answer like your examples: the usual choice."),
    ("qlora", "Supervised, 4-bit (QLoRA)", "The same on 4-bit weights: a quarter of the memory."),
    ("dpo", "Preferences (DPO)", "Learn from pairs of a better and a worse answer."),
    ("rlhf", "Rewards (RLHF)", "Generate answers and learn from their rewards."),
)
PROVIDERS: tuple[Choice, ...] = (
    ("huggingface", "Hugging Face", "Transformers, TRL and PEFT: every task, every machine."),
    ("unsloth", "Unsloth", "Faster and smaller on an NVIDIA GPU; chat and text only."),
)
GPUS, SHARDING = "hardware.gpus", "hardware.sharding"
# Settings named in one sentence.
MAX_NAMED = 6
LORA = "With LoRA the model stays frozen, and a small addition to it is trained: the adapter."
TEXT_ONLY = frozenset({"dpo", "rlhf", "unsloth"})


def machine(
    machine: Machine,
    profiles: Mapping[str, Profile],
    reason: str,
    problems: Sequence[Problem] = (),
    texts: Mapping[str, str] = MappingProxyType({}),
) -> Markup:
    """Return the hardware, the profiles to choose from, and what is wrong with own profiles.

    `texts` are the values of the settings, of which several GPUs have some.
    """
    ram = fmt.of_gib(machine.ram_free_gib, machine.ram_total_gib)
    disk = fmt.of_gib(machine.disk_free_gib, machine.disk_total_gib)
    hardware = [
        ("Processor", f"{machine.cpu or 'unknown'} · {machine.cores or '?'} cores"),
        ("Memory", f"{ram} free"),
        ("Disk", f"{disk} free"),
    ]
    gpus = [
        tile(
            "hardware.gpu_index",
            str(gpu.index),
            gpu.name,
            f"{fmt.of_gib(gpu.free_gib, gpu.total_gib)} free",
        )
        for gpu in machine.gpus
    ]
    return join(
        [
            el("p.help", reason),
            facts(hardware),
            el("p.help", machine.gpu_note) if machine.practice_mode and machine.gpu_note else None,
            several_gpus(gpus, texts) if len(gpus) > 1 else None,
            choices("Profile", [_profile(name, one) for name, one in profiles.items()]),
            *[el("div.finds", finding("caution", "warn", str(one))) for one in problems],
        ]
    )


def where(targets: Sequence[KnownTarget], chosen: str | None) -> Markup:
    """Return the choice of the place that trains; without targets, how to add one."""
    if not targets:
        return _how_to_add()
    here = tile("target", "", "This computer", "Nothing leaves it.")
    there = [
        tile(
            "target",
            target.name,
            target.name,
            f"{target.kind}:{target.address}",
            target.hardware or f"Not checked yet: modelforge targets check {target.name}",
            disabled=target.machine is None,
        )
        for target in targets
    ]
    copied = el("p.help", f"The data and the model are copied to {chosen}.")
    return join([choices("Where", [here, *there]), copied if chosen else _how_to_add()])


def _how_to_add() -> Markup:
    text = "To train on another computer or a cluster, add it once: "
    return el("p.help", text, el("code", "modelforge targets add NAME ssh:HOST"), ".")


def several_gpus(gpus: Sequence[Markup], texts: Mapping[str, str]) -> Markup:
    """Return the choices how many GPUs train, which one or which first, and what several hold.

    `gpus` are the tiles of all GPUs.
    """
    chosen, divided = texts.get(GPUS, "1"), texts.get(SHARDING, "none")
    count = len(gpus) - gpu_index(texts.get("hardware.gpu_index"))
    together = {
        "1": ("One GPU", "The others stay free."),
        "0": (f"All {count} GPUs", "They share the rows of each step: the same result, sooner."),
    }
    together.setdefault(chosen, (f"{chosen} GPUs", "They share the rows of each step."))
    counts = [tile(GPUS, value, *text) for value, text in together.items()]
    parts = [choices("GPUs that train", counts)]
    if chosen != "0" or count < len(gpus):
        parts.append(choices("GPU" if chosen == "1" else "The first GPU", gpus))
    if chosen != "1":
        ways = {
            "none": ("A whole model each", "The fastest, where the model fits on one GPU."),
            "fsdp2": ("A divided model", "Each GPU holds a part, so that larger models fit."),
        }
        ways.setdefault(divided, (divided, "As it is set."))
        held = [tile(SHARDING, value, *text) for value, text in ways.items()]
        parts.append(choices("What they hold", held))
    return join(parts)


def _profile(name: str, profile: Profile) -> Markup:
    badge = chip("yours") if profile.own else None
    return tile("profile", name, profile.title, profile.description, badge=badge)


def machine_summary(
    machine: Machine, profile: str, index: int = 0, gpus: str = "1", target: str | None = None
) -> Markup:
    """Return the summary line of the machine card; `gpus` is the setting with their number."""
    gpu = next((gpu for gpu in machine.gpus if gpu.index == index), None)
    if gpu is not None:
        count = len(machine.gpus) - index if gpus == "0" else gpus
        several = "" if str(count) == "1" else f"{count} × "
        text = f"{several}{gpu.name} · {fmt.gib(gpu.total_gib)} · "
    else:
        text = f"{'Apple GPU' if machine.apple_gpu else 'CPU'}, small models · "
    return join([f"{target}: " if target else None, text, chip(profile.lower())])


def overridden(stack: LayerStack, form: FormInput) -> Markup:
    """Return which settings of the recipe are not used, with a button that undoes the choice."""
    if not stack.overridden:
        return EMPTY
    recipe, specs = flatten(form.recipe), specs_by_name()
    chosen = [
        name
        for name in ("task", "strategy", "provider")
        if name in form.values and form.values[name] != recipe.get(name)
    ]
    labels = sorted(specs[name].label for name in stack.overridden)
    more = len(labels) - MAX_NAMED
    named = labels if more <= 0 else [*labels[:MAX_NAMED], f"{more} more"]
    count, verb = fmt.plural(len(labels), "setting"), "does" if len(labels) == 1 else "do"
    text = f"{count} of the recipe {verb} not apply to {_choice(chosen, stack.texts)}"
    undo = el(
        "button.btn.s",
        "Undo",
        type="button",
        data_action="reset",
        data_setting=" ".join(chosen),
        aria_label="Undo: use the recipe as it is",
    )
    line = f"{text}: {join_words(named, 'and')}."
    note = finding("note", "plain", line, button=undo if chosen else None)
    return el("div.finds", note)


def _choice(chosen: Sequence[str], texts: Mapping[str, str]) -> str:
    """Return what the user has chosen instead of the recipe's method, in words."""
    if "strategy" in chosen:
        return fmt.method(texts["strategy"])
    return f"the {chosen[0]} {texts[chosen[0]]}" if chosen else "your own values"


def samples(listed: Sequence[Sample]) -> Markup:
    """Return the sample datasets; each names its task and the strategies it is made for."""
    tiles = [
        tile(
            "dataset",
            sample.dataset,
            sample.title,
            sample.description,
            fmt.plural(sample.rows, "row"),
            data_strategies=" ".join(sample.strategies),
            data_task=sample.task,
        )
        for sample in listed
    ]
    return choices("Try it with a sample", tiles)


def tasks(task: str) -> Markup:
    """Return the choices of task, strategy and provider; unsupported ones are disabled."""
    return join(
        [
            choices("Task", [tile("task", *choice) for choice in TASKS]),
            el("div.four", choices("Strategy", _tiles("strategy", STRATEGIES, task))),
            el("div.pair", choices("Provider", _tiles("provider", PROVIDERS, task))),
            el("p.help", LORA),
        ]
    )


def _tiles(name: str, listed: Sequence[Choice], task: str) -> list[Markup]:
    disabled = TEXT_ONLY if task != "text-generation" else frozenset()
    return [
        tile(
            name,
            value,
            title,
            "For chat and text only." if value in disabled else description,
            disabled=value in disabled,
            badge=_badge(value),
        )
        for value, title, description in listed
    ]


def _badge(value: str) -> Markup | None:
    # Unsloth is not imported to check this: it must be imported first, in the worker.
    is_missing = value == "unsloth" and find_spec("unsloth") is None
    return chip("not installed") if is_missing else None
