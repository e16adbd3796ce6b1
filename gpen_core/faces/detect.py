"""Finding faces: facexlib's RetinaFace network and its own decoding, on any torch device.

Deng et al., "RetinaFace: Single-shot Multi-level Face Localisation in the Wild", CVPR 2020.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import WeightsError
from ..images import FloatImage, Picture
from .face import Face
from .modules import compute_in, device_of, fill

CONFIDENCE = 0.9
NMS_OVERLAP = 0.4
DETECT_SIZE = 2000
MEAN_BGR = (104.0, 117.0, 123.0)
SMALLEST_ANCHOR = 16  # px: RetinaFace's smallest prior, and about the smallest face that it finds


class Detector:
    """A RetinaFace. It computes where its network's weights are."""

    def __init__(self, network: torch.nn.Module, name: str, dtype: torch.dtype = torch.float32) -> None:
        self.network = network
        self.name = name
        self.dtype = dtype
        self._config: Any = network.cfg  # facexlib's: prior sizes, steps, variances

    @classmethod
    def from_state_dict(
        cls, state_dict: Mapping[str, torch.Tensor], device: torch.device, dtype: torch.dtype = torch.float32
    ) -> Detector:
        """Takes the weights of `retinaface_resnet50` or `retinaface_mobile0.25`; which, the keys tell.

        The convolutions before the heads compute in `dtype`; scores, boxes and landmarks come out in float32."""
        if "body.conv1.weight" in state_dict:
            kind = "resnet50"
        elif "body.stage1.0.0.weight" in state_dict:
            kind = "mobile0.25"
        else:
            raise WeightsError("These weights are not a RetinaFace: neither body.conv1.weight nor body.stage1.0.0.weight.")
        from facexlib.detection.retinaface import RetinaFace

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # facexlib calls torchvision with a deprecated argument
            network = fill(lambda: RetinaFace(kind, device=torch.device("meta")), state_dict, f"RetinaFace {kind}")
        network = compute_in(network.to(device), dtype, "ClassHead", "BboxHead", "LandmarkHead")
        return cls(network, f"retinaface_{kind}", dtype)

    def detect(
        self, pictures: Sequence[Picture], confidence: float = CONFIDENCE, detect_size: int = DETECT_SIZE
    ) -> list[list[Face]]:
        """The faces of each picture, best score first, in its own pixels. Pictures of equal size go in one pass.

        A longer side above `detect_size` is reduced by area before detection; see `smallest_face`.
        """
        same_size: dict[tuple[int, int], list[int]] = defaultdict(list)
        for n, picture in enumerate(pictures):
            same_size[picture.height, picture.width].append(n)
        found: list[list[Face]] = [[] for _ in pictures]
        for (height, width), members in same_size.items():
            batch = np.stack([pictures[n].bgr_255(detect_size) for n in members])
            scale = (width / batch.shape[2], height / batch.shape[1])
            for n, rows in zip(members, self._run(batch, confidence)):
                found[n] = [_face(row, scale) for row in rows]
        return found

    @torch.no_grad()
    def _run(self, batch: FloatImage, confidence: float) -> list[NDArray[np.float32]]:
        """[B, H, W, 3] BGR in [0, 255] -> per picture [n, 15]: box, score, landmarks, in pixels of the batch."""
        from facexlib.detection.retinaface_utils import PriorBox

        device = device_of(self.network)
        x = torch.from_numpy(batch).to(device).permute(0, 3, 1, 2).contiguous()  # BHWC -> BCHW
        x = x - torch.tensor(MEAN_BGR, device=device)[:, None, None]
        boxes, scores, landmarks = self.network(x.to(self.dtype))
        priors = PriorBox(self._config, image_size=x.shape[2:]).forward()
        each = zip(boxes.float().cpu(), scores.float().cpu(), landmarks.float().cpu())
        return [self._decode(b, s[:, 1], m, priors, x.shape[3], x.shape[2], confidence) for b, s, m in each]

    def _decode(
        self,
        boxes: torch.Tensor,  # [P, 4]
        scores: torch.Tensor,  # [P]
        landmarks: torch.Tensor,  # [P, 10]
        priors: torch.Tensor,  # [P, 4]
        width: int,
        height: int,
        confidence: float,
    ) -> NDArray[np.float32]:
        from facexlib.detection.retinaface_utils import decode, decode_landm, py_cpu_nms

        variance = self._config["variance"]
        size = torch.tensor([width, height], dtype=torch.float32)
        likely = torch.nonzero(scores > confidence).flatten()
        best_first = scores[likely].numpy().argsort()[::-1].copy()  # ties in the order that facexlib gives them
        likely = likely[torch.from_numpy(best_first)]
        decoded = decode(boxes[likely], priors[likely], variance) * size.repeat(2)
        points = decode_landm(landmarks[likely], priors[likely], variance) * size.repeat(5)
        rows = torch.cat((decoded, scores[likely, None], points), dim=1).numpy()
        kept = [int(n) for n in py_cpu_nms(rows[:, :5], NMS_OVERLAP)]
        return np.asarray(rows[kept], np.float32)


def smallest_face(picture: Picture, detect_size: int) -> float:
    """Side in pixels of `picture` of the smallest face that can be found after the reduction to `detect_size`."""
    return SMALLEST_ANCHOR * max(1.0, max(picture.height, picture.width) / detect_size)


def _face(row: NDArray[np.float32], scale: tuple[float, float]) -> Face:
    numbers = row.astype(np.float64)
    x0, y0, x1, y1 = (float(v) for v in numbers[:4] * [*scale, *scale])
    return Face((x0, y0, x1, y1), float(numbers[4]), numbers[5:].reshape(5, 2) * scale)
