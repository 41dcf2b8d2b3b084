"""The Export page: its server functions, and which parts each of them draws."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from modelforge.errors import NotFoundError, Problem
from modelforge.forge import Forge
from modelforge.runs.exports import ExportRequest
from modelforge.runs.view import RunView
from modelforge.services.exports import ExportView
from modelforge.serving.session import ServingState
from ui.contract import ExportReply, ExportStatus, KeyReply, Reply
from ui.html.components import machine_brief
from ui.html.gradio_page import ServerFunction, flag, gradio_page, text
from ui.html.markup import EMPTY, join
from ui.html.templates import render
from ui.pages.export import choice, listing, plan, serve
from ui.pages.model_picker import runs_with_result


def page(forge: Forge) -> None:
    """Add the page to the current Blocks."""

    def open(request: Any) -> ExportReply:
        chosen = choice.read_choice(request)
        runs = runs_with_result(forge, chosen.run)
        exports = forge.exports.list()
        parts: dict[str, str] = {"machine-brief": machine_brief(forge.machine.current())}
        parts |= _moving_parts(forge, exports)
        run = next((run for run in runs if run.id == chosen.run), runs[0] if runs else None)
        if run is None:
            parts["export-empty"] = render("export", "empty")
            return ExportReply(parts=parts, choice=_as_json(chosen), has_runs=False)
        parts["export-empty"] = EMPTY
        return _with_run(forge, chosen, run, runs, exports, parts)

    def plan_export(request: Any) -> ExportReply:
        return _planned(forge, choice.read_choice(request))

    def follow(_request: Any) -> ExportStatus:
        exports = forge.exports.list()
        return ExportStatus(
            parts=_moving_parts(forge, exports),
            stamp=listing.stamp(exports),
            is_active=_is_active(forge, exports),
        )

    gradio_page(
        render("export", "body", choice.CONTENTS),
        "export",
        open,
        plan_export,
        follow,
        *_changes(forge),
        *_serving(forge),
    )


def _planned(forge: Forge, chosen: ExportRequest) -> ExportReply:
    """Return what an export of this choice needs."""
    run = forge.runs.view(chosen.run)
    predicted = choice.predict_chosen(forge, chosen)
    parts = plan.plan_parts(forge, plan.Chosen(chosen, run, predicted), forge.exports.list())
    # The tiles show the sizes of the quantization and precision that are chosen.
    formats, is_whole = choice.predict_formats(forge, chosen), run.plan.trains != "adapter"
    parts["export-formats"] = choice.format_tiles(formats, chosen.precision, is_whole=is_whole)
    return ExportReply(
        parts=parts,
        choice=_as_json(chosen),
        has_runs=True,
        can_start=not predicted.problems,
    )


def _with_run(
    forge: Forge,
    chosen: ExportRequest,
    run: RunView,
    runs: list[RunView],
    exports: list[ExportView],
    parts: dict[str, str],
) -> ExportReply:
    """Return the page for a run: the choices, what they need, and the side panel."""
    # Other adapters were chosen for the run that they fit.
    others = chosen.adapters if run.id == chosen.run else ()
    named = replace(chosen, run=run.id, adapters=others)
    formats = choice.predict_formats(forge, named)
    usable = choice.usable_choice(named, formats)
    is_hub = usable.format == "hub"
    predicted = choice.predict_chosen(forge, usable) if is_hub else formats[usable.format]
    tiles = choice.tiled_runs(runs, run.id)
    verdicts = [forge.diagnosis.verdict(each.id) for each in tiles]
    of_run = [view for view in exports if view.run == run.id]
    is_whole = run.plan.trains != "adapter"
    parts |= {
        "export-runs": choice.run_tiles(tiles, run.id, verdicts),
        "export-all-runs": choice.run_list(runs),
        "export-formats": choice.format_tiles(formats, usable.precision, is_whole=is_whole),
        "export-quantizations": choice.quantizations(forge, usable, of_run),
        "export-precisions": choice.precisions(usable, is_whole=is_whole),
        "export-adapters": choice.other_adapters(run, runs),
        **plan.plan_parts(forge, plan.Chosen(usable, run, predicted), exports),
    }
    return ExportReply(
        parts=parts,
        choice=_as_json(usable),
        has_runs=True,
        can_start=not predicted.problems,
    )


def _is_active(forge: Forge, exports: list[ExportView]) -> bool:
    """Return whether something moves that people watch: an export, or a model that loads."""
    is_loading = forge.serving.current().state is ServingState.STARTING
    return is_loading or any(not view.state.is_over for view in exports)


def _as_json(request: ExportRequest) -> dict[str, Any]:
    return {**asdict(request), "adapters": [list(pair) for pair in request.adapters]}


def _moving_parts(forge: Forge, exports: list[ExportView]) -> dict[str, str]:
    """Return the parts that change by themselves."""
    served = serve.served(forge.serving.current())
    return {
        "export-progress": listing.in_progress(exports),
        "export-status": join([listing.status(exports)]),
        "export-over": listing.over(forge, exports, served),
        **serve.serve_parts(forge, exports),
    }


def _changes(forge: Forge) -> tuple[ServerFunction, ...]:
    """Return the functions that start, stop and delete exports."""

    def start(request: Any) -> Reply:
        key = text(request, "request_id")[:200]
        view = forge.exports.start(choice.read_choice(request), request_id=key or None)
        return Reply(toast=_started(view))

    def again(request: Any) -> Reply:
        record = forge.exports.folder(text(request, "export")).record()
        if record is None:
            what = "What was asked for is not known any more."
            raise NotFoundError(Problem("export", what, "Choose the run and the format again."))
        return Reply(toast=_started(forge.exports.start(record.request)))

    def push(request: Any) -> Reply:
        is_private = flag(request, "private", default=True)
        view = forge.exports.push(
            text(request, "export"), text(request, "repository").strip(), private=is_private
        )
        return Reply(toast=_started(view))

    def stop(request: Any) -> Reply:
        forge.exports.stop(text(request, "export"))
        return Reply()

    def delete(request: Any) -> Reply:
        forge.exports.delete(text(request, "export"))
        return Reply(toast="Deleted.")

    return start, again, push, stop, delete


def _started(view: ExportView) -> str:
    return view.queued_behind and f"Added. {view.queued_behind}"


def _serving(forge: Forge) -> tuple[ServerFunction, ...]:
    """Return the functions that serve a model."""

    def serve_model(request: Any) -> Reply:
        minutes, port = serve.read_minutes(request), serve.read_port(request)
        forge.serving.start(text(request, "what"), port=port, idle_minutes=minutes)
        return Reply()

    def stop_serving(_request: Any) -> Reply:
        forge.serving.stop()
        return Reply()

    def serving_key(_request: Any) -> KeyReply:
        return KeyReply(key=forge.serving.secret())

    return serve_model, stop_serving, serving_key
