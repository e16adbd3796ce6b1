"""Doors for a fuzzer: functions of bytes that need no host and no network; but for `kind`, no file.

With Atheris, a harness is no more than

    import atheris, sys
    with atheris.instrument_imports():
        from tests.trial import entry
    atheris.Setup(sys.argv, entry.picture)  # or entry.checkpoint, entry.kind
    atheris.Fuzz()

Only a `GpenError` is a refusal. Whatever else comes out of a reader is a fault of it, and goes on to the caller.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from gpen_core.errors import GpenError

if TYPE_CHECKING:
    from gpen_core.images.codecs import EncodedImage

ACCEPTED, REFUSED = "accepted", "refused"
MOST_PIXELS = 1 << 20  # of an image that is encoded again: the time that larger ones take tells nothing


def picture(data: bytes) -> str:
    """Reads an image; one that can be read is written in its own format and in another one, which the bytes decide, and
    what was written can be read again."""
    from gpen_core.images.codecs import decode
    from gpen_core.images.formats import OUTPUT_FORMATS

    try:
        photo = decode(data)
    except GpenError:
        return REFUSED
    if photo.image.width * photo.image.height > MOST_PIXELS:
        return ACCEPTED
    another = OUTPUT_FORMATS[zlib.crc32(data) % len(OUTPUT_FORMATS)]
    for format_name in {another, *({photo.format} & set(OUTPUT_FORMATS))}:
        _write_and_read(photo, format_name)
    return ACCEPTED


def _write_and_read(photo: EncodedImage, format_name: str) -> None:
    from gpen_core.images.codecs import decode, encode

    try:
        written = encode(photo, format_name)
    except GpenError:  # a BMP's alpha, say, which is read and not written
        return
    try:
        again = decode(written)
    except GpenError as error:
        raise AssertionError(f"what was written as {format_name} cannot be read: {error}") from error
    assert again.image.size == photo.image.size, "it came back in another size"


def checkpoint(data: bytes) -> str:
    """Reads a checkpoint; one that can be read is offered to the network that its names are of, which may refuse it."""
    from gpen_core.weights.checkpoint import read
    from gpen_core.weights.weights_file import WeightsFile

    size, name = os.stat_result((0, 0, 0, 0, 0, 0, len(data), 0, 0, 0)), _name_for(data)
    try:
        content = read(WeightsFile(name, io.BytesIO(data), size), is_pinned=False)
    except GpenError:
        return ACCEPTED if name.suffix == ".onnx" and _is_graph(data) else REFUSED
    with contextlib.suppress(GpenError):  # it was read; whether some network takes it is another question
        _offered(content)
    return ACCEPTED


def _is_graph(data: bytes) -> bool:
    """Whether an ONNX file is sound, though no small graph is GPEN's."""
    from gpen_core.weights.onnx_graph import read_graph
    from gpen_core.weights.unpickler import UnsafeCheckpoint

    try:
        read_graph(io.BytesIO(data), len(data))
    except UnsafeCheckpoint:
        return False
    return True


def kind(data: bytes) -> str:
    """Tells which network a file holds, as for a list to choose from: of a file, which is made and deleted again."""
    from gpen_core.weights.architecture import detect_architecture

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, _name_for(data))
        path.write_bytes(data)
        return REFUSED if detect_architecture(path) is None else ACCEPTED


def _name_for(data: bytes) -> Path:
    """The readers go by it: `.safetensors`, `.onnx`, or whatever torch may have written."""
    if data[2:9] == b"\x12\x05tests":  # the producer's name in `onnx_files.model`
        return Path("fuzzed.onnx")
    return Path("fuzzed.pth" if data.startswith(b"PK") else "fuzzed.safetensors")


def _offered(content: object) -> None:
    import torch

    from gpen_core.faces.detection.retinaface import Detector
    from gpen_core.network import GPEN
    from gpen_core.network.state_dict import normalize_state_dict

    state_dict = normalize_state_dict(content)
    if "body.stage1.0.0.weight" in state_dict:
        Detector.from_state_dict(state_dict, torch.device("cpu"))
    else:
        GPEN.from_state_dict(content)
