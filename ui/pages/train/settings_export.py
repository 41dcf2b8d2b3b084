"""Downloads: settings for another system or as a script, and the preflight report as a page."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from modelforge.config.exporters import nanochat, stack_wise
from modelforge.config.exporters.report import Exported
from modelforge.config.exporters.write import SCRIPT, SYSTEMS
from modelforge.errors import ForgeError, Problem
from modelforge.forge import Forge
from modelforge.services.exports.settings import ExportSource
from modelforge.services.pages.preflight_page import preflight_page
from ui.contract import PageReply, SettingsExportReply
from ui.html.gradio_page import ServerFunction, text
from ui.html.markup import Markup
from ui.html.templates import render
from ui.pages.train import import_report
from ui.pages.train.form import Entered

SCRIPT_TITLE = "Python script for TRL and PEFT alone"
TITLES = {**{system.name: system.title for system in SYSTEMS}, SCRIPT: SCRIPT_TITLE}
MAX_LEFT_OUT = 30


def functions(forge: Forge) -> list[ServerFunction]:
    """Return the functions of the dialog Export settings and of the button Save report."""

    def export_settings(request: Any) -> SettingsExportReply:
        system = text(request, "to") or _usual_system(request)
        try:
            source = _source(forge, request, system)
            exported = forge.settings_exports.export(source, system)
        except ForgeError as error:
            return SettingsExportReply(shown=_refused(system, error.problems))
        return SettingsExportReply(
            shown=_shown(system, exported),
            text=exported.text,
            file_name=exported.file_name,
            settings=source.config.explicit_values(),
            is_archive=system == SCRIPT or bool(exported.files),
        )

    def save_report(request: Any) -> PageReply:
        checked = forge.preflight.check(*forge.layers.stack(Entered.read(request)).layers)
        return PageReply(html=preflight_page(checked, time.time()))

    return [export_settings, save_report]


def _usual_system(request: Any) -> str:
    """Return the system that is offered first: one that can train what the form describes."""
    values = Entered.read(request).values
    if values.get("progressive.enabled") == "true":
        return stack_wise.SYSTEM.name
    is_new = values.get("pretraining.enabled") == "true"
    return nanochat.SYSTEM.name if is_new else SYSTEMS[0].name


def _source(forge: Forge, request: Any, system: str) -> ExportSource:
    """Return the run that is named, otherwise the form."""
    if run := text(request, "run"):
        return forge.settings_exports.of_run(run)
    layers = forge.layers.stack(Entered.read(request)).layers
    return forge.settings_exports.of_settings(*layers, system=system)


def _shown(system: str, exported: Exported) -> Markup:
    left_out = [
        (import_report.breakable(line.setting), import_report.file_value(line.value), line.why)
        for line in exported.left_out
    ]
    command = exported.command.replace("FILE", exported.file_name)
    more = len(left_out) - MAX_LEFT_OUT
    return render(
        "import",
        "settings_export",
        _choices(system),
        left_out[:MAX_LEFT_OUT],
        max(more, 0),
        command,
        system == SCRIPT,
        exported.text if system == nanochat.SYSTEM.name else "",
        system not in (nanochat.SYSTEM.name, stack_wise.SYSTEM.name),
    )


def _refused(system: str, problems: Sequence[Problem]) -> Markup:
    return render("import", "export_refused", _choices(system), problems)


def _choices(system: str) -> list[tuple[str, str, bool]]:
    return [(name, title, name == system) for name, title in TITLES.items()]
