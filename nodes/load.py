"""Load GPEN Model."""

from __future__ import annotations

from typing import Any

import comfy.model_management as management

from ..gpen_core import PRECISIONS
from . import folders, inputs, loading
from .comfy import ComfyNode, GpenModelType, NodeOutput, advanced, io, schema
from .host_progress import NodeProgress


class LoadModel(ComfyNode):
    """Load a GPEN network and a face detector from the models folders."""

    @classmethod
    def define_schema(cls) -> Any:
        return schema(
            node_id="GPEN_LoadModel",
            display_name="Load GPEN Model",
            category="image/face",
            description="Loads a GPEN network and a face detector. Use it to choose the precision or the detector. The "
            "trained weights are for non-commercial use.",
            search_aliases=["gpen", "face restoration", "gpen-bfr", "facerestore model", "gfpgan", "codeformer"],
            inputs=[
                inputs.model(),
                io.Combo.Input(
                    "precision",
                    options=_supported_precisions(),
                    default="auto",
                    tooltip="auto: float16 on CUDA, bfloat16 on CPUs that support it, float32 elsewhere.",
                ),
                io.Combo.Input(
                    "detector",
                    options=folders.detector_choices(),
                    default=folders.AUTO_DETECTOR,
                    tooltip="Face detector. auto: ResNet-50, or the next in the list if ResNet-50 cannot be downloaded. "
                    "mobilenet0.25 is faster but finds fewer faces. Put your own detectors into "
                    f"models/{folders.DETECTION}.",
                ),
                advanced(
                    io.String.Input(
                        "accept_changed",
                        optional=True,
                        default="",
                        placeholder="SHA-256",
                        tooltip="Accept a weights file that you replaced. Paste the SHA-256 from the error message. If "
                        "empty, a file that changed since its first use is rejected.",
                    )
                ),
            ],
            outputs=[GpenModelType.Output(display_name="gpen_model", tooltip="For the other GPEN nodes.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, model: str | None = None, detector: str | None = None, **unused: Any) -> str:
        """See `loading.fingerprint`."""
        return loading.fingerprint(model, detector)

    @classmethod
    def execute(cls, model: str, precision: str, detector: str, accept_changed: str = "") -> NodeOutput:
        """Raises the errors of `loading.load_model`."""
        with NodeProgress(cls.hidden.unique_id) as reporter:
            return NodeOutput(loading.load_model(model, detector, precision, reporter, accept_changed))


def _supported_precisions() -> list[str]:
    """Return the precisions that the device supports. float16 is left out on CPUs: no tested CPU computes in it."""
    is_cpu = management.get_torch_device().type == "cpu"
    return [name for name in PRECISIONS if not (is_cpu and name == "fp16")]
