"""A device that computes the network wrongly is not used, and the log says so."""

import json
import logging

import helpers
import pytest
import torch

from gpen_core.network import GPEN
from gpen_core.pipeline import device_check

MPS, CPU = torch.device("mps"), torch.device("cpu")


def processes(reason):
    """Starts new processes (`process()` is `parity` with nothing cached), in which every trial ends with `reason`. The
    second value lists the devices that were tried."""
    tried = []

    def difference(device):
        tried.append(device)
        return reason

    def process():
        module = helpers.fresh_module(device_check)
        module.difference = difference
        return module

    return process, tried


def test_a_device_that_agrees_is_taken_and_tried_once(tmp_path):
    (process, tried), memory = processes(None), tmp_path / "new" / "devices.json"
    first = process()
    assert [first.trusted(MPS, memory) for _ in range(2)] == [MPS, MPS]
    assert process().trusted(MPS, memory) == MPS
    assert tried == [MPS]


def test_one_that_does_not_gives_way_to_the_cpu_each_time(tmp_path, caplog):
    process, tried = processes("it differs by 3 of its standard deviation")
    for _ in range(2):
        with caplog.at_level(logging.WARNING):
            assert process().trusted(MPS, tmp_path / "devices.json") == CPU
    assert tried == [MPS]
    assert len(caplog.messages) == 2 and "it differs by 3" in caplog.messages[1] and torch.__version__ in caplog.messages[1]


def test_another_version_is_tried_anew(tmp_path):
    (process, tried), memory = processes(None), tmp_path / "devices.json"
    process().trusted(MPS, memory)
    content = json.loads(memory.read_text())
    memory.write_text(json.dumps({key.replace(torch.__version__, "1.0"): "wrong" for key in content}))
    assert process().trusted(MPS, memory) == MPS
    assert len(tried) == 2 and len(json.loads(memory.read_text())) == 2


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_a_file_that_is_none_of_ours_is_no_hindrance(tmp_path, content):
    (process, tried), memory = processes(None), tmp_path / "devices.json"
    memory.write_text(content)
    assert process().trusted(MPS, memory) == MPS and tried == [MPS]


def test_where_nothing_can_be_remembered_it_is_tried_in_each_process(tmp_path):
    process, tried = processes(None)
    (tmp_path / "file").write_text("")
    first, memory = process(), tmp_path / "file" / "devices.json"
    assert [first.trusted(MPS, memory) for _ in range(2)] == [MPS, MPS] and tried == [MPS]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_what_tests_hold_is_not_tried(tmp_path, device):
    process, tried = processes("wrong")
    assert process().trusted(torch.device(device), tmp_path / "devices.json").type == device and not tried


def test_the_cpu_agrees_with_itself():
    assert device_check.difference(CPU) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda y: y * 1.01, "differs by"),
        (lambda y: y.roll(1, -1), "differs by"),
        (lambda y: y * float("nan"), "differs by nan"),
    ],
)
def test_what_comes_out_wrong_is_seen(monkeypatch, change, said):
    network = device_check.small_network()
    right, calls = network.forward, []

    def forward(x, strip_bytes=None):
        calls.append(strip_bytes)
        y = right(x, strip_bytes=strip_bytes)
        return change(y) if len(calls) == 3 else y  # the CPU's, one piece, strips

    monkeypatch.setattr(network, "forward", forward)
    monkeypatch.setattr(device_check, "small_network", lambda: network)
    assert said in device_check.difference(CPU)


def test_what_a_backend_lacks_is_said(monkeypatch):
    network = device_check.small_network()

    def lacking(self, device):
        raise NotImplementedError("The operator 'aten::rare' is not implemented for the MPS device.\nmore")

    monkeypatch.setattr(GPEN, "to", lacking)
    monkeypatch.setattr(device_check, "small_network", lambda: network)
    assert device_check.difference(CPU) == "The operator 'aten::rare' is not implemented for the MPS device."
