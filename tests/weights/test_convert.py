"""`gpen convert`'s work: the same tensors, bit by bit, in another file."""

import json
import math
import os
import struct

import pytest
import torch
from checkpoint_files import TENSORS, bits, hand_made, op, tensor
from safetensors.torch import load_file, save_file

from gpen_core.errors import OutputError, WeightsError
from gpen_core.files.process_id import hostname
from gpen_core.weights import checkpoint, convert, digest

RECORD = digest.DigestRecord("a" * 64, digest.PUBLISHED)
TO_CONVERT = {
    **TENSORS,
    "t": torch.arange(24.0).view(4, 6).t(),
    "step": torch.arange(24.0).view(4, 6)[1::2, ::3],
    "last": torch.arange(24.0)[23:],
    "channels": torch.rand(1, 3, 4, 4).to(memory_format=torch.channels_last),
    "special": torch.tensor([0x7FC00001, 0x7F800001, -(2**31), 1], dtype=torch.int32).view(torch.float32),
    "minus zero": torch.tensor([-0.0, 0.0]),
    "steps": torch.tensor(2**53 + 1),
    "empty": torch.empty(0, 3),
    "half": torch.tensor([math.nan, -0.0]).bfloat16(),
    "flags": torch.tensor([True, False]),
    "parameter": torch.nn.Parameter(torch.rand(2, 3).t()),
    "no stride": torch.ones(1).expand(2, 3),
}


def test_a_conversion_keeps_every_bit_and_leaves_a_record(tmp_path):
    target = convert.save_safetensors(tmp_path / "a.b.pth", RECORD, TO_CONVERT)
    assert target == tmp_path / "a.b.safetensors"
    assert {key: bits(value) for key, value in load_file(target).items()} == {key: bits(t) for key, t in TO_CONVERT.items()}
    record = digest.load_record(target)
    assert (record.sha256, record.checked_by) == (digest.file_sha256(target), digest.PUBLISHED)
    assert record.source == "a.b.pth " + "a" * 64 and record.date
    assert digest.verify(target, digest.file_sha256(target), None) == record
    assert {path.name for path in tmp_path.iterdir()} == {target.name, digest.record_path(target).name}
    header = target.read_bytes()[8:][: struct.unpack("<Q", target.read_bytes()[:8])[0]]
    assert json.loads(header)["__metadata__"] == {"format": "pt", "source": "a.b.pth", "source_sha256": "a" * 64}


def test_other_users_can_read_a_conversion_as_any_new_file(tmp_path):
    target = convert.save_safetensors(tmp_path / "a.pth", RECORD, TENSORS)
    plain = tmp_path / "plain"
    plain.touch()
    assert target.stat().st_mode == plain.stat().st_mode


def test_a_conversion_leaves_what_is_there_as_it_is(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"precious")
    for source in ("a.pth", "a.safetensors"):
        with pytest.raises(OutputError, match=r"a\.safetensors already exists"):
            convert.save_safetensors(tmp_path / source, RECORD, TENSORS)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"precious"]


def test_a_conversion_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def full(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(convert, "save_file", full)
    with pytest.raises(OutputError, match=r"a\.safetensors cannot be written: .*No space left on device"):
        convert.save_safetensors(tmp_path / "a.pth", RECORD, TENSORS)
    monkeypatch.setattr(convert, "save_file", lambda tensors, *rest: save_file({**tensors, "b": tensors["b"] + 1}, *rest))
    with pytest.raises(WeightsError, match="differs when it is read back"):
        convert.save_safetensors(tmp_path / "a.pth", RECORD, TENSORS)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("stride", [6, 2**61])
def test_a_tensor_of_one_number_with_a_stride_is_converted(tmp_path, stride):
    path = hand_made(tmp_path / "a.pth", b"}" + op("a") + tensor(size=(1,), stride=(stride,)) + b"s")
    assert load_file(convert.save_safetensors(path, RECORD, checkpoint.load(path)))["a"].shape == (1,)


def test_a_conversion_into_a_missing_folder_is_an_output_error(tmp_path):
    with pytest.raises(OutputError):
        convert.save_safetensors(tmp_path / "missing" / "a.pth", RECORD, TENSORS)


def test_a_conversion_that_cannot_be_named_leaves_no_record(tmp_path, monkeypatch):
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: replace(a, b) if str(b).endswith(".json") else replace(a, tmp_path))
    with pytest.raises(OutputError):
        convert.save_safetensors(tmp_path / "a.pth", RECORD, TENSORS)
    assert not list(tmp_path.iterdir())


def test_what_a_killed_conversion_left_is_deleted(tmp_path):
    """Of the file and of its record."""
    for name in ("a.safetensors", ".a.safetensors.gpen.json"):
        (tmp_path / f".{name}.0123456789abcdef.{hostname()}-{2**22 + 1}-0123456789ab.part").write_bytes(b"half of it")
    target = convert.save_safetensors(tmp_path / "a.pth", RECORD, TENSORS)
    assert {path.name for path in tmp_path.iterdir()} == {target.name, digest.record_path(target).name}


@pytest.mark.skipif(os.name != "posix", reason="elsewhere a folder is not synced")
def test_a_file_that_has_its_name_is_there_though_its_folder_cannot_be_synced(tmp_path, monkeypatch):
    whole = os.open

    def few(path, *rest):
        if path == tmp_path:
            raise OSError(24, "Too many open files")
        return whole(path, *rest)

    monkeypatch.setattr(os, "open", few)
    target = convert.save_safetensors(tmp_path / "a.pth", RECORD, TENSORS)
    assert digest.load_record(target).sha256 == digest.file_sha256(target)
