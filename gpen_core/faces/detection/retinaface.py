"""The RetinaFace detector, on any torch device.

Deng et al., "RetinaFace: Single-shot Multi-level Face Localisation in the Wild", CVPR 2020.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch

from ...errors import WeightsError
from ...images.image import ImageData
from ...network.autocast import without_autocast
from ...network.config import CPU_FLOAT32
from ...network.module_loading import build_from_state_dict, cast_convolutions, device_of, fold_batch_norms
from ...options import RestoreOptions
from ..face import Box, Face
from .anchors import anchors
from .image_source import ImageBatch, ImageSourceFactory, OpenCVImageSource
from .multiscale import detect_faces
from .pyramid import (
    BOX,
    COLUMN_COUNT,
    LANDMARKS,
    SCALE_RANGE,
    SCORE,
    Detections,
    first_of_overlapping,
    pyramid_detectable_sizes,
)
from .retinaface_network import RetinaFace

ANCHOR_SIDES = ((16, 32), (64, 128), (256, 512))  # px, for each level
STEPS = (8, 16, 32)  # px between the anchors of a level
CENTER_VARIANCE, SIZE_VARIANCE = 0.1, 0.2  # scales of the network's outputs
GPU_BATCH_SIZE = 4  # images


class Detector:
    """A RetinaFace detector. It runs on the device of its weights and is thread-safe."""

    activation_bytes = 1 << 30
    """Approximate memory for detection at 2000 px without the weights, estimated from the largest features."""

    def __init__(self, network: torch.nn.Module, name: str, dtype: torch.dtype = torch.float32) -> None:
        self.network = network
        self.name = name
        self.dtype = dtype
        self.scale_range = SCALE_RANGE

    @property
    def device(self) -> torch.device:
        """The device of the weights now; a host may move them."""
        return device_of(self.network)

    @property
    def batch_size(self) -> int:
        """Images per pass. A whole batch of video frames would not fit into memory, and one image keeps a CPU busy."""
        return 1 if self.device.type == "cpu" else GPU_BATCH_SIZE

    @classmethod
    def from_state_dict(
        cls, state_dict: Mapping[str, torch.Tensor], device: torch.device, dtype: torch.dtype = torch.float32
    ) -> Detector:
        """Build the detector from the weights of `retinaface_resnet50` or `retinaface_mobile0.25`, recognized by their
        keys.

        The convolutions before the heads compute in `dtype`; scores, boxes and landmarks are float32.
        Raises `WeightsError` for other weights, with the tensors that do not fit."""
        if "body.conv1.weight" in state_dict:
            kind = "resnet50"
        elif "body.stage1.0.0.weight" in state_dict:
            kind = "mobile0.25"
        else:
            raise WeightsError("These weights are not a RetinaFace: neither body.conv1.weight nor body.stage1.0.0.weight.")
        network = build_from_state_dict(lambda: RetinaFace(kind), state_dict, f"RetinaFace {kind}")
        network = cast_convolutions(fold_batch_norms(network.to(device)), dtype, "ClassHead", "BboxHead", "LandmarkHead")
        if device.type == "cpu":
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, unused-ignore]
        return cls(network, f"retinaface_{kind}", dtype)

    def detect(
        self,
        images: Sequence[ImageData],
        options: RestoreOptions | None = None,
        boxes: Sequence[Sequence[Box] | None] | None = None,
        on_tick: Callable[[], None] = lambda: None,
        make_source: ImageSourceFactory = OpenCVImageSource,
        near: Sequence[Box] | None = None,
    ) -> list[list[Face]]:
        """Return the faces of each image in its own pixels, best score first; see `multiscale.detect_faces`.

        `boxes`: per image None, or boxes known to contain a face. Boxes without a detection are searched again at higher
        resolution. `on_tick` is called before each pass of the network and may raise to stop the work. `make_source`
        creates the `ImageSource`; its tensors must be on `device`. `near`: boxes around which small faces of all images are
        searched; None searches them everywhere. Running out of memory raises torch's error."""

        def forward(batch: ImageBatch, confidence: float, min_size: float) -> Iterable[Detections]:
            on_tick()
            return self.forward(batch, confidence, min_size)

        found = detect_faces(
            forward,
            self.scale_range,
            images,
            RestoreOptions.or_default(options),
            boxes or [None] * len(images),
            make_source,
            near,
        )
        return [[_face(row) for row in rows] for rows in found]

    @torch.no_grad()
    def forward(self, batch: ImageBatch, confidence: float, min_size: float = 0) -> Iterator[Detections]:
        """Run the network once on [B, H, W, 3] BGR in [0, 255] and return per image [n, 15]: box, score and landmarks in
        its pixels, best score first.

        As in facexlib, scores are above `confidence`, and of boxes with an IoU above 0.4 only the best is kept. Faces below
        `min_size` px may be missed: the finest features are left out if all of their anchors are smaller. The network starts
        at once; the call waits for its output only when the first image's rows are read."""
        device = self.device
        x = torch.as_tensor(batch, device=device).permute(0, 3, 1, 2)  # BHWC -> BCHW, a view
        height, width = x.shape[2:]
        first = int(max(ANCHOR_SIDES[0]) < min_size)
        anchor_boxes = anchors(height, width, ANCHOR_SIDES[first:], STEPS[first:], device)
        with without_autocast(device):
            boxes, scores, landmarks = (answer.float() for answer in self.network(x, bool(first)))
        return self._decode(boxes, scores[..., 1], landmarks, anchor_boxes, (width, height), confidence)

    def _decode(
        self,
        boxes: torch.Tensor,  # [B, P, 4]
        scores: torch.Tensor,  # [B, P]
        landmarks: torch.Tensor,  # [B, P, 10]
        anchor_boxes: torch.Tensor,  # [P, 4]
        size: tuple[int, int],
        confidence: float,
    ) -> Iterator[Detections]:
        """Decode and yield the rows per image. This synchronizes with the device only twice per batch: for the number of
        rows, and for the rows."""
        image, anchor = torch.nonzero(scores > confidence).unbind(1)  # in ascending order
        matched_anchors = anchor_boxes[anchor]
        corners = _decode_boxes(boxes[image, anchor], matched_anchors)
        points = _decode_landmarks(landmarks[image, anchor], matched_anchors)
        columns = (corners, scores[image, anchor, None], points, image[:, None].to(corners.dtype))
        rows = torch.cat(columns, dim=1).cpu()
        counts = torch.bincount(rows[:, COLUMN_COUNT].long(), minlength=len(scores))
        sides = torch.tensor(size, **CPU_FLOAT32)
        rows[:, BOX] *= sides.repeat(2)
        rows[:, LANDMARKS] *= sides.repeat(5)
        for some in torch.split(rows[:, :COLUMN_COUNT], counts.tolist()):
            yield _suppress_overlaps(some)

    def detectable_sizes(self, image: ImageData, detection_size: int) -> tuple[float, float]:
        """Return about the smallest and largest detectable face (shorter side, px of `image`) at this detection size."""
        return pyramid_detectable_sizes(image.size, detection_size, self.scale_range)


def _decode_boxes(offsets: torch.Tensor, matched_anchors: torch.Tensor) -> torch.Tensor:
    """Return the corners [n, 4] of boxes with these outputs [n, 4] at these anchors [n, 4], as fractions of the image."""
    centers = matched_anchors[:, :2] + offsets[:, :2] * CENTER_VARIANCE * matched_anchors[:, 2:]
    sizes = matched_anchors[:, 2:] * torch.exp(offsets[:, 2:] * SIZE_VARIANCE)
    low = centers - sizes / 2
    return torch.cat((low, sizes + low), dim=1)


def _decode_landmarks(offsets: torch.Tensor, matched_anchors: torch.Tensor) -> torch.Tensor:
    """Return landmarks [n, 10] for these outputs [n, 10], as fractions of the image."""
    scaled = offsets.view(-1, 5, 2) * CENTER_VARIANCE * matched_anchors[:, None, 2:]
    return (matched_anchors[:, None, :2] + scaled).flatten(1)


def _suppress_overlaps(rows: torch.Tensor) -> Detections:
    """Return the rows [n, 15] that do not overlap a better one with an IoU above 0.4. Runs on the CPU: rows are few, and
    a device would need a synchronization."""
    found = rows.numpy().astype(np.float64)
    order = found[:, SCORE].argsort()[::-1]  # ties in the order that facexlib gives them
    return np.asarray(found[first_of_overlapping(found, order)])


def _face(row: Detections) -> Face:
    x0, y0, x1, y1 = (float(v) for v in row[BOX])
    return Face((x0, y0, x1, y1), float(row[SCORE]), row[LANDMARKS].reshape(5, 2))
