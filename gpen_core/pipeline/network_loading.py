"""Builds networks from the content of weights files, for torch or for ONNX Runtime."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

import torch

from ..errors import DeviceError, WeightsError, oom_context, summarize_problems
from ..faces.detection.retinaface import Detector
from ..faces.mask import FaceParser
from ..network import GPEN, OnnxModel, OnnxNetwork, normalize_state_dict, validate_size, validate_state_dict
from ..network.onnx_network import CPU_PROVIDER
from ..optional_packages import require
from ..progress import Progress, ProgressEvent, no_progress
from ..weights.catalog import Entry, network_name
from ..weights.onnx_proof import MIN_DEVIATION, sample_image
from ..weights.store import Store
from . import rrdb
from .devices import SMALLER_MODEL_HINT
from .gpen_runner import GPENRunner, Network
from .identity_models import build_embedder
from .needed_weights import PARSER_NAME
from .onnx_providers import provider_dtype, providers_for
from .upscale import Upscaler

MAX_PROVIDER_ERROR = 1e-2
"""Root mean square difference of a provider's output from the CPU's, in standard deviations. TF32 gives about 1e-3."""
MAX_HALF_PROVIDER_ERROR = 0.1
"""The same in half precision."""

log = logging.getLogger(__name__)


def build_network(
    dtype: torch.dtype, device: torch.device, provider: str | None, content: object, entry: Entry | None
) -> Network:
    """Build a GPEN. ONNX Runtime runs an `OnnxModel`, and with a `provider` every network. See `provider_dtype` for what
    `dtype` means there.

    Raises `WeightsError` for other weights, `DeviceError` if ONNX Runtime cannot run them, and `MissingDependency` without
    the package that exports a state dict for a `provider`."""
    size = entry.size if entry else None
    if isinstance(content, OnnxModel):
        validate_size(content.config, size)
        return load_onnx_network(content, device, provider, dtype)
    if provider is None:
        return GPEN.from_state_dict(content, dtype, size)
    from ..weights.onnx_export import export_model

    return load_onnx_network(export_model(*validate_state_dict(content, size)), device, provider, dtype)


def load_onnx_network(
    model: OnnxModel, device: torch.device, provider: str | None = None, dtype: torch.dtype = torch.float32
) -> OnnxNetwork:
    """Load a model into ONNX Runtime, and compare the output with the CPU's on one image.

    If it differs or fails, the CPU is used and a warning says so. Raises `DeviceError` like `providers_for`."""
    providers = providers_for(device, provider, dtype)
    computed = provider_dtype(providers[0][0], device, dtype)
    network = OnnxNetwork(model, providers, device, None if computed == torch.float32 else computed)
    if network.provider == CPU_PROVIDER:
        network.session()
        return network
    on_cpu = OnnxNetwork(model, [(CPU_PROVIDER, {})], torch.device("cpu"))
    problem = _find_problem(network, on_cpu)
    if problem is None:
        return network
    log.warning("ONNX Runtime uses the CPU instead of %s: %s", network.provider, problem)
    return on_cpu


def _find_problem(network: OnnxNetwork, on_cpu: OnnxNetwork) -> str | None:
    try:
        if network.provider not in network.session().get_providers():
            return "its libraries cannot be loaded"
        image = sample_image(network.size, 1)
        expected = on_cpu(image)
        error = (network(image) - expected).square().mean().sqrt() / expected.std().clamp_min(MIN_DEVIATION)
    except DeviceError as failure:
        return str(failure)
    limit = MAX_HALF_PROVIDER_ERROR if network.is_converted else MAX_PROVIDER_ERROR
    return None if error <= limit else f"the output differs by {error:.2g} standard deviations"


def validate_checkpoint(content: object, entry: Entry | None) -> None:
    """Raise `WeightsError` if the tensors of a file do not match its name, as far as keys, shapes and values show."""
    if isinstance(content, OnnxModel):
        validate_size(content.config, entry.size if entry else None)
        return
    if entry is not None and entry.size is not None:
        validate_state_dict(content, entry.size)
        return
    if entry is not None and entry.scale is not None:
        rrdb.validate_state_dict(content, entry)
        return
    if entry is not None and entry.is_graph:
        build_embedder(content, entry)
        return
    non_finite = [
        key
        for key, tensor in normalize_state_dict(content).items()
        if tensor.is_floating_point() and not tensor.isfinite().all()
    ]
    if non_finite:
        raise WeightsError(f"These tensors have non-finite values: {summarize_problems(non_finite)}.")


def load_upscaler(
    store: Store, weights_device: torch.device, device: torch.device, dtype: torch.dtype, name: str, progress: Progress
) -> Upscaler:
    """Load an upscaler with its weights on `weights_device`, to run on `device`."""
    rrdb.require_backend()  # before downloading anything

    def build(content: object, entry: Entry | None) -> Upscaler:
        state_dict, layout = rrdb.validate_state_dict(content, entry)
        load_fp32 = partial(load_upscaler, store, weights_device, device, torch.float32, name, no_progress)
        return Upscaler(rrdb.load_rrdbnet(state_dict, layout).to(weights_device), layout, device, dtype, load_fp32)

    return store.load(name, build, progress)


def load_size(load_runner: Callable[[str, Progress], GPENRunner], size: int, progress: Progress) -> GPENRunner:
    """Load the network of that size and move it to its device. Errors as in `Store.load`."""
    with oom_context("the network", SMALLER_MODEL_HINT):
        runner = load_runner(network_name(size), progress)
        runner.network.to(runner.device)
    progress(ProgressEvent("load", 1, 1, "model", "Loaded"))
    return runner


def build_detector(device: torch.device, dtype: torch.dtype, content: object, entry: Entry | None) -> Detector:
    return Detector.from_state_dict(normalize_state_dict(content), device, dtype)


def load_parser(store: Store, device: torch.device, dtype: torch.dtype, progress: Progress) -> FaceParser:
    require("facexlib")  # before downloading anything

    def build(content: object, entry: Entry | None) -> FaceParser:
        return FaceParser.from_state_dict(normalize_state_dict(content), device, dtype)

    return store.load(PARSER_NAME, build, progress)


def detection_dtype(precision: torch.dtype, device: torch.device) -> torch.dtype:
    """Return the dtype of detector and face parser: float32, or bfloat16 on CPUs, where it was tested."""
    return precision if precision == torch.bfloat16 and device.type == "cpu" else torch.float32
