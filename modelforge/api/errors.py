"""Where a request meets our errors: each becomes a status and problems in words."""

from __future__ import annotations

import contextlib
import json
import re
import traceback
from collections.abc import Callable, Coroutine
from datetime import datetime
from pathlib import Path
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import HTTPException, RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect

from modelforge.errors import BlockedError, BusyError, ConfigError, ForgeError, Problem

_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,200}")

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def forge_route(logs: Callable[[], Path]) -> type[APIRoute]:
    """Return the class of our routes; what nobody foresaw is written down in `logs`."""

    class ForgeRoute(APIRoute):
        def get_route_handler(self) -> Handler:
            inner = super().get_route_handler()

            async def handle(request: Request) -> Response:
                try:
                    return await inner(request)
                except ForgeError as error:
                    return answer(error)
                except RequestValidationError as error:
                    return answer(ConfigError([_in_words(each) for each in error.errors()]))
                except (HTTPException, ClientDisconnect):
                    raise
                except Exception as error:  # noqa: BLE001  # the boundary: no traceback leaves us
                    return _unforeseen(error, logs() / "server.log")

            return handle

    return ForgeRoute


def answer(error: ForgeError) -> JSONResponse:
    """Return an error as REST gives it."""
    content: dict[str, Any] = {"problems": [problem.as_dict() for problem in error.problems]}
    if isinstance(error, BusyError):
        content["holder"] = error.holder
    if isinstance(error, BlockedError):
        content["findings"] = [finding.as_dict() for finding in error.findings]
    return JSONResponse(content, error.http_status)


async def said_in(request: Request) -> dict[str, Any]:
    """Return the answers in the body, unchecked; raises ConfigError when it is no JSON object."""
    raw = await request.body()
    try:
        said = json.loads(raw)
    except RecursionError:
        said = None
    except ValueError as error:
        raise ConfigError(_no_json(error)) from error
    if not isinstance(said, dict):
        what = "It is no JSON object."
        raise ConfigError(Problem("body", what, 'Send settings, as in {"task": …}.'))
    return said


def checked_key(key: str | None) -> str | None:
    """Return the id of a request as it was sent; raises ConfigError for what cannot be one."""
    if key is not None and not _REQUEST_ID.fullmatch(key):
        raise ConfigError(
            Problem(
                "Idempotency-Key",
                f"It has {len(key)} characters or contains spaces.",
                "Use 1 to 200 visible ASCII characters, such as a UUID.",
            )
        )
    return key


def _no_json(error: ValueError) -> Problem:
    if isinstance(error, json.JSONDecodeError):
        place = f" (line {error.lineno}, column {error.colno})"
        return Problem("body", f"It is no JSON{place}: {error.msg}.", "Mend it there.")
    return Problem("body", "It is no JSON.", "Send a JSON object in UTF-8.")


def _in_words(said: dict[str, Any]) -> Problem:
    where = ".".join(str(part) for part in said["loc"][1:]) or "body"
    return Problem(where, f"{said['msg']}.", "docs/rest-api.md says what this address takes.")


def _unforeseen(error: Exception, log: Path) -> JSONResponse:
    with contextlib.suppress(OSError):
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as file:
            when = datetime.now().astimezone().isoformat(timespec="seconds")
            file.write(f"{when}\n{''.join(traceback.format_exception(error))}\n")
    problem = Problem(
        "server", f"ModelForge failed with {type(error).__name__}.", f"Details are in {log}."
    )
    return JSONResponse({"problems": [problem.as_dict()]}, 500)
