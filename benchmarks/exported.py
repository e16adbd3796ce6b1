"""The reference twin exported to ONNX and run by ONNX Runtime on the CPU, as the published GPEN ONNX files are.

The graph holds the formulas of `tests/reference_gpen.py` for one face; weights are its initialisers.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import reference_gpen as twin
import torch
import torch.nn.functional as F
from torch import nn

NEEDED = ("onnx", "onnxruntime", "onnxscript")
LARGEST_ERROR = 1e-4  # of the standard deviation of the twin's output


def missing() -> list[str]:
    """The packages that this needs and that are not installed."""
    return [name for name in NEEDED if importlib.util.find_spec(name) is None]


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


def runner(state_dict: dict[str, torch.Tensor], x: torch.Tensor) -> Callable[[], object]:
    """What restores x [1, 3, S, S] in ONNX Runtime. Its result was compared with the twin's; the file is gone again."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gpen.onnx"
        export(state_dict, x, path)
        loaded = session(path)
    inputs = {loaded.get_inputs()[0].name: x.numpy()}

    def run() -> Any:
        return loaded.run(None, inputs)[0]

    found = error(torch.from_numpy(run()), twin.reference_gpen(state_dict, x))
    print(f"# {x.shape[-1]}: ONNX Runtime's result differs from the twin's by at most {found:.1e} of the standard deviation")
    if not found < LARGEST_ERROR:
        raise SystemExit(f"At most {LARGEST_ERROR:g} was expected: the export is not the same network.")
    return run
