"""Routes under /gpen/v1 beside the host's own API and behind its password; described in docs/api.md."""

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

from gpen_core import GpenError, find_in

from . import api_body, api_restore, engine, host
from .api_reply import Sent, refused, sendable, unread
from .api_types import JobReply, ModelReply, Problem, RestoreReply, schema
from .budget import Budget
from .job_queue import DONE, KEPT_SECONDS, STOPPED, WAITING, WORKING, Job, Line

MOST_BYTES = 256 << 20  # of requests that are not done
ERRORS = {
    400: "No picture, or a damaged one.",
    404: "No such model or job.",
    408: "The body stopped arriving.",
    409: "Stopped by the user, or not finished yet.",
    410: "The result was removed to make room for newer ones.",
    413: "Too large: told by the picture's header, before it is decoded.",
    422: "Invalid value.",
    429: "The server's memory limit is reached; retry later.",
    503: "The weights are missing and cannot be fetched, or are refused.",
    507: "Out of memory.",
}

GONE = "The result was removed to make room for newer ones. Send the request again."

line = Line()
requests = Budget(MOST_BYTES, "The waiting requests hold too many bytes. Retry when some are done.")


def add_routes(app: FastAPI) -> None:
    """Only with --api; behind --api-auth where that is set."""
    if not getattr(shared.cmd_opts, "api", False):
        return
    accounts = _accounts(getattr(shared.cmd_opts, "api_auth", None))
    guards = [Depends(_guard(accounts))] if accounts else []

    def add(method: str, path: str, handler: Any, reply: Any, *errors: int, status: int = 200) -> None:
        told = {number: {"model": Problem, "description": ERRORS[number]} for number in errors}
        more: dict[str, Any] = {"dependencies": guards, "tags": ["GPEN"], "responses": told}
        if method == "POST":  # read by `_received`: FastAPI would read a body of any length
            content = {"application/json": {"schema": schema()}}
            more["openapi_extra"] = {"requestBody": {"content": content, "required": True}}
        kind = Response if reply is None else JSONResponse
        more |= {"response_model": reply, "status_code": status, "response_class": kind}
        app.add_api_route(f"/gpen/v1{path}", handler, methods=[method], **more)

    add("GET", "/models", models, list[ModelReply])
    add("POST", "/restore", restore, RestoreReply, 400, 404, 408, 409, 413, 422, 429, 503, 507)
    add("POST", "/jobs", add_job, JobReply, 400, 404, 408, 413, 422, 429, 507, status=202)
    add("GET", "/jobs/{name}", get_job, JobReply, 404)
    add("GET", "/jobs/{name}/result", get_result, RestoreReply, 400, 404, 409, 410, 413, 429, 503, 507)
    add("DELETE", "/jobs/{name}", delete_job, None, 404, status=204)


def models() -> list[ModelReply]:
    """The GPEN models that can be asked for."""
    there = host.models_dirs()
    return [ModelReply(name=sendable(name), there=find_in(name, there) is not None) for name in engine.files()]


async def restore(http: Request) -> Response:
    """Restores the faces of one picture. A client that goes away stops it."""
    job = await _received(http, lambda: unread.check(1))
    watching = asyncio.create_task(_stop_when_gone(http, job))
    try:
        await run_in_threadpool(job.run)
    finally:
        watching.cancel()
        job.release()
    return _result(job)


async def add_job(http: Request) -> JobReply:
    """Restores the faces of one picture when its turn comes. Answers at once, with the job's id."""
    job = await _received(http)
    try:
        line.add(job)
    except GpenError as error:
        job.release()
        raise _problem(type(error), str(error)) from error
    return _told(job)


def get_job(name: str) -> JobReply:
    """How far a job is."""
    return _told(_found(name))


async def get_result(name: str) -> Response:
    """A finished job's picture; of one that failed, the answer that /restore would have given."""
    job = _found(name)
    if job.status in (WAITING, WORKING):
        raise HTTPException(409, f"The job is {job.status}. Ask /gpen/v1/jobs/{name} until its status is {DONE}.")
    try:
        unread.check(len(job.result or b""))
    except GpenError as error:
        raise _problem(type(error), str(error)) from error
    return _result(job)


def delete_job(name: str) -> Response:
    """Stops a job, or forgets its result."""
    _found(name)
    line.drop(name)
    return Response(status_code=204)


async def _stop_when_gone(http: Request, job: Job) -> None:
    while (await http.receive())["type"] != "http.disconnect":  # the body has been read: nothing else is to come
        pass
    job.stop()


async def _received(http: Request, begin: Callable[[], None] | None = None) -> Job:
    """The job that a request asks for; `begin` is called when its turn comes."""
    hold = requests.hold()
    try:
        body = await api_body.read(http, hold)
        return await run_in_threadpool(api_restore.job_for, body, hold, begin)
    except GpenError as error:
        hold.release()
        raise _problem(type(error), str(error)) from error
    except BaseException:  # also where the host cancels it
        hold.release()
        raise


def _found(name: str) -> Job:
    job = line.find(name)
    if job is None:
        minutes = round(KEPT_SECONDS / 60)
        raise refused(404, f"There is no job {name[:50]!r}. Results are kept for {minutes} minutes; send the request again.")
    return job


def _result(job: Job) -> Response:
    if job.result is not None:
        return Sent(job.result)
    if job.is_dropped:
        raise refused(410, GONE)
    assert job.failure is not None
    raise _problem(job.failure.kind, job.failure.text)


def _problem(kind: type[Exception], text: str) -> HTTPException:
    if not issubclass(kind, GpenError):
        text = "Internal error. See the host's log."
    return refused(api_restore.status_of(kind), text)


def _told(job: Job) -> JobReply:
    error = GONE if job.is_dropped else None
    if job.failure is not None:
        error = sendable(job.failure.text) or STOPPED
    event = job.event
    progress: dict[str, Any] = {} if event is None else {**asdict(event), "text": sendable(event.text)}
    return JobReply(id=job.id, status=job.status, ahead=line.ahead(job), error=error, **progress)


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
