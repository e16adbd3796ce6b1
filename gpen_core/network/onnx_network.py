"""GPEN in ONNX Runtime: an export that runs as it is, in place of the network in torch."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..errors import DeviceError, ErrorConverter, InputError, first_line, is_out_of_memory
from .config import GPENConfig

CPU_PROVIDER, DIRECTML_PROVIDER = "CPUExecutionProvider", "DmlExecutionProvider"
Provider = tuple[str, dict[str, Any]]
"""The name of an ONNX Runtime execution provider and its options."""


@dataclass(frozen=True, eq=False)
class OnnxModel:
    """An ONNX export of GPEN in memory. Its graph was checked by `weights.onnx_graph`, or we exported it."""

    data: bytes = field(repr=False)
    config: GPENConfig
    dtype: torch.dtype = torch.float32
    """The type of its kernels."""
    reason: str | None = None
    """Why its weights cannot be converted, or None."""

    @cached_property
    def sha256(self) -> str:
        """The SHA-256 of `data`, in lower-case hexadecimal digits."""
        return hashlib.sha256(self.data).hexdigest()


class OnnxNetwork(nn.Module):
    """Runs an `OnnxModel` like `GPEN`. ONNX Runtime holds its weights, so torch cannot move them.

    If the module is moved from an accelerator to the CPU, ONNX Runtime unloads it. The next call loads it again."""

    has_strips = False
    """It ignores `strip_bytes`."""

    def __init__(
        self, model: OnnxModel, providers: Sequence[Provider], device: torch.device, half: torch.dtype | None = None
    ) -> None:
        """`providers` are tried in this order for each operator. `device` is torch's device of the images.

        `half` is the half precision to which the first provider converts the network, or None."""
        super().__init__()
        self.config, self.dtype = model.config, half or model.dtype
        self.is_converted = half is not None
        self.providers = tuple(providers)
        self._model = model
        self._is_offloadable = device.type != "cpu"
        self._lock = threading.Lock()
        self._session: Any = None
        # So that `networks_digest` differs between two files.
        self.register_buffer(
            "model_sha256", torch.tensor(list(bytes.fromhex(model.sha256)), dtype=torch.uint8, device="cpu")
        )
        self.eval()

    @property
    def size(self) -> int:
        """Side of the square input and output in pixels."""
        return self.config.size

    @property
    def provider(self) -> str:
        """The first provider, which runs all operators that it supports."""
        return self.providers[0][0]

    @torch.no_grad()
    def forward(
        self, x: torch.Tensor, on_tick: Callable[[], None] = lambda: None, strip_bytes: int | None = None
    ) -> torch.Tensor:
        """Restore faces like `GPEN.forward`: [B, 3, size, size] RGB in [-1, 1] -> the same shape in float32, not clipped.

        Faces run one by one, or in batches of the file's fixed batch size, of which the last is padded. `on_tick` is called
        before each batch. Thread-safe. Raises `InputError` for other shapes, and `DeviceError` if ONNX Runtime fails."""
        if x.ndim != 4 or tuple(x.shape[1:]) != (3, self.size, self.size):
            raise InputError(f"GPEN-{self.size} requires shape [B, 3, {self.size}, {self.size}], got {list(x.shape)}.")
        session = self.session()
        given = session.get_inputs()[0]
        batch = given.shape[0] if isinstance(given.shape[0], int) else 1
        faces = x.to("cpu", torch.float16 if given.type == "tensor(float16)" else torch.float32).contiguous().numpy()
        outputs = []
        for start in range(0, len(faces), batch):
            on_tick()
            chunk = faces[start : start + batch]
            outputs.append(self._run(session, given.name, _pad(chunk, batch))[: len(chunk)])
        made = outputs[0] if len(outputs) == 1 else np.concatenate(outputs)
        return torch.from_numpy(made).to(x.device, torch.float32)

    def session(self) -> Any:
        """Return ONNX Runtime's session, which is created on first use. Raises `DeviceError` if it cannot be created."""
        with self._lock:
            if self._session is None:
                with ErrorConverter(self._to_device_error):
                    self._session = self._create_session()
            return self._session

    def release_memory(self) -> None:
        """Do nothing: ONNX Runtime keeps no activations, see `_create_session`."""

    def capture(self) -> str | None:
        """Return why `GPEN.capture` is not available."""
        return "CUDA graphs are not used: ONNX Runtime runs this network."

    def _apply(self, *args: Any, **options: Any) -> Any:
        """Unload the model after it was moved to the CPU. All moves of a module call this method."""
        out = super()._apply(*args, **options)  # type: ignore[no-untyped-call, unused-ignore]
        if self._is_offloadable and self.get_buffer("model_sha256").device.type == "cpu":
            with self._lock:
                self._session = None
        return out

    def _create_session(self) -> Any:
        import onnxruntime

        options: Any = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.enable_cpu_mem_arena = False  # the arena would keep the activations
        options.log_severity_level = 4  # errors are raised, too
        if self.provider == DIRECTML_PROVIDER:
            options.enable_mem_pattern = False  # as this provider requires
        names, settings = zip(*self.providers)
        # By default a provider that fails is replaced by the CPU's, and only stdout tells. Before ONNX Runtime 1.22 only the
        # method prevents this, but not while the session is created.
        session = onnxruntime.InferenceSession(self._model.data, options, list(names), list(settings), enable_fallback=0)
        session.disable_fallback()
        return session

    def _run(self, session: Any, name: str, faces: NDArray[Any]) -> NDArray[Any]:
        with ErrorConverter(self._to_device_error):
            (made,) = session.run(None, {name: faces})
        if made.shape != faces.shape:
            raise DeviceError(
                f"GPEN-{self.size} in ONNX Runtime returned {list(made.shape)}, expected {list(faces.shape)}. "
                "Use another device, such as cpu."
            )
        output: NDArray[Any] = made
        return output

    def _to_device_error(self, error: Exception) -> DeviceError | None:
        """Convert any error of ONNX Runtime, which has its own exception type for each status."""
        if is_out_of_memory(error):
            return None
        return DeviceError(
            f"ONNX Runtime cannot run GPEN-{self.size} with {self.provider} ({first_line(error)[:200]}). "
            "Use another device, such as cpu."
        )


def _pad(faces: NDArray[Any], batch: int) -> NDArray[Any]:
    missing = batch - len(faces)
    return faces if missing <= 0 else np.concatenate([faces, np.repeat(faces[-1:], missing, axis=0)])
