"""Every kind of case by its name: how its bytes are made, and what is done with them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

from . import api, api_bodies, checkpoints, entry, images, remotes, servers, videos


@dataclass(frozen=True)
class Kind:
    make: Callable[[str, int, int], bytes]
    """Of format, seed and number."""
    attempt: Callable[[bytes], str]
    batch: int
    """As many as take a process some 20 seconds."""
    calls: tuple[str, ...] = ()


def attempt_checkpoint(data: bytes) -> str:
    """As it is listed, then as it is read."""
    entry.kind(data)
    return entry.checkpoint(data)


HAS_API = all(importlib.util.find_spec(name) for name in ("fastapi", "httpx"))  # else there is nothing to try
API = {"restore": api.restore, "jobs": api.jobs, "waiting": api.waiting} if HAS_API else {}

KINDS = {
    **{f"picture/{name}": Kind(images.case, entry.picture, 1500) for name in images.FORMATS},
    **{f"checkpoint/{name}": Kind(checkpoints.case, attempt_checkpoint, 150) for name in checkpoints.FORMATS},
    "video/files": Kind(videos.case, videos.attempt, 40),
    "video/names": Kind(videos.case, videos.attempt, 40),
    "video/playlists": Kind(videos.case, videos.attempt, 100),
    "video/outputs": Kind(videos.case, videos.attempt_output, 40),
    **{f"api/{name}": Kind(api_bodies.case, attempt, 250) for name, attempt in API.items()},
    **{f"remote/{name}": Kind(remotes.case, remotes.attempt, 30, ("127.0.0.1",)) for name in remotes.FORMATS},
    "server/http": Kind(servers.case, servers.attempt, 15, ("127.0.0.1",)),
}


def make(name: str, seed: int, number: int) -> bytes:
    """The bytes of one case."""
    return KINDS[name].make(name.partition("/")[2], seed, number)
