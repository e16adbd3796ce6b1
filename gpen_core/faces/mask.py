"""Masks of a crop: 1 on the face, falling softly to 0 before the crop's border.

The constants are those of the published pipeline. Masks are 512 px for every crop size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import WeightsError
from ..images.image import FloatImage
from ..images.resize import resize
from ..network.autocast import without_autocast
from ..network.module_loading import build_from_state_dict, cast_convolutions, device_of
from ..optional_packages import require, version_guard

ClassMap = NDArray[np.uint8]
"""[512, 512] class numbers"""

MASK_SIZE = 512
BORDER = 26  # px set to zero on each side
SIGMA, KERNEL, PASSES = 4.0, 101, 2
TAIL = 1 / 256  # blurred values below it become 0, above 1 - TAIL become 1
# ParseNet's 19 classes are CelebAMask-HQ's (Lee et al., CVPR 2020). Hair, ears and neck belong to the mask.
NUM_CLASSES = 19
BACKGROUND, HAT, CLOTH = 0, 14, 18
EXCLUDED_CLASSES = (BACKGROUND, HAT, CLOTH)
REGION_CLASSES = {
    "skin": (1,),
    "nose": (2,),
    "glasses": (3,),
    "eyes": (4, 5),
    "brows": (6, 7),
    "ears": (8, 9),
    "mouth": (10, 11, 12),
    "hair": (13,),
    "earrings": (15,),
    "necklace": (16,),
    "neck": (17,),
}
"""The classes of each region that `RestoreOptions.preserve` accepts."""
INPUT_REGIONS = ("glasses",)  # the network may remove objects that it was not trained on
REGION_MARGIN = 12  # px by which a region is dilated, so that its edge is preserved, too


def feather_edges(inside: FloatImage, expand: float = 0.0) -> FloatImage:
    """Return a binary mask [512, 512] with soft edges: exactly 0 at the border, exactly 1 well inside.

    The mask is first dilated by `expand` pixels, or eroded if negative. The border stays 0."""
    mask = _clear_border(inside.astype(np.float32))
    return _blur(_clear_border(dilate(mask, expand)) if expand else mask)


@lru_cache(maxsize=4)  # `expand` is 0 for all faces, unless their mask is shrunk; read-only
def square_mask(expand: float = 0.0) -> FloatImage:
    """Return the mask [512, 512] of the whole square except its border. A negative `expand` makes the border wider."""
    mask = feather_edges(np.ones((MASK_SIZE, MASK_SIZE), np.float32), expand)
    mask.setflags(write=False)
    return mask


def dilate(inside: FloatImage, pixels: float) -> FloatImage:
    """Dilate a binary mask by `pixels`, or erode it if negative."""
    source = (inside < 0.5 if pixels > 0 else inside >= 0.5).astype(np.uint8)
    if not source.any() or source.all():
        return inside
    distance = cv2.distanceTransform(source, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(distance <= pixels if pixels > 0 else distance > -pixels, np.float32)


def _clear_border(mask: FloatImage) -> FloatImage:
    mask[:BORDER] = mask[-BORDER:] = mask[:, :BORDER] = mask[:, -BORDER:] = 0
    return mask


def _blur(mask: FloatImage) -> FloatImage:
    for _ in range(PASSES):
        mask = np.asarray(cv2.GaussianBlur(mask, (KERNEL, KERNEL), SIGMA), np.float32)
    return np.asarray(np.clip((mask - TAIL) / (1 - 2 * TAIL), 0, 1), np.float32)


class FaceParser:
    """facexlib's ParseNet. It runs on the device of its weights and is thread-safe."""

    def __init__(self, network: torch.nn.Module, dtype: torch.dtype = torch.float32) -> None:
        self.network = network
        self.dtype = dtype

    @classmethod
    @version_guard("facexlib")
    def from_state_dict(
        cls, state_dict: Mapping[str, torch.Tensor], device: torch.device, dtype: torch.dtype = torch.float32
    ) -> FaceParser:
        """Build the parser from the weights of `parsing_parsenet`. All convolutions except the last compute in `dtype`.

        Raises `WeightsError` for other weights, with the tensors that do not fit, and `MissingDependency` without
        facexlib."""
        require("facexlib")
        if "out_mask_conv.conv2d.weight" not in state_dict:
            raise WeightsError("These weights are not a ParseNet: out_mask_conv.conv2d.weight is missing.")
        from facexlib.parsing.parsenet import ParseNet

        build = lambda: ParseNet(in_size=MASK_SIZE, out_size=MASK_SIZE, parsing_ch=NUM_CLASSES)  # noqa: E731
        network = build_from_state_dict(build, state_dict, "ParseNet").to(device)
        return cls(cast_convolutions(network, dtype, "out_mask_conv"), dtype)

    @torch.no_grad()
    def parse(self, crop: FloatImage) -> ClassMap:
        """Return the class numbers [512, 512] of a crop [S, S, 3] (RGB in [0, 1])."""
        small = resize(crop, (MASK_SIZE, MASK_SIZE))
        on_device = torch.from_numpy(np.ascontiguousarray(small)).to(device_of(self.network))
        return np.asarray(self.parse_tensor(on_device.permute(2, 0, 1)).to("cpu", torch.uint8).numpy())  # HWC -> CHW

    @torch.no_grad()
    def parse_tensor(self, crop: torch.Tensor) -> torch.Tensor:
        """Return the class numbers [512, 512] of a crop [3, 512, 512] (RGB in [0, 1]), both on the network's device."""
        with without_autocast(crop.device):
            logits, _ = self.network((crop[None] * 2 - 1).to(self.dtype))
        return logits[0].argmax(0)  # type: ignore[no-any-return]

    def mask(self, crop: FloatImage, expand: float = 0.0) -> FloatImage:
        """Return the soft mask [512, 512] of face, hair, ears and neck. `crop`: see `parse`; `expand`: see
        `feather_edges`.

        Running out of memory raises torch's error; see `devices.run_with_oom_backoff`."""
        return face_mask(self.parse(crop), expand)

    def preserve_mask(
        self, crop: FloatImage, restored: FloatImage, regions: Sequence[str], classes: ClassMap | None = None
    ) -> FloatImage:
        """Return the soft mask [512, 512] of `regions` (names of `REGION_CLASSES`) where the input is preserved; 1 inside.

        Glasses are searched in `crop`, all other regions in `restored`. `classes` are those of `restored`, if already
        known. Running out of memory raises torch's error."""
        on_input = [name for name in regions if name in INPUT_REGIONS]
        others = [name for name in regions if name not in INPUT_REGIONS]
        selected = np.zeros((MASK_SIZE, MASK_SIZE), np.bool_)
        if on_input:
            selected |= _class_mask(self.parse(crop), on_input)
        if others:
            selected |= _class_mask(self.parse(restored) if classes is None else classes, others)
        return _blur(dilate(selected.astype(np.float32), REGION_MARGIN))


def face_mask(classes: ClassMap, expand: float = 0.0) -> FloatImage:
    """Return the mask of face, hair, ears and neck from class numbers [512, 512]. `expand`: see `feather_edges`."""
    return feather_edges(np.isin(classes, EXCLUDED_CLASSES, invert=True).astype(np.float32), expand)


def _class_mask(classes: ClassMap, regions: Sequence[str]) -> NDArray[np.bool_]:
    return np.isin(classes, [number for name in regions for number in REGION_CLASSES[name]])
