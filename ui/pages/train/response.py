"""The reply to a change of the form: values, origins, hints, errors and all parts of the page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from modelforge.config.defaults import default_learning_rate
from modelforge.config.fields import specs_by_name
from modelforge.config.providers import PROVIDER_FACTS
from modelforge.data.checks.summary import DatasetSummary
from modelforge.data.formats.errors import ReadError
from modelforge.data.sources.library import load_samples
from modelforge.data.sources.split import split_counts
from modelforge.errors import DataError, Finding, ForgeError, Problem
from modelforge.forge import Forge
from modelforge.services.layers import LayerStack, gpu_index
from modelforge.services.preflight import PreflightResult
from ui.contract import CardState, DataFacts, TrainReply
from ui.html import format as fmt
from ui.html.components import machine_brief
from ui.html.markup import EMPTY, Markup, el, join
from ui.pages.train import (
    cards,
    data_actions,
    data_card,
    fit_panel,
    form,
    growing_choice,
    guide,
    model_card,
    plan_panel,
    recipe_panel,
    trial_run,
)
from ui.pages.train.form import Entered
from ui.pages.train.new_model import from_nothing

# Strategy → what the summary of the task calls it.
METHODS = {
    "sft": "supervised fine-tuning (SFT)",
    "qlora": "supervised fine-tuning (SFT)",
    "dpo": "preferences (DPO)",
    "rlhf": "rewards (RLHF)",
}

TOO_SHORT = "text-too-short"


@dataclass(frozen=True)
class _State:
    """A form with its check; the problems and cautions by where the page shows them."""

    entered: Entered
    found: LayerStack
    values: dict[str, str]
    checked: PreflightResult
    sources: list[dict[str, Any]]
    summary: DatasetSummary | None
    missing: list[str]
    fields: dict[str, str]
    data: list[Problem]
    recipe: list[Problem]
    others: list[Problem]
    cautions: list[Finding]

    @property
    def hidden(self) -> frozenset[str]:
        """Return the settings that do not apply, and those that another one stands for."""
        unused = self.found.hidden - self.fields.keys()
        elsewhere = from_nothing.ON_CARDS | from_nothing.OF_ROWS if self.is_new else frozenset()
        if growing_choice.is_on(self.values):
            unused |= growing_choice.OF_ONE_STAGE
        return unused | form.overlapping(self.values, self.fields) | elsewhere

    @property
    def is_new(self) -> bool:
        """Return whether the model is trained from nothing."""
        return from_nothing.is_on(self.values)

    @property
    def place(self) -> dict[str, str]:
        """Return the value of the choice where the run trains; empty for this computer."""
        return {"target": self.found.target or ""}

    @property
    def is_unreadable(self) -> bool:
        return any(isinstance(error, ReadError) for error in self.checked.errors)

    @property
    def must_repair(self) -> bool:
        """Whether no choice above the rows, of a person or a sheet, makes the data readable."""
        codes = {error.code for error in self.checked.errors if isinstance(error, ReadError)}
        return bool(codes - {"chat-person", "sheet-missing"})

    @property
    def can_start(self) -> bool:
        return self.checked.ready and not self.missing


def reply(
    forge: Forge,
    entered: Entered,
    *,
    is_opening: bool = False,
    checked: PreflightResult | None = None,
) -> TrainReply:
    """Return everything the page shows for the entered settings, with one check of them."""
    state = _state(forge, entered, checked)
    values, checked = state.values, state.checked
    if state.can_start and state.found.target is None:
        forge.warm()
    titles = {name: one.title.lower() for name, one in forge.layers.profiles().items()}
    in_progress = guide.in_progress(forge, state.found.target)
    can_queue = _can_queue(forge, state)
    why = EMPTY if in_progress and can_queue else _why_not(state)
    parts = _settings_parts(forge, state, titles) | _check_parts(forge, state)
    parts |= _data_parts(forge, state) | _welcome(forge, state, is_opening=is_opening)
    parts |= from_nothing.parts(forge, state.found, checked, values)
    parts |= {"in-progress": in_progress, "why": why}
    return TrainReply(
        parts=dict(parts),
        profile=state.found.profile,
        values=form.shown_values(values) | from_nothing.choices(values) | state.place,
        origins=form.origins(state.found.all_layers, titles),
        hidden=sorted(state.hidden),
        errors=state.fields,
        hints=hints(checked, values, practice=state.found.practice),
        can_start=state.can_start,
        can_queue=can_queue,
        has_plan=checked.report is not None,
        exceeds_memory=fit_panel.exceeds_memory(checked.report),
        cautions=len(state.cautions),
        is_busy=bool(in_progress),
        trace_key=_trace_key(state),
        trial_run=forge.trial_runs.active(),
        cards=_card_states(state),
        data=_data_facts(state),
        active=forge.runs.active() if is_opening else None,
    )


def _state(forge: Forge, entered: Entered, checked: PreflightResult | None) -> _State:
    found = forge.layers.stack(entered)
    values = form.values(found.all_layers)
    checked = checked or guide.check_form(forge, found)
    needed = ["dataset"] if from_nothing.is_on(values) else ["dataset", "model_name"]
    missing = [name for name in needed if not values[name].strip()]
    stated = [problem for problem in checked.problems if problem.where not in missing]
    fields, others = form.errors(stated)
    data = _data_problems(checked.errors)
    rest = [problem for problem in others if problem not in data]
    in_recipe = [one for one in rest if recipe_panel.is_recipe_problem(one.where, entered)]
    summary = checked.summary or data_actions.find_summary(forge, found.layers, values["dataset"])
    return _State(
        entered=entered,
        found=found,
        values=values,
        checked=checked,
        sources=data_actions.stated_sources(found.layers),
        summary=summary,
        missing=missing,
        fields=fields,
        data=data,
        recipe=in_recipe,
        others=[one for one in rest if one not in in_recipe],
        cautions=plan_panel.cautions(checked, values, entered.kept),
    )


def _can_queue(forge: Forge, state: _State) -> bool:
    """Return whether the queue takes this run: one that is only blocked at the moment may wait."""
    if state.missing or state.checked.errors:
        return False
    return state.checked.ready or guide.check_form(forge, state.found, idle=True).ready


def _why_not(state: _State) -> Markup:
    """Return why training cannot start, with a button that shows the wrong setting."""
    reason = plan_panel.why_not(state.checked, state.missing, [*state.recipe, *state.others])
    wrong = next(iter(state.fields), "")
    is_named = bool(wrong) and reason.startswith(f"{specs_by_name()[wrong].label}: ")
    return join([reason, *([" ", recipe_panel.show_button(wrong)] if is_named else [])])


def _welcome(forge: Forge, state: _State, *, is_opening: bool) -> dict[str, Markup]:
    """Return the welcome; without data it changes only when the form is opened or reset."""
    entered, dataset = state.entered, state.values["dataset"]
    if not dataset.strip() and not is_opening and (entered.values or entered.recipe):
        return {}
    return {"intro": guide.intro(forge, state.found, dataset)}


def _check_parts(forge: Forge, state: _State) -> dict[str, Markup]:
    """Return the parts that follow from the check: model, task, plan, recipe and trial run."""
    checked, values = state.checked, state.values
    hidden = plan_panel.kept_count(checked, values, state.entered.kept)
    return {
        "sum-model": model_card.summary(values["model_name"], checked),
        "model": model_card.model_facts(checked),
        "model-download": model_card.download(
            values["model_name"], checked, forge.downloads.current()
        ),
        "plan": plan_panel.plan(checked),
        "cautions": plan_panel.caution_box(state.cautions, values, hidden),
        "dock-fit": guide.fit(checked.report),
        "problems": plan_panel.problem_list(state.others) if state.others else EMPTY,
        "sum-task": _task_summary(values, checked),
        "recipe": join([recipe_panel.recipe_text(checked, state.found, state.missing)]),
        "recipe-wrong": recipe_panel.wrong_part(state.entered, state.fields),
        "command": join([recipe_panel.command_text(forge, checked, state.found.target)]),
        # A trial run measures this computer.
        "trial-run": trial_run.state(forge, checked) if state.found.target is None else EMPTY,
    }


def _data_parts(forge: Forge, state: _State) -> dict[str, Markup]:
    """Return the parts of the data card."""
    dataset, summary, sources = state.values["dataset"], state.summary, state.sources
    has_mapping = bool(dataset.strip()) and (summary is not None or bool(state.data))
    return {
        "sum-data": data_card.summary(summary, state.data),
        "reading": data_card.reading(
            summary, state.data, sources, has_rows=not state.is_unreadable
        ),
        "data": data_card.rows(summary),
        "mapping": data_actions.mapping_editor(forge, sources, dataset) if has_mapping else EMPTY,
        "sources": data_card.source_list(sources),
        "hub-offer": data_actions.hub_offer(forge, sources or [{"path": dataset}]),
    }


def _trace_key(state: _State) -> str:
    """Return an id of a plan whose memory can still be traced here; empty otherwise."""
    checked, report = state.checked, state.checked.report
    if checked.errors or report is None or checked.resolved is None or state.found.target:
        return ""
    if report.memory_basis != "formula":
        return ""
    return _digest(
        [checked.resolved.config.explicit_values(), checked.plan.as_dict() if checked.plan else {}]
    )


def hints(
    checked: PreflightResult, values: Mapping[str, str], *, practice: bool = False
) -> dict[str, str]:
    """Return what follows from the settings, such as rows per step, to be added to the help."""
    strategy = values["strategy"]
    adapter = values.get("adapter.enabled") != "false"
    rate = fmt.compact(default_learning_rate(strategy, practice=practice, adapter=adapter))
    texts = (
        {} if from_nothing.is_on(values) else {"learning_rate": f"Usual for {strategy}: {rate}."}
    )
    if checked.resolved is None:
        return texts
    config = checked.resolved.config
    batch, accumulation = config.per_device_train_batch_size, config.gradient_accumulation_steps
    rows = fmt.plural(batch * accumulation, "row")
    texts["gradient_accumulation_steps"] = f"{batch} × {accumulation} = {rows} per step."
    if config.max_steps > 0:
        texts["num_train_epochs"] = f"Ends earlier, after {config.max_steps} steps."
    if checked.summary is not None and 0 < config.eval_split < 1:
        # A single row cannot be split, which the plan reports.
        with suppress(DataError):
            _, count = split_counts(checked.summary.rows, config.eval_split)
            texts["eval_split"] = f"Here {fmt.plural(count, 'row')}."
    for change in checked.plan.changes if checked.plan else ():
        texts[change.where] = f"Used here: {form.value_text(change.used)}. {change.reason}"
    return texts


def _machine_parts(forge: Forge, found: LayerStack) -> dict[str, Markup]:
    machine, profiles = found.machine, forge.layers.profiles()
    problems = forge.layers.profile_problems()
    gpu = gpu_index(found.texts.get("hardware.gpu_index"))
    return {
        "where": cards.where(forge.targets.list(), found.target),
        "machine": cards.machine(machine, profiles, found.reason, problems, found.texts),
        "sum-machine": cards.machine_summary(
            machine,
            profiles[found.profile].title,
            gpu,
            found.texts.get("hardware.gpus", "1"),
            found.target,
        ),
        "machine-brief": machine_brief(forge.machine.current()),
        "tasks": cards.tasks(found.texts["task"]),
        "samples": cards.samples(load_samples()),
    }


def _task_summary(values: Mapping[str, str], checked: PreflightResult) -> Markup:
    titles = {value: title for value, title, _ in cards.TASKS}
    task = titles.get(values["task"], values["task"])
    method = METHODS.get(values["strategy"], values["strategy"])
    plan = checked.plan
    if plan is not None and plan.growing is not None:
        trained = "of a growing model"
    elif plan is not None and plan.trains == "all":
        trained = "on all weights"
    elif plan is None or plan.quantization == "none":
        trained = "with LoRA"
    else:
        trained = f"with LoRA on {plan.quantization} weights"
    start = ", from an adapter" if plan is not None and plan.start_from else ""
    facts = PROVIDER_FACTS.get(values["provider"])
    provider = f" · {facts.label}" if facts and facts.package else ""
    added = growing_choice.summary(plan)
    return join([f"{task} · {method} {trained}{added}{start}{provider}"])


def _settings_parts(forge: Forge, state: _State, titles: Mapping[str, str]) -> dict[str, Markup]:
    """Return the parts that follow from the settings: machine, catalog, number of changes."""
    entered, found = state.entered, state.found
    title = titles[found.profile]
    shown = [spec for spec in form.fields() if spec.name not in state.hidden]
    elsewhere = {*form.ON_CARDS, data_actions.SOURCES, *found.hidden}
    elsewhere |= from_nothing.ON_CARDS if state.is_new else set()
    changed = len({form.control_of(name) for name in entered.values.keys() - elsewhere})
    source = (
        ["from ", el("b", "a recipe"), " and the profile ", title]
        if entered.recipe
        else ["from the profile ", el("b", title)]
    )
    summary = join([source, f" · {changed} changed by you" if changed else None])
    parts = {
        "sum-settings": summary,
        "count-all": join([str(len(shown))]),
        "overridden": cards.overridden(found, entered),
        "grow": growing_choice.choice(state.values, state.hidden),
    }
    if entered.show_models:
        parts["models"] = model_card.catalog(forge.layers.rate_models(entered, found))
    return parts | _machine_parts(forge, found)


def _card_states(state: _State) -> dict[str, CardState]:
    errors = state.fields

    def card(name: str, *, is_wrong: bool = False) -> CardState:
        return (
            "wrong" if name in errors or is_wrong else "open" if name in state.missing else "done"
        )

    settings = {spec.name for spec in form.fields()} | form.FLAGS.keys()
    return {
        **from_nothing.card_states(errors),
        "machine": "done",
        "task": "wrong" if {"task", "strategy", "provider"} & errors.keys() else "done",
        "model": card("model_name"),
        "data": card("dataset", is_wrong=bool(state.data) or _is_text_refused(state)),
        "settings": "wrong" if state.recipe or settings & errors.keys() else "plain",
    }


def _is_text_refused(state: _State) -> bool:
    """Return whether the text is too short to train on."""
    report = state.checked.report
    return report is not None and any(
        finding.level == "blocker" and finding.code == TOO_SHORT for finding in report.findings
    )


def _data_facts(state: _State) -> DataFacts | None:
    summary = state.summary
    if summary is None and not state.data:
        return None
    sources = state.sources or [{"path": state.values["dataset"]}]
    rows = summary.rows if summary else 0
    return DataFacts(
        key=_digest([sources, summary.sha256 if summary else "", rows]),
        rows=rows,
        is_large=bool(summary and summary.size_bytes > data_actions.MAX_CHECKED_BYTES),
        sources=sources,
        is_usable=summary is not None,
        open_tab="checks" if summary is None and state.must_repair else "columns",
    )


def _data_problems(errors: Sequence[ForgeError]) -> list[Problem]:
    return [
        problem
        for error in errors
        if isinstance(error, DataError)
        for problem in error.problems
        if problem.where not in specs_by_name() or problem.where.startswith("data.")
    ]


def _digest(value: object) -> str:
    return sha256(json.dumps(value, default=str).encode()).hexdigest()[:16]
