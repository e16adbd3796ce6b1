"""Selects ONNX Runtime's execution provider for a device, and explains which package has it."""

from __future__ import annotations

import logging
from importlib.util import find_spec

import torch

from ..errors import DeviceError
from ..network.onnx_network import CPU_PROVIDER, DIRECTML_PROVIDER, Provider
from ..optional_packages import install_command
from ..weights.onnx_runtime import RUNTIME, has_runtime, installed_runtime

TENSORRT_PROVIDER = "TensorrtExecutionProvider"
# By the type of torch's device, best first. ROCm's type is cuda, and torch-directml's is privateuseone.
PROVIDERS = {
    "cuda": ("CUDAExecutionProvider",),
    "rocm": ("MIGraphXExecutionProvider", "ROCMExecutionProvider"),
    "xpu": ("OpenVINOExecutionProvider",),
    "mps": ("CoreMLExecutionProvider",),
    "privateuseone": (DIRECTML_PROVIDER,),
}
REQUESTED = {"directml": DIRECTML_PROVIDER, "tensorrt": TENSORRT_PROVIDER}
"""Names of devices on which ONNX Runtime runs the network, while torch does everything else."""
PACKAGES = {
    "CUDAExecutionProvider": ("CUDA", "onnxruntime-gpu"),
    TENSORRT_PROVIDER: ("TensorRT", "onnxruntime-gpu"),
    "MIGraphXExecutionProvider": ("MIGraphX", "onnxruntime-migraphx"),
    "ROCMExecutionProvider": ("ROCm", "onnxruntime-rocm"),
    "OpenVINOExecutionProvider": ("OpenVINO", "onnxruntime-openvino"),
    "CoreMLExecutionProvider": ("CoreML", RUNTIME),
    DIRECTML_PROVIDER: ("DirectML", "onnxruntime-directml"),
}
"""The title of each provider and the package that has it. All packages have the module `onnxruntime`, so they exclude each
other."""

log = logging.getLogger(__name__)


def requested_provider(device: str | torch.device) -> str | None:
    """Return the provider that a device's name asks for, or None if torch runs the networks there.

    `directml` means torch-directml if that is installed."""
    if device == "directml" and find_spec("torch_directml") is not None:
        return None
    return REQUESTED.get(device) if isinstance(device, str) else None


def require_provider(provider: str) -> None:
    """Raise `DeviceError` with the package that fits, if the installed ONNX Runtime lacks the provider."""
    if provider not in available_providers():
        raise DeviceError(_missing_text(provider))


def providers_for(device: torch.device, requested: str | None = None) -> list[Provider]:
    """Return the providers for a device of torch, best first. The last is the CPU's, which supports every operator.

    Logs a warning if the installed ONNX Runtime has none for the device. Raises `DeviceError` if it lacks the `requested`
    one."""
    if requested is not None:
        require_provider(requested)
        return [*((name, _options(name, device)) for name in _with_fallback(requested)), (CPU_PROVIDER, {})]
    kind = "rocm" if device.type == "cuda" and torch.version.hip else device.type
    known, available = PROVIDERS.get(kind, ()), available_providers()
    found = [(name, _options(name, device)) for name in known if name in available]
    if known and not found:
        log.warning("The ONNX file runs on the CPU. %s", _missing_text(known[0]))
    return [*found[:1], (CPU_PROVIDER, {})]


def available_providers() -> tuple[str, ...]:
    """Return the providers of the installed ONNX Runtime. Empty if it is missing or cannot be loaded."""
    if not has_runtime():
        return ()
    try:
        import onnxruntime
    except ImportError as error:
        log.warning("ONNX Runtime cannot be loaded (%s).", error)
        return ()
    return tuple(onnxruntime.get_available_providers())


def _with_fallback(provider: str) -> tuple[str, ...]:
    """CUDA runs the operators that TensorRT does not support."""
    return (provider, "CUDAExecutionProvider") if provider == TENSORRT_PROVIDER else (provider,)


def _options(provider: str, device: torch.device) -> dict[str, object]:
    if provider == "OpenVINOExecutionProvider":
        return {"device_type": "GPU"}
    if provider in ("CUDAExecutionProvider", TENSORRT_PROVIDER) and device.type == "cuda":
        return {"device_id": device.index or 0}
    return {}


def _missing_text(provider: str) -> str:
    """Say which package has the provider, and what to do with another one that is installed."""
    title, package = PACKAGES[provider]
    if not has_runtime():
        return f"{title} needs ONNX Runtime, which is not installed. Install it: {install_command(package)}"
    installed = installed_runtime() or RUNTIME
    return (
        f"The installed {installed} has no {title}; {package} has it. These packages exclude each other. Other programs "
        "may use the installed one. If none does, uninstall it before you install the other one."
    )
