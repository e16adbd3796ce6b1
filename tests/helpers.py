"""Hand-made networks and images whose results are known beforehand."""

from __future__ import annotations

import importlib.util
import math
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import synthetic
import torch
from facexlib.parsing.parsenet import ParseNet
from safetensors.torch import save_file
from torch.overrides import TorchFunctionMode

from gpen_core.faces.align import fit_similarity, landmark_template
from gpen_core.faces.detection.pyramid import SCALE_RANGE, pyramid_detectable_sizes
from gpen_core.faces.face import Face
from gpen_core.faces.head_pose import MEAN_HEAD
from gpen_core.faces.mask import FaceParser
from gpen_core.network import GPEN
from gpen_core.pipeline.model_set import GPENRunner, ModelSet
from gpen_core.pipeline.restorer import FaceRestorer

DETECTOR_FILE = "detection_mobilenet0.25_Final.safetensors"  # a .pth of that name is pinned
DATA = Path(__file__).resolve().parent / "data"


def fresh_module(module):
    """A second copy of a module, as a new process has it: nothing is cached yet."""
    spec = importlib.util.spec_from_file_location(module.__name__, module.__file__)
    copy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copy)
    return copy


def to_tensors(state_dict):
    return {key: torch.from_numpy(value) for key, value in state_dict.items()}


def random_weights(size, seed=7):
    return to_tensors(synthetic.random_state_dict(size, seed))


def identity_weights(size):
    """The network returns its input."""
    return to_tensors(synthetic.sharpen_state_dict(size, 0.0))


def sharpening_weights(size, gain):
    """The network returns x + gain * (x - up(down(x)))."""
    return to_tensors(synthetic.sharpen_state_dict(size, gain))


def last_rgb_bias(sd):
    number = max(int(key.split(".")[2]) for key in sd if key.startswith("generator.to_rgbs."))
    return sd[f"generator.to_rgbs.{number}.bias"]


def red_weights(size, amount=0.5):
    """The network adds `amount` (of [-1, 1]) to red."""
    sd = identity_weights(size)
    last_rgb_bias(sd)[0, 0] += amount
    return sd


def constant_weights(size, color):
    """The network returns one color, given in [0, 1]."""
    sd = to_tensors(synthetic.sharpen_state_dict(size, 0.0))
    for key in sd:
        if key.startswith("generator.to_rgb") and key.endswith((".conv.weight", ".bias")) and "modulation" not in key:
            sd[key].zero_()
    last_rgb_bias(sd)[0, :, 0, 0] = torch.tensor(color, dtype=torch.float32) * 2 - 1
    return sd


def overflowing_weights(size, gain=0.0):
    """As `sharpening_weights`; in a channel that nothing reads the features of the second level pass 65504 where an image's
    red is above 0.47, and are infinite in float16."""
    sd = sharpening_weights(size, gain)
    weight = sd["ecd1.0.1.weight"]
    weight[3, 0, 1, 1] = weight[0, 0, 1, 1] * 17000  # of sqrt(2) * (x + 2), times sqrt(2) in the decoder
    return sd


class FakeDetector:
    """Finds the faces it was given, in every image."""

    name, batch_size, activation_bytes, network, device = "fake", 4, 0, torch.nn.Identity(), torch.device("cpu")

    def __init__(self, faces):
        self.faces = list(faces)

    def detect(self, images, options, boxes=None, on_tick=lambda: None, make_source=None, near=None):
        on_tick()
        return [[face for face in self.faces if face.score > options.confidence] for _ in images]

    def detectable_sizes(self, image, detection_size):
        return pyramid_detectable_sizes(image.size, detection_size, SCALE_RANGE)


class FakeMps(TorchFunctionMode):
    """Computes on the CPU what is asked of `mps`. What is moved there and comes back goes through `spoil`; where that is an
    exception, moving raises it."""

    def __init__(self, spoil=lambda tensor: tensor):
        super().__init__()
        self.spoil, self.is_used = spoil, False

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.Tensor.to and args[1:] == (torch.device("mps"),):
            self.is_used = True
            if isinstance(self.spoil, Exception):
                raise self.spoil
            return args[0]
        made = func(*args, **(kwargs or {}))
        return self.spoil(made) if func is torch.Tensor.cpu else made


def host_networks():
    """What the tests in real hosts choose from, by file name."""
    return {
        "gpen-red-256.pth": constant_weights(256, (1, 0, 0)),
        "gpen-identity-256.pth": identity_weights(256),
        "gpen-bfr-1024.pth": sharpening_weights(1024, 0.5),
        "gpen-broken.pth": b"PK\x03\x04 this is no checkpoint",
    }


def write_weights(folder, files):
    """Files by their paths below `folder`: state dicts, as .safetensors or pickled, or bytes as they are."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            (save_file if path.suffix == ".safetensors" else torch.save)(content, path)


NARROW = {"base_ch": 16, "ch_range": [16, 16]}  # and not 32 to 256 channels: a forward takes a tenth of a second, not ten


def parsenet(seed=7, **channels):
    """ParseNet with seeded weights; with as many channels as the released one unless it is `NARROW`."""
    torch.manual_seed(seed)
    return ParseNet(in_size=512, out_size=512, parsing_ch=19, **channels)


def narrow_parser(state_dict, device="cpu", dtype=torch.float32):
    """`Parser.from_state_dict` of the weights of a narrow `parsenet`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("facexlib.parsing.parsenet.ParseNet", partial(ParseNet, **NARROW))
        return FaceParser.from_state_dict(state_dict, torch.device(device), dtype)


def make_face(center, side, tilt=0.0, score=0.99):
    """A face whose box is about `side` pixels, with the template's landmarks turned by `tilt` degrees.

    A RetinaFace box is about half as wide as the released template's square."""
    angle = math.radians(tilt)
    scale = side / 0.55
    points = (landmark_template(1) - 0.5) * scale
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    landmarks = points @ turn.T + center
    x, y = center
    return Face((x - side / 2, y - side / 2, x + side / 2, y + side / 2), score, landmarks)


def crop_scale(face, size):
    """Crop pixels per image pixel."""
    matrix = fit_similarity(face.landmarks, landmark_template(size))
    return math.hypot(matrix[0, 0], matrix[1, 0])


def texture(height, width, seed=3, sigma=0.0):
    """[H, W, 3] float32 in [0, 1] with detail at every scale down to the pixel, blurred by `sigma`."""
    rng = np.random.default_rng(seed)
    out = np.zeros((height, width, 3), np.float32)
    octaves = int(math.log2(min(height, width))) + 1
    for octave in range(octaves):
        shape = (max(2, height >> octave), max(2, width >> octave))
        noise = rng.standard_normal((*shape, 3)).astype(np.float32)
        out += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)  # as much at every scale
    if sigma:
        out = cv2.GaussianBlur(out, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
    low, high = np.percentile(out, (0.5, 99.5))
    return np.clip((out - low) / (high - low), 0.02, 0.98).astype(np.float32)


def restorer(state_dict, faces, dtype=torch.float32, load_fp32=None, load_parser=None):
    """A restorer on the CPU with hand-made weights and given faces."""
    return build_restorer(GPEN.from_state_dict(state_dict, dtype), FakeDetector(faces), load_fp32, load_parser)


def build_restorer(network, detector, load_fp32=None, load_parser=None, offload_device=None):
    cpu = torch.device("cpu")
    return FaceRestorer(ModelSet([GPENRunner(network, cpu, load_fp32)], detector, cpu, load_parser, offload_device))


def psnr(a, b, peak=1.0):
    error = float(np.mean((np.asarray(a, np.float64) - np.asarray(b, np.float64)) ** 2))
    return math.inf if error == 0 else 10 * math.log10(peak**2 / error)


def project_head(yaw, pitch, roll=0.0, scale=11.0, shift=(200.0, 90.0)):
    """[5, 2]: the mean head projected by rotation matrices, y down."""
    a, b, c = np.radians((yaw, pitch, roll))
    around_y = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    around_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    flat = (MEAN_HEAD @ (around_x @ around_y).T)[:, :2] * [1, -1]
    turn = np.array([[np.cos(c), -np.sin(c)], [np.sin(c), np.cos(c)]])
    return flat @ turn.T * scale + shift


def detection_row(x0, y0, side, score=0.95, landmarks=None, height=None):
    """A face's row: a box of that width, 1.3 times as high, with a head's landmarks inside it."""
    height = 1.3 * side if height is None else height
    points = project_head(0, 0, scale=side / 13, shift=(x0 + side / 2, y0 + height / 2)) if landmarks is None else landmarks
    return np.array([x0, y0, x0 + side, y0 + height, score, *points.ravel()])
