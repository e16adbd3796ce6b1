"""Networks that several threads need at the same time, and memory that runs out while one is loaded or moved."""

import contextlib
import gc
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata

import helpers
import pytest
import torch

from gpen_core import FaceRestorer, Interrupted, RestoreOptions
from gpen_core.errors import ErrorConverter, GpenError, MissingWeights, OutOfMemory, oom_context
from gpen_core.optional_packages import version_guard
from gpen_core.pipeline.gpen_runner import GPENRunner, SizeSelector
from gpen_core.pipeline.model_set import ModelSet
from gpen_core.progress import no_progress

CPU = torch.device("cpu")
THREADS = 4
FULL = "CUDA out of memory. Tried to allocate 2.00 GiB"


class Small(torch.nn.Module):
    """A network of any size, on a device whose memory the test sets."""

    dtype = torch.float32

    def __init__(self, size, room=lambda: True):
        super().__init__()
        self.size, self.room, self.place = size, room, "cpu"

    def to(self, device):
        if torch.device(device).type != "cpu" and not self.room():
            raise torch.cuda.OutOfMemoryError(FULL)
        self.place = torch.device(device).type
        return self

    def release_memory(self):
        pass


def by_size(make=Small):
    """The sizes that were loaded, in order, beside the networks."""
    asked = []

    def load(size, progress):
        asked.append(size)
        time.sleep(0.02)
        return GPENRunner(make(size), CPU)

    return SizeSelector((256, 512, 1024), torch.float32, load), asked


def together(work):
    """What `work` returned or raised in each of several threads that began at the same time."""
    start = threading.Barrier(THREADS)

    def run(_):
        start.wait()
        try:
            return work()
        except MissingWeights as error:
            return error

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(run, range(THREADS)))


def test_threads_that_need_the_same_network_load_it_once():
    networks, asked = by_size()
    found = together(lambda: networks.for_face_size(300, no_progress))
    assert asked == [512] and len({id(one) for one in found}) == 1


@pytest.mark.parametrize("options", [RestoreOptions(mask_type="parse"), RestoreOptions(upscale=2, upscaler="my-own.pth")])
def test_threads_that_need_the_same_parser_or_upscaler_load_it_once(options):
    loaded = []

    def load(*what):
        time.sleep(0.02)
        loaded.append(what)
        return object()

    detector = helpers.FakeDetector([])
    models = ModelSet([GPENRunner(Small(256), CPU)], detector, CPU, load_parser=load, load_upscaler=load)
    together(lambda: FaceRestorer(models).prepare(options))
    assert len(loaded) == 1


def test_threads_that_need_the_same_network_in_float32_load_it_once():
    loaded = []

    def load_fp32():
        time.sleep(0.02)
        loaded.append(Small(256))
        return loaded[-1]

    half = Small(256)
    half.dtype = torch.bfloat16
    network = GPENRunner(half, CPU, load_fp32)
    assert len({id(one) for one in together(network.fp32_fallback)}) == len(loaded) == 1
    assert network.networks() == (half, loaded[0])


def test_threads_that_wait_for_a_missing_file_do_not_ask_for_it_again():
    asked = []

    def load(progress):
        asked.append(progress)
        time.sleep(0.2)
        raise MissingWeights("parsing_parsenet.pth is not there.")

    restorer = helpers.build_restorer(Small(256), helpers.FakeDetector([]), load_parser=load)
    errors = together(lambda: restorer.prepare(RestoreOptions(mask_type="parse")))
    assert [type(error) for error in errors] == [MissingWeights] * THREADS and len(asked) == 1
    with pytest.raises(MissingWeights):
        restorer.prepare(RestoreOptions(mask_type="parse"))  # later it may be there
    assert len(asked) == 2


def test_waiting_for_another_threads_network_can_be_interrupted():
    begun, may_end = threading.Event(), threading.Event()

    def load(size, progress):
        begun.set()
        may_end.wait(20)
        return GPENRunner(Small(size), CPU)

    def stop(event):
        assert (event.stage, event.unit) == ("load", "model")
        raise Interrupted

    networks = SizeSelector((512,), torch.float32, load)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(networks.for_face_size, 300, no_progress)
        assert begun.wait(20)
        with pytest.raises(Interrupted):
            networks.for_face_size(300, stop)
        may_end.set()
        assert networks.for_face_size(300, no_progress) is first.result()


# Memory


@pytest.fixture
def without_collector():
    """What is dropped must be free at once, not when the garbage collector runs."""
    gc.disable()
    yield
    gc.enable()


def room_for_one():
    """Makes networks; each fails to move to a device where another one exists."""
    made = weakref.WeakSet()

    def make(size):
        network = Small(size, room=lambda: len(made) <= 1)
        made.add(network)
        return network

    return make


def moved(make):
    """As `by_size`, on a GPU that stands in: loading moves the network there, as with the model `auto`."""

    def load(size, progress):
        one = GPENRunner(make(size), torch.device("cuda"))
        try:
            one.network.to("cuda")
        except torch.cuda.OutOfMemoryError as error:
            raise OutOfMemory("full") from error
        return one

    return SizeSelector((256, 512, 1024), torch.float32, load)


@pytest.mark.usefixtures("without_collector")
def test_dropped_networks_are_free_before_the_next_is_loaded():
    networks = moved(room_for_one())
    for side in (200, 300, 900, 200):
        networks.for_face_size(side, no_progress)
        assert len(networks.loaded_runners) == 1


@pytest.mark.usefixtures("without_collector")
def test_a_host_that_keeps_networks_can_release_those_that_are_dropped():
    networks = moved(room_for_one())
    restorer = FaceRestorer(ModelSet(networks, helpers.FakeDetector([]), CPU))
    kept = {}
    restorer.set_unload_callback(lambda dropped: [kept.pop(id(module)) for module in dropped] and None)
    for side in (200, 300, 900):
        networks.for_face_size(side, no_progress)
        kept.update({id(module): module for module in restorer.modules() if isinstance(module, Small)})
    assert [network.size for network in kept.values()] == [1024]


@pytest.mark.parametrize(
    "error", [torch.cuda.OutOfMemoryError(FULL), RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)")]
)
def test_networks_that_do_not_fit_the_device_are_out_of_memory_and_back_on_the_cpu(error):
    network = Small(256)
    restorer = helpers.build_restorer(network, helpers.FakeDetector([]))

    class Full(torch.nn.Identity):
        def to(self, device):
            if torch.device(device).type == "cuda":
                raise error
            return self

    restorer.detector.network = Full()
    with pytest.raises(OutOfMemory, match=r"not enough memory for the networks .*use a smaller model"):
        restorer.move_to(torch.device("cuda"))
    assert network.place == "cpu"


@pytest.mark.usefixtures("without_collector")
@pytest.mark.parametrize(
    ("context", "error"),
    [
        (oom_context("this"), MemoryError),
        (version_guard("av"), TypeError),
        (ErrorConverter(lambda error: OutOfMemory()), ValueError),
    ],
)
def test_what_an_error_became_keeps_nothing_of_its_frames(context, error, monkeypatch):
    """Since Python 3.12 a generator that raises another error would keep the first one in a cycle."""
    monkeypatch.setattr(metadata, "version", lambda name: "99")
    kept = []

    def work():
        held = Small(256)
        kept.append(weakref.ref(held))
        raise error

    with contextlib.suppress(GpenError), context:
        work()
    assert kept[0]() is None


def test_an_error_that_is_not_about_memory_passes_through():
    restorer = helpers.build_restorer(Small(256), helpers.FakeDetector([]))

    def fail():
        raise RuntimeError("aten::something is not implemented for PrivateUse1")

    restorer.network.room = fail
    with pytest.raises(RuntimeError, match="PrivateUse1"):
        restorer.move_to(torch.device("cuda"))


@pytest.mark.usefixtures("without_collector")
def test_auto_drops_networks_that_do_not_fit_the_device_together(caplog):
    make = room_for_one()
    networks, asked = by_size(make)
    restorer = FaceRestorer(ModelSet(networks, helpers.FakeDetector([]), CPU))
    for side in (200, 300):
        networks.for_face_size(side, no_progress)
    restorer.move_to(torch.device("cuda"))
    assert networks.loaded_runners == () and "Each is loaded again on its next use" in caplog.text
    networks.for_face_size(300, no_progress)
    restorer.move_to(torch.device("cuda"))
    assert asked == [256, 512, 512] and networks.loaded_runners[0].network.place == "cuda"


@pytest.mark.parametrize("options", [RestoreOptions(mask_type="parse"), RestoreOptions(upscale=2, upscaler="my-own.pth")])
def test_a_parser_or_upscaler_that_does_not_fit_is_out_of_memory(options):
    def load(*what):
        raise torch.cuda.OutOfMemoryError(FULL)

    models = ModelSet([GPENRunner(Small(256), CPU)], helpers.FakeDetector([]), CPU, load_parser=load, load_upscaler=load)
    with pytest.raises(OutOfMemory, match="not enough memory for the networks"):
        FaceRestorer(models).prepare(options)
