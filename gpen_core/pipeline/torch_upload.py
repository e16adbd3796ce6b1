"""Uploads that run in parallel with other threads, from pinned memory and on a stream of their own.

They are off unless the environment variable `GPEN_ASYNC_UPLOADS` is 1, because their speed was not measured yet. Only CUDA
and ROCm have pinned memory and streams here. On other devices the same calls upload in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

import torch

from ..switches import is_switched_on
from .torch_image import Copy, to_device

ASYNC_VARIABLE = "GPEN_ASYNC_UPLOADS"


class HasTensors(Protocol):
    @property
    def tensors(self) -> Sequence[torch.Tensor]:
        """All tensors on the device."""


Made = TypeVar("Made", bound=HasTensors)


class Upload(Generic[Made]):
    """The result of an upload, which may still run."""

    def __init__(self, made: Made, device: torch.device, finished: Any = None) -> None:
        """`finished`: the event on the device at the end of the upload; None if it has ended."""
        self._made, self._device, self._finished = made, device, finished

    def get(self) -> Made:
        """Return the result without waiting. The device runs later work of this thread after the upload has ended."""
        if self._finished is not None:
            stream = torch.cuda.current_stream(self._device)
            stream.wait_event(self._finished)
            for tensor in self._made.tensors:
                tensor.record_stream(stream)  # so that its memory is not given to other uploads too early
        return self._made


class Uploader:
    """Uploads to a device: in order, or beside its other work if `is_async`."""

    def __init__(self, device: torch.device, is_async: bool = False) -> None:
        self.is_async = is_async
        self._device = device
        self._stream: Any = None
        if is_async and device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call, unused-ignore]

    @classmethod
    def from_environment(cls, device: torch.device) -> Uploader:
        """Make an uploader that is asynchronous if `$GPEN_ASYNC_UPLOADS` says so."""
        return cls(device, is_switched_on(ASYNC_VARIABLE))

    def start(self, make: Callable[[Copy], Made]) -> Upload[Made]:
        """Call `make` with the function that copies samples to the device. Its operations need not be finished then.

        If memory runs out, torch's error is raised."""
        if self._stream is None:
            return Upload(make(to_device), self._device)
        with torch.cuda.stream(self._stream):
            made = make(partial(to_device, is_pinned=True))
            return Upload(made, self._device, self._stream.record_event())
