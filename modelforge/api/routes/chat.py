"""Routes of chats: ask one or two models, saved chats, votes, corrections, waiting questions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import StreamingResponse

from modelforge.api.dependencies import BUSY, NO_RUN, ForgeDep, error, iterate_waiting
from modelforge.api.errors import ForgeRoute
from modelforge.api.schemas import ChatName
from modelforge.errors import ForgeError
from modelforge.runs.feedback.corrections import Correction
from modelforge.services.chats.corrections import CorrectionRequest, Taught
from modelforge.services.chats.models import ChatModelView
from modelforge.services.chats.questions import KeptQuestion
from modelforge.services.chats.requests import MAX_MODEL, ChatAsk
from modelforge.services.chats.saved import ChatContent, ChatSummary, SavedChat
from modelforge.services.chats.sides import Parts, error_of
from modelforge.services.chats.votes import Reveal, VoteRequest, WinRate

router = APIRouter(route_class=ForgeRoute)
LINES = "application/x-ndjson"
NO_MODEL = error(404, "There is no such run or model, or it has no model that answers.")
NO_CHAT = error(404, "There is no such saved chat.")
NO_QUESTION = error(404, "There is no such question; it was taken back.")
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
    """Ask one model, or two with the same seed; a client that disconnects stops the answer.

    A blind question begins with a line with its id, `question`, for the vote; side 0 is the left
    answer.
    """
    ask = forge.votes.ask if request.blind else forge.chat.ask_sides
    lines = json_lines(ask(request))
    return StreamingResponse(
        iterate_waiting(lines), media_type=LINES, headers={"Cache-Control": "no-store"}
    )


@router.get("/chat/models/{model:path}", responses=NO_MODEL)
def chat_model(model: Annotated[str, Path(max_length=MAX_MODEL)], forge: ForgeDep) -> ChatModelView:
    """Return how the model of a run, or a base model, is asked, and whether the CPU is enough."""
    return forge.chat.describe(model)


@router.get("/chat/saved")
def saved_chats(forge: ForgeDep) -> list[ChatSummary]:
    """List the saved chats, the one changed last first."""
    return forge.chats.list()


@router.post("/chat/saved", status_code=201, responses=UNUSABLE)
def save_chat(content: ChatContent, forge: ForgeDep) -> SavedChat:
    """Save a new chat."""
    return forge.chats.save(content)


@router.get("/chat/saved/{chat_id}", responses=NO_CHAT)
def saved_chat(chat_id: str, forge: ForgeDep) -> SavedChat:
    """Return a saved chat."""
    return forge.chats.read(chat_id)


@router.put("/chat/saved/{chat_id}", responses={**NO_CHAT, **UNUSABLE})
def replace_chat(chat_id: str, content: ChatContent, forge: ForgeDep) -> SavedChat:
    """Save a chat in place of what it held."""
    return forge.chats.save(content, chat_id)


@router.patch("/chat/saved/{chat_id}", responses={**NO_CHAT, **UNUSABLE})
def rename_chat(chat_id: str, new: ChatName, forge: ForgeDep) -> SavedChat:
    """Give a saved chat another name."""
    return forge.chats.rename(chat_id, new.name)


@router.delete("/chat/saved/{chat_id}", status_code=204, responses=NO_CHAT)
def delete_chat(chat_id: str, forge: ForgeDep) -> None:
    """Delete a saved chat."""
    forge.chats.delete(chat_id)


@router.post(
    "/chat/votes",
    responses={**error(404, "The question is not open for a vote any more."), **UNUSABLE},
)
def vote(request: VoteRequest, forge: ForgeDep) -> Reveal:
    """Vote on the answers to a blind question, and learn which model has given which."""
    return forge.votes.vote(request.question, request.choice)


@router.get("/chat/votes", responses=NO_RUN)
def votes(
    run: Annotated[str, Query(max_length=MAX_MODEL, description="Id of the run.")], forge: ForgeDep
) -> list[WinRate]:
    """Return how often a run wins against each model that it was compared with."""
    return forge.votes.rates(run)


@router.get("/chat/corrections")
def corrections(forge: ForgeDep) -> list[Correction]:
    """List the corrected answers, the newest first."""
    return forge.corrections.list()


@router.post("/chat/corrections", status_code=201, responses={**NO_MODEL, **UNUSABLE})
def correct(request: CorrectionRequest, forge: ForgeDep) -> Taught:
    """Correct an answer: it becomes a row of a data file, and a test of later runs."""
    return forge.corrections.teach(request)


@router.delete(
    "/chat/corrections/{correction_id}",
    status_code=204,
    responses=error(404, "There is no such correction."),
)
def delete_correction(correction_id: str, forge: ForgeDep) -> None:
    """Delete a correction, its row and its test."""
    forge.corrections.delete(correction_id)


@router.get("/chat/questions")
def questions(forge: ForgeDep) -> list[KeptQuestion]:
    """List the questions that wait or have waited until the computer is free."""
    return forge.questions.list()


@router.post("/chat/questions", status_code=201, responses={**NO_MODEL, **UNUSABLE})
def keep_question(request: ChatAsk, forge: ForgeDep) -> KeptQuestion:
    """Keep a question; it is answered in the background as soon as the computer is free."""
    return forge.questions.keep(request)


@router.get("/chat/questions/{question_id}", responses=NO_QUESTION)
def question(question_id: str, forge: ForgeDep) -> KeptQuestion:
    """Return a question with its answers so far."""
    return forge.questions.view(question_id)


@router.post(
    "/chat/questions/{question_id}/cpu",
    status_code=202,
    responses={**NO_QUESTION, **error(409, "Another question is being answered."), **UNUSABLE},
)
def ask_on_cpu(question_id: str, forge: ForgeDep) -> KeptQuestion:
    """Answer a waiting question on the CPU at once, in the background."""
    return forge.questions.ask_on_cpu(question_id)


@router.delete("/chat/questions/{question_id}", status_code=204, responses=NO_QUESTION)
def take_back(question_id: str, forge: ForgeDep) -> None:
    """Take a question back; its answer is stopped or deleted."""
    forge.questions.take_back(question_id)


def json_lines(parts: Parts) -> Iterator[str]:
    """Yield the parts of a reply as JSON lines; an error becomes the last line."""
    try:
        for part in parts:
            yield json.dumps(part) + "\n"
    except ForgeError as failure:
        yield json.dumps({"error": error_of(failure)}) + "\n"
    finally:
        parts.close()
