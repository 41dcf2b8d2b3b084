"""The layers of settings of a run: profile, model, strategy, recipe, values of the user."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from modelforge.config.defaults import strategy_defaults, without_four_bits
from modelforge.config.fields import field_specs
from modelforge.config.profiles import (
    Profile,
    load_profiles,
    profile_problems,
    profile_settings,
    recommended_models,
)
from modelforge.config.recipe_conflicts import overridden_settings
from modelforge.config.resolve import FROM_NOTHING, Layer, flatten, nest
from modelforge.config.schema.pretraining import missing_defaults
from modelforge.config.visibility import inapplicable_settings
from modelforge.data.checks.summary import DatasetSummary
from modelforge.errors import ForgeError, Problem
from modelforge.hardware.machine import Machine, choose_profile
from modelforge.preflight.suggest.catalog_fit import (
    FitEstimate,
    estimate_fit,
    estimate_fit_by_size,
)
from modelforge.services.cache import Cache
from modelforge.services.machine import MachineService
from modelforge.services.preflight import PreflightService
from modelforge.services.targets.service import TargetService

RECIPE, FORM, COMMAND = "recipe", "form", "you"
FOR_MODEL = "recommended for the model"
FOR_STRATEGY = "recommended for {}"
RATINGS_CACHED = 512
# The settings of a profile that also hold for a training from nothing.
OF_MACHINE = ("compute_specs", "hardware.precision")


@dataclass(frozen=True)
class Prefill:
    """Initial values of the form: the profile that suits this machine, its values, and why."""

    profile: str
    title: str
    values: dict[str, Any]
    reason: str
    practice: bool


@dataclass(frozen=True)
class FormInput:
    """The chosen profile, the values set by the user, and the values of an opened recipe.

    `target` is where the run is to train; None for this computer.
    """

    profile: str | None = None
    values: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    target: str | None = None

    @property
    def layers(self) -> list[Layer]:
        """Return the layers of the user: the recipe, if one is open, and the own values."""
        return self.layers_without(frozenset())

    def layers_without(self, overridden: frozenset[str]) -> list[Layer]:
        """Return the layers of the user without these settings of the recipe."""
        recipe = self.recipe
        if overridden:
            flat = flatten(recipe)
            recipe = {name: value for name, value in flat.items() if name not in overridden}
        return user_layers(self.values, recipe, FORM)


@dataclass(frozen=True)
class LayerStack:
    """The layers of a form.

    `layers` is what is checked and started. `all_layers` also has the values of settings that do
    not apply (`hidden`), which the form shows again when they apply. Neither has the settings of
    the recipe that give way to the user's own values (`overridden`). `practice` tells that the run
    uses no NVIDIA GPU. `machine` is that of the `target` where the run is to train, if it has one.
    """

    layers: list[Layer]
    all_layers: list[Layer]
    profile: str
    reason: str
    machine: Machine
    hidden: frozenset[str]
    overridden: frozenset[str]
    summary: DatasetSummary | None
    practice: bool
    target: str | None = None

    @property
    def texts(self) -> dict[str, str]:
        """Return the value of every setting as text, by dotted name."""
        return setting_texts(self.all_layers)


class RatedModel(NamedTuple):
    """A model of the catalog, and whether it fits into the free memory with these settings."""

    model: Mapping[str, Any]
    fit: FitEstimate


def user_layers(
    values: Mapping[str, Any], recipe: Mapping[str, Any] | None, name: str
) -> list[Layer]:
    """Return the layers of a recipe and of values above it; `name` is the origin of the values."""
    layers = [Layer(RECIPE, recipe)] if recipe else []
    return [*layers, Layer(name, values)]


class LayerService:
    """Build the layers of a form, and rate the models of the catalog for it. Thread-safe."""

    def __init__(
        self,
        machine: MachineService,
        preflight: PreflightService,
        own_profiles: Path,
        targets: TargetService,
    ) -> None:
        self._machine = machine
        self._targets = targets
        self._preflight = preflight
        self._own_profiles = own_profiles
        self._ratings: Cache[object, FitEstimate] = Cache(RATINGS_CACHED)

    def profiles(self) -> dict[str, Profile]:
        """Return the shipped profiles and the user's own, the smallest machine first."""
        return load_profiles(self._own_profiles)

    def profile_problems(self) -> list[Problem]:
        """Return what is wrong with the files of the user's profiles."""
        return profile_problems(self._own_profiles)

    def detect_profile(self, machine: Machine, gpu_index: int = 0) -> tuple[str, str]:
        """Return the name of the profile that suits a machine, and the reason in a sentence."""
        return choose_profile(machine, gpu_index, self._own_profiles)

    def models(self, gpu_index: int = 0) -> list[dict[str, Any]]:
        """Return the catalog models to offer on this machine, the default one first."""
        machine = self._machine.current()
        name, _reason = self.detect_profile(machine, gpu_index)
        return recommended_models(name, practice=machine.practice_mode, profiles=self.profiles())

    def prefill(self, gpu_index: int = 0) -> Prefill:
        """Return the values that the form and `modelforge init` start from."""
        machine = self._machine.current()
        profiles = self.profiles()
        name, reason = self.detect_profile(machine, gpu_index)
        practice = machine.practice_mode
        values = profile_settings(
            name, practice=practice, fast_bf16=machine.fast_bf16, profiles=profiles
        )
        return Prefill(name, profiles[name].title, values, reason, practice)

    def stack(self, form: FormInput) -> LayerStack:
        """Return the layers of a form, without the settings that do not apply."""
        there = self._targets.find_machine(form.target)
        machine, profiles = there or self._machine.for_run(), self.profiles()
        index = gpu_index(form.values.get("hardware.gpu_index"))
        name, reason = self.detect_profile(machine, index)
        if form.profile in profiles and form.profile != name:
            name, reason = form.profile, f"You chose {profiles[form.profile].title}."
        base = _Base(machine, name, form, profiles)
        summary = self._summary(base.texts)
        models = [*base.own_models, *base.other_models]
        model = next((one for one in models if one["name"] == base.texts["model_name"]), None)
        if model is None and not base.texts["model_name"] and not base.is_from_nothing:
            model = self._default_model(base, summary)
        all_layers = base.layers_with(model or {})
        layers, hidden = base.applicable_with(model or {})
        return LayerStack(
            layers,
            all_layers,
            name,
            reason,
            machine,
            hidden,
            base.overridden,
            summary,
            base.practice,
            form.target if there else None,
        )

    def rate_models(self, form: FormInput, stack: LayerStack) -> list[RatedModel]:
        """Return the catalog models of the task, those that fit first.

        Models of other profiles are added if they do not fit with any settings. Ratings are
        cached by the machine, the settings and the data.
        """
        base = _Base(stack.machine, stack.profile, form, self.profiles())
        rated = [RatedModel(one, self._rate(one, base, stack.summary)) for one in base.own_models]
        for model in base.other_models:
            fit = self._rate(model, base, stack.summary)
            if fit.is_hopeless:
                rated.append(RatedModel(model, fit))
        return sorted(rated, key=lambda one: (one.fit.fits is False, one.fit.is_hopeless))

    def size_estimator(self, stack: LayerStack) -> Callable[[float | None], FitEstimate]:
        """Return a function that estimates the memory of a model by its billion parameters."""
        return lambda billions: estimate_fit_by_size(
            billions, stack.machine, *stack.layers, summary=stack.summary
        )

    def _default_model(
        self, base: _Base, summary: DatasetSummary | None
    ) -> Mapping[str, Any] | None:
        """Return the first model that fits, else the first that fits with other settings."""
        fallback = None
        for model in base.own_models:
            fit = self._rate(model, base, summary)
            if fit.fits is not False:
                return model
            if fallback is None and not fit.is_hopeless:
                fallback = model
        return fallback or next(iter(base.own_models), None)

    def _rate(
        self, model: Mapping[str, Any], base: _Base, summary: DatasetSummary | None
    ) -> FitEstimate:
        layers, _hidden = base.applicable_with(model)
        return self._ratings.get(
            _rating_key(model, base.machine, layers, summary),
            lambda: estimate_fit(model, base.machine, *layers, summary=summary),
        )

    def _summary(self, texts: Mapping[str, str]) -> DatasetSummary | None:
        """Return the summary of the dataset; None without a dataset, or with several sources."""
        if not texts["dataset"].strip() or texts.get("data.sources", "") not in ("", "[]"):
            return None
        try:
            return self._preflight.summarize(texts["dataset"])
        except ForgeError:
            return None


class _Base:
    """The layers of a form before a model is chosen, and the models to choose from."""

    def __init__(
        self, machine: Machine, profile: str, form: FormInput, profiles: Mapping[str, Profile]
    ) -> None:
        practice = self.practice = _uses_no_cuda(machine, profiles[profile], form)
        self.machine = machine
        self._profile = profile
        self._values = profile_settings(
            profile, practice=practice, fast_bf16=machine.fast_bf16, profiles=profiles
        )
        self.overridden = overridden_settings(
            self._values, form.recipe, form.values, practice=practice
        )
        self._user = form.layers_without(self.overridden)
        self.texts = setting_texts([Layer(profile, self._values), *self._user])
        self._strategy = self.texts["strategy"]
        self.is_from_nothing = self.texts["pretraining.enabled"] == "true"
        adapter = self.texts.get("adapter.enabled") != "false"
        self._defaults = strategy_defaults(self._strategy, practice=practice, adapter=adapter)
        task = self.texts["task"]
        self.own_models: list[dict[str, Any]] = recommended_models(
            profile, practice=practice, task=task, profiles=profiles
        )
        names = {model["name"] for model in self.own_models}
        others: dict[str, Mapping[str, Any]] = {}
        for other in profiles.values():
            for model in other.models:
                if task in model["tasks"] and model["name"] not in names:
                    others.setdefault(model["name"], model)
        self.other_models = list(others.values())
        self._hidden: dict[str, frozenset[str]] = {}

    def applicable_with(self, model: Mapping[str, Any]) -> tuple[list[Layer], frozenset[str]]:
        """Return the layers with a model, without the settings that do not apply, and those.

        They are computed once per recommended settings.
        """
        layers, key = self.layers_with(model), repr(model.get("answers"))
        if key not in self._hidden:
            self._hidden[key] = inapplicable_settings(setting_texts(layers))
        return _without(layers, self._hidden[key]), self._hidden[key]

    def layers_with(self, model: Mapping[str, Any]) -> list[Layer]:
        """Return all layers with the recommended settings of a model.

        A training from nothing has no model: its own defaults are used instead.
        """
        if self.is_from_nothing:
            values = {name: self._values[name] for name in OF_MACHINE if name in self._values}
            stated = nest(setting_values(self._user, only_stated=True))
            return [
                Layer(self._profile, values),
                Layer(FROM_NOTHING, missing_defaults(stated)),
                *self._user,
            ]
        settings = model.get("answers", {})
        return [
            Layer(self._profile, {"model_name": model.get("name", ""), **self._values}),
            Layer(FOR_MODEL, without_four_bits(settings) if self.practice else settings),
            Layer(FOR_STRATEGY.format(self._strategy), self._defaults),
            *self._user,
        ]


def _uses_no_cuda(machine: Machine, profile: Profile, form: FormInput) -> bool:
    """Return whether the run of a form uses no NVIDIA GPU: there is none, or it is not chosen."""
    device = setting_texts([Layer(profile.name, profile.settings), *form.layers])["hardware.device"]
    return machine.practice_mode or device in ("cpu", "mps")


def _without(layers: Sequence[Layer], hidden: frozenset[str]) -> list[Layer]:
    """Return the layers without the hidden settings.

    Settings of a recipe are kept, with the user's values for them, so that none is lost unseen.
    """
    recipe = {name for layer in layers if layer.name == RECIPE for name in flatten(layer.values)}
    dropped = hidden - recipe
    applicable = []
    for layer in layers:
        if layer.name == RECIPE:
            applicable.append(layer)
            continue
        values = flatten(layer.values)
        kept = {name: value for name, value in values.items() if name not in dropped}
        applicable.append(Layer(layer.name, kept))
    return applicable


def setting_values(layers: Sequence[Layer], *, only_stated: bool = False) -> dict[str, Any]:
    """Return the value of every setting, valid or not, by dotted name; the last layer wins.

    With `only_stated` settings that no layer has are left out.
    """
    values = {} if only_stated else {spec.name: spec.default for spec in field_specs()}
    for layer in layers:
        values.update(flatten(layer.values))
    return values


def setting_texts(layers: Sequence[Layer]) -> dict[str, str]:
    """Return the value of every setting as text, by dotted name; the last layer wins."""
    return {name: _text(value) for name, value in setting_values(layers).items()}


def gpu_index(value: object) -> int:
    """Return the index of a GPU; 0 for values that are not one."""
    return int(value) if isinstance(value, (int, str)) and str(value).isdecimal() else 0


def _text(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _rating_key(
    model: Mapping[str, Any],
    machine: Machine,
    layers: Sequence[Layer],
    summary: DatasetSummary | None,
) -> object:
    """Return a key of everything a rating depends on, with free memory to 0.1 GiB."""
    gpus = [
        replace(gpu, free_gib=_rounded(gpu.free_gib), other_gib=None, own_gib=None)
        for gpu in machine.gpus
    ]
    hardware = replace(
        machine, gpus=gpus, ram_free_gib=_rounded(machine.ram_free_gib), disk_free_gib=None
    )
    texts = setting_texts(layers)
    texts = {name: text for name, text in texts.items() if name not in _irrelevant()}
    data = (summary.sha256, summary.rows) if summary else None
    return model["name"], repr(hardware), tuple(texts.items()), data


@cache
def _irrelevant() -> frozenset[str]:
    """Return the settings that have no effect on the memory of a run."""
    names = {
        spec.name
        for spec in field_specs()
        if "memory" in spec.irrelevant_for and "memory" not in spec.affects
    }
    return frozenset(names - {"hardware.gpu_index"})


def _rounded(gib: float | None) -> float | None:
    return None if gib is None else round(gib, 1)
