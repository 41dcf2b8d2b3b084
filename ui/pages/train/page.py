"""The Train page: cards for the settings and the plan beside them; after Start it shows the run."""

from __future__ import annotations

from typing import Any

from modelforge.config.exporters.write import SYSTEMS
from modelforge.data.sources.uploads import MAX_UPLOAD_BYTES
from modelforge.errors import BusyError, ForgeError
from modelforge.forge import Forge
from modelforge.services.pretraining.dial import DEPTHS
from ui.contract import RecipeReply, Reply, StartReply, TrainReply, error_text
from ui.html.gradio_page import ServerFunction, flag, gradio_page, number, text, timestamp
from ui.html.markup import Markup
from ui.html.templates import render
from ui.metrics import CHART_NOTES
from ui.pages.run import evaluation, next_run
from ui.pages.run import page as run_page
from ui.pages.train import (
    data_actions,
    form,
    guide,
    import_page,
    model_card,
    notebook,
    presets,
    recipe_panel,
    response,
    row_editor,
    settings_export,
    trial_run,
)
from ui.pages.train.form import Entered
from ui.pages.train.new_model import cards, from_nothing
from ui.pages.train.new_model import text as text_card


def page(forge: Forge) -> None:
    """Add the page to the current Blocks."""

    def open(request: Any) -> TrainReply:
        return response.reply(forge, Entered.read(request), is_opening=True)

    def check(request: Any) -> TrainReply:
        return response.reply(forge, Entered.read(request))

    def trace_memory(request: Any) -> Reply:
        return _traced(forge, Entered.read(request))

    def read_recipe(request: Any) -> RecipeReply:
        return RecipeReply(
            recipe=recipe_panel.parse_recipe(text(request, "name"), text(request, "text"))
        )

    def find_models(request: Any) -> Reply:
        from modelforge.models.hub import search_models  # noqa: PLC0415 - imports httpx

        query = text(request, "query")
        needs = forge.layers.size_estimator(forge.layers.stack(Entered.read(request)))
        models = search_models(query, text(request, "task"))
        return Reply(parts={"hub-models": model_card.hub_models(models, query, needs)})

    def show_progress(request: Any) -> Reply:
        target = forge.layers.stack(Entered.read(request)).target
        return Reply(parts={"in-progress": guide.in_progress(forge, target)})

    functions: list[ServerFunction] = [open, check, trace_memory, read_recipe, find_models]
    functions += [show_progress, *_run_functions(forge), *_data_functions(forge)]
    functions += [*model_card.download_functions(forge), *trial_run.functions(forge)]
    functions += [*presets.functions(forge), *import_page.functions(forge)]
    functions += [*settings_export.functions(forge), *from_nothing.functions(forge)]
    functions += notebook.functions(forge)
    gradio_page(_body(), "train", *functions, mode="wait")


def _body() -> Markup:
    """Return the cards of the form, and the skeleton of the page of a run."""
    return render(
        "train",
        "body",
        form.groups(),
        run_page.SYSTEM_CHARTS,
        CHART_NOTES,
        MAX_UPLOAD_BYTES,
        DEPTHS,
        cards.SHAPES,
        text_card.offers(),
        [system.name for system in SYSTEMS],
    )


def _traced(forge: Forge, entered: Entered) -> Reply:
    """Return the reply with traced memory; an empty one if it cannot be traced."""
    try:
        checked = forge.preflight.trace_memory(*forge.layers.stack(entered).layers)
    except ForgeError:
        return Reply()  # not requested by the user: the estimate stays
    return response.reply(forge, entered, checked=checked)


def _run_functions(forge: Forge) -> list[ServerFunction]:
    """Return the functions that start, stop and evaluate a run, and prepare the next one."""

    def start(request: Any) -> StartReply:
        entered = Entered.read(request)
        found = forge.layers.stack(entered)
        try:
            run = forge.runs.start(
                *found.layers, name=entered.name, request_id=entered.request_id, on=found.target
            )
        except BusyError as error:
            return StartReply(busy=error_text(error))
        return StartReply(run=run)

    def enqueue(request: Any) -> Reply:
        entered = Entered.read(request)
        found = forge.layers.stack(entered)
        run_id = forge.queue.add(
            *found.layers,
            name=entered.name,
            request_id=entered.request_id,
            start_after=timestamp(request, "start_after"),
            held=flag(request, "held"),
            on=found.target,
        )
        waiting = next((run for run in forge.queue.view().runs if run.run == run_id), None)
        if waiting is None:
            return Reply(toast="It has started.")
        return Reply(toast=f"“{waiting.name}” is number {waiting.position} in the queue.")

    def stop(request: Any) -> Reply:
        forge.runs.stop(text(request, "run"), keep=flag(request, "keep", default=True))
        return Reply()

    return [start, enqueue, stop, *evaluation.functions(forge), *next_run.functions(forge)]


def _data_functions(forge: Forge) -> list[ServerFunction]:
    """Return the functions of the data card."""

    def preview_data(request: Any) -> Reply:
        return data_actions.preview(forge, Entered.read(request))

    def check_data(request: Any) -> Reply:
        return data_actions.check(forge, Entered.read(request))

    def preview_tokens(request: Any) -> Reply:
        entered, row = Entered.read(request), number(request, "row")
        return data_actions.preview_tokens(forge, entered, row, as_batch=flag(request, "batch"))

    def measure_lengths(request: Any) -> Reply:
        return data_actions.measure_lengths(forge, Entered.read(request))

    def repair_data(request: Any) -> Reply:
        entered, allow_removal = Entered.read(request), flag(request, "allow_removal")
        return data_actions.repair(
            forge, entered, text(request, "code"), allow_removal=allow_removal
        )

    checks = [preview_data, check_data, preview_tokens, measure_lengths, repair_data]
    return [*checks, *row_editor.functions(forge)]
