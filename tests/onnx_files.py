"""ONNX files made by hand, byte by byte (field numbers of onnx.proto), and small exports of GPEN.

PYTEST_DONT_REWRITE: this is both a plugin, for its fixture, and imported for its functions.
"""

import importlib.util
import struct
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

sys.path.append(str(Path(__file__).parent))  # `python -m tests.trial.run` has only the repository's root there
import exported_gpen
import pytest
import torch

from gpen_core.network import GPENConfig

# As narrow as the layout allows: the largest part of such a file is the style layers' 8 MB.
NARROW = {256: GPENConfig(256, 1 / 32, 1), **{size: GPENConfig(size, 1 / 8, 2) for size in (512, 1024, 2048)}}


def has_half():
    one = torch.zeros(1, 1, 1, 1, dtype=torch.float16)
    try:
        return torch.conv2d(one, one) is not None
    except RuntimeError:
        return False


needs_half = pytest.mark.skipif(not has_half(), reason="this torch has no convolutions in float16 on the CPU")


def varint(value):
    value %= 1 << 64
    out = b""
    while value >= 0x80:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def field(number, value):
    """A whole number, or a text, bytes or message with its length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def tensor(name, shape, numbers=b"", kind=1, more=b""):
    return b"".join(field(1, side) for side in shape) + field(2, kind) + field(8, name) + field(9, numbers) + more


def zeros(name, shape, **options):
    return tensor(name, shape, bytes(4 * torch.Size(shape).numel()), **options)


def node(operator, inputs, outputs, more=b""):
    names = b"".join(field(1, name) for name in inputs) + b"".join(field(2, name) for name in outputs)
    return names + field(4, operator) + more


def image(name, shape):
    dimensions = b"".join(field(1, field(1, side) if side > 0 else field(2, "side")) for side in shape)
    return field(1, name) + field(2, field(1, field(1, 1) + field(2, dimensions)))


def graph(nodes=(), tensors=(), given=(1, 3, 256, 256), made=(1, 3, 256, 256), more=b""):
    body = b"".join(field(1, one) for one in nodes) + b"".join(field(5, one) for one in tensors)
    return body + field(11, image("input", given)) + field(12, image("output", made)) + more


def model(content=None, opset=17, more=b"", domain=""):
    body = graph() if content is None else content
    return field(1, 8) + field(2, "tests") + field(7, body) + field(8, field(1, domain) + field(2, opset)) + more


@lru_cache
def narrow_weights(size=256, seed=3):
    return exported_gpen.random_weights_of(NARROW[size], seed)


@lru_cache
def narrow_network(size=256, seed=3):
    return exported_gpen.ExportedGPEN(NARROW[size], narrow_weights(size, seed))


def export(path, size=256, seed=3, **options):
    return exported_gpen.export(narrow_network(size, seed), size, path, **options)


def require_packages():
    for package, purpose in (("onnx", "torch exports with it"), ("onnxruntime", "it proves what is read")):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs the package {package}: {purpose}")


def require_runtime_in_host(python):
    """Skip the test if the host's interpreter has no ONNX Runtime."""
    if subprocess.run([python, "-c", "import onnxruntime"], capture_output=True).returncode:
        pytest.skip("needs onnxruntime in the host's Python")


@pytest.fixture(scope="session")
def exported_onnx(tmp_path_factory):
    """A narrow GPEN-256, folded as most published files are."""
    require_packages()
    return export(tmp_path_factory.mktemp("onnx") / "GPEN-BFR-256.onnx")


@pytest.fixture(scope="session")
def unmapped_onnx(tmp_path_factory):
    """The same network in a file whose weights cannot be converted: the encoder's names are unknown, and its kernels are
    scaled at run time."""
    require_packages()
    path = export(tmp_path_factory.mktemp("onnx") / "plain.onnx", folding=False)
    data = path.read_bytes().replace(b"ecd", b"enc")
    target = path.with_name("GPEN-BFR-256.onnx")
    target.write_bytes(data)
    return target


def replaced(path, old, new):
    """The file with some of its bytes replaced, all as long as before, in a file beside it."""
    data = path.read_bytes()
    assert old in data and len(old) == len(new)
    other = path.with_name("replaced.onnx")
    other.write_bytes(data.replace(old, new))
    return other


def floats(*values):
    return struct.pack(f"<{len(values)}f", *values)
