"""Routes of the history: notes, curves, comparisons, exports, and what lies on the disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Literal

from fastapi import APIRouter, Body, Query, Response
from fastapi.responses import HTMLResponse, StreamingResponse

from modelforge.api.routes.runs import BUSY, MISSING, Refusals
from modelforge.api.schemas.history import Compared, CurvesOfRun, Freed, Noted, Notes, StorageFacts
from modelforge.config.recipe import dump_recipe
from modelforge.forge import Forge

MOST_POINTS = 5000
CSV: Refusals = {200: {"content": {"text/csv": {}}, "description": "A table."}}
HTML: Refusals = {200: {"content": {"text/html": {}}, "description": "A page that needs nothing."}}
YAML: Refusals = {200: {"content": {"text/yaml": {}}, "description": "A recipe."}}

Ids = Annotated[list[str], Query(description="Ids of runs; give it again, or part them by commas.")]
Points = Annotated[int, Query(ge=4, le=MOST_POINTS, description="Points a curve at most.")]


def add(api: APIRouter, forge: Callable[[], Forge]) -> None:
    """Add these routes to the router, before those that take any id."""
    _comparing(api, forge)
    _of_one(api, forge)
    _storage(api, forge)


def _comparing(api: APIRouter, forge: Callable[[], Forge]) -> None:
    @api.get("/runs/compare", responses=MISSING)
    def compare(runs: Ids, points: Points = 500) -> Compared:
        """Put two runs or more side by side: settings, data, versions, results and curves."""
        return Compared(**forge().archive.compare(parted(runs)).as_dict(points))

    @api.get("/runs/compare.csv", responses={**MISSING, **CSV}, response_class=StreamingResponse)
    def table(runs: Ids) -> Response:
        """Give every number of these runs as one table."""
        return attached(forge().archive.export_csv(parted(runs)), "text/csv", "runs.csv")

    @api.get("/runs/compare.html", responses={**MISSING, **HTML}, response_class=HTMLResponse)
    def page(runs: Ids) -> Response:
        """Give a comparison as one HTML file that needs nothing else."""
        return attached(forge().archive.export_html(parted(runs)), "text/html", "comparison.html")


def _of_one(api: APIRouter, forge: Callable[[], Forge]) -> None:
    @api.put("/runs/{run_id}/notes", responses=MISSING)
    def note(run_id: str, said: Annotated[Noted, Body()]) -> Notes:
        """Name a run, tag it, or write a note to it."""
        return Notes(**forge().archive.annotate(run_id, **said.model_dump()))

    @api.get("/runs/{run_id}/curves", responses=MISSING)
    def curves(run_id: str, points: Points = 500) -> CurvesOfRun:
        """Give what a run has measured, thinned to so many points a curve."""
        return CurvesOfRun(**forge().archive.curves(run_id).as_dict(points))

    @api.get(
        "/runs/{run_id}/numbers.csv",
        responses={**MISSING, **CSV},
        response_class=StreamingResponse,
    )
    def numbers(run_id: str) -> Response:
        """Give every number of a run as a table."""
        return attached(forge().archive.export_csv([run_id]), "text/csv", f"{run_id}.csv")

    @api.get("/runs/{run_id}/recipe.yaml", responses={**MISSING, **YAML}, response_class=Response)
    def recipe(run_id: str) -> Response:
        """Give a run's settings as a recipe that trains the same again."""
        text = dump_recipe(forge().run(run_id).config)
        return attached(text, "text/yaml", f"{run_id}.yaml")


def _storage(api: APIRouter, forge: Callable[[], Forge]) -> None:
    @api.get("/storage")
    def storage() -> StorageFacts:
        """Say what lies in the home and what of it can go."""
        return StorageFacts(**forge().archive.storage().as_dict())

    @api.post("/storage/free", responses={**MISSING, **BUSY})
    def free(
        kind: Annotated[
            Literal["checkpoints", "leftovers", "caches"],
            Body(description="`checkpoints` of finished runs, `leftovers` or `caches`."),
        ],
        run: Annotated[str | None, Body(description="Only of this run.")] = None,
    ) -> Freed:
        """Free what nobody needs; an unfinished run keeps what it may go on from."""
        return Freed(freed=forge().archive.free(kind, run))


def parted(ids: list[str]) -> list[str]:
    """Return ids that were given one by one, parted by commas, or both."""
    return [one.strip() for each in ids for one in each.split(",") if one.strip()]


def attached(content: str | Iterable[str], media_type: str, name: str) -> Response:
    """Return a file to be saved, never shown."""
    headers = {
        "Content-Disposition": f'attachment; filename="{name}"',
        "X-Content-Type-Options": "nosniff",
    }
    if isinstance(content, str):
        return Response(content, media_type=media_type, headers=headers)
    return StreamingResponse(content, media_type=media_type, headers=headers)
