"""Builds networks from the content of weights files, for torch or for ONNX Runtime, and loads those of a restorer."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from ..errors import DeviceError, WeightsError, oom_context, summarize_problems
from ..faces.detection.retinaface import Detector
from ..faces.mask import FaceParser
from ..network import GPEN, OnnxModel, OnnxNetwork, normalize_state_dict, validate_size, validate_state_dict
from ..network.onnx_network import CPU_PROVIDER
from ..optional_packages import require
from ..progress import Progress, ProgressEvent, no_progress
from ..weights.catalog import Entry, find_operation, network_name
from ..weights.name_check import DETECTOR, MODEL, UPSCALER, check_name
from ..weights.onnx_proof import MIN_DEVIATION, sample_image
from ..weights.prefetch import WeightRequest, prefetch
from ..weights.store import Store
from . import rrdb
from .devices import SMALLER_MODEL_HINT
from .gpen_runner import GPENRunner, Network
from .identity_models import build_embedder
from .needed_weights import PARSER_NAME
from .onnx_providers import provider_dtype, providers_for
from .upscale import LANCZOS, Upscaler

MAX_PROVIDER_ERROR = 1e-2
"""Root mean square difference of a provider's output from the CPU's, in standard deviations. TF32 gives about 1e-3."""
MAX_HALF_PROVIDER_ERROR = 0.1
"""`MAX_PROVIDER_ERROR` in half precision."""

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


@dataclass(frozen=True)
class NetworkLoader:
    """Loads the networks of a restorer from the models folders, for one device and precision.

    The methods raise the errors of `Store.load`."""

    store: Store
    """The restoration networks and upscalers."""
    detection_store: Store
    """The networks that find faces and parts of faces."""
    device: torch.device
    """The device on which the networks run."""
    weights_device: torch.device
    """The device of the weights. It is another one if a host moves them, see `FaceRestorer.load`."""
    dtype: torch.dtype
    provider: str | None = None
    """The provider of ONNX Runtime that runs the restoration networks, if one was requested."""

    @property
    def gpen_dtype(self) -> torch.dtype:
        """The precision in which the restoration networks compute."""
        return self.dtype if self.provider is None else provider_dtype(self.provider, self.device, self.dtype)

    @property
    def detection_dtype(self) -> torch.dtype:
        """The precision of detector and face parser: float32, or bfloat16 on CPUs, where it was tested."""
        return self.dtype if self.dtype == torch.bfloat16 and self.device.type == "cpu" else torch.float32

    def prefetch(self, networks: Sequence[str], detector: str, upscaler: str, progress: Progress) -> None:
        """Check the names, and download all missing files before any is read.

        Raises `MissingDependency` if no installed package can build the upscaler."""
        for name in networks:
            check_name(name, MODEL, self.store.folders)
        check_name(detector, DETECTOR, self.detection_store.folders)
        requests = [WeightRequest(self.store, name, self._build_gpen) for name in networks]
        requests.append(WeightRequest(self.detection_store, detector, self._build_detector))
        if upscaler != LANCZOS:
            rrdb.require_backend()
            check_name(upscaler, UPSCALER, self.store.folders)
            requests.append(WeightRequest(self.store, upscaler, rrdb.validate_state_dict))
        prefetch(requests, progress)

    def runner(self, model: str, progress: Progress) -> GPENRunner:
        """Load a restoration network. Its weights stay on the CPU."""
        network, origin = self.store.load_with_origin(model, self._build_gpen, progress)
        load_fp32 = partial(self.store.load, model, partial(build_network, torch.float32, self.device, None))
        has_fp32 = isinstance(network, GPEN) or network.is_converted
        return GPENRunner(network, self.device, load_fp32 if has_fp32 else None, origin, find_operation(model))

    def runner_for_size(self, size: int, progress: Progress) -> GPENRunner:
        """Load the released network of that size, and move it to the device."""
        with oom_context("the network", SMALLER_MODEL_HINT):
            runner = self.runner(network_name(size), progress)
            runner.network.to(self.device)
        progress(ProgressEvent("load", 1, 1, "model", "Loaded"))
        return runner

    def detector(self, name: str, progress: Progress) -> Detector:
        return self.detection_store.load(name, self._build_detector, progress)

    def parser(self, progress: Progress) -> FaceParser:
        """Load ParseNet. Raises `MissingDependency` without facexlib."""
        require("facexlib")  # before downloading anything

        def build(content: object, entry: Entry | None) -> FaceParser:
            return FaceParser.from_state_dict(normalize_state_dict(content), self.weights_device, self.detection_dtype)

        return self.detection_store.load(PARSER_NAME, build, progress)

    def upscaler(self, name: str, progress: Progress) -> Upscaler:
        """Load an upscaler. Raises `MissingDependency` if no installed package can build it."""
        rrdb.require_backend()  # before downloading anything

        def build(content: object, entry: Entry | None) -> Upscaler:
            state_dict, layout = rrdb.validate_state_dict(content, entry)
            load_fp32 = partial(replace(self, dtype=torch.float32).upscaler, name, no_progress)
            network = rrdb.load_rrdbnet(state_dict, layout).to(self.weights_device)
            return Upscaler(network, layout, self.device, self.dtype, load_fp32)

        return self.store.load(name, build, progress)

    def _build_gpen(self, content: object, entry: Entry | None) -> Network:
        return build_network(self.dtype, self.device, self.provider, content, entry)

    def _build_detector(self, content: object, entry: Entry | None) -> Detector:
        return Detector.from_state_dict(normalize_state_dict(content), self.weights_device, self.detection_dtype)
