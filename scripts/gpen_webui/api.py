"""Routes under /gpen/v1 beside the host's own API and behind its password; described in docs/api.md."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from modules import shared

from gpen_core import GpenError, find_in

from . import api_work, engine, host
from .api_types import JobReply, ModelReply, Problem, RestoreReply, RestoreRequest, only_finite
from .jobs import DONE, KEPT_SECONDS, STOPPED, WAITING, WORKING, Full, Job, Line

RETRY_SECONDS = "10"
ERRORS = {
    400: "No picture, or a damaged one.",
    404: "No such model or job.",
    409: "Stopped by the user, or not finished yet.",
    413: "Too large: told by the picture's header, before it is decoded.",
    422: "A value that cannot be.",
    429: "The line of jobs is full; ask again later.",
    503: "The weights are missing and cannot be fetched, or are refused.",
    507: "Out of memory.",
}

line: Line[RestoreReply] = Line()


def add_routes(app: FastAPI) -> None:
    """Only with --api; behind --api-auth where that is set."""
    if not getattr(shared.cmd_opts, "api", False):
        return
    accounts = _accounts(getattr(shared.cmd_opts, "api_auth", None))
    guards = [Depends(_guard(accounts))] if accounts else []

    def add(method: str, path: str, handler: Any, reply: Any, *errors: int, status: int = 200) -> None:
        finite = [Depends(only_finite)] if method == "POST" else []
        told = {number: {"model": Problem, "description": ERRORS[number]} for number in errors}
        more: dict[str, Any] = {"dependencies": [*guards, *finite], "tags": ["GPEN"], "responses": told}
        kind = Response if reply is None else JSONResponse
        more |= {"response_model": reply, "status_code": status, "response_class": kind}
        app.add_api_route(f"/gpen/v1{path}", handler, methods=[method], **more)

    add("GET", "/models", models, list[ModelReply])
    add("POST", "/restore", restore, RestoreReply, 400, 404, 409, 413, 422, 503, 507)
    add("POST", "/jobs", add_job, JobReply, 400, 404, 413, 422, 429, status=202)
    add("GET", "/jobs/{name}", get_job, JobReply, 404)
    add("GET", "/jobs/{name}/result", get_result, RestoreReply, 400, 404, 409, 413, 503, 507)
    add("DELETE", "/jobs/{name}", delete_job, None, 404, status=204)


def models() -> list[ModelReply]:
    """The GPEN models that can be asked for."""
    there = host.models_dirs()
    return [ModelReply(name=name, there=find_in(name, there) is not None) for name in engine.files()]


async def restore(asked: RestoreRequest, http: Request) -> RestoreReply:
    """Restores the faces of one picture. A client that goes away stops it."""
    job = await run_in_threadpool(_job, asked)
    watching = asyncio.create_task(_stop_when_gone(http, job))
    try:
        await run_in_threadpool(job.run)
    finally:
        watching.cancel()
    return _result(job)


def add_job(asked: RestoreRequest) -> JobReply:
    """Restores the faces of one picture when its turn comes. Answers at once, with the job's id."""
    job = _job(asked)
    try:
        line.add(job)
    except Full as error:
        raise HTTPException(429, str(error), headers={"Retry-After": RETRY_SECONDS}) from error
    return _told(job)


def get_job(name: str) -> JobReply:
    """How far a job is."""
    return _told(_found(name))


def get_result(name: str) -> RestoreReply:
    """A finished job's picture; of one that failed, the answer that /restore would have given."""
    job = _found(name)
    if job.status in (WAITING, WORKING):
        raise HTTPException(409, f"The job is {job.status}. Ask /gpen/v1/jobs/{name} until its status is {DONE}.")
    return _result(job)


def delete_job(name: str) -> Response:
    """Stops a job, or forgets its result."""
    _found(name)
    line.drop(name)
    return Response(status_code=204)


async def _stop_when_gone(http: Request, job: Job[RestoreReply]) -> None:
    while (await http.receive())["type"] != "http.disconnect":  # the body has been read: nothing else is to come
        pass
    job.stop()


def _job(asked: RestoreRequest) -> Job[RestoreReply]:
    try:
        return api_work.job_for(asked)
    except GpenError as error:
        raise HTTPException(api_work.status_of(error), str(error)) from error


def _found(name: str) -> Job[RestoreReply]:
    job = line.find(name)
    if job is None:
        minutes = round(KEPT_SECONDS / 60)
        raise HTTPException(404, f"There is no job {name!r}. Results are kept for {minutes} minutes; ask for it anew.")
    return job


def _result(job: Job[RestoreReply]) -> RestoreReply:
    if job.result is not None:
        return job.result
    if isinstance(job.error, GpenError):
        raise HTTPException(api_work.status_of(job.error), str(job.error)) from job.error
    raise HTTPException(500, "It failed in a way that nobody foresaw; the host's log says how.") from job.error


def _told(job: Job[RestoreReply]) -> JobReply:
    error = None if job.error is None else str(job.error) or STOPPED
    return JobReply(
        id=job.id,
        status=job.status,
        ahead=line.ahead(job),
        done=job.done,
        total=job.total,
        text=job.text,
        error=error,
    )


def _accounts(given: str | None) -> dict[str, str]:
    pairs = (account.partition(":") for account in given.split(",")) if given else ()
    return {name: password for name, _, password in pairs}


def _guard(accounts: dict[str, str]) -> Any:
    def check(credentials: HTTPBasicCredentials = Depends(HTTPBasic())) -> None:  # noqa: B008  FastAPI's way
        known = accounts.get(credentials.username, "")
        right = secrets.compare_digest(credentials.password.encode(), known.encode())
        if credentials.username not in accounts or not right:
            raise HTTPException(401, "Incorrect username or password", headers={"WWW-Authenticate": "Basic"})

    return check
