"""The recipe of the form: the settings in force as a file, and what is wrong in an opened one."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path as File
from typing import Any

from modelforge.config.command_line import train_command
from modelforge.config.fields import specs_by_name
from modelforge.config.recipe import dump_recipe, load_recipe
from modelforge.config.recipe_keys import Path, UnknownKey, unknown_keys
from modelforge.config.resolve import flatten, valid_settings
from modelforge.config.validation_messages import shown
from modelforge.forge import Forge
from modelforge.services.layers import FormInput, LayerStack
from modelforge.services.preflight import PreflightResult
from ui.html.components import finding
from ui.html.markup import EMPTY, Markup, el
from ui.pages.train.form import control_of, fields

# Settings on the cards that have a text field.
TEXT_ON_CARDS = frozenset({"model_name", "dataset"})


def parse_recipe(name: str, text: str) -> dict[str, Any]:
    """Return the settings of a recipe; raise ConfigError with the line of an error."""
    suffix = ".json" if name.lower().endswith(".json") else ".yaml"
    with tempfile.TemporaryDirectory() as folder:
        path = File(folder) / f"recipe{suffix}"
        path.write_text(text, encoding="utf-8")
        return load_recipe(path)


def recipe_text(checked: PreflightResult, found: LayerStack, missing: Sequence[str]) -> str:
    """Return the settings in force as a recipe file, headed by what is missing or not used."""
    if checked.resolved is not None:
        return dump_recipe(checked.resolved.config.explicit_values())
    labels = [specs_by_name()[name].label for name in missing]
    lines = [f"Missing: {', '.join(labels)}."] if labels else []
    others = [problem for problem in checked.problems if problem.where not in missing]
    lines += [f"Not used: {problem}" for problem in others]
    heading = "".join(f"# {' '.join(line.split())}\n" for line in lines)
    return f"{heading}{dump_recipe(valid_settings(*found.layers))}"


def wrong_part(form: FormInput, errors: Mapping[str, str]) -> Markup:
    """Return the unknown keys and the invalid values of an opened recipe, each with its fixes."""
    if not form.recipe:
        return EMPTY
    unknown = unknown_keys(form.recipe)
    invalid = [name for name in flatten(form.recipe) if name in errors and name not in form.values]
    if not unknown and not invalid:
        return EMPTY
    findings = [_unknown(key) for key in unknown]
    findings += [_invalid(name, errors[name], form) for name in invalid]
    every = [key.path for key in unknown] + [_path(name, form) for name in invalid]
    leave_all = _fix("Leave all out", every, id="recipe-leave-all") if len(every) > 1 else None
    remove = el(
        "button.btn.s",
        "Remove the recipe",
        type="button",
        data_action="recipe-remove",
        id="recipe-remove",
    )
    return el("div.finds.recipe-wrong", findings, el("div.row.start", leave_all, remove))


def is_recipe_problem(where: str, form: FormInput) -> bool:
    """Return whether a problem is about an unknown key, which `wrong_part` shows."""
    # Names of problems are shortened.
    return any(key.name[:59] == where[:59] for key in unknown_keys(form.recipe))


def _unknown(key: UnknownKey) -> Markup:
    text = f"`{key.name}: {shown(key.value)}` is not {key.kind}."
    detail, use = "", None
    if key.similar:
        name = str(key.similar[-1])
        spec = specs_by_name().get(name)
        detail = f"The nearest is {f'{spec.label} (`{name}`)' if spec else f'`{name}`'}."
        use = _fix(f"Use {name}", [key.path], key.similar)
    buttons = el("span.does", use, _fix("Leave it out", [key.path]))
    return finding("unknown", "bad", text, detail, button=buttons)


def _invalid(name: str, error: str, form: FormInput) -> Markup:
    leave = _fix("Leave it out", [_path(name, form)])
    text = f"{specs_by_name()[name].label}: {error}"
    return finding("invalid", "bad", text, button=el("span.does", show_button(name), leave))


def show_button(name: str) -> Markup | None:
    """Return a button that goes to the field of a setting; None if it has none."""
    if name not in TEXT_ON_CARDS and control_of(name) not in {spec.name for spec in fields()}:
        return None
    return el(
        "button.btn.s",
        "Show it",
        type="button",
        data_action="show-setting",
        data_setting=name,
        aria_label=f"Show it: {specs_by_name()[name].label}",
    )


def _path(name: str, form: FormInput) -> Path:
    group, _, inner = name.partition(".")
    return (name,) if name in form.recipe else (group, inner)


def _fix(label: str, paths: Sequence[Path], to: Path | None = None, **attributes: str) -> Markup:
    """Return a button that removes keys of the recipe, or gives one of them another name."""
    names = ", ".join(".".join(map(str, path)) for path in paths)
    return el(
        "button.btn.s",
        label,
        type="button",
        data_action="recipe-fix",
        data_paths=json.dumps(paths),
        data_to=json.dumps(to) if to else None,
        aria_label=f"{label}: {names}",
        **attributes,
    )


def command_text(forge: Forge, checked: PreflightResult, target: str | None = None) -> str:
    """Return the command that starts this run, or what is missing."""
    if checked.resolved is None:
        return "# The command appears here once there is data and all settings are valid."
    command = train_command(checked.resolved.config.explicit_values(), forge.home.root)
    return f"{command} --on {target}" if target else command
