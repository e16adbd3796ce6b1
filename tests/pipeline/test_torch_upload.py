"""Uploads beside other work: what is copied how, and who waits for it, with a stand-in for CUDA's streams."""

import contextlib

import numpy as np
import pytest
import torch
from compositor_backends import DEVICES

from gpen_core.images.image import ImageData
from gpen_core.pipeline.torch_image import DeviceImage, to_device, upload
from gpen_core.pipeline.torch_upload import ASYNC_VARIABLE, Uploader

CUDA = torch.device("cuda")


class FakeTensor:
    def __init__(self, log):
        self.log = log

    def record_stream(self, stream):
        self.log.append(("record", stream.name))


class FakeStream:
    def __init__(self, log, name):
        self.log, self.name = log, name

    def record_event(self):
        self.log.append(("event", self.name))
        return "uploaded"

    def wait_event(self, event):
        self.log.append(("wait", self.name, event))


class FakeImage:
    def __init__(self, log):
        self.tensors = [FakeTensor(log), FakeTensor(log)]


@pytest.fixture
def log(monkeypatch):
    """What happens on the streams."""
    found = []

    @contextlib.contextmanager
    def on(stream):
        found.append(("enter", stream.name))
        yield
        found.append(("leave", stream.name))

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: FakeStream(found, "own"))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: FakeStream(found, "caller's"))
    monkeypatch.setattr(torch.cuda, "stream", on)
    return found


def test_the_caller_waits_on_the_device_for_an_upload_on_another_stream(log):
    def make(copy):
        log.append(("make", copy.keywords))
        return FakeImage(log)

    started = Uploader(CUDA, is_async=True).start(make)
    pinned = ("make", {"is_pinned": True})
    assert log == [("enter", "own"), pinned, ("event", "own"), ("leave", "own")]
    log.clear()
    assert isinstance(started.get(), FakeImage)
    assert log == [("wait", "caller's", "uploaded"), *2 * [("record", "caller's")]]


@pytest.mark.parametrize("device", [CUDA, torch.device("cpu"), torch.device("mps")], ids=str)
def test_otherwise_uploads_are_in_order(log, device):
    copies = []
    is_async = device.type != "cuda"
    made = Uploader(device, is_async).start(lambda copy: copies.append(copy) or FakeImage(log)).get()
    assert isinstance(made, FakeImage) and copies == [to_device] and not log


@pytest.mark.parametrize(("value", "is_async"), [(None, False), ("", False), ("0", False), ("1", True), ("True", True)])
def test_the_environment_decides(monkeypatch, value, is_async):
    monkeypatch.delenv(ASYNC_VARIABLE, raising=False)
    if value is not None:
        monkeypatch.setenv(ASYNC_VARIABLE, value)
    assert Uploader.from_environment(torch.device("cpu")).is_async is is_async


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_what_is_uploaded_is_the_same(device, dtype):
    pixels = (np.random.default_rng(0).random((40, 30, 3)) * (1 if dtype == np.float32 else 255)).astype(dtype)
    image, place = ImageData(pixels), torch.device(device)
    found = []
    for is_async in (False, True):
        started = Uploader(place, is_async).start(lambda copy: upload(image, image.full_region, place, copy))
        found.append(started.get().samples.cpu())
    assert torch.equal(*found) and torch.equal(found[0], DeviceImage(image, image.full_region, place).samples.cpu())


def test_pinned_memory_is_copied_without_waiting(monkeypatch):
    seen = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: seen.append("pinned") or tensor)
    to = torch.Tensor.to
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, *args, **named: seen.append(named) or to(tensor, *args, **named))
    assert to_device(np.arange(4, dtype=np.uint8), torch.device("cpu"), is_pinned=True).tolist() == [0, 1, 2, 3]
    assert seen == ["pinned", {"non_blocking": True}]
