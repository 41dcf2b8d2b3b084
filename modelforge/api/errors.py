"""Map exceptions to JSON error responses, and read request bodies."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from modelforge.errors import BlockedError, BusyError, ConfigError, ForgeError, Problem
from modelforge.runs.process.log_rotation import log_error

Handler = Callable[[Request], Coroutine[Any, Any, Response]]
_UNREADABLE_BODY = Problem("body", "The body is not valid JSON.", "Send a JSON object in UTF-8.")


class EarlyResponse(Exception):  # noqa: N818  # not an error
    """Raised by a dependency to answer a request without calling the route function."""

    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response


class ForgeRoute(APIRoute):
    """A route that answers every exception with JSON. Unexpected ones go to server.log."""

    def get_route_handler(self) -> Handler:
        """Return the request handler of this route."""
        inner = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await inner(request)
            except EarlyResponse as early:
                return early.response
            except ForgeError as error:
                return error_response(error)
            except RequestValidationError as error:
                return error_response(ConfigError([_problem(item) for item in error.errors()]))
            except HTTPException as error:
                # FastAPI raises 400 for a body that it cannot decode.
                if error.status_code != 400:
                    raise
                return error_response(ConfigError(_UNREADABLE_BODY))
            except ClientDisconnect:
                raise
            except Exception as error:  # noqa: BLE001  # outermost frame: no traceback is sent
                return _unexpected(error, request.app.state.forge.home.logs / "server.log")

        return handle


def ascii_json(content: Any, status: int = 200) -> Response:
    """Return a JSON response; characters that UTF-8 cannot encode are escaped, as they came."""
    return Response(json.dumps(content), status, media_type="application/json")


def error_response(error: ForgeError) -> Response:
    """Return the JSON response for an error."""
    content: dict[str, Any] = {"problems": [problem.as_dict() for problem in error.problems]}
    if isinstance(error, BusyError):
        content["holder"] = error.holder
    if isinstance(error, BlockedError):
        content["findings"] = [finding.as_dict() for finding in error.findings]
    return ascii_json(content, error.http_status)


async def read_settings(request: Request) -> dict[str, Any]:
    """Return the body as unvalidated settings.

    Raises:
        ConfigError: The body is not a JSON object.
    """
    try:
        values = json.loads(await request.body())
        require_unicode(values)
    except RecursionError:
        values = None
    except ValueError as error:
        raise ConfigError(_invalid_json(error)) from error
    if not isinstance(values, dict):
        what = "The body is not a JSON object."
        raise ConfigError(Problem("body", what, 'Send settings, as in {"task": …}.'))
    return values


def require_unicode(values: Any) -> None:
    """Raise ConfigError for half of a surrogate pair, which JSON can hold but no file can."""
    try:
        json.dumps(values, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ConfigError(_UNREADABLE_BODY) from error


def _invalid_json(error: ValueError) -> Problem:
    if isinstance(error, json.JSONDecodeError):
        what = f"Invalid JSON at line {error.lineno}, column {error.colno}: {error.msg}."
        return Problem("body", what, "Correct the JSON there.")
    return _UNREADABLE_BODY


def _problem(item: dict[str, Any]) -> Problem:
    where = ".".join(str(part) for part in item["loc"][1:]) or "body"
    return Problem(where, f"{item['msg']}.", "See docs/rest-api.md for the parameters.")


def _unexpected(error: Exception, log: Path) -> JSONResponse:
    log_error(log, error)
    what = f"ModelForge failed with {type(error).__name__}."
    problem = Problem("server", what, f"The traceback is in {log}.")
    return JSONResponse({"problems": [problem.as_dict()]}, 500)
