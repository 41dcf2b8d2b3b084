"""Routes of the history: notes, curves, comparison, exports and storage."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from fastapi import APIRouter, Body, Query, Response
from fastapi.responses import HTMLResponse, StreamingResponse

from modelforge.api.dependencies import BUSY, NO_RUN, ForgeDep, Responses, error
from modelforge.api.errors import ForgeRoute
from modelforge.api.schemas import (
    ComparedRuns,
    FreedSpace,
    NotesChange,
    RunCurves,
)
from modelforge.config.recipe import dump_recipe
from modelforge.runs.notes import Notes
from modelforge.services.storage import StorageUsage
from modelforge.services.stored import StoredItem, StoredKind

MAX_POINTS = 5000
CSV: Responses = {200: {"content": {"text/csv": {}}, "description": "A table."}, **NO_RUN}
HTML: Responses = {
    200: {"content": {"text/html": {}}, "description": "A self-contained page."},
    **NO_RUN,
}
YAML: Responses = {200: {"content": {"text/yaml": {}}, "description": "A recipe."}, **NO_RUN}

NOT_STORED = error(404, "There is no such data file or model.")
NEEDED = error(409, "A run in progress or in the queue uses it.")

RunIds = Annotated[list[str], Query(description="Run ids, repeated or separated by commas.")]
Points = Annotated[int, Query(ge=4, le=MAX_POINTS, description="Maximum number of points a curve.")]

router = APIRouter(route_class=ForgeRoute)


@router.get("/runs/compare", responses=NO_RUN)
def compare(forge: ForgeDep, runs: RunIds, points: Points = 500) -> ComparedRuns:
    """Compare two or more runs: settings, data, versions, results and curves."""
    return ComparedRuns(**forge.history.compare(split_ids(runs)).as_dict(points))


@router.get("/runs/compare.csv", responses=CSV, response_class=StreamingResponse)
def compare_csv(forge: ForgeDep, runs: RunIds) -> Response:
    """Return all metrics of these runs as one table."""
    return attachment(forge.history.export_csv(split_ids(runs)), "text/csv", "runs.csv")


@router.get("/runs/compare.html", responses=HTML, response_class=HTMLResponse)
def compare_html(forge: ForgeDep, runs: RunIds) -> Response:
    """Return a comparison as one self-contained HTML file."""
    return attachment(forge.history.export_html(split_ids(runs)), "text/html", "comparison.html")


@router.put("/runs/{run_id}/notes", responses=NO_RUN)
def change_notes(run_id: str, change: Annotated[NotesChange, Body()], forge: ForgeDep) -> Notes:
    """Change the name, the tags or the note of a run."""
    return forge.history.annotate(run_id, **change.model_dump())


@router.get("/runs/{run_id}/curves", responses=NO_RUN)
def curves(run_id: str, forge: ForgeDep, points: Points = 500) -> RunCurves:
    """Return the metrics of a run, downsampled to a maximum number of points per curve."""
    return RunCurves(**forge.history.curves(run_id).as_dict(points))


@router.get("/runs/{run_id}/numbers.csv", responses=CSV, response_class=StreamingResponse)
def run_csv(run_id: str, forge: ForgeDep) -> Response:
    """Return all metrics of a run as a table."""
    return attachment(forge.history.export_csv([run_id]), "text/csv", f"{run_id}.csv")


@router.get("/runs/{run_id}/recipe.yaml", responses=YAML, response_class=Response)
def recipe(run_id: str, forge: ForgeDep) -> Response:
    """Return the settings of a run as a recipe that repeats the training."""
    return attachment(dump_recipe(forge.runs.view(run_id).config), "text/yaml", f"{run_id}.yaml")


@router.get("/storage")
def storage(forge: ForgeDep) -> StorageUsage:
    """Return the disk usage of the home folder and what can be deleted."""
    return forge.storage.usage()


@router.post("/storage/free", responses={**NO_RUN, **BUSY})
def free(
    forge: ForgeDep,
    kind: Annotated[
        Literal["checkpoints", "leftovers", "caches", "deleted"],
        Body(
            description="`checkpoints` of finished runs, `leftovers`, `caches` or `deleted` runs."
        ),
    ],
    run: Annotated[str | None, Body(description="Only of this run.")] = None,
) -> FreedSpace:
    """Delete files that are not needed. Unfinished runs keep their checkpoints."""
    return FreedSpace(freed=forge.storage.free(kind, run))


@router.get("/storage/stored")
def stored(forge: ForgeDep) -> list[StoredItem]:
    """List uploaded and downloaded data files, and the models in the cache of the Hub."""
    return forge.stored.items()


@router.post("/storage/delete", responses={**NOT_STORED, **NEEDED})
def delete_stored(
    forge: ForgeDep,
    kind: Annotated[StoredKind, Body(description="What the names are: `data` or `model`.")],
    names: Annotated[list[str], Body(min_length=1, max_length=1000)],
) -> FreedSpace:
    """Delete data files or models, all or none. Samples and the starter model stay."""
    return FreedSpace(freed=forge.stored.delete(kind, names))


def split_ids(values: list[str]) -> list[str]:
    """Return run ids that were repeated, separated by commas, or both."""
    ids = (part.strip() for value in values for part in value.split(","))
    return [run_id for run_id in ids if run_id]


def attachment(content: str | Iterable[str], media_type: str, name: str) -> Response:
    """Return a file for download, which browsers do not display."""
    headers = {
        "Content-Disposition": f'attachment; filename="{name}"',
        "X-Content-Type-Options": "nosniff",
    }
    if isinstance(content, str):
        return Response(content, media_type=media_type, headers=headers)
    return StreamingResponse(content, media_type=media_type, headers=headers)
