"""Import on the Train page: settings of another program are read, compared with the form, used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from modelforge.config.importers.read import SYSTEMS, Recognized, import_settings, is_command
from modelforge.config.recipe_keys import unknown_keys
from modelforge.config.resolve import flatten
from modelforge.errors import ConfigError, ForgeError, Problem
from modelforge.forge import Forge
from modelforge.services.layers import FormInput, LayerStack, setting_texts
from modelforge.services.preflight import PreflightResult
from modelforge.services.presets.take_over import setting_changes, taken_over
from ui.contract import ImportReply, SettingsKind, SettingsKindReply
from ui.html.gradio_page import ServerFunction, text, texts
from ui.html.markup import EMPTY, Markup
from ui.html.templates import render
from ui.pages.train import import_report, plan_panel, recipe_panel
from ui.pages.train.form import Entered

# What can be kept of the form: its name, and the settings that it stands for.
KEEPABLE = {"data": ("dataset", "data.sources"), "model": ("model_name",)}
MAX_REFUSED = 5


@dataclass(frozen=True)
class _Source:
    """What is read: its text and name, its system if that was chosen, what the form keeps.

    `dataset_info` is the content of a `dataset_info.json` that was dropped beside it.
    """

    text: str
    name: str
    system: str
    keep: frozenset[str]
    dataset_info: str

    @classmethod
    def read(cls, request: Any) -> _Source:
        """Read a request."""
        content = text(request, "text")
        is_pasted = not text(request, "name").strip()
        name = "the command line" if is_command(content) else "the pasted text"
        return cls(
            content,
            name if is_pasted else text(request, "name").strip(),
            text(request, "system").strip(),
            frozenset(texts(request, "keep")) & KEEPABLE.keys(),
            text(request, "dataset_info"),
        )

    def recognized(self) -> Recognized:
        """Return what it becomes here; raises ConfigError."""
        if not self.text.strip():
            what = "There is nothing to read."
            raise ConfigError(Problem(self.name, what, "Paste a file or a command line."))
        system = self.system or None
        return import_settings(self.text, self.name, system, dataset_info=self.dataset_info)


def functions(forge: Forge) -> list[ServerFunction]:
    """Return the functions that read settings of another program."""

    def settings_kind(request: Any) -> SettingsKindReply:
        name, content = text(request, "name"), text(request, "text")
        return SettingsKindReply(kind=_kind(name, content))

    def read_settings(request: Any) -> ImportReply:
        return imported(forge, _Source.read(request), Entered.read(request))

    return [settings_kind, read_settings]


def _kind(name: str, content: str) -> SettingsKind:
    """Return what a file holds; a JSON file that is not recognised is data."""
    try:
        recipe = recipe_panel.parse_recipe(name, content)
        if recipe and not unknown_keys(recipe):
            return "recipe"
    except ForgeError:
        pass
    if not name.lower().endswith(".json"):
        return "foreign"
    try:
        signs = import_settings(content, name).signs
    except ConfigError:
        return "data"
    # Rows may stand below one key that is an option of a system, such as `data`.
    return "foreign" if len(signs) > 1 else "data"


def imported(forge: Forge, source: _Source, entered: FormInput) -> ImportReply:
    """Return the view of what was read, or of everything that is wrong with it."""
    try:
        found = source.recognized()
    except ConfigError as error:
        return _unreadable(source, error.problems)
    form = taken_over(found.imported.recipe, entered, keep=source.keep)
    now, then = forge.layers.stack(entered), forge.layers.stack(form)
    before = forge.preflight.check(*now.layers)
    after = forge.preflight.check(*then.layers)
    parts = {
        "import-lead": _lead(source),
        "import-system": _system(found),
        "import-options": import_report.options(found.imported),
        "import-changes": import_report.changes(setting_changes(now, then), found.imported),
        "import-plan": _plan(found, before, after, _keepable(source, found, now)),
        "import-dock": import_report.refused_chip(found.imported),
    }
    return ImportReply(
        is_read=True,
        title=found.imported.title,
        parts=dict(parts),
        recipe=form.recipe,
        values=form.values,
        profile=form.profile,
    )


def _unreadable(source: _Source, problems: Sequence[Problem]) -> ImportReply:
    parts = {
        "import-lead": _lead(source),
        "import-system": render("import", "unreadable", _choices(source.system), problems),
        "import-options": EMPTY,
        "import-changes": EMPTY,
        "import-plan": render("import", "no_plan"),
        "import-dock": EMPTY,
    }
    return ImportReply(is_read=False, title="", parts=dict(parts))


def _lead(source: _Source) -> Markup:
    lines = len(source.text.splitlines())
    return render("import", "lead", source.name, lines)


def _choices(system: str) -> list[tuple[str, str, bool]]:
    """Return the systems to read a text as: name, title, and whether it is the chosen one."""
    return [(each.name, each.title, each.name == system) for each in SYSTEMS]


def _system(found: Recognized) -> Markup:
    imported = found.imported
    defaults = sum(line.is_default and bool(line.setting) for line in imported.report)
    return render(
        "import", "system", imported.title, _choices(imported.system), found.signs, defaults
    )


def _keepable(source: _Source, found: Recognized, now: LayerStack) -> list[tuple[str, str, bool]]:
    """Return what can be kept of the form: its name, its value, and whether it is kept."""
    named, current = flatten(found.imported.recipe), setting_texts(now.all_layers)
    return [
        (part, import_report.short(current[names[0]]), part in source.keep)
        for part, names in KEEPABLE.items()
        if current[names[0]].strip() not in ("", named.get(names[0]))
        and not named.keys().isdisjoint(names)
    ]


def _plan(
    found: Recognized,
    before: PreflightResult,
    after: PreflightResult,
    keepable: Sequence[tuple[str, str, bool]],
) -> Markup:
    report = after.report
    memory = plan_panel.memory(report) if report else EMPTY
    rows = import_report.compared(before.report, report) if report else []
    has_both = before.report is not None and report is not None
    refused = [line for line in found.imported.report if line.result == "refused"]
    refused = [line for line in refused if not line.is_default]
    return render(
        "import",
        "plan",
        memory,
        rows,
        has_both,
        plan_panel.problem_list(after.problems) if after.problems else EMPTY,
        refused[:MAX_REFUSED],
        len(refused),
        keepable,
    )
