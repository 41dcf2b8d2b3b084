"""Routes that tell and check: health, settings, machine, profiles, samples, preflight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response

from modelforge import __version__
from modelforge.api.errors import said_in
from modelforge.api.schemas.runs import (
    Health,
    MachineFacts,
    MemoryFacts,
    Preflight,
    Problems,
    ProfileFacts,
    Recommended,
    SampleFacts,
)
from modelforge.config.json_schema import json_schema
from modelforge.config.resolve import Layer
from modelforge.forge import Forge
from modelforge.hardware.machine import choose_profile

SETTINGS_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/TrainingConfig"}}
        },
    }
}


def add(api: APIRouter, forge: Callable[[], Forge]) -> None:
    """Add these routes to the router."""
    _telling(api, forge)
    _checking(api, forge)
    _tracing(api, forge)


def _telling(api: APIRouter, forge: Callable[[], Forge]) -> None:
    @api.get("/health")
    def health() -> Health:
        """Say that the server is there, and which run holds the machine."""
        house = forge()
        return Health(status="ok", version=__version__, active=house.active(), warm=house.is_warm)

    @api.get("/schema")
    def schema() -> dict[str, Any]:
        """Give the JSON Schema of the settings, with label, help, unit and group of each."""
        return json_schema()

    @api.get("/machine")
    def machine(
        refresh: Annotated[bool, Query(description="Look again at once.")] = False,
    ) -> MachineFacts:
        """Tell what this computer is, and which profile suits it."""
        found = forge().machine(refresh=refresh)
        profile, reason = choose_profile(found)
        return MachineFacts(**found.as_dict(), profile=profile, reason=reason)

    @api.get("/profiles")
    def profiles() -> list[ProfileFacts]:
        """List the classes of machine with the settings they start from."""
        return [ProfileFacts(**each.as_dict()) for each in forge().profiles().values()]

    @api.get("/samples")
    def samples() -> list[SampleFacts]:
        """List the bundled data sets."""
        return [SampleFacts(**each.as_dict()) for each in forge().samples()]


def _checking(api: APIRouter, forge: Callable[[], Forge]) -> None:
    @api.post("/recommended", openapi_extra=SETTINGS_BODY)
    async def recommended(request: Request) -> Recommended:
        """Give the settings that would make such a run quicker, all that are worth it together.

        An update stays as large, and what fits keeps fitting.
        """
        said = await said_in(request)
        found = await to_thread.run_sync(lambda: forge().recommended(Layer("body", said)))
        return Recommended(answers=found)

    @api.post(
        "/preflight",
        openapi_extra=SETTINGS_BODY,
        responses={422: {"model": Preflight, "description": "There are problems; all are said."}},
    )
    async def preflight(request: Request, response: Response) -> Preflight:
        """Check settings without starting anything: findings, memory, time and the plan.

        A worker is warmed when all is well, so that a start that follows is quick.
        """
        said = await said_in(request)
        checked = await to_thread.run_sync(lambda: forge().check(Layer("body", said)))
        if checked.problems:
            response.status_code = 422
        if checked.ready:  # the next request is likely to be the start
            await to_thread.run_sync(forge().warm)
        return Preflight(**checked.as_dict())


def _tracing(api: APIRouter, forge: Callable[[], Forge]) -> None:
    @api.post(
        "/memory",
        openapi_extra=SETTINGS_BODY,
        responses={422: {"model": Problems, "description": "There are problems; all are said."}},
    )
    async def memory(request: Request) -> MemoryFacts:
        """Tell the memory of a run, traced by the code that would train it.

        No weights are loaded and no card is touched. The first answer for a model and its settings
        takes seconds, those after it are remembered; `preflight` knows it from then on.
        """
        said = await said_in(request)
        checked = await to_thread.run_sync(lambda: forge().footprints.ask(Layer("body", said)))
        report = checked.require()[2]
        return MemoryFacts(
            memory=report.memory,
            memory_total_gib=report.memory_total_gib,
            memory_available_gib=report.memory_available_gib,
            memory_basis=report.memory_basis,
        )
