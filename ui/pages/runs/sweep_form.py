"""The form that starts a sweep: whose settings, what to vary, and how long it may take."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelforge.config.fields import FieldSpec, specs_by_name
from modelforge.config.resolve import Layer, flatten, nest
from modelforge.config.visibility import applies
from modelforge.errors import ConfigError, ForgeError, MissingPackageError, NotFoundError, Problem
from modelforge.forge import Forge
from modelforge.runs.listing import RunFilter, RunRow
from modelforge.services.sweeps.plan import SweepPrice
from modelforge.services.sweeps.pricing import Price, expected_trials, read_budget
from modelforge.services.sweeps.space import read_dimensions
from modelforge.services.sweeps.study import require_package
from modelforge.services.targets.service import HERE
from ui.contract import RecipeReply, Reply, SweepFormReply, error_text
from ui.html import format as fmt
from ui.html.gradio_page import ServerFunction, number, text, texts
from ui.html.markup import Markup, join
from ui.html.templates import render
from ui.pages.runs.sweeps import label_of, shown_value
from ui.pages.train.form import Entered

FORM = "form"
MOST_RUNS, MOST_FORM_NAME = 12, 60
# Settings that are offered, the first one ticked; a number is the factor of a range around the own
# value, otherwise there are the ends of the range.
OFFERED: dict[str, float | str] = {
    "learning_rate": 10.0, "lora_r": 2.0, "weight_decay": "0..0.1", "warmup_ratio": "0..0.1",
}  # fmt: skip
# The time that is suggested, as a number of runs, and what it is rounded up to.
SUGGESTED_RUNS, ROUND_S = 4, 300
# How the duration of a run is known.
BASIS = {
    "trial_run": "measured by a trial run",
    "last_run": "measured by the last run",
    "earlier_runs": "by earlier runs",
}


@dataclass(frozen=True)
class Offer:
    """A setting that can be varied, the values that are suggested, and the own one."""

    name: str
    label: str
    values: str
    own: str
    is_on: bool


def functions(forge: Forge) -> list[ServerFunction]:
    """Return the functions that start a sweep, stop or delete it, and use its result."""

    def open_sweep_form(request: Any) -> SweepFormReply:
        return _form(forge, request)

    def price_sweep(request: Any) -> Reply:
        try:
            on = _chosen_places(request)
            price = forge.sweeps.price(*_layers(forge, request), on=on)
            places = sum(forge.sweeps.slots(on).values())
            cost = _cost(price, read_budget(text(request, "budget")), places)
        except ForgeError as error:
            return Reply(parts={"sweep-cost": join([error_text(error)])})
        return Reply(parts={"sweep-cost": cost})

    def start_sweep(request: Any) -> Reply:
        forge.sweeps.start(
            *_layers(forge, request),
            dimensions=read_dimensions(_varied(request)),
            budget_s=read_budget(text(request, "budget")),
            on=_chosen_places(request),
        )
        return Reply(toast="The search for the best settings has begun.")

    def stop_sweep(request: Any) -> Reply:
        forge.sweeps.stop(text(request, "sweep"))
        return Reply(toast="It stops; the result is that of the trials so far.")

    def delete_sweep(request: Any) -> Reply:
        forge.sweeps.delete(text(request, "sweep"))
        return Reply(toast="Deleted.")

    def use_trial(request: Any) -> RecipeReply:
        settings, values = forge.sweeps.settings(text(request, "sweep"), number(request, "trial"))
        return RecipeReply(recipe=nest({**flatten(settings), **values}))

    return [open_sweep_form, price_sweep, start_sweep, stop_sweep, delete_sweep, use_trial]


def _form(forge: Forge, request: Any) -> SweepFormReply:
    """Return the form for the settings of the request, or why there is none."""
    try:
        require_package()
    except MissingPackageError as error:
        return _no_form(render("sweeps", "no_package", error.problems[0]))
    entered = _entered(request)
    sources = [(run.id, _run_title(run.name, run.model)) for run in _recent(forge)]
    if _has_data(entered):
        sources.insert(0, (FORM, "The form of the Train page"))
    chosen = text(request, "source") or (sources[0][0] if sources else "")
    if not chosen:
        return _no_form(render("sweeps", "no_settings"))
    if chosen not in (source for source, _ in sources):
        run = forge.history.row(chosen)
        sources.append((run.id, _run_title(run.name, run.model)))
    try:
        price = forge.sweeps.price(*_layers(forge, {**request, "source": chosen}))
    except ForgeError as error:
        offers, budget, cost = [], "", join([error_text(error)])
    else:
        budget_s = ROUND_S * math.ceil(SUGGESTED_RUNS * price.seconds / ROUND_S)
        offers, budget, cost = _offers(price), _budget_text(budget_s), _cost(price, budget_s, 1)
    shown = render("sweeps", "form", sources, chosen, offers, _places(forge), budget, cost)
    return SweepFormReply(parts={"sweep-form": shown}, can_start=bool(offers))


def _no_form(content: Markup) -> SweepFormReply:
    return SweepFormReply(parts={"sweep-form": content}, can_start=False)


def _recent(forge: Forge) -> list[RunRow]:
    return forge.history.page(RunFilter(is_trial=False), limit=MOST_RUNS).rows


def _run_title(name: str, model: str) -> str:
    return f"{name[:MOST_FORM_NAME]} · {fmt.model_name(model)}"


def _entered(request: Any) -> Entered:
    """Return the form of the Train page, as the browser has kept it."""
    return Entered.read(request.get("form") if isinstance(request, Mapping) else None)


def _has_data(entered: Entered) -> bool:
    given = flatten(entered.recipe) | entered.values
    return bool(given.get("dataset") or given.get("data.sources"))


def _layers(forge: Forge, request: Any) -> list[Layer]:
    """Return the settings that trials share; raises NotFoundError for an unknown run."""
    source, entered = text(request, "source"), _entered(request)
    if source != FORM:
        entered = Entered(recipe=forge.runs.view(source).config)
    elif not _has_data(entered):
        what = "The form of the Train page has no data."
        raise NotFoundError(Problem("settings", what, "Choose data there, or a run here."))
    return list(forge.layers.stack(entered).layers)


def _varied(request: Any) -> list[str]:
    """Return what to vary as NAME=VALUES; raises ConfigError."""
    chosen = request.get("vary") if isinstance(request, Mapping) else None
    if not isinstance(chosen, Mapping):
        raise ConfigError(Problem("vary", "Nothing is varied.", "Choose a setting."))
    varied = [f"{name}={values}" for name, values in chosen.items()]
    other = text(request, "other").strip()
    return [*varied, other] if other else varied


def _chosen_places(request: Any) -> list[str]:
    """Return where trials are to train; empty where there is no choice. Raises ConfigError."""
    on = texts(request, "on")
    if not on and isinstance(request, Mapping) and request.get("on") is not None:
        what = "No place is chosen."
        raise ConfigError(Problem("on", what, "Choose this computer, a target, or several."))
    return on


def _offers(price: SweepPrice) -> list[Offer]:
    offered = [name for name in OFFERED if applies(name, price.own)]
    return [
        Offer(
            name,
            label_of(name),
            _suggested(specs_by_name()[name], price.own[name]),
            shown_value(price.own[name]),
            is_on=name == offered[0],
        )
        for name in offered
    ]


def _suggested(spec: FieldSpec, own: Any) -> str:
    """Return values around the own one."""
    factor = OFFERED[spec.name]
    if isinstance(factor, str):
        return factor
    low, high = own / factor, own * factor
    if spec.kind == "int":
        return ", ".join(str(value) for value in sorted({max(1, round(low)), own, round(high)}))
    return f"{shown_value(low)}..{shown_value(high)}"


def _budget_text(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours}h{minutes or ''}{'m' if minutes else ''}" if hours else f"{minutes}m"


def _places(forge: Forge) -> list[tuple[str, str, bool]]:
    """Return where trials may train: name, label, and whether it is ticked; none without a choice.

    A target whose hardware is unknown cannot be chosen.
    """
    targets = [target for target in forge.targets.list() if target.machine is not None]
    places = [(each.name, f"{each.name} ({each.hardware})", False) for each in targets]
    return [(HERE, "This computer", True), *places] if places else []


def _cost(price: SweepPrice, budget_s: float, places: int) -> Markup:
    """Return how long one run takes and how many trials the time allows at so many places."""
    how = BASIS.get(price.basis, "estimated; a trial run on the Train page measures it")
    count = expected_trials(Price(price.seconds), budget_s, places)
    run = f"One run of {fmt.plural(price.total_steps, 'step')} takes {fmt.duration(price.seconds)}"
    given = fmt.duration(budget_s)
    if budget_s < price.seconds or count < 2:
        return join([f"{run} ({how}). {given} are too short for a search."])
    return join([f"{run} ({how}). {given} are enough for about {fmt.number(count)} trials."])
