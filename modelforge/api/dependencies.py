"""Parameters and response declarations that several routes share."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import Depends, Header, Query, Request

from modelforge.api.schemas.errors import Problems
from modelforge.errors import ConfigError, Problem
from modelforge.forge import Forge

Responses = dict[int | str, dict[str, Any]]

_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,200}")
_SETTINGS: dict[str, Any] = {
    "application/json": {"schema": {"$ref": "#/components/schemas/TrainingConfig"}}
}
SETTINGS_BODY: dict[str, Any] = {"requestBody": {"required": True, "content": _SETTINGS}}
OPTIONAL_SETTINGS_BODY: dict[str, Any] = {"requestBody": {"content": _SETTINGS}}


def error(status: int, description: str) -> Responses:
    """Return the declaration of an error response."""
    return {status: {"model": Problems, "description": description}}


INVALID_SETTINGS = error(422, "The settings cannot be used; `problems` lists every reason.")
NO_RUN = error(404, "There is no such run.")
NO_MODEL_OR_DATA = error(404, "The model or the dataset does not exist.")
BUSY = error(409, "The machine is in use; `holder` names the run that uses it.")


async def _forge(request: Request) -> Forge:
    forge: Forge = request.app.state.forge
    return forge


async def _request_id(
    idempotency_key: Annotated[
        str | None, Header(description="The same as `request_id`, under its usual header name.")
    ] = None,
    request_id: Annotated[
        str | None, Query(description="A second request with the same text creates no second run.")
    ] = None,
) -> str | None:
    key = request_id if idempotency_key is None else idempotency_key
    if key is not None and not _REQUEST_ID.fullmatch(key):
        raise ConfigError(
            Problem(
                "Idempotency-Key",
                f"The key has {len(key)} characters or contains spaces.",
                "Use 1 to 200 visible ASCII characters, such as a UUID.",
            )
        )
    return key


ForgeDep = Annotated[Forge, Depends(_forge)]
RequestId = Annotated[str | None, Depends(_request_id)]
