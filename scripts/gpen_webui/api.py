"""HTTP routes under /gpen/v1, protected by the host's API password. See docs/api.md."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from modules import shared

from gpen_core import GpenError, download_size

from . import api_body, api_restore, engine, models_list
from .api_reply import BudgetedResponse, http_error, reply_budget, sanitize_text
from .api_types import ErrorReply, JobReply, ModelReply, RestoreReply, request_schema
from .budget import MemoryBudget
from .job_queue import DONE, RESULT_TTL, STOPPED, WAITING, WORKING, Job, JobQueue

MAX_REQUEST_BYTES = 256 << 20  # of unfinished requests
ERRORS = {
    400: "The image is missing or damaged.",
    404: "No such model or job.",
    408: "The body was not received in time.",
    409: "Interrupted by the user, or not finished yet.",
    410: "The result was removed to make room for newer ones.",
    413: "The image or the body is too large.",
    422: "Invalid value.",
    429: "The server's memory limit is reached; retry later.",
    503: "Weights cannot be downloaded or were rejected, or a Python package is missing.",
    507: "Out of memory.",
}

RESULT_REMOVED = "The result was removed to make room for newer ones. Send the request again."

job_queue = JobQueue()
request_budget = MemoryBudget(MAX_REQUEST_BYTES, "The waiting requests use too much memory. Retry later.")


def add_routes(app: FastAPI) -> None:
    """Add the routes if the host runs with --api, behind the password of --api-auth."""
    if not getattr(shared.cmd_opts, "api", False):
        return
    accounts = _parse_accounts(getattr(shared.cmd_opts, "api_auth", None))
    guards = [Depends(_basic_auth(accounts))] if accounts else []

    def add(method: str, path: str, handler: Any, reply: Any, *errors: int, status: int = 200) -> None:
        error_responses = {number: {"model": ErrorReply, "description": ERRORS[number]} for number in errors}
        route_options: dict[str, Any] = {"dependencies": guards, "tags": ["GPEN"], "responses": error_responses}
        if method == "POST":  # `_create_job` reads the body: FastAPI would read a body of any length
            content = {"application/json": {"schema": request_schema()}}
            route_options["openapi_extra"] = {"requestBody": {"content": content, "required": True}}
        kind = Response if reply is None else JSONResponse
        route_options |= {"response_model": reply, "status_code": status, "response_class": kind}
        app.add_api_route(f"/gpen/v1{path}", handler, methods=[method], **route_options)

    add("GET", "/models", models, list[ModelReply])
    add("POST", "/restore", restore, RestoreReply, 400, 404, 408, 409, 413, 422, 429, 503, 507)
    add("POST", "/jobs", add_job, JobReply, 400, 404, 408, 413, 422, 429, 507, status=202)
    add("GET", "/jobs/{name}", get_job, JobReply, 404)
    add("GET", "/jobs/{name}/result", get_result, RestoreReply, 400, 404, 409, 410, 413, 429, 503, 507)
    add("DELETE", "/jobs/{name}", delete_job, None, 404, status=204)


def models() -> list[ModelReply]:
    """List the available GPEN models."""
    return [
        ModelReply(name=sanitize_text(name), downloaded=models_list.is_downloaded(name), download_bytes=download_size(name))
        for name in engine.model_choices()
    ]


async def restore(request: Request) -> Response:
    """Restore the faces of one image. The work stops if the client disconnects."""
    job = await _create_job(request, lambda: reply_budget.check(1))
    watcher = asyncio.create_task(_stop_on_disconnect(request, job))
    try:
        await run_in_threadpool(job.run)
    finally:
        watcher.cancel()
        job.release()
    return _result_response(job)


async def add_job(request: Request) -> JobReply:
    """Add a job that restores the faces of one image. Returns the job's id at once."""
    job = await _create_job(request)
    try:
        job_queue.add(job)
    except GpenError as error:
        job.release()
        raise _to_http_error(type(error), str(error)) from error
    return _job_reply(job)


def get_job(name: str) -> JobReply:
    """Return the status and progress of a job."""
    return _job_reply(_find_job(name))


async def get_result(name: str) -> Response:
    """Return the result of a finished job. A failed job returns the same error as /restore."""
    job = _find_job(name)
    if job.status in (WAITING, WORKING):
        raise HTTPException(409, f"The job is {job.status}. Poll /gpen/v1/jobs/{name} until its status is {DONE}.")
    try:
        reply_budget.check(len(job.result or b""))
    except GpenError as error:
        raise _to_http_error(type(error), str(error)) from error
    return _result_response(job)


def delete_job(name: str) -> Response:
    """Cancel a job, or delete its result."""
    _find_job(name)
    job_queue.cancel(name)
    return Response(status_code=204)


async def _stop_on_disconnect(request: Request, job: Job) -> None:
    while (await request.receive())["type"] != "http.disconnect":  # the body has been read, so only the disconnect is left
        pass
    job.stop()


async def _create_job(request: Request, on_start: Callable[[], None] | None = None) -> Job:
    """Create the job of a request. `on_start` is called when the job starts."""
    reservation = request_budget.reserve()
    try:
        body = await api_body.read(request, reservation)
        return await run_in_threadpool(api_restore.create_job, body, reservation, on_start)
    except GpenError as error:
        reservation.release()
        raise _to_http_error(type(error), str(error)) from error
    except BaseException:  # also if the host cancels the request
        reservation.release()
        raise


def _find_job(name: str) -> Job:
    job = job_queue.find(name)
    if job is None:
        minutes = round(RESULT_TTL / 60)
        raise http_error(
            404, f"There is no job {name[:50]!r}. Results are kept for {minutes} minutes; send the request again."
        )
    return job


def _result_response(job: Job) -> Response:
    if job.result is not None:
        return BudgetedResponse(job.result)
    if job.is_evicted:
        raise http_error(410, RESULT_REMOVED)
    assert job.failure is not None
    raise _to_http_error(job.failure.kind, job.failure.text)


def _to_http_error(kind: type[Exception], text: str) -> HTTPException:
    if not issubclass(kind, GpenError):
        text = "Internal error. See the host's log."
    return http_error(api_restore.http_status(kind), text)


def _job_reply(job: Job) -> JobReply:
    error = RESULT_REMOVED if job.is_evicted else None
    if job.failure is not None:
        error = sanitize_text(job.failure.text) or STOPPED
    event = job.event
    progress: dict[str, Any] = {} if event is None else {**asdict(event), "text": sanitize_text(event.text)}
    return JobReply(id=job.id, status=job.status, position=job_queue.position(job), error=error, **progress)


def _parse_accounts(text: str | None) -> dict[str, str]:
    pairs = (account.partition(":") for account in text.split(",")) if text else ()
    return {name: password for name, _, password in pairs}


def _basic_auth(accounts: dict[str, str]) -> Any:
    def check(credentials: HTTPBasicCredentials = Depends(HTTPBasic())) -> None:  # noqa: B008  required by FastAPI
        known = accounts.get(credentials.username, "")
        right = secrets.compare_digest(credentials.password.encode(), known.encode())
        if credentials.username not in accounts or not right:
            raise HTTPException(401, "Incorrect username or password", headers={"WWW-Authenticate": "Basic"})

    return check
