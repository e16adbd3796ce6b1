"""Exports a network as an ONNX file for other programs.

The input is called `input` and the output `output`. Both are [B, 3, S, S] RGB in [-1, 1], float32.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from ..errors import UnsupportedPackage, WeightsError
from ..files.atomic_write import atomic_write
from ..network import GPEN, GPENConfig, OnnxModel
from ..network.plain import PlainGPEN
from ..optional_packages import require
from .onnx_proof import MAX_DIFFERENCE, MIN_DEVIATION, run_network, run_runtime
from .unpickler import UnsafeCheckpoint

log = logging.getLogger(__name__)

OPSET = 17
MAX_HALF_ERROR = 1e-2
"""Root mean square error, in standard deviations of the output."""


def export(
    state_dict: Mapping[str, torch.Tensor], config: GPENConfig, path: Path, is_half: bool = False, batch: int | None = None
) -> float:
    """Write the network to `path`, and return the error of its output in ONNX Runtime, in standard deviations.

    The error is the largest difference, or with `is_half` the root mean square. The batch size is free unless `batch`
    fixes it. With `is_half`, convolutions compute in float16; input and output stay float32. The file gets its name
    after its output was compared.
    Raises `MissingDependency` without the packages onnx and onnxruntime, `UnsupportedPackage` if torch is too old for
    `is_half`, `WeightsError` if the outputs differ, and `OutputError` if the file cannot be written."""
    require("onnx")
    require("onnxruntime")
    if is_half:
        _require_half()
    network = PlainGPEN(state_dict, config, torch.float16 if is_half else torch.float32)
    with atomic_write(path) as part:
        _write(network, part, batch)
        error = _compare(part, path, state_dict, is_half, batch or 1)
        limit = MAX_HALF_ERROR if is_half else MAX_DIFFERENCE
        if not error <= limit:
            raise WeightsError(
                f"{path} was not written: the output in ONNX Runtime differs by {error:.1e} standard deviations, more than "
                f"{limit:g}.{' Export it in float32.' if is_half else ''}"
            )
    return error


def export_model(state_dict: Mapping[str, torch.Tensor], config: GPENConfig) -> OnnxModel:
    """Return the network as an `OnnxModel` in float32, with a free batch size.

    Raises `MissingDependency` without the package onnx."""
    require("onnx")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gpen.onnx"
        _write(PlainGPEN(state_dict, config, torch.float32), path, None)
        return OnnxModel(path.read_bytes(), config)


def _require_half() -> None:
    """Raise `UnsupportedPackage` if torch has no float16 convolutions on the CPU, where its exporter runs the network."""
    one = torch.zeros(1, 1, 1, 1, dtype=torch.float16)
    try:
        F.conv_transpose2d(F.conv2d(one, one), one)
    except RuntimeError as error:
        raise UnsupportedPackage(
            f"torch {torch.__version__} cannot compute float16 convolutions on the CPU, which the export needs. "
            "Install torch 2.4 or newer, or export in float32."
        ) from error


def _write(network: PlainGPEN, path: Path, batch: int | None) -> None:
    options: dict[str, Any] = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    if batch is None:
        options["dynamic_axes"] = {"input": {0: "batch"}, "output": {0: "batch"}}
    example = torch.zeros(batch or 1, 3, network.config.size, network.config.size)
    with _without_warnings(), torch.no_grad():
        torch.onnx.export(
            network,
            (example,),
            str(path),
            input_names=["input"],
            output_names=["output"],
            opset_version=OPSET,
            do_constant_folding=False,  # so that tensors keep their names and values
            **options,
        )


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Silence torch's warnings about its newer exporter and about fixed sizes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _compare(part: Path, target: Path, state_dict: Mapping[str, torch.Tensor], is_half: bool, batch: int) -> float:
    expected = run_network(GPEN.from_state_dict(state_dict, torch.float32))
    try:
        with open(part, "rb") as file:
            found = run_runtime(file, [image.repeat(batch, 1, 1, 1) for image, _ in expected])
    except UnsafeCheckpoint as error:
        raise WeightsError(f"{target} was not written: {error}.") from error
    return max(_difference(y[:1], wanted, is_half) for y, (_, wanted) in zip(found, expected))


def _difference(y: torch.Tensor, expected: torch.Tensor, on_average: bool) -> float:
    error = (y - expected).abs()
    size = error.square().mean().sqrt() if on_average else error.max()
    return float(size / expected.std().clamp_min(MIN_DEVIATION))
