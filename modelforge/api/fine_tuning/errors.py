"""Map exceptions to errors in the form of the OpenAI API."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from modelforge.errors import BlockedError, BusyError, ForgeError, NotFoundError, Problem
from modelforge.runs.process.log_rotation import log_error
from modelforge.services.start import StalePlanError
from modelforge.serving.requests import ApiError

# The clients of OpenAI repeat a request with these statuses unless this header forbids it.
REPEATED = frozenset({408, 409, 429})
NO_RETRY = {"x-should-retry": "false"}
# Setting of ModelForge → parameter of the API.
PARAMETERS = {
    "dataset": "training_file",
    "data.sources": "training_file",
    "data.validation_sources": "validation_file",
    "model_name": "model",
    "trainer.seed": "seed",
    "logging.run_name": "suffix",
    "plan_hash": "metadata.plan_hash",
}


class FineTuningRoute(APIRoute):
    """A route that answers every exception in OpenAI's form. Unexpected ones go to server.log."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the request handler of this route."""
        inner = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await inner(request)
            except ApiError as error:
                return _response(error)
            except ForgeError as error:
                return _response(as_api_error(error))
            except RequestValidationError as error:
                first = error.errors()[0]
                where = ".".join(str(part) for part in first["loc"][1:]) or "body"
                return _response(ApiError(f"{where}: {first['msg']}.", param=where))
            except HTTPException as error:
                if error.status_code != 400:
                    raise
                return _response(ApiError(f"The body cannot be read: {error.detail}"))
            except ClientDisconnect:
                raise
            except Exception as error:  # noqa: BLE001  # outermost frame: no traceback is sent
                log = request.app.state.forge.home.logs / "server.log"
                log_error(log, error)
                message = f"ModelForge failed with {type(error).__name__}; see {log}."
                return _response(ApiError(message, status=500, kind="server_error"))

        return handle


def as_api_error(error: ForgeError) -> ApiError:
    """Return an error of ModelForge in OpenAI's form; a blocked start has its findings."""
    message = " ".join(f"{each.sentence} {each.remedy}".strip() for each in error.problems)
    status, kind, code = _kind(error)
    param = _parameter(error.problems[0]) if status < 500 else None
    api_error = ApiError(message, status=status, kind=kind, param=param, code=code)
    details = api_error.body["error"]
    details["problems"] = [problem.as_dict() for problem in error.problems]
    if isinstance(error, BlockedError):
        details["findings"] = [finding.as_dict() for finding in error.findings]
    return api_error


def _kind(error: ForgeError) -> tuple[int, str, str]:
    """Return status, type and code."""
    if isinstance(error, BlockedError):
        return 400, "invalid_request_error", "preflight_blocked"
    if isinstance(error, StalePlanError):
        return 400, "invalid_request_error", "stale_plan"
    if isinstance(error, NotFoundError):
        return 404, "invalid_request_error", "not_found"
    if isinstance(error, BusyError):
        return 409, "conflict_error", "busy"
    if error.http_status >= 500:
        return error.http_status, "server_error", "server_error"
    return 400, "invalid_request_error", "invalid_value"


def _parameter(problem: Problem) -> str:
    name = problem.where.partition("[")[0]
    return PARAMETERS.get(name, problem.where)


def _response(error: ApiError) -> JSONResponse:
    headers = NO_RETRY if error.status in REPEATED or error.status >= 500 else None
    return JSONResponse(error.body, error.status, headers)
