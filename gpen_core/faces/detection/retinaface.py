"""RetinaFace: facexlib's network with its own decoding, on any torch device.

Deng et al., "RetinaFace: Single-shot Multi-level Face Localisation in the Wild", CVPR 2020.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from ...errors import WeightsError
from ...images.image import ImageData
from ...network.module_loading import build_from_state_dict, cast_convolutions, device_of
from ...optional_packages import require, version_guard
from ...options import RestoreOptions
from ..face import Box, Face
from .anchors import anchors
from .image_source import ImageBatch, ImageSourceFactory, OpenCVImageSource
from .multiscale import detect_faces
from .pyramid import SCALE_RANGE, Detections, pyramid_detectable_sizes

NMS_IOU = 0.4
MEAN_BGR = (104.0, 117.0, 123.0)
GPU_BATCH_SIZE = 4  # images


class Detector:
    """A RetinaFace. It computes where its network's weights are. Detecting is safe from several threads."""

    activation_bytes = 1 << 30
    """About what detecting takes beside the weights: on 2000 px, estimated from the largest features."""

    def __init__(self, network: torch.nn.Module, name: str, dtype: torch.dtype = torch.float32) -> None:
        self.network = network
        self.name = name
        self.dtype = dtype
        self.scale_range = SCALE_RANGE[name]
        config: Any = network.cfg  # facexlib's
        self._sides = tuple(map(tuple, config["min_sizes"]))
        self._steps = tuple(config["steps"])
        self._variance = config["variance"]

    @property
    def device(self) -> torch.device:
        """Where it computes now; a host may move it."""
        return device_of(self.network)

    @property
    def batch_size(self) -> int:
        """Images to search together: a batch of video frames as a whole would not fit into memory, and a CPU's cores are
        busy with one."""
        return 1 if self.device.type == "cpu" else GPU_BATCH_SIZE

    @classmethod
    @version_guard("facexlib")
    def from_state_dict(
        cls, state_dict: Mapping[str, torch.Tensor], device: torch.device, dtype: torch.dtype = torch.float32
    ) -> Detector:
        """Takes the weights of `retinaface_resnet50` or `retinaface_mobile0.25`; which, the keys tell.

        The convolutions before the heads compute in `dtype`; scores, boxes and landmarks come out in float32.
        Raises `WeightsError` for other weights, naming what does not fit, and `MissingDependency` without facexlib."""
        require("facexlib")
        if "body.conv1.weight" in state_dict:
            kind = "resnet50"
        elif "body.stage1.0.0.weight" in state_dict:
            kind = "mobile0.25"
        else:
            raise WeightsError("These weights are not a RetinaFace: neither body.conv1.weight nor body.stage1.0.0.weight.")
        from facexlib.detection.retinaface import RetinaFace

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # facexlib calls torchvision with a deprecated argument
            network = build_from_state_dict(
                lambda: RetinaFace(kind, device=torch.device("meta")), state_dict, f"RetinaFace {kind}"
            )
        network = cast_convolutions(network.to(device), dtype, "ClassHead", "BboxHead", "LandmarkHead")
        return cls(network, f"retinaface_{kind}", dtype)

    def detect(
        self,
        images: Sequence[ImageData],
        options: RestoreOptions | None = None,
        boxes: Sequence[Sequence[Box] | None] | None = None,
        on_tick: Callable[[], None] = lambda: None,
        make_source: ImageSourceFactory = OpenCVImageSource,
    ) -> list[list[Face]]:
        """The faces of each image, best score first, in its own pixels; see `multiscale.detect_faces`.

        `boxes`: for each image None, or where faces are known to be; one that holds none is looked into closely.
        `on_tick` is called before each pass of the network and stops the work by raising. `make_source`: how images are
        reduced and squares cut out of them; tensors are to be on `device`. Running out of memory raises torch's error."""

        def forward(batch: ImageBatch, confidence: float) -> Iterable[Detections]:
            on_tick()
            return self.forward(batch, confidence)

        found = detect_faces(
            forward, self.scale_range, images, options or RestoreOptions(), boxes or [None] * len(images), make_source
        )
        return [[_face(row) for row in rows] for rows in found]

    @torch.no_grad()
    def forward(self, batch: ImageBatch, confidence: float) -> Iterator[Detections]:
        """[B, H, W, 3] BGR in [0, 255] -> per image [n, 15]: box, score, landmarks in its pixels, the best score first.
        One pass of the network, as facexlib's: scores above `confidence`, the best of those that overlap by 0.4.

        The network is started at once. Its answer is waited for when the first image's rows are asked for."""
        device = self.device
        x = torch.as_tensor(batch, device=device).permute(0, 3, 1, 2).contiguous() - _mean(device)  # BHWC -> BCHW
        height, width = x.shape[2:]
        anchor_boxes = anchors(height, width, self._sides, self._steps, device)
        boxes, scores, landmarks = (answer.float() for answer in self.network(x.to(self.dtype)))
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
        """The device is waited for twice for all images together: how many rows there are, and the rows."""
        from facexlib.detection.retinaface_utils import decode, decode_landm

        image, anchor = torch.nonzero(scores > confidence).unbind(1)  # in rising order
        matched_anchors = anchor_boxes[anchor]
        with version_guard("facexlib"):
            corners = decode(boxes[image, anchor], matched_anchors, self._variance)
            points = decode_landm(landmarks[image, anchor], matched_anchors, self._variance)
        columns = (corners, scores[image, anchor, None], points, image[:, None].to(corners.dtype))
        rows = torch.cat(columns, dim=1).cpu()
        counts = torch.bincount(rows[:, 15].long(), minlength=len(scores))
        sides = torch.tensor(size, dtype=torch.float32)
        rows[:, :4] *= sides.repeat(2)
        rows[:, 5:15] *= sides.repeat(5)
        for some in torch.split(rows[:, :15], counts.tolist()):
            yield _suppress_overlaps(some)

    def detectable_sizes(self, image: ImageData, detection_size: int) -> tuple[float, float]:
        """Sides in pixels of `image` of about the smallest and the largest face that are found at this detection size."""
        return pyramid_detectable_sizes(image.size, detection_size, self.scale_range)


def _suppress_overlaps(rows: torch.Tensor) -> Detections:
    """[n, 15] -> those that overlap no better one by 0.4. On the CPU: they are few, and a device would be waited for."""
    from torchvision.ops import nms

    best_first = rows[:, 4].numpy().argsort()[::-1].copy()  # ties in the order that facexlib gives them
    rows = rows[torch.from_numpy(best_first)]
    return np.asarray(rows[nms(rows[:, :4], rows[:, 4], NMS_IOU)].numpy(), np.float64)


@lru_cache(maxsize=8)  # devices; not to be written to
def _mean(device: torch.device) -> torch.Tensor:
    return torch.tensor(MEAN_BGR, device=device)[:, None, None]


def _face(row: Detections) -> Face:
    x0, y0, x1, y1 = (float(v) for v in row[:4])
    return Face((x0, y0, x1, y1), float(row[4]), row[5:].reshape(5, 2))
