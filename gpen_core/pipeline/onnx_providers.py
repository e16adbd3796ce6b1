"""Selects ONNX Runtime's execution provider for a device, and explains which package has it."""

from __future__ import annotations

import json
import logging
from importlib.util import find_spec

import torch

from ..errors import DeviceError
from ..network.onnx_network import CPU_PROVIDER, DIRECTML_PROVIDER, Provider
from ..optional_packages import install_command
from ..weights.onnx_runtime import RUNTIME, has_runtime, installed_runtime

TENSORRT_PROVIDER, OPENVINO_PROVIDER = "TensorrtExecutionProvider", "OpenVINOExecutionProvider"
# By the type of torch's device, best first. ROCm's type is cuda, and torch-directml's is privateuseone.
PROVIDERS = {
    "cuda": ("CUDAExecutionProvider",),
    "rocm": ("MIGraphXExecutionProvider", "ROCMExecutionProvider"),
    "xpu": (OPENVINO_PROVIDER,),
    "mps": ("CoreMLExecutionProvider",),
    "privateuseone": (DIRECTML_PROVIDER,),
}
REQUESTED = {"directml": DIRECTML_PROVIDER, "openvino": OPENVINO_PROVIDER, "tensorrt": TENSORRT_PROVIDER}
"""Names of devices on which ONNX Runtime runs the network, while torch does everything else."""
DEVICE_TYPES = {TENSORRT_PROVIDER: "cuda", OPENVINO_PROVIDER: "xpu"}
"""The type of torch's device beside a requested provider, if there is one. Else it is the CPU."""
PACKAGES = {
    "CUDAExecutionProvider": ("CUDA", "onnxruntime-gpu"),
    TENSORRT_PROVIDER: ("TensorRT", "onnxruntime-gpu"),
    "MIGraphXExecutionProvider": ("MIGraphX", "onnxruntime-migraphx"),
    "ROCMExecutionProvider": ("ROCm", "onnxruntime-rocm"),
    OPENVINO_PROVIDER: ("OpenVINO", "onnxruntime-openvino"),
    "CoreMLExecutionProvider": ("CoreML", RUNTIME),
    DIRECTML_PROVIDER: ("DirectML", "onnxruntime-directml"),
}
"""The title of each provider and the package that has it. All packages have the module `onnxruntime`, so they exclude each
other."""
OPENVINO_TYPES = {"CPU": {torch.bfloat16: "bf16"}, "GPU": {torch.float16: "f16"}}
"""OpenVINO's names of the half precisions in which its devices compute. Else they compute in float32."""

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


def requestable_devices() -> list[str]:
    """Return those keys of `REQUESTED` whose provider the installed ONNX Runtime has."""
    available = available_providers()
    return [name for name, provider in REQUESTED.items() if provider in available]


def providers_for(device: torch.device, requested: str | None = None, dtype: torch.dtype = torch.float32) -> list[Provider]:
    """Return the providers for a device of torch, best first. The last is the CPU's, which supports every operator.

    `dtype` is for providers that choose their precision, see `provider_dtype`. Logs a warning if the installed ONNX
    Runtime has none for the device. Raises `DeviceError` if it lacks the `requested` one."""
    if requested is not None:
        require_provider(requested)
        return [*((name, _options(name, device, dtype)) for name in _with_fallback(requested)), (CPU_PROVIDER, {})]
    kind = "rocm" if device.type == "cuda" and torch.version.hip else device.type
    known, available = PROVIDERS.get(kind, ()), available_providers()
    found = [(name, _options(name, device, dtype)) for name in known if name in available]
    if known and not found:
        log.warning("The ONNX file runs on the CPU. %s", _missing_text(known[0]))
    return [*found[:1], (CPU_PROVIDER, {})]


def provider_dtype(provider: str, device: torch.device, dtype: torch.dtype) -> torch.dtype:
    """Return the precision in which a provider computes a float32 file if `dtype` is requested.

    OpenVINO converts the network to bfloat16 on the CPU, and to float16 on GPUs. All others compute as the file does."""
    is_known = provider == OPENVINO_PROVIDER and dtype in OPENVINO_TYPES[_openvino_device(device)]
    return dtype if is_known else torch.float32


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


def _options(provider: str, device: torch.device, dtype: torch.dtype) -> dict[str, object]:
    if provider == OPENVINO_PROVIDER:
        return _openvino_options(_openvino_device(device), dtype)
    if provider in ("CUDAExecutionProvider", TENSORRT_PROVIDER) and device.type == "cuda":
        return {"device_id": device.index or 0}
    return {}


def _openvino_device(device: torch.device) -> str:
    return "GPU" if device.type == "xpu" else "CPU"


def _openvino_options(device: str, dtype: torch.dtype) -> dict[str, object]:
    """The precision is always set: by default OpenVINO chooses bfloat16 on CPUs that have it, and float16 on GPUs."""
    config = {"INFERENCE_PRECISION_HINT": OPENVINO_TYPES[device].get(dtype, "f32")}
    if device == "CPU":
        config["INFERENCE_NUM_THREADS"] = str(torch.get_num_threads())
    return {"device_type": device, "load_config": json.dumps({device: config})}


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
