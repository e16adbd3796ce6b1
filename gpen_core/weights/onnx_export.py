"""A network as an ONNX file, for the programs that run GPEN as one.

Its input is called `input` and its output `output`; both are [B, 3, S, S] RGB in [-1, 1], float32.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from ..errors import UnsupportedPackage, WeightsError
from ..files.atomic_write import atomic_write
from ..network import GPEN, GPENConfig
from ..network.plain import PlainGPEN
from ..optional_packages import require
from .onnx_proof import MAX_DIFFERENCE, MIN_DEVIATION, run_network, run_runtime
from .unpickler import UnsafeCheckpoint

log = logging.getLogger(__name__)

OPSET = 17
MAX_HALF_ERROR = 1e-2
"""Standard deviations of the output, on average (root of the mean square)."""


def export(
    state_dict: Mapping[str, torch.Tensor], config: GPENConfig, path: Path, is_half: bool = False, batch: int | None = None
) -> float:
    """Writes the network to `path`, for any number of faces at once unless `batch` fixes it, and returns how far the output
    in ONNX Runtime is from ours, in standard deviations: the largest difference, with `is_half` the average.

    With `is_half` the convolutions compute in float16; input and output stay float32. The file gets its name once it was
    run and compared. Raises `MissingDependency` without the packages onnx and onnxruntime, `UnsupportedPackage` where torch
    is too old for `is_half`, `WeightsError` where the outputs differ, `OutputError` where it cannot be written."""
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
                f"{path} was not written: in ONNX Runtime the network's output differs by {error:.1e} of the standard "
                f"deviation, and {limit:g} is allowed.{' Export it without --half.' if is_half else ''}"
            )
    return error


def _require_half() -> None:
    """torch's exporter runs the network on the CPU once."""
    one = torch.zeros(1, 1, 1, 1, dtype=torch.float16)
    try:
        F.conv_transpose2d(F.conv2d(one, one), one)
    except RuntimeError as error:
        raise UnsupportedPackage(
            f"torch {torch.__version__} has no convolutions in float16 on the CPU, which writing such a file needs. Install "
            "torch 2.4 or newer, or export without --half."
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
    """torch advises its other exporter, and warns of sizes that an export fixes."""
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
