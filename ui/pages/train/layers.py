"""The layers of one form: the profile, what suits model and strategy, a recipe, one's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelforge.config.defaults import strategy_defaults
from modelforge.config.profiles import Profile, load_profiles, profile_settings, recommended_models
from modelforge.config.resolve import Layer, flatten
from modelforge.config.visibility import inapplicable_settings
from modelforge.data.checks.summary import DatasetSummary
from modelforge.errors import ForgeError
from modelforge.forge import Forge
from modelforge.hardware.machine import Machine
from modelforge.preflight.suggest.catalog_fit import FitEstimate, estimate_fit, estimate_fit_by_size
from ui.pages.train import form
from ui.pages.train.fit_panel import is_hopeless
from ui.pages.train.form import Entered

Offer = tuple[Mapping[str, Any], FitEstimate]
FOR_MODEL = "recommended for the model"
FOR_STRATEGY = "recommended for {}"


@dataclass(frozen=True)
class Stack:
    """The layers of one form, and where they start from.

    `layers` is what is checked and started; `told` holds what does not apply as well, so that
    a control shows what was typed into it when it comes back.
    """

    layers: list[Layer]
    told: list[Layer]
    profile: str
    reason: str
    machine: Machine
    offers: Sequence[Offer]
    hidden: frozenset[str]

    @property
    def values(self) -> dict[str, str]:
        """Return what every control shows."""
        return form.values(self.told)


def stack(forge: Forge, entered: Entered) -> Stack:
    """Return the layers of what was entered, without what does not apply."""
    machine = forge.machine.current()
    prefill = forge.layers.prefill(index(entered.mine.get("hardware.gpu_index")))
    profiles = load_profiles()
    name = entered.profile if entered.profile in profiles else prefill.profile
    fast = machine.fast_bf16
    answers = profile_settings(name, practice=prefill.practice, fast_bf16=fast)
    said = form.values([Layer(name, answers), *form.layers_of(entered)])
    way = said["strategy"]
    advice = strategy_defaults(
        way, practice=prefill.practice, adapter=said.get("adapter.enabled") != "false"
    )
    listed = recommended_models(name, practice=prefill.practice, task=said["task"])
    look = _look(forge, said)

    def under(model: Mapping[str, Any]) -> list[Layer]:
        return [
            Layer(name, {"model_name": model.get("name", ""), **answers}),
            Layer(FOR_MODEL, model.get("answers", {})),
            Layer(FOR_STRATEGY.format(way), advice),
        ]

    def weighed(model: Mapping[str, Any]) -> Offer:
        own = trimmed([*under(model), *form.layers_of(entered)])[0]
        return model, estimate_fit(model, machine, *own, look=look)

    offers = [weighed(model) for model in listed]
    offers += [one for one in map(weighed, _others(profiles, listed, said["task"]))
               if is_hopeless(one[1])]  # fmt: skip
    offers.sort(key=lambda offer: (offer[1].fits is False, is_hopeless(offer[1])))
    chosen = next((model for model, _ in offers if model["name"] == said["model_name"]), None)
    if not said["model_name"] and offers:
        chosen = offers[0][0]
    told = [*under(chosen or {}), *form.layers_of(entered)]
    layers, hidden = trimmed(told)
    reason = prefill.reason if name == prefill.profile else f"You chose {profiles[name].title}."
    return Stack(layers, told, name, reason, machine, offers, hidden)


def needing(forge: Forge, entered: Entered) -> Callable[[float | None], FitEstimate]:
    """Return what tells about how much memory a model of so many billion weights would need."""
    found = stack(forge, entered)
    look = _look(forge, found.values)
    return lambda billions: estimate_fit_by_size(billions, found.machine, *found.layers, look=look)


def _look(forge: Forge, said: Mapping[str, str]) -> DatasetSummary | None:
    """Return the look at the one file that is trained on; None where there is none or several."""
    if not said["dataset"].strip() or said.get("data.sources", "") not in ("", "[]"):
        return None
    try:
        return forge.preflight.summarize(said["dataset"])
    except ForgeError:
        return None


def _others(
    profiles: Mapping[str, Profile], listed: Sequence[Mapping[str, Any]], task: str
) -> list[Mapping[str, Any]]:
    """Return the models of the other profiles for a task."""
    names = {model["name"] for model in listed}
    found: dict[str, Mapping[str, Any]] = {}
    for profile in profiles.values():
        for model in profile.models:
            if task in model["tasks"] and model["name"] not in names:
                found.setdefault(model["name"], model)
    return list(found.values())


def trimmed(told: Sequence[Layer]) -> tuple[list[Layer], frozenset[str]]:
    """Return the layers without the settings that do not apply, and which those are.

    A recipe is never shortened in silence: what it says stays, and so does one's own answer to it.
    """
    hidden = inapplicable_settings(form.values(told))
    recipe = {name for layer in told if layer.name == form.RECIPE for name in flatten(layer.values)}
    dropped = hidden - recipe
    return [
        layer
        if layer.name == form.RECIPE
        else Layer(
            layer.name,
            {name: value for name, value in flatten(layer.values).items() if name not in dropped},
        )
        for layer in told
    ], hidden


def index(value: object) -> int:
    """Return the number of a GPU; 0 for what is none."""
    return int(value) if isinstance(value, (int, str)) and str(value).isdecimal() else 0
