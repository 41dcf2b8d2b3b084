"""Routes of datasets: upload, list, preview, findings, tokens, repair and delete."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Body, Depends, Query, Request

from modelforge.api.dependencies import (
    BUSY,
    OPTIONAL_SETTINGS_BODY,
    ForgeDep,
    OptionalSettings,
    error,
    run_with_body,
)
from modelforge.api.errors import ForgeRoute
from modelforge.api.schemas import (
    DataFindings,
    DatasetDetails,
    FileFindings,
    Preview,
    TokenPage,
)
from modelforge.config.schema.data import Source
from modelforge.data.repair.copy import RepairResult
from modelforge.data.sources.library import StoredDataset
from modelforge.data.sources.uploads import MAX_UPLOAD_BYTES
from modelforge.errors import ConfigError, DataError, Problem
from modelforge.forge import Forge

MAX_ROWS = 200
MAX_TOKEN_ROWS = 50
UNUSABLE = error(422, "The file or the parameters cannot be used.")
NO_DATASET = {**error(404, "There is no such dataset."), **UNUSABLE}
FILE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
router = APIRouter(route_class=ForgeRoute)


def _sources(
    name: str,
    forge: ForgeDep,
    source: Annotated[
        str | None,
        Query(
            description='How rows are read, as JSON: `{"instruction_field": "q"}`; the settings of '
            "`data.sources`."
        ),
    ] = None,
) -> list[Source]:
    try:
        fields = {} if source is None else json.loads(source)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        remedy = 'Write it as {"text_field": "body"}.'
        raise ConfigError(Problem("source", "The value is not a JSON object.", remedy))
    return forge.datasets.parse_sources(forge.datasets.find(name).dataset, fields)


Sources = Annotated[list[Source], Depends(_sources)]


@router.post("/datasets", status_code=201, openapi_extra=FILE_BODY, responses=UNUSABLE)
async def upload(
    request: Request,
    forge: ForgeDep,
    filename: Annotated[str, Query(description="The file name; its suffix sets the format.")],
    keep: Annotated[
        bool, Query(description="Keep the file even if it cannot be used yet, to repair it.")
    ] = False,
) -> DatasetDetails:
    """Upload a data file as the plain body, up to 2 GiB, and return its summary.

    A file without usable rows is rejected and deleted unless `keep` is true.
    """

    def save(chunks: Iterator[bytes]) -> Path:
        return forge.datasets.upload(filename, chunks, MAX_UPLOAD_BYTES)

    path = await run_with_body(request, save)
    return await to_thread.run_sync(_summarize_upload, forge, path, keep)


def _summarize_upload(forge: Forge, path: Path, keep: bool) -> DatasetDetails:
    data = forge.datasets
    try:
        return DatasetDetails.of(data.summarize(data.parse_sources(path.name)), path.name)
    except DataError as unreadable:
        if keep:
            size = path.stat().st_size
            return DatasetDetails.unreadable(path.name, size, unreadable.problems)
        path.unlink(missing_ok=True)
        raise


@router.get("/datasets")
def datasets(forge: ForgeDep) -> list[StoredDataset]:
    """List the available datasets: uploads, downloads from the Hub, and samples."""
    return forge.datasets.available()


@router.delete("/datasets/{name}", status_code=204, responses={**NO_DATASET, **BUSY})
def delete(name: str, forge: ForgeDep) -> None:
    """Delete an upload or a downloaded dataset. Samples cannot be deleted."""
    forge.datasets.delete(name)


@router.get("/datasets/{name}", responses=NO_DATASET)
def dataset(sources: Sources, forge: ForgeDep) -> DatasetDetails:
    """Return the summary of a dataset: rows, column mapping with reasons, and findings."""
    return DatasetDetails.of(forge.datasets.summarize(sources), sources[0].path)


@router.get("/datasets/{name}/preview", responses=NO_DATASET)
def preview(
    sources: Sources,
    forge: ForgeDep,
    first: Annotated[int, Query(ge=1, le=MAX_ROWS, description="Number of rows.")] = 20,
    after: Annotated[int, Query(ge=0, description="Number of rows to skip.")] = 0,
) -> Preview:
    """Return rows as stored and as training reads them. Long texts are shortened."""
    return Preview(**forge.datasets.preview(sources, first=first, after=after))


@router.get("/datasets/{name}/findings", responses=NO_DATASET)
def findings(
    sources: Sources,
    forge: ForgeDep,
    max_seq_length: Annotated[
        int | None, Query(ge=1, description="Maximum sequence length in tokens.")
    ] = None,
) -> DataFindings:
    """Check every row. Return the findings with their places and fixes, and statistics."""
    reports = forge.datasets.check(sources, max_length=max_seq_length)
    return DataFindings(
        trainable=not any(report.blocked for report in reports),
        files=[FileFindings(**report.as_dict()) for report in reports],
    )


@router.post(
    "/datasets/{name}/tokens",
    openapi_extra=OPTIONAL_SETTINGS_BODY,
    responses={**NO_DATASET, **BUSY},
)
def tokens(
    settings: OptionalSettings,
    name: str,
    forge: ForgeDep,
    row: Annotated[int, Query(ge=0, description="The first row, counted from 0.")] = 0,
    count: Annotated[int, Query(ge=1, le=MAX_TOKEN_ROWS, description="Number of rows.")] = 1,
) -> TokenPage:
    """Tokenize rows. Each token is masked, trained, end, cut or padding.

    The body holds settings as for a run, all optional. Defaults are those of
    `modelforge data tokens`, with the starter model.
    """
    layers = forge.datasets.layers(forge.datasets.find(name).dataset, settings)
    return TokenPage(**forge.datasets.tokens(*layers, row=row, count=count))


@router.post("/datasets/{name}/repair", status_code=201, responses=NO_DATASET)
def repair(
    sources: Sources,
    forge: ForgeDep,
    codes: Annotated[
        list[str] | None,
        Body(embed=True, description="The findings to repair; default: all except notes."),
    ] = None,
    allow_removal: Annotated[
        bool, Body(embed=True, description="Whether more than 2 % of the rows may be removed.")
    ] = False,
) -> list[RepairResult]:
    """Write a repaired copy and return the changes. The original is not modified.

    If more than 2 % of the rows would be removed, the answer is an error that counts them, unless
    `allow_removal` is true.
    """
    return forge.datasets.repair(sources, codes, allow_removal=allow_removal)
