"""The choice of growing a model on the Train page: off, or stages of new layers."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from modelforge.config.fields import specs_by_name
from modelforge.config.plan.make import Plan
from ui.html import format as fmt
from ui.html.components import choices, tile
from ui.html.markup import EMPTY, Markup
from ui.html.templates import render
from ui.pages.train.cards import Choice

ENABLED = "progressive.enabled"
# The length of a training without stages.
OF_ONE_STAGE = frozenset({"num_train_epochs", "max_steps"})
# The settings with a field beside the choice; the others are under Settings.
FIELDS = tuple(f"progressive.{name}" for name in ("stages", "layers_per_stage", "steps_per_stage"))
WAYS: tuple[Choice, ...] = (
    ("false", "As it is", "The model keeps its layers: the usual choice."),
    ("true", "Grow it", "Each stage adds new layers, trains them, and leaves the others alone."),
)
DIRECTIONS: tuple[Choice, ...] = (
    ("append", "Behind the last layer", "Saves memory: the layers below keep no activations."),
    ("prepend", "Before the first layer", "Gradients pass through all layers, so little is saved."),
)
TRUNKS: tuple[Choice, ...] = (
    ("frozen", "Frozen", "The layers that were there before stay as they are."),
    ("lora", "Adapters", "LoRA adapters train in them, too."),
)


def is_on(values: Mapping[str, str]) -> bool:
    """Return whether a form grows a model."""
    return values.get(ENABLED) == "true"


def choice(values: Mapping[str, str], hidden: Collection[str]) -> Markup:
    """Return the choice, folded until it is made; empty where no model can grow."""
    if ENABLED in hidden and not is_on(values):
        return EMPTY
    specs = [specs_by_name()[name] for name in FIELDS] if is_on(values) else []
    return render(
        "growing",
        "choice",
        _tiles("Layers", ENABLED, WAYS),
        specs,
        _tiles("New layers stand", "progressive.direction", DIRECTIONS),
        _tiles("Layers that were there before", "progressive.trunk", TRUNKS),
    )


def summary(plan: Plan | None) -> str:
    """Return what is added, for the line of the card: `, 4 layers in 2 stages`; empty without."""
    planned = plan.growing if plan else None
    stages = [stage for stage in planned.stages if stage.new_layers] if planned else []
    if not stages:
        return ""
    layers = fmt.plural(sum(len(stage.new_layers) for stage in stages), "new layer")
    return f", {layers} in {fmt.plural(len(stages), 'stage')}"


def _tiles(legend: str, name: str, listed: tuple[Choice, ...]) -> Markup:
    return choices(legend, [tile(name, *one) for one in listed])
