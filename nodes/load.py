"""Load GPEN Model."""

from __future__ import annotations

import logging
from typing import Any

import comfy.model_management as management

from ..gpen_core import DETECTORS, PRECISIONS, MissingWeights, OptionsError
from . import folders
from .comfy import ComfyNode, GpenModelType, NodeOutput, io, schema
from .host_progress import NodeProgress
from .model import GpenModel

log = logging.getLogger(__name__)

FOLDERS_HELP = (
    f"In ComfyUI, GPEN's files belong in models/{folders.MODELS}, detectors and face parsers in models/{folders.DETECTION}; "
    "extra_model_paths.yaml names other folders for both. The environment variable GPEN_MIRROR names another source."
)
_downloaded: set[str] = set()  # see LoadModel.fingerprint_inputs


class LoadModel(ComfyNode):
    """A GPEN network and a face detector from the models folders."""

    @classmethod
    def define_schema(cls) -> Any:
        missing = folders.missing_models()
        state = f" Downloaded when first run: {', '.join(missing)}." if missing else " All of these are there."
        return schema(
            node_id="GPEN_LoadModel",
            display_name="Load GPEN Model",
            category="image/face",
            description="Loads GPEN, which restores faces, and the detector that finds them. A published file that is not "
            "there is downloaded when the node runs. The trained weights are for non-commercial use.",
            search_aliases=["gpen", "face restoration", "gpen-bfr", "facerestore model", "gfpgan", "codeformer"],
            inputs=[
                io.Combo.Input(
                    "model",
                    options=folders.model_choices(),
                    default=folders.model_choices()[0],
                    tooltip=f"A file in models/{folders.MODELS}. The number is the side in pixels at which faces are "
                    f"restored: 2048 for large faces, 512 for small ones and for speed. auto: each face by the one that "
                    f"suits its size, auto:256 from the smallest on.{state}",
                ),
                io.Combo.Input(
                    "precision",
                    options=_supported_precisions(),
                    default="auto",
                    tooltip="auto: float16 on CUDA, bfloat16 on a CPU that computes in it, float32 elsewhere.",
                ),
                io.Combo.Input(
                    "detector",
                    options=folders.available_detectors(),
                    default=DETECTORS[0],
                    tooltip=f"Finds the faces; a file in models/{folders.DETECTION}, also one of your own. mobile0.25 is "
                    "faster and finds fewer.",
                ),
            ],
            outputs=[GpenModelType.Output(display_name="gpen_model", tooltip="For the other GPEN nodes.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, model: str | None = None, detector: str | None = None, **unused: Any) -> str:
        """Files that were replaced under the same name are loaded anew. What the node itself has fetched since counts as it
        did before it was there."""
        return " | ".join(state for state in _fingerprints(model, detector) if state and state not in _downloaded)

    @classmethod
    def execute(cls, model: str, precision: str, detector: str) -> NodeOutput:
        """Raises `OptionsError` for a name that is in no list, `WeightsError` for files that are refused, `MissingWeights`
        for those that are not there and cannot be fetched, `DeviceError` for a precision that the device lacks, and
        ComfyUI's own error when interrupted."""
        # ComfyUI compares a value with its list only where it is written in the graph, not where a link brings it.
        for name, known in ((model, folders.model_choices()), (detector, folders.available_detectors())):
            if name not in known:
                raise OptionsError(f"{name!r} is none of the files to choose from: {', '.join(known)}.")
        if model in folders.missing_models():
            log.info("GPEN: %s is not in %s; it is downloaded now.", model, folders.model_dirs()[0])
        before = _fingerprints(model, detector)
        try:
            loaded = GpenModel.load(model, detector, precision, NodeProgress(cls.hidden.unique_id))
        except MissingWeights as error:
            raise MissingWeights(f"{error}\n{FOLDERS_HELP}") from error
        _downloaded.update(now for then, now in zip(before, _fingerprints(model, detector)) if not then)
        return NodeOutput(loaded)


def _fingerprints(model: str | None, detector: str | None) -> list[str]:
    """An input that a link brings is not known before the node runs."""
    lookups = ((model, folders.model_dirs()), (detector, folders.detection_dirs()))
    return [folders.fingerprint(name, paths) if name else "" for name, paths in lookups]


def _supported_precisions() -> list[str]:
    """Those that the device computes in: no CPU has been seen to compute in float16."""
    is_cpu = management.get_torch_device().type == "cpu"
    return [name for name in PRECISIONS if not (is_cpu and name == "fp16")]
