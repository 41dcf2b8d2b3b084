"""A check of the form as the page needs it: values, origins, hints, problems and every part."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from modelforge.config.defaults import default_learning_rate
from modelforge.config.recipe import dump_recipe
from modelforge.data.checks.summary import DatasetSummary
from modelforge.data.formats.errors import ReadError
from modelforge.data.sources.split import split_counts
from modelforge.errors import DataError, ForgeError, Problem
from modelforge.forge import Forge
from modelforge.services.preflight import Checked
from ui.html import format as words
from ui.html.markup import Safe, el, join
from ui.pages.train import (
    cards,
    data_actions,
    data_card,
    fit_panel,
    form,
    model_card,
    plan_panel,
    trial_run,
)
from ui.pages.train import cards as ways
from ui.pages.train.form import Entered
from ui.pages.train.layers import Stack, index, stack


def reply(forge: Forge, entered: Entered) -> dict[str, Any]:
    """Return all that the page shows for what was entered."""
    found = stack(forge, entered)
    values = found.values
    checked = forge.check(*found.layers)
    look = checked.look or data_actions.look(forge, found.layers, values["dataset"])
    said = data_actions.said_sources(found.layers)
    wanted = [name for name in ("dataset", "model_name") if not values[name].strip()]
    under, others = form.wrong([one for one in checked.problems if one.where not in wanted])
    of_data = _data_problems(checked.errors)
    titles = {name: one.title.lower() for name, one in forge.profiles().items()}
    wants_map = bool(values["dataset"].strip()) and (look is not None or bool(of_data))
    if ready := checked.ready and not wanted:
        forge.warm()
    return {
        "profile": found.profile,
        "values": values,
        "origins": form.origins(found.told, titles),
        "hidden": sorted(found.hidden - under.keys()),
        "wrong": under,
        "hints": hints(checked, values, practice=found.machine.practice_mode),
        "ready": ready,
        **_fit(forge, checked),
        "whole": not wanted and not checked.errors,  # what is only blocked by now may wait
        "cards": _circles(wanted, under, of_data),
        "data": _data_facts(look, checked.errors, said, values["dataset"]),
        "parts": {
            **_standing(forge, found, titles),
            "sum-task": _task(values, checked),
            **model_card.chosen(values["model_name"], found.offers, checked),
            "sum-data": data_card.summary(look, of_data),
            "data": data_card.part(look, of_data, said),
            "map": data_actions.editor(forge, said, values["dataset"]) if wants_map else Safe(""),
            "sources": data_card.several(said),
            **_settings(entered, found, titles[found.profile]),
            "recipe": join([recipe(checked, values)]),
            **plan_panel.parts(checked, wanted, [one for one in others if one not in of_data]),
            "rehearsal": trial_run.beside(forge, checked),
        },
    }


def _fit(forge: Forge, checked: Checked) -> dict[str, Any]:
    """Return what the browser needs to know of the plan beside what it shows."""
    return {
        "planned": checked.report is not None,
        "red": fit_panel.is_red(checked.report),
        "traceable": _traceable(checked),
        "rehearsing": forge.trial_runs.active(),
    }


def _traceable(checked: Checked) -> str:
    """Return a name for a plan whose memory the model's own code may tell better; else nothing."""
    report, resolved = checked.report, checked.resolved
    if checked.errors or report is None or resolved is None or report.memory_basis != "formula":
        return ""
    told = [resolved.config.explicit_values(), checked.plan.as_dict() if checked.plan else {}]
    return sha256(json.dumps(told, default=str).encode()).hexdigest()[:16]


def hints(checked: Checked, values: Mapping[str, str], *, practice: bool = False) -> dict[str, str]:
    """Return help lines that know the answers, such as rows per update and rows held out."""
    way = values["strategy"]
    adapter = values.get("adapter.enabled") != "false"
    rate = words.small(default_learning_rate(way, practice=practice, adapter=adapter))
    told = {"learning_rate": f"Usual for {way}: {rate}."}
    if checked.resolved is None:
        return told
    config = checked.resolved.config
    per_update = config.per_device_train_batch_size * config.gradient_accumulation_steps
    told["gradient_accumulation_steps"] = f"{words.plural(per_update, 'row')} per update."
    if config.max_steps > 0:
        told["num_train_epochs"] = f"Ends sooner: {config.max_steps} updates at most."
    if checked.look is not None and 0 < config.eval_split < 1:
        _, held = split_counts(checked.look.rows, config.eval_split)
        told["eval_split"] = f"{words.plural(held, 'row')} to check on, never trained."
    for change in checked.plan.changes if checked.plan else ():
        used = form.shown(change.used)
        told[change.where] = f"Used here: {used}. {change.reason}"
    return told


def recipe(checked: Checked, values: Mapping[str, str]) -> str:
    """Return the answers as a recipe file; while they are wrong, say so."""
    if checked.resolved is None:
        missing = "your data" if not values["dataset"] else "answers that fit together"
        return f"# The recipe appears here once there are {missing}."
    return dump_recipe(checked.resolved.config.explicit_values())


def _standing(forge: Forge, found: Stack, titles: Mapping[str, str]) -> dict[str, Safe]:
    machine, profiles = found.machine, forge.profiles()
    gpu = index(found.values.get("hardware.gpu_index"))
    return {
        "machine": cards.machine(machine, profiles, found.reason),
        "sum-machine": cards.machine_summary(machine, titles[found.profile], gpu),
        "machine-brief": join([cards.machine_brief(machine)]),
        "tasks": ways.tasks(found.values["task"]),
        "models": model_card.offered(found.offers),
        "samples": cards.samples(forge.samples(), found.values["task"]),
    }


def _task(values: Mapping[str, str], checked: Checked) -> Safe:
    task = ways.title(ways.TASKS, values["task"])
    how = "SFT" if values["strategy"] in ("sft", "qlora") else values["strategy"].upper()
    quantized = checked.plan.quantization if checked.plan else "none"
    if checked.plan is not None and checked.plan.trains == "all":
        over = "all weights"
    else:
        over = "with LoRA" if quantized == "none" else f"over {quantized} weights"
    if checked.plan is not None and checked.plan.start_from:
        over += ", on from an adapter"
    by = " · Unsloth" if values["provider"] == "unsloth" else ""
    return join([f"{task} · {how} {over}{by}"])


def _settings(entered: Entered, found: Stack, title: str) -> dict[str, Safe]:
    shown = [spec for spec in form.fields() if spec.name not in found.hidden]
    elsewhere = {*form.ON_CARDS, data_actions.SOURCES, *found.hidden}
    mine = len([name for name in entered.mine if name not in elsewhere])
    source = (
        join(["from ", el("b", "a recipe"), " over ", title])
        if entered.recipe
        else join(["from ", el("b", title)])
    )
    told = join([source, f" · {mine} changed by you" if mine else None])
    return {"sum-settings": told, "count-all": join([str(len(shown))])}


def _circles(
    wanted: Sequence[str], under: Mapping[str, str], of_data: Sequence[Problem]
) -> dict[str, str]:
    def state(name: str, *, broken: bool = False) -> str:
        return "wrong" if name in under or broken else "open" if name in wanted else "done"

    fields = {spec.name for spec in form.fields()}
    return {
        "machine": "done",
        "task": "wrong" if {"task", "strategy", "provider"} & under.keys() else "done",
        "model": state("model_name"),
        "data": state("dataset", broken=bool(of_data)),
        "settings": "wrong" if fields & under.keys() else "plain",
    }


def _data_facts(
    look: DatasetSummary | None,
    errors: Sequence[ForgeError],
    said: Sequence[Mapping[str, Any]],
    dataset: str,
) -> dict[str, Any] | None:
    """Return what the browser needs to ask on: which data it is, how many rows, how large."""
    if look is None and not _data_problems(errors):
        return None
    broken = any(isinstance(error, ReadError) for error in errors)
    sources = list(said) or [{"path": dataset}]
    facts = [sources, look.sha256 if look else "", look.rows if look else 0]
    return {
        "key": sha256(json.dumps(facts, default=str).encode()).hexdigest()[:16],
        "rows": look.rows if look else 0,
        "large": bool(look and look.size_bytes > data_actions.EXAMINED_BYTES),
        "sources": sources,
        "usable": look is not None,
        "opens": "rows" if look else "doctor" if broken else "map",
    }


def _data_problems(errors: Sequence[ForgeError]) -> list[Problem]:
    return [
        problem
        for error in errors
        if isinstance(error, DataError)
        for problem in error.problems
        if problem.where != "dataset"
    ]
