"""Checkpoints made by hand, byte by byte, and how to compare what is read from them."""

import pickle
import struct
import warnings
import zipfile

import pytest
import torch

from gpen_core.errors import WeightsError
from gpen_core.weights import checkpoint

TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.float16)}
BYTES = bytes(range(16))  # what lies in data/0
MESSAGE_END = "Download it again from its publisher."


def refusal(path, **kwargs):
    with pytest.raises(WeightsError) as refused:
        checkpoint.load(path, **kwargs)
    message = str(refused.value)
    assert message.startswith(f"{path} was refused: ") and message.endswith(MESSAGE_END)
    assert "weights_only" not in message.replace(checkpoint.HOW_TO_CONVERT, "")  # torch's advice to go without the check
    return message


def bits(tensor):
    dense = tensor.detach().clone(memory_format=torch.contiguous_format)
    return dense.dtype, dense.shape, dense.view(-1).view(torch.uint8).tolist()


def same(one, other):
    """Equal bit by bit, and with the same kinds of containers; an OrderedDict is read as a dict."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and bits(one) == bits(other)
    if isinstance(one, dict):
        return isinstance(other, dict) and same(list(one.items()), list(other.items()))
    if type(one) is not type(other):
        return False
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other or (one != one and other != other)


def op(value):
    return pickle.dumps(value, 2)[2:-1]


def named(dotted):
    module, _, name = dotted.rpartition(".")
    return f"c{module}\n{name}\n".encode()


def storage(kind="torch.FloatStorage", key="0", numel=4, tag="storage", location="cpu"):
    return b"(" + op(tag) + (named(kind) if isinstance(kind, str) else op(kind)) + op(key) + op(location) + op(numel) + b"tQ"


REBUILD, PARAMETER = named("torch._utils._rebuild_tensor_v2"), named("torch._utils._rebuild_parameter")
ORDERED = named("collections.OrderedDict")


def tensor(offset=0, size=(4,), stride=(1,), of=None):
    return REBUILD + b"(" + (of or storage()) + op(offset) + op(size) + op(stride) + b"\x89" + ORDERED + b")RtR"


def write(path, pickled, *more, **options):
    """A checkpoint made by hand: `pickled` as data.pkl, BYTES as data/0, and more members of (name, content)."""
    members = [("archive/data.pkl", pickled), ("archive/data/0", BYTES), ("archive/version", b"3\n"), *more]
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", **options) as archive:
        warnings.filterwarnings("ignore", "Duplicate name", UserWarning)
        for name, content in members:
            archive.writestr(name, content)
    return path


def hand_made(path, body, *more):
    return write(path, b"\x80\x02" + body + b".", *more)


def patch(path, member, offset, form, *values):
    """Changes the member's entry in the central directory."""
    data = bytearray(path.read_bytes())
    struct.pack_into(form, data, data.rindex(member.encode()) - 46 + offset, *values)
    path.write_bytes(data)
    return path
