import re
import sys

import cv2
import pytest
import torch

from gpen_core.errors import DeviceError, OptionsError, OutOfMemory, is_out_of_memory
from gpen_core.network import GPENConfig
from gpen_core.network.memory_estimate import CACHE_STRIP_BYTES, bytes_per_face
from gpen_core.pipeline import devices

SMALL = GPENConfig(256, 0.5, 1)
LARGE = GPENConfig(2048, 1.0, 2)
CPU = torch.device("cpu")
CUDA = torch.device("cuda")
MIB = 2**20


def with_devices(monkeypatch, cuda=0, mps=False):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("cuda", "mps", "names", "auto"),
    [
        (0, False, ["cpu"], "cpu"),
        (2, False, ["cuda:0", "cuda:1", "cpu"], "cuda:0"),
        (0, True, ["mps", "cpu"], "mps"),
        (1, True, ["cuda:0", "mps", "cpu"], "cuda:0"),
    ],
)
def test_auto_takes_an_accelerator_before_the_cpu(monkeypatch, cuda, mps, names, auto):
    with_devices(monkeypatch, cuda, mps)
    assert [str(device) for device in devices.available_devices()] == names
    assert str(devices.pick_device("auto")) == auto


@pytest.mark.skipif(not hasattr(torch, "xpu"), reason="this torch knows no Intel GPUs")
def test_auto_takes_an_intel_gpu_after_cuda(monkeypatch):
    monkeypatch.setattr(torch.xpu, "is_available", lambda: True)
    monkeypatch.setattr(torch.xpu, "device_count", lambda: 2)
    with_devices(monkeypatch, cuda=0, mps=True)
    assert [str(device) for device in devices.available_devices()] == ["xpu:0", "xpu:1", "mps", "cpu"]
    with_devices(monkeypatch, cuda=1)
    assert str(devices.pick_device("auto")) == "cuda:0"


@pytest.mark.parametrize("given", ["cpu", CPU])
def test_a_device_may_be_a_name_or_torchs_own(given):
    assert devices.pick_device(given) == CPU


@pytest.mark.parametrize(
    "name", ["gpu", "nonsense", "", "CPU ", "0", "cuda:99", "cuda:99999999999", "vulkan", "opengl", "hpu", "meta"]
)
def test_a_device_that_cannot_compute_is_refused_with_those_there_are(monkeypatch, name):
    with_devices(monkeypatch)
    with pytest.raises(DeviceError) as refused:
        devices.pick_device(name)
    message = str(refused.value)
    assert repr(name) in message
    assert message.endswith("Available: cpu.")
    assert "\n" not in message and "mkldnn" not in message  # torch lists devices that this machine does not have


@pytest.mark.parametrize(
    "error", [torch.cuda.OutOfMemoryError("CUDA out of memory."), RuntimeError("CUDA error: out of memory\nCUDA kernel ...")]
)
def test_a_device_without_free_memory_is_not_called_unavailable(monkeypatch, error):
    def zeros(*size, device):
        raise error

    monkeypatch.setattr(torch, "zeros", zeros)
    with pytest.raises(OutOfMemory, match=r"'cuda:0' has no free memory .CUDA .*Close other programs"):
        devices.pick_device("cuda:0")


def test_a_torch_device_that_is_not_there_is_refused_too():
    with pytest.raises(DeviceError, match="'meta' is not available"):
        devices.pick_device(torch.device("meta"))


def test_directml_without_its_package_names_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_directml", None)
    with pytest.raises(DeviceError, match="onnxruntime-directml"):
        devices.pick_device("directml")


@pytest.mark.parametrize(
    ("name", "device", "dtype"),
    [
        ("auto", CUDA, torch.float16),
        ("auto", torch.device("mps"), torch.float32),
        ("auto", torch.device("privateuseone"), torch.float32),  # DirectML
        ("fp32", CPU, torch.float32),
        ("bf16", CPU, torch.bfloat16),
        ("fp16", CUDA, torch.float16),
    ],
)
def test_precisions(name, device, dtype):
    assert devices.pick_dtype(name, device) == dtype


def test_a_precision_that_the_cpu_lacks_is_refused():
    with pytest.raises(DeviceError, match="fp32 or bf16"):
        devices.pick_dtype("fp16", CPU)


@pytest.mark.parametrize("name", ["int8", ""])
def test_an_unknown_precision_is_a_wrong_option(name):
    with pytest.raises(OptionsError, match=f"Unknown precision {name!r}"):
        devices.pick_dtype(name, CPU)


class Cpu:
    """Stands in for torch.cpu; one that is older than 2.6 does not tell what the processor can do."""

    def __init__(self, **told):
        for name, value in told.items():
            setattr(self, name, lambda value=value: value)


@pytest.mark.parametrize(
    ("cpu", "flags", "computes"),
    [
        (Cpu(_is_avx512_bf16_supported=True, _is_amx_tile_supported=False), None, True),
        (Cpu(_is_avx512_bf16_supported=False, _is_amx_tile_supported=True), None, True),
        (Cpu(_is_avx512_bf16_supported=False, _is_amx_tile_supported=False), "avx512_bf16", False),
        (Cpu(), "flags : fpu avx512f avx512_bf16 sse", True),
        (Cpu(), "flags : fpu amx_bf16 amx_tile", True),
        (Cpu(), "flags : fpu avx512f avx512bw", False),
        (Cpu(), None, False),
    ],
)
def test_auto_takes_bfloat16_where_the_processor_computes_in_it(monkeypatch, tmp_path, cpu, flags, computes):
    monkeypatch.setattr(torch, "cpu", cpu)
    if flags is not None:
        (tmp_path / "cpuinfo").write_text(flags)
    assert devices.cpu_supports_bf16(tmp_path / "cpuinfo") is computes
    monkeypatch.setattr(devices, "cpu_supports_bf16", lambda: computes)
    assert devices.pick_dtype("auto", CPU) == (torch.bfloat16 if computes else torch.float32)


def test_a_face_takes_more_memory_at_a_larger_size_less_in_half_precision_and_in_strips():
    small, large = (bytes_per_face(config, torch.float32) for config in (SMALL, LARGE))
    assert large > 8 * small
    assert 0.45 * large < bytes_per_face(LARGE, torch.float16) < 0.6 * large
    assert large >= 4 * 2048**2 * LARGE.channels(2048)  # at least one plane of the widest level
    in_strips = bytes_per_face(LARGE, torch.float32, CACHE_STRIP_BYTES)
    assert 0.5e9 < in_strips < 1e9 < large / 1.5


@pytest.mark.parametrize(("faces", "batch"), [(1, 1), (3.5, 3), (1000, devices.MAX_BATCH_SIZE)])
def test_a_batch_stays_within_max_memory(faces, batch):
    budget = int(bytes_per_face(SMALL, torch.float32) * faces)
    assert devices.plan_batches(SMALL, torch.float32, torch.device("mps"), budget) == devices.BatchPlan(batch, None)


def test_a_budget_for_less_than_a_face_in_one_piece_is_kept_by_strips():
    budget = bytes_per_face(LARGE, torch.float32) - 1
    assert devices.plan_batches(LARGE, torch.float32, torch.device("mps"), budget) == devices.BatchPlan(1, CACHE_STRIP_BYTES)


def test_a_batch_stays_within_what_the_device_has_free(monkeypatch):
    one = bytes_per_face(SMALL, torch.float32)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (5 * one, 100 * one))
    assert devices.plan_batches(SMALL, torch.float32, CUDA).batch_size == int(5 * devices.FREE_MEMORY_FRACTION)
    assert devices.plan_batches(SMALL, torch.float32, CUDA, max_memory=2 * one).batch_size == 2
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (0, 100 * one))
    assert devices.plan_batches(SMALL, torch.float32, CUDA) == devices.BatchPlan(
        1, CACHE_STRIP_BYTES
    )  # an estimate: it is tried
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 7 * one)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 2 * one)  # torch keeps the rest for the next batch
    assert devices.plan_batches(SMALL, torch.float32, CUDA).batch_size == int(5 * devices.FREE_MEMORY_FRACTION)


def test_the_cpu_takes_one_face_at_a_time_in_strips():
    assert devices.plan_batches(SMALL, torch.float32, CPU, 2**40) == devices.BatchPlan(1, CACHE_STRIP_BYTES)


@pytest.mark.parametrize("device", [CPU, torch.device("mps")])
def test_too_small_a_budget_names_what_is_needed_and_what_was_given(device):
    needed = bytes_per_face(LARGE, torch.float32, CACHE_STRIP_BYTES)
    with pytest.raises(OutOfMemory) as refused:
        devices.plan_batches(LARGE, torch.float32, device, 100 * MIB)
    assert re.findall(r"([\d.]+) MiB", str(refused.value)) == [f"{needed / MIB:.1f}", "100.0"]


class Machine:
    """Runs chunks of at most `room` items; remembers what it was given."""

    def __init__(self, room, error=None):
        self.room, self.tried = room, []
        self.error = error or RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")

    def __call__(self, chunk):
        self.tried.append(list(chunk))
        if len(chunk) > self.room:
            raise self.error
        return [item * 10 for item in chunk]


@pytest.mark.parametrize("count", [0, 1, 2, 7, 8, 13])
@pytest.mark.parametrize("batch", [1, 3, 8])
@pytest.mark.parametrize("room", [1, 2, 5, 100])
def test_halving_runs_every_item_once_and_in_order(count, batch, room):
    machine = Machine(room)
    done = list(devices.run_with_oom_backoff(range(count), batch, machine))
    assert [item for chunk, _ in done for item in chunk] == list(range(count))
    assert [item for _, out in done for item in out] == [item * 10 for item in range(count)]
    assert all(len(chunk) <= min(batch, room) for chunk, _ in done)


def test_halving_halves_and_does_not_grow_again():
    machine = Machine(room=2)
    list(devices.run_with_oom_backoff(range(9), 8, machine))
    assert [len(chunk) for chunk in machine.tried] == [8, 4, 2, 2, 2, 2, 1]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.cuda.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("MPS backend out of memory (MPS allocated: 5 GB)"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:80] DefaultCPUAllocator: can't allocate memory: you tried ..."),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8589934592 bytes."),
        RuntimeError("Could not allocate tensor with 268435456 bytes. There is not enough GPU video memory available!"),
        RuntimeError("can't start new thread"),
        RuntimeError("could not create a primitive"),
        OSError(12, "Cannot allocate memory"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        SystemError("error return without exception set"),
        cv2.error("OpenCV(5.0.0) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 3 bytes in function 'f'"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
    ids=lambda error: str(error)[:20],
)
def test_every_backends_out_of_memory_is_recognized(error):
    machine = Machine(0, error)
    with pytest.raises(OutOfMemory) as ended:
        list(devices.run_with_oom_backoff(range(4), 4, machine))
    assert [len(chunk) for chunk in machine.tried] == [4, 2, 1]
    assert ended.value.__cause__ is error
    assert "single face" in str(ended.value)


@pytest.mark.parametrize("error", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("out of memory")])
def test_other_errors_pass_through_untried(error):
    machine = Machine(0, error)
    with pytest.raises(type(error)) as passed:
        list(devices.run_with_oom_backoff(range(4), 4, machine))
    assert passed.value is error
    assert len(machine.tried) == 1


@pytest.mark.parametrize(
    "error",
    [
        ValueError("out of memory"),
        RuntimeError("out of bounds"),
        RuntimeError("could not create a primitive descriptor"),
        KeyError("not enough memory"),
    ],
)
def test_an_error_of_another_kind_is_not_taken_for_want_of_memory(error):
    assert not is_out_of_memory(error)
