"""Routes of data sets: upload, list, look, preview, findings, tokens, repair and delete."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import anyio.from_thread
from anyio import to_thread
from fastapi import APIRouter, Body, Query, Request

from modelforge.api.errors import said_in
from modelforge.api.schemas.datasets import (
    DatasetRow,
    FileFindings,
    Findings,
    Preview,
    Repaired,
    TokenPage,
    Upload,
)
from modelforge.api.schemas.runs import Problems
from modelforge.config.resolve import Layer
from modelforge.data.sources.uploads import MAX_UPLOAD_BYTES
from modelforge.errors import ConfigError, DataError, Problem
from modelforge.forge import Forge
from modelforge.services.datasets import DataDesk

MOST_ROWS = 200
MOST_TOKEN_ROWS = 50
Refusals = dict[int | str, dict[str, Any]]
REFUSED: Refusals = {422: {"model": Problems, "description": "What was sent cannot be used."}}
ABSENT: Refusals = {
    404: {"model": Problems, "description": "There is no such data set."},
    **REFUSED,
}
BUSY: Refusals = {
    409: {"model": Problems, "description": "A run holds the machine; `holder` names it."}
}
FILE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
SETTINGS_BODY: dict[str, Any] = {
    "requestBody": {
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/TrainingConfig"}}
        },
    }
}
Fields = Annotated[
    str | None,
    Query(
        description='How rows are read, as JSON: `{"instruction_field": "q"}`; the settings of '
        "`data.sources`."
    ),
]


def add(api: APIRouter, forge: Callable[[], Forge]) -> None:
    """Add these routes to the router."""

    def desk() -> DataDesk:
        return forge().data

    _keeping(api, desk)
    _telling(api, desk)
    _showing_tokens(api, desk)
    _mending(api, desk)


def _keeping(api: APIRouter, desk: Callable[[], DataDesk]) -> None:
    @api.post("/datasets", status_code=201, openapi_extra=FILE_BODY, responses=REFUSED)
    async def upload(
        request: Request,
        filename: Annotated[str, Query(description="Its name; the ending tells the format.")],
        keep: Annotated[
            bool, Query(description="Keep it even if it cannot be learned from, to repair it.")
        ] = False,
    ) -> Upload:
        """Take a data file as the plain body, up to 2 GiB, and look at it.

        A file that nothing can be learned from is refused and not kept, unless `keep` says so.
        """
        pieces = _bridged(request)
        return await to_thread.run_sync(lambda: _take(desk(), filename, pieces, keep=keep))

    @api.get("/datasets")
    def datasets() -> list[DatasetRow]:
        """List the data sets at hand: uploads, what was fetched from the Hub, and our samples."""
        return [DatasetRow(**each.as_dict()) for each in desk().datasets()]

    @api.delete("/datasets/{name}", status_code=204, responses={**ABSENT, **BUSY})
    def delete(name: str) -> None:
        """Delete an upload or a fetched data set; samples stay."""
        desk().delete(name)


def _telling(api: APIRouter, desk: Callable[[], DataDesk]) -> None:
    @api.get("/datasets/{name}", responses=ABSENT)
    def dataset(name: str, source: Fields = None) -> Upload:
        """Look at a data set: how many rows, how they are read and why, and what is odd."""
        kept = desk().find(name)
        look = desk().look(desk().sources(kept.dataset, _fields(source)))
        return Upload.of(look, kept.dataset)

    @api.get("/datasets/{name}/preview", responses=ABSENT)
    def preview(
        name: str,
        source: Fields = None,
        first: Annotated[int, Query(ge=1, le=MOST_ROWS, description="How many rows.")] = 20,
        after: Annotated[int, Query(ge=0, description="Rows to pass over.")] = 0,
    ) -> Preview:
        """Show rows as they stand in the file and as they are read. Long texts are shortened."""
        kept = desk().find(name)
        sources = desk().sources(kept.dataset, _fields(source))
        return Preview(**desk().preview(sources, first=first, after=after))

    @api.get("/datasets/{name}/findings", responses=ABSENT)
    def findings(
        name: str,
        source: Fields = None,
        max_seq_length: Annotated[
            int | None, Query(ge=1, description="The longest row in tokens.")
        ] = None,
    ) -> Findings:
        """Examine every row: what is wrong where, what helps, and the numbers of the data."""
        kept = desk().find(name)
        sources = desk().sources(kept.dataset, _fields(source))
        diagnoses = desk().examine(sources, max_length=max_seq_length)
        return Findings(
            trainable=not any(each.blocked for each in diagnoses),
            files=[FileFindings(**each.as_dict()) for each in diagnoses],
        )


def _showing_tokens(api: APIRouter, desk: Callable[[], DataDesk]) -> None:
    @api.post(
        "/datasets/{name}/tokens",
        openapi_extra=SETTINGS_BODY,
        responses={**ABSENT, **BUSY},
    )
    async def tokens(
        request: Request,
        name: str,
        row: Annotated[int, Query(ge=0, description="The first row, counted from 0.")] = 0,
        count: Annotated[int, Query(ge=1, le=MOST_TOKEN_ROWS, description="How many rows.")] = 1,
    ) -> TokenPage:
        """Show rows as the model will see them: masked, trained, end, cut and padding.

        The body holds settings as for a run, all of them optional; what is left out is chosen as
        `modelforge data tokens` chooses it, with the starter model.
        """
        said = await said_in(request) if await request.body() else {}
        kept = await to_thread.run_sync(lambda: desk().find(name))
        layers = desk().layers(kept.dataset, Layer("body", said))
        return TokenPage(
            **await to_thread.run_sync(lambda: desk().tokens(*layers, row=row, count=count))
        )


def _mending(api: APIRouter, desk: Callable[[], DataDesk]) -> None:
    @api.post("/datasets/{name}/repair", status_code=201, responses=ABSENT)
    def repair(
        name: str,
        source: Fields = None,
        codes: Annotated[
            list[str] | None,
            Body(embed=True, description="The findings to mend; left out, all but notes."),
        ] = None,
    ) -> list[Repaired]:
        """Write a repaired copy, never touching the original, and tell what changed in it."""
        kept = desk().find(name)
        done = desk().repair(desk().sources(kept.dataset, _fields(source)), codes)
        return [Repaired(**each.as_dict()) for each in done]


def _fields(source: str | None) -> dict[str, Any]:
    if source is None:
        return {}
    try:
        fields = json.loads(source)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise ConfigError(
            Problem("source", "It is no JSON object.", 'Write it as {"text_field": "body"}.')
        )
    return fields


def _bridged(request: Request) -> Iterator[bytes]:
    """Give the body to a thread piece by piece, never more of it than one."""
    stream = request.stream()

    async def following() -> bytes | None:
        async for piece in stream:
            return piece
        return None

    while (piece := anyio.from_thread.run(following)) is not None:
        yield piece


def _take(desk: DataDesk, filename: str, pieces: Iterator[bytes], *, keep: bool) -> Upload:
    path = desk.upload(filename, pieces, MAX_UPLOAD_BYTES)
    try:
        return Upload.of(desk.look(desk.sources(path.name)), path.name)
    except DataError as error:
        if keep:
            return Upload.unreadable(path.name, path.stat().st_size, error.problems)
        path.unlink(missing_ok=True)
        raise
