"""Small whole checkpoints, held in pieces: a zip of torch.save's with its fields and opcodes, and a .safetensors.

`few` has a handful of tensors of several types; `gpen` is a whole GPEN-256 an eighth of a channel wide at its top, its style
layers sharing one storage; `detector` has all of RetinaFace mobile0.25's names and shapes. Most of their numbers are zeros.
"""

from __future__ import annotations

import functools
import json
import struct
import zlib
from dataclasses import dataclass, field

import torch

from gpen_core.network import GPENConfig
from gpen_core.network.state_dict import fir_kernel

from .. import checkpoint_files as made

STORAGES = {
    torch.float32: "Float",
    torch.float16: "Half",
    torch.bfloat16: "BFloat16",
    torch.int64: "Long",
    torch.uint8: "Byte",
}
DTYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64", torch.uint8: "U8"}


def few():
    weight = torch.arange(24.0).reshape(2, 3, 4)
    tensors = {"a.weight": weight, "a.turned": weight.permute(2, 0, 1), "b": torch.ones(4, dtype=torch.float16)}
    return {**tensors, "c": torch.tensor(7), "d": torch.zeros(2, 0), "e": torch.arange(8, dtype=torch.uint8)[2:6]}


def gpen():
    """The real names and shapes, one to eight channels wide."""
    config = GPENConfig(256, 1 / 64, 1)
    style = torch.zeros(512, 512, dtype=torch.float16)
    out = {}
    for key, shape in config.parameter_shapes().items():
        if key.endswith(".kernel"):
            out[key] = fir_kernel(1.0 if key.startswith("ecd") else 4.0)
        else:
            out[key] = style if shape == (512, 512) else torch.zeros(shape, dtype=torch.float16)
    return out


def detector():
    from gpen_core.faces.detection.retinaface_network import RetinaFace

    network = RetinaFace("mobile0.25")
    return {key: torch.zeros(value.shape, dtype=value.dtype) for key, value in network.state_dict().items()}


@functools.cache
def networks():
    """{name: state dict}."""
    return {made_by.__name__: made_by() for made_by in (few, gpen, detector)}


def numbers_of(tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


# Zip (APPNOTE 4.3): each member with a local header, then the directory, then the record that ends the file

LOCAL = ("signature", "version", "flags", "method", "time", "date", "crc", "packed", "size", "name", "extra")
CENTRAL = ("signature", "made", *LOCAL[1:], "comment", "disk", "inside", "outside", "offset")
END = ("signature", "disk", "first disk", "here", "members", "length", "offset", "comment")
FORMS = {"local": "<4s5H3L2H", "central": "<4s6H3L5H2L", "end": "<4s4H2LH"}


@dataclass
class Member:
    """One file in a zip. What is in `local` or `central` stands in its headers in place of what is true."""

    name: bytes
    data: bytes
    local: dict = field(default_factory=dict)
    central: dict = field(default_factory=dict)
    extra: bytes = b""
    packed: bytes | None = None
    """In place of `data`, deflated."""


def zipped(members, end=None, before_end=b""):
    """A zip file of these members; `end` holds fields of its last record that are not as they should be."""
    body, directory = b"", b""
    for member in members:
        stored = member.data if member.packed is None else member.packed
        true = {"version": 20, "flags": 0, "method": 0 if member.packed is None else 8, "time": 0, "date": 33}
        true |= {"crc": zlib.crc32(member.data), "packed": len(stored), "size": len(member.data), "name": len(member.name)}
        true |= {"extra": len(member.extra), "made": 20, "comment": 0, "disk": 0, "inside": 0, "outside": 0}
        names = member.name + member.extra
        central = {**true, "signature": b"PK\1\2", "offset": len(body), **member.central}
        directory += struct.pack(FORMS["central"], *(central[key] for key in CENTRAL)) + names
        local = {**true, "signature": b"PK\3\4", **member.local}
        body += struct.pack(FORMS["local"], *(local[key] for key in LOCAL)) + names + stored
    last = {"signature": b"PK\5\6", "disk": 0, "first disk": 0, "here": len(members), "members": len(members)}
    last |= {"length": len(directory), "offset": len(body), "comment": 0, **(end or {})}
    return body + directory + before_end + struct.pack(FORMS["end"], *(last[key] for key in END))


@functools.cache
def torch_zip(name):
    """(the pickle's opcodes, {storage key: its bytes}) of a network."""
    storages, keys, opcodes = {}, {}, [b"\x80\x02", b"}", b"("]
    for key, tensor in networks()[name].items():
        whole = tensor.untyped_storage()
        if whole.data_ptr() not in keys or not whole.nbytes():
            keys[whole.data_ptr()] = str(len(storages))
            storages[str(len(storages))] = numbers_of(torch.empty(0, dtype=torch.uint8).set_(whole))
        numel = whole.nbytes() // tensor.dtype.itemsize
        of = made.storage(f"torch.{STORAGES[tensor.dtype]}Storage", keys[whole.data_ptr()], numel)
        opcodes += [made.op(key), made.tensor(tensor.storage_offset(), tuple(tensor.shape), tensor.stride(), of)]
    wrapped = [opcodes[0], b"}", made.op("params_ema"), *opcodes[1:], b"u", b"s", b"."]
    return (wrapped if name == "few" else [*opcodes, b"u", b"."]), storages


def members_of(pickled, storages):
    notes = [Member(b"archive/version", b"3\n"), Member(b"archive/byteorder", b"little")]
    numbers = [Member(f"archive/data/{key}".encode(), data) for key, data in storages.items()]
    return [Member(b"archive/data.pkl", pickled), *notes, *numbers]


# safetensors: the header's length, a header in JSON, the numbers


@functools.cache
def safetensors(name):
    """({tensor: what the header says}, all numbers) of a network."""
    header, numbers, at = {}, [], 0
    for key, tensor in networks()[name].items():
        length = tensor.numel() * tensor.dtype.itemsize
        header[key] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [at, at + length]}
        numbers.append(numbers_of(tensor))
        at += length
    return header, b"".join(numbers)


def safetensors_file(header, numbers, length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length % (1 << 64)) + text + numbers
