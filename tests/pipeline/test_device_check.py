"""A device that computes the network or images wrongly is not used, and the log says so."""

import json
import logging
from dataclasses import replace

import helpers
import pytest
import torch
from compositor_backends import CUDA

from gpen_core.network import GPEN
from gpen_core.pipeline import device_check

MPS, CPU = torch.device("mps"), torch.device("cpu")
CHECKS = {"network": device_check.NETWORK, "image operations": device_check.IMAGE_OPS}


def processes(reason):
    """Starts new processes (`process()` is `device_check` with nothing cached), in which every check finds `reason`. The
    second value lists the devices that were checked."""
    tried = []

    def find_problem(check, device):
        tried.append(device)
        return reason

    def process():
        module = helpers.fresh_module(device_check)
        module.find_problem = find_problem
        return module

    return process, tried


def test_a_device_that_agrees_is_taken_and_tried_once(tmp_path):
    (process, tried), memory = processes(None), tmp_path / "new" / "devices.json"
    first = process()
    assert [first.verified_device(MPS, lambda: memory) for _ in range(2)] == [MPS, MPS]
    assert process().verified_device(MPS, lambda: memory) == MPS
    assert tried == [MPS]


def test_one_that_does_not_gives_way_to_the_cpu_each_time(tmp_path, caplog):
    process, tried = processes("it differs by 3 of its standard deviation")
    for _ in range(2):
        with caplog.at_level(logging.WARNING):
            assert process().verified_device(MPS, lambda: tmp_path / "devices.json") == CPU
    assert tried == [MPS]
    assert len(caplog.messages) == 2 and "it differs by 3" in caplog.messages[1] and torch.__version__ in caplog.messages[1]


def test_another_version_is_tried_anew(tmp_path):
    (process, tried), memory = processes(None), tmp_path / "devices.json"
    process().verified_device(MPS, lambda: memory)
    content = json.loads(memory.read_text())
    memory.write_text(json.dumps({key.replace(torch.__version__, "1.0"): "wrong" for key in content}))
    assert process().verified_device(MPS, lambda: memory) == MPS
    assert len(tried) == 2 and len(json.loads(memory.read_text())) == 2


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_a_file_that_is_none_of_ours_is_no_hindrance(tmp_path, content):
    (process, tried), memory = processes(None), tmp_path / "devices.json"
    memory.write_text(content)
    assert process().verified_device(MPS, lambda: memory) == MPS and tried == [MPS]


def test_where_nothing_can_be_remembered_it_is_tried_in_each_process(tmp_path):
    process, tried = processes(None)
    (tmp_path / "file").write_text("")
    first, memory = process(), tmp_path / "file" / "devices.json"
    assert [first.verified_device(MPS, lambda: memory) for _ in range(2)] == [MPS, MPS] and tried == [MPS]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_what_tests_hold_is_not_tried(tmp_path, device):
    process, tried = processes("wrong")
    assert process().verified_device(torch.device(device), lambda: tmp_path / "devices.json").type == device and not tried


def test_images_keep_opencv_where_the_device_fails_and_the_log_says_so_once(caplog):
    process, tried = processes("it differs from the CPU by 0.01")
    module = process()
    with caplog.at_level(logging.WARNING):
        assert not any(module.supports_image_ops(MPS) for _ in range(2))
    assert tried == [MPS] and len(caplog.messages) == 1
    assert (
        "Using the CPU instead of mps to resize images and to crop and paste faces: it differs from the CPU by 0.01"
        in caplog.text
    )


def test_images_are_computed_on_a_device_that_passes():
    process, tried = processes(None)
    assert process().supports_image_ops(torch.device("cuda")) and tried == [torch.device("cuda")]


@pytest.mark.parametrize("device", ["cpu", "privateuseone"])
def test_a_cpu_and_directml_keep_opencv_unchecked(device):
    process, tried = processes(None)
    assert not process().supports_image_ops(torch.device(device)) and not tried


@pytest.mark.parametrize("device", [CUDA])
def test_a_cuda_device_computes_images(device):
    assert device_check.supports_image_ops(torch.device(device))


@pytest.mark.parametrize("check", CHECKS)
def test_the_cpu_agrees_with_itself(check):
    assert device_check.find_problem(CHECKS[check], CPU) is None


@pytest.mark.parametrize(
    ("check", "change", "said"),
    [
        ("network", lambda y: y + 0.01 * y.std(), "it differs by 0.01 of its standard deviation"),
        ("network", lambda y: y.roll(1, -1), "it differs by"),
        ("network", lambda y: y * float("nan"), "it differs by nan"),
        ("image operations", lambda y: y + 0.01, "it differs from the CPU by 0.01"),
        ("image operations", lambda y: y * float("nan"), "it differs from the CPU by nan"),
    ],
)
def test_what_comes_out_wrong_is_seen(check, change, said):
    """`mps` is not there; what would be computed on it is, on the CPU, and spoiled."""
    right = CHECKS[check]
    with helpers.FakeMps(change):
        assert said in device_check.find_problem(replace(right, run=lambda device: right.run(CPU)), MPS)


@pytest.mark.parametrize("wrong_call", [2, 3])
def test_the_network_is_checked_whole_and_in_strips(monkeypatch, wrong_call):
    right, calls = GPEN.forward, []

    def forward(self, x, strip_bytes=None):
        calls.append(strip_bytes)
        return right(self, x, strip_bytes=strip_bytes) * (1.01 if len(calls) == wrong_call else 1)

    monkeypatch.setattr(GPEN, "forward", forward)
    assert "it differs by" in device_check.find_problem(device_check.NETWORK, CPU)
    assert calls == [None, None, 1]  # the CPU's, whole, in strips


@pytest.mark.parametrize("operation", ["warp", "resize", "feather_edges"])
def test_each_image_operation_is_checked(monkeypatch, operation):
    mps, right = helpers.FakeMps(), getattr(device_check, operation)
    monkeypatch.setattr(device_check, operation, lambda *given, **named: right(*given, **named) + 2.55 * mps.is_used)
    with mps:
        assert "it differs from the CPU by" in device_check.find_problem(device_check.IMAGE_OPS, MPS)


@pytest.mark.parametrize("check", CHECKS)
def test_what_a_backend_lacks_is_said(check):
    def lacking(device):
        raise NotImplementedError("The operator 'aten::rare' is not implemented for the MPS device.\nmore")

    problem = device_check.find_problem(replace(CHECKS[check], run=lacking), MPS)
    assert problem == "The operator 'aten::rare' is not implemented for the MPS device."


@pytest.mark.parametrize("check", CHECKS)
def test_memory_that_runs_out_is_no_fault_of_the_device(check):
    def full(device):
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 MiB")

    with pytest.raises(RuntimeError, match="out of memory"):
        device_check.find_problem(replace(CHECKS[check], run=full), MPS)
