"""Routes of chats: ask one or two models, and how a model is asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Path, Response
from fastapi.responses import StreamingResponse

from modelforge.api.dependencies import BUSY, ForgeDep, error, iterate_waiting
from modelforge.api.errors import ForgeRoute
from modelforge.errors import ForgeError
from modelforge.services.chat import ChatModelView
from modelforge.services.chats.requests import MAX_MODEL, ChatAsk
from modelforge.services.chats.sides import Parts, error_of

router = APIRouter(route_class=ForgeRoute)
LINES = "application/x-ndjson"
NO_MODEL = error(404, "There is no such run or model, or it has no model that answers.")
UNUSABLE = error(422, "The request cannot be used.")
STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "JSON lines: `phase` with `text` while a model is loaded, then `text`, and "
        "at last `done` or `error`, each with the number of its `side`. A line with `error` and no "
        "`side` ends the stream.",
        "content": {LINES: {"schema": {"type": "string"}}},
    }
}


@router.post("/chat", response_class=Response, responses={**STREAM, **NO_MODEL, **BUSY, **UNUSABLE})
def ask(request: ChatAsk, forge: ForgeDep) -> Response:
    """Ask one model, or two with the same seed; a client that disconnects stops the answer."""
    lines = json_lines(forge.chat.ask_sides(request))
    return StreamingResponse(
        iterate_waiting(lines), media_type=LINES, headers={"Cache-Control": "no-store"}
    )


@router.get("/chat/models/{model:path}", responses=NO_MODEL)
def chat_model(model: Annotated[str, Path(max_length=MAX_MODEL)], forge: ForgeDep) -> ChatModelView:
    """Return how the model of a run, or a base model, is asked, and whether the CPU is enough."""
    return forge.chat.describe(model)


def json_lines(parts: Parts) -> Iterator[str]:
    """Yield the parts of a reply as JSON lines; an error becomes the last line."""
    try:
        for part in parts:
            yield json.dumps(part) + "\n"
    except ForgeError as failure:
        yield json.dumps({"error": error_of(failure)}) + "\n"
    finally:
        parts.close()
