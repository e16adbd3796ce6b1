"""The API of the web UI under hostile bodies, in the fake web UI of the tests.

Every body is answered by a status that docs/api.md lists, never 500, with a `detail` of bounded length; and what waits for
its turn takes little memory, whatever it would take at work.
"""

from __future__ import annotations

import base64
import contextlib
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from gpen_core import Interrupted
from gpen_core.tools.demo.weights import sharpening_state_dict, tiny_retinaface_state_dict

from .api_bodies import large_picture
from .entry import ACCEPTED, REFUSED

DETECTOR, MODEL = "detection_mobilenet0.25_Final.safetensors", "gpen-red-256.safetensors"
REFUSALS = {400, 404, 408, 409, 410, 413, 422, 429, 503, 507}
LONGEST_DETAIL = 2000  # characters
PATIENCE = 15.0  # seconds
MOST_BESIDE = 48 << 20  # bytes that waiting requests may take beside their own length
COPIES = 8  # of their length
JSON = {"Content-Type": "application/json"}


@dataclass
class Turn:
    """Stands for the host's queue: the turn of the block comes when the gate is open."""

    gate: threading.Event = field(default_factory=threading.Event)
    arrived: int = 0
    is_stopped: bool = False
    """Whether the user stops whatever has its turn."""

    def __enter__(self) -> None:
        self.arrived += 1
        assert self.gate.wait(4 * PATIENCE)
        if self.is_stopped:
            raise Interrupted("stopped")

    def __exit__(self, *error: object) -> None:
        return None


@dataclass
class Web:
    """The routes of the API in a fake web UI with small models, and how to take all of it down again."""

    host: Any
    client: Any
    turn: Turn
    patch: pytest.MonkeyPatch

    def post(self, path: str, data: bytes) -> Any:
        return self.client.post(f"/gpen/v1/{path}", content=data, headers=JSON)


_running: list[Web] = []


def start() -> Web:
    """The one of this process."""
    if not _running:
        _running.append(_started(Path(tempfile.mkdtemp()) / "models"))
    return _running[0]


def stop() -> None:
    while _running:
        _running.pop().patch.undo()


def _started(models: Path) -> Web:
    import fastapi
    from fastapi.testclient import TestClient

    from .. import fake_webui

    files = {
        "detection_mobilenet0.25_Final.safetensors": tiny_retinaface_state_dict(),
        "gpen-red-256.safetensors": sharpening_state_dict(256, ()),
    }
    (models / "GPEN").mkdir(parents=True)
    for name, tensors in files.items():
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, models / "GPEN" / name)
    (models / "GPEN" / "gpen-broken.pth").write_bytes(b"PK\x03\x04 no checkpoint")
    patch, app, turn = pytest.MonkeyPatch(), fastapi.FastAPI(), Turn()
    patch.setenv("GPEN_OFFLINE", "1")
    host = fake_webui.Host(models, patch)
    host.opts.gpen_model = MODEL
    patch.setattr(sys.modules["gpen_webui.host"], "queue_lock", turn)
    turn.gate.set()
    host.fire("on_app_started", None, app)
    return Web(host, TestClient(app), turn, patch)


def outcome(answer: Any, good: int) -> str:
    """Fails for what no client may get."""
    if answer.status_code == good:
        return ACCEPTED
    assert answer.status_code in REFUSALS, f"{answer.status_code}: {answer.text[:500]}"
    detail = answer.json()["detail"]
    assert isinstance(detail, str) and 0 < len(detail) <= LONGEST_DETAIL, f"detail: {str(detail)[:500]}"
    return REFUSED


def restore(data: bytes) -> str:
    return outcome(start().post("restore", data), 200)


def jobs(data: bytes) -> str:
    """Posts a job, waits for its end, asks for its result and forgets it."""
    web = start()
    posted = web.post("jobs", data)
    if outcome(posted, 202) == REFUSED:
        return REFUSED
    path = f"/gpen/v1/jobs/{posted.json()['id']}"
    _until(lambda: web.client.get(path).json()["status"] not in ("waiting", "working"), "the job does not end")
    ended = outcome(web.client.get(f"{path}/result"), 200)
    assert web.client.delete(path).status_code == 204 and web.client.get(path).status_code == 404
    return ended


def waiting(data: bytes) -> str:
    """Several requests while the host is busy; then the user stops each of them."""
    web, asked = start(), json.loads(data)
    bodies = [_body(one) for one in asked]
    answers: list[Any] = []
    web.turn.gate.clear()
    web.turn.arrived, memory = 0, resident()
    threads = [
        threading.Thread(target=lambda path=one["path"], body=body: answers.append(web.post(path, body)))
        for one, body in zip(asked, bodies)
    ]
    with _stopped(web, threads):
        direct, queued = (sum(one["path"] == path for one in asked) for path in ("restore", "jobs"))
        _until(lambda: len(answers) >= queued and web.turn.arrived >= direct + min(queued, 1), "they do not come to wait")
        grown, allowed = resident() - memory, COPIES * sum(map(len, bodies)) + MOST_BESIDE
    assert grown < allowed, f"{len(asked)} waiting requests took {grown / 1e6:.0f} MB; expected at most {allowed / 1e6:.0f}"
    return (
        REFUSED if REFUSED in [outcome(answer, 202 if "id" in answer.text[:9] else 200) for answer in answers] else ACCEPTED
    )


@contextlib.contextmanager
def _stopped(web: Web, threads: list[threading.Thread]):
    """Starts the requests before the block, in which they wait, and ends them after it."""
    try:
        for thread in threads:
            thread.start()
        yield
    finally:
        web.turn.is_stopped = True
        web.turn.gate.set()
        for thread in threads:
            thread.join(PATIENCE)
        line = sys.modules["gpen_webui.api"].job_queue
        _until(lambda: not line.unfinished(), "the jobs do not end")
        web.turn.is_stopped = False


def _body(one: dict[str, Any]) -> bytes:
    image = base64.b64encode(large_picture(one["side"])).decode()
    return json.dumps({"image": image, **({"before_swap": image} if one["twice"] else {})}).encode()


def resident() -> int:
    """Bytes of this process in memory now; 0 where the system does not tell."""
    status = Path("/proc/self/statm")
    return int(status.read_text().split()[1]) * 4096 if status.exists() else 0


def _until(done: Callable[[], bool], problem: str) -> None:
    end = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < end, problem
        time.sleep(0.005)
