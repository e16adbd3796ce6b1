"""RetinaFace: facexlib's network with its own decoding, on any torch device.

Deng et al., "RetinaFace: Single-shot Multi-level Face Localisation in the Wild", CVPR 2020.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ..errors import WeightsError
from ..options import RestoreOptions
from ..pictures.picture import FloatImage, Picture
from .face import Box, Face
from .find import find
from .modules import compute_in, device_of, fill
from .priors import priors
from .pyramid import REACH, Rows, sizes_found

NMS_OVERLAP = 0.4
MEAN_BGR = (104.0, 117.0, 123.0)
AT_ONCE = 4  # pictures
NMS_ON = ("cpu", "cuda")  # elsewhere torchvision may lack it, and the few rows go to the CPU


class Detector:
    """A RetinaFace. It computes where its network's weights are. Detecting is safe from several threads."""

    working_bytes = 1 << 30
    """About what detecting takes beside the weights: on 2000 px, estimated from the largest features."""

    def __init__(self, network: torch.nn.Module, name: str, dtype: torch.dtype = torch.float32) -> None:
        self.network = network
        self.name = name
        self.dtype = dtype
        self.reach = REACH[name]
        config: Any = network.cfg  # facexlib's
        self._sides = tuple(map(tuple, config["min_sizes"]))
        self._steps = tuple(config["steps"])
        self._variance = config["variance"]

    @property
    def at_once(self) -> int:
        """Pictures to search together: a batch of video frames as a whole would not fit into memory, and a CPU's cores are
        busy with one."""
        return 1 if device_of(self.network).type == "cpu" else AT_ONCE

    @classmethod
    def from_state_dict(
        cls, state_dict: Mapping[str, torch.Tensor], device: torch.device, dtype: torch.dtype = torch.float32
    ) -> Detector:
        """Takes the weights of `retinaface_resnet50` or `retinaface_mobile0.25`; which, the keys tell.

        The convolutions before the heads compute in `dtype`; scores, boxes and landmarks come out in float32.
        Raises `WeightsError` for other weights, naming what does not fit."""
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
        self,
        pictures: Sequence[Picture],
        options: RestoreOptions | None = None,
        boxes: Sequence[Sequence[Box] | None] | None = None,
        pulse: Callable[[], None] = lambda: None,
    ) -> list[list[Face]]:
        """The faces of each picture, best score first, in its own pixels; see `find.find`.

        `boxes`: for each picture None, or where faces are known to be; one that holds none is looked into closely.
        `pulse` is called before each pass of the network and stops the work by raising. Running out of memory raises
        torch's error."""

        def see(batch: FloatImage, confidence: float) -> list[Rows]:
            pulse()
            return self.see(batch, confidence)

        found = find(see, self.reach, pictures, options or RestoreOptions(), boxes or [None] * len(pictures))
        return [[_face(row) for row in rows] for rows in found]

    @torch.no_grad()
    def see(self, batch: FloatImage, confidence: float) -> list[Rows]:
        """[B, H, W, 3] BGR in [0, 255] -> per picture [n, 15]: box, score, landmarks in its pixels, the best score first.
        One pass of the network, as facexlib's: scores above `confidence`, the best of those that overlap by 0.4."""
        device = device_of(self.network)
        x = torch.from_numpy(batch).to(device).permute(0, 3, 1, 2).contiguous()  # BHWC -> BCHW
        x = x - torch.tensor(MEAN_BGR, device=device)[:, None, None]
        height, width = x.shape[2:]
        where = priors(height, width, self._sides, self._steps, device)
        answers = (answer.float() for answer in self.network(x.to(self.dtype)))
        return [self._decode(b, s[:, 1], m, where, width, height, confidence) for b, s, m in zip(*answers)]

    def _decode(
        self,
        boxes: torch.Tensor,  # [P, 4]
        scores: torch.Tensor,  # [P]
        landmarks: torch.Tensor,  # [P, 10]
        where: torch.Tensor,  # [P, 4]
        width: int,
        height: int,
        confidence: float,
    ) -> Rows:
        from facexlib.detection.retinaface_utils import decode, decode_landm
        from torchvision.ops import nms

        likely = torch.nonzero(scores > confidence).flatten()
        best_first = scores[likely].cpu().numpy().argsort()[::-1].copy()  # ties in the order that facexlib gives them
        likely = likely[torch.from_numpy(best_first).to(likely.device)]
        size = torch.tensor([width, height], dtype=torch.float32, device=boxes.device)
        corners = decode(boxes[likely], where[likely], self._variance) * size.repeat(2)
        points = decode_landm(landmarks[likely], where[likely], self._variance) * size.repeat(5)
        rows = torch.cat((corners, scores[likely, None], points), dim=1)
        if rows.device.type not in NMS_ON:
            rows = rows.cpu()
        kept = nms(rows[:, :4], rows[:, 4], NMS_OVERLAP)
        return np.asarray(rows[kept].cpu().numpy(), np.float64)

    def sizes(self, picture: Picture, detect_size: int) -> tuple[float, float]:
        """Sides in pixels of `picture` of about the smallest and the largest face that are found at this detection size."""
        return sizes_found(max(picture.height, picture.width), detect_size, self.reach)


def _face(row: Rows) -> Face:
    x0, y0, x1, y1 = (float(v) for v in row[:4])
    return Face((x0, y0, x1, y1), float(row[4]), row[5:].reshape(5, 2))
