"""Export the reference twin to ONNX and run it on the CPU with ONNX Runtime (as the published ONNX files) and OpenVINO.

The graph has the formulas of `tests/reference_gpen.py` for one face. The weights are its initializers.
"""

from __future__ import annotations

import importlib.util
import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import reference_gpen as twin
import torch
import torch.nn.functional as F
from torch import nn

ORT, OPENVINO = "onnxruntime", "openvino"
EXPORTING = ("onnx", "onnxscript")
LARGEST_ERROR = 1e-4  # of the standard deviation of the twin's output
LEAST_PSNR = 40.0  # dB, of a run in half precision

Run = Callable[[], Any]


def missing(engine: str) -> list[str]:
    """The packages that an engine needs and that are not installed."""
    return [name for name in (*EXPORTING, engine) if importlib.util.find_spec(name) is None]


class Twin(nn.Module):
    """The reference twin with its weights as buffers."""

    def __init__(self, state_dict: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.names = {key: key.replace(".", "__") for key in state_dict}  # buffers may have no dots in their names
        for key, name in self.names.items():
            self.register_buffer(name, state_dict[key])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[1, 3, S, S] in [-1, 1] -> the same shape."""
        return twin.reference_gpen({key: getattr(self, name) for key, name in self.names.items()}, x)


def upsample_by_pads(rgb: torch.Tensor) -> torch.Tensor:
    """The twin's `upsample_rgb` with its zeros put in by a pad, as the released code has it: the twin's assignment to
    every second pixel would become a scatter, which is slower."""
    batch, channels, height, width = rgb.shape
    spread = F.pad(rgb.view(batch, channels, height, 1, width, 1), (0, 1, 0, 0, 0, 1))
    return twin.fir(spread.view(batch, channels, 2 * height, 2 * width), 2, 1, gain=4)


def export(state_dict: dict[str, torch.Tensor], x: torch.Tensor, path: Path) -> None:
    """Writes the twin for inputs of x's shape."""
    with mock.patch.object(twin, "upsample_rgb", upsample_by_pads):
        torch.onnx.export(Twin(state_dict).eval(), (x,), path, dynamo=True, external_data=False, verbose=False)


def session(path: Path) -> Any:
    """Default options, all graph optimisations, as many threads as torch has; they rest when it is another's turn."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def error(y: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest difference, in standard deviations of what was expected."""
    return float((y - expected).abs().max() / expected.std())


def runner(state_dict: dict[str, torch.Tensor], x: torch.Tensor) -> Run:
    """What restores x [1, 3, S, S] in ONNX Runtime. Its result was compared with the twin's; the file is gone again."""
    with _exported(state_dict, x) as path:
        loaded = session(path)
    inputs = {loaded.get_inputs()[0].name: x.numpy()}

    def run() -> Any:
        return loaded.run(None, inputs)[0]

    return _checked(run, state_dict, x, "ONNX Runtime", True)


def openvino_runner(state_dict: dict[str, torch.Tensor], x: torch.Tensor, dtype: torch.dtype) -> Run:
    """The same in OpenVINO, whose convolutions compute in `dtype`, with as many threads as torch has."""
    import openvino

    hint = {torch.float32: "f32", torch.bfloat16: "bf16"}[dtype]
    options = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    with _exported(state_dict, x) as path:
        compiled = openvino.Core().compile_model(str(path), "CPU", {**options, "PERFORMANCE_HINT": "LATENCY"})
    request, given = compiled.create_infer_request(), x.numpy()

    def run() -> Any:
        return request.infer([given], share_inputs=True)[0]

    return _checked(run, state_dict, x, f"OpenVINO ({hint})", dtype == torch.float32)


@contextmanager
def _exported(state_dict: dict[str, torch.Tensor], x: torch.Tensor) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gpen.onnx"
        export(state_dict, x, path)
        yield path


def _checked(run: Run, state_dict: dict[str, torch.Tensor], x: torch.Tensor, name: str, is_exact: bool) -> Run:
    """Ends the benchmark where the result is not the twin's."""
    expected, result = twin.reference_gpen(state_dict, x), torch.from_numpy(run().copy())
    found = error(result, expected)
    peak = float(expected.max() - expected.min())
    psnr = 10 * math.log10(peak**2 / float((result.double() - expected.double()).square().mean()))
    told = f"differs from the twin's by at most {found:.1e} of the standard deviation, {psnr:.0f} dB"
    print(f"# {x.shape[-1]}: {name}'s result {told}")
    if not (found < LARGEST_ERROR if is_exact else psnr > LEAST_PSNR):
        raise SystemExit(
            f"At most {LARGEST_ERROR:g}, or {LEAST_PSNR:g} dB, was expected: the export is not the same network."
        )
    return run
