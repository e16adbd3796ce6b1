"""Arguments that several commands have."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from ..batch.locations import place_of
from ..options import ANGLES, CHOICES, COLORS, DETECTORS, ORDERS, PRECISIONS, REGIONS, TEMPLATES, RestoreOptions

DEFAULTS = RestoreOptions()


def options_of(given: argparse.Namespace) -> RestoreOptions:
    """The options that a command has; the others are the defaults. Raises `OptionsError`."""
    known = RestoreOptions.__dataclass_fields__
    return RestoreOptions(**{name: value for name, value in vars(given).items() if name in known})


def local_path(text: str) -> Path:
    """A file of this machine; URLs are for pictures."""
    place = place_of(text)
    if not isinstance(place, Path):
        raise argparse.ArgumentTypeError(f"expected a file or folder of this machine, got {text!r}")
    return place


def models_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models-dir", type=Path, metavar="DIR", help="default: $GPEN_MODELS_DIR, else the cache directory")


def model_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", default="gpen-bfr-2048", metavar="NAME|FILE|auto", help="auto: each face by the network of its size"
    )


def order_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--order", default=DEFAULTS.order, choices=ORDERS)


def detection_arguments(parser: argparse.ArgumentParser) -> None:
    """Those about finding faces, but for their order."""
    add = parser.add_argument
    add("--detector", default=DETECTORS[0], metavar="NAME|FILE")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, xpu, mps, directml")
    add("--dtype", default="auto", choices=PRECISIONS)
    add("--confidence", type=float, default=DEFAULTS.confidence, metavar="C", help="of the detector, 0 to 1")
    add(
        "--detection-size",
        type=int,
        default=DEFAULTS.detection_size,
        metavar="PX",
        help="longer side for the smallest faces; larger ones are found at any",
    )
    add(
        "--angles",
        default=DEFAULTS.angles,
        choices=ANGLES,
        help="auto: turned heads, too, and turned pictures where nothing is found upright; all: always every angle",
    )
    add("--offline", action="store_true", help="download nothing; as $GPEN_OFFLINE=1")
    add("--require-digest", action="store_true", help="refuse weights that no published digest vouches for")


def selection_arguments(parser: argparse.ArgumentParser, numbers: str = "numbers count from 0 in --order") -> None:
    """Those about which of the faces found are restored."""
    add = parser.add_argument
    add("--faces", default=DEFAULTS.faces, metavar=f"{'|'.join(CHOICES)}|0,2-4", help=numbers)
    add("--min-face-size", type=float, default=DEFAULTS.min_face_size, metavar="PX", help="shorter side of a face's box")
    add("--max-faces", type=int, default=DEFAULTS.max_faces, metavar="N", help="the largest N")


def run_arguments(parser: argparse.ArgumentParser, report: str = "what was found and done, as JSON") -> None:
    """Those about how much memory and which ways of computing."""
    add = parser.add_argument
    add("--max-memory", type=_bytes, metavar="BYTES", help="for activations, and as much again for pictures, e.g. 4G")
    add("--compile", action="store_true", help="for many faces on CUDA or ROCm: torch.compile and CUDA graphs")
    add("--report", type=local_path, metavar="FILE", help=report)


def ray_arguments(parser: argparse.ArgumentParser) -> None:
    """On which processes."""
    parser.add_argument(
        "--ray",
        nargs="?",
        type=_address,
        const="local",
        metavar="ADDRESS",
        help="on many processes by Ray: local (the default), or the cluster at host:port, or auto",
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="with --ray: how many; default one a GPU, or one for four processors"
    )


def _address(text: str) -> str:
    if text not in ("auto", "local") and re.fullmatch(r"[^/\\]+:\d+", text) is None:
        raise argparse.ArgumentTypeError(f"expected host:port, auto or local, got {text!r}; inputs stand before --ray")
    return text


def _bytes(text: str) -> int:
    units = {"K": 2**10, "M": 2**20, "G": 2**30}
    number, unit = (text[:-1], units[text[-1].upper()]) if text[-1:].upper() in units else (text, 1)
    try:
        value = int(float(number) * unit)
    except (ValueError, OverflowError):
        value = 0
    if value <= 0:
        raise argparse.ArgumentTypeError(f"expected a positive number of bytes such as 4000000000, 4G or 500M, got {text!r}")
    return value


def look_arguments(parser: argparse.ArgumentParser) -> None:
    """Those about what a restored face looks like, but for the mask and the strength."""
    add = parser.add_argument
    add("--template", default=DEFAULTS.template, choices=TEMPLATES)
    add("--mask-expand", type=float, default=DEFAULTS.mask_expand, metavar="F", help="of the face's width; negative shrinks")
    add("--color", default=DEFAULTS.color, choices=COLORS, help="auto: what is gray stays gray; match: the input's colors")
    add("--grain", type=float, default=DEFAULTS.grain, metavar="0..1", help="of the picture's own, on the restored faces")
    add(
        "--preserve", default=",".join(DEFAULTS.preserve), metavar="REGION,...", help=f"stays as it is: {', '.join(REGIONS)}"
    )
