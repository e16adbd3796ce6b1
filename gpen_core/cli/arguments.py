"""Arguments that several commands have."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from ..batch.locations import parse_location
from ..options import ANGLES, COLORS, DETECTORS, FACE_CHOICES, ORDERS, PRECISIONS, REGIONS, TEMPLATES, RestoreOptions

DEFAULTS = RestoreOptions()


def options_from_args(args: argparse.Namespace) -> RestoreOptions:
    """The options that a command has; the others are the defaults. Raises `OptionsError`."""
    known = RestoreOptions.__dataclass_fields__
    return RestoreOptions(**{name: value for name, value in vars(args).items() if name in known})


def parse_local_path(text: str) -> Path:
    """A file of this machine; URLs are for images."""
    place = parse_location(text)
    if not isinstance(place, Path):
        raise argparse.ArgumentTypeError(f"expected a file or folder of this machine, got {text!r}")
    return place


def add_models_dir_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models-dir", type=Path, metavar="DIR", help="default: $GPEN_MODELS_DIR, else the cache directory")


def add_model_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", default="gpen-bfr-2048", metavar="NAME|FILE|auto", help="auto: each face by the network of its size"
    )


def add_order_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--order", default=DEFAULTS.order, choices=ORDERS)


def add_detection_arguments(parser: argparse.ArgumentParser) -> None:
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
        help="auto: turned heads, too, and turned images where nothing is found upright; all: always every angle",
    )
    add("--offline", action="store_true", help="download nothing; as $GPEN_OFFLINE=1")
    add("--require-digest", action="store_true", help="refuse weights that no published digest vouches for")


def add_selection_arguments(parser: argparse.ArgumentParser, faces_help: str = "numbers count from 0 in --order") -> None:
    """Those about which of the faces found are restored."""
    add = parser.add_argument
    add("--faces", default=DEFAULTS.faces, metavar=f"{'|'.join(FACE_CHOICES)}|0,2-4", help=faces_help)
    add("--min-face-size", type=float, default=DEFAULTS.min_face_size, metavar="PX", help="shorter side of a face's box")
    add("--max-faces", type=int, default=DEFAULTS.max_faces, metavar="N", help="the largest N")


def add_run_arguments(parser: argparse.ArgumentParser, report_help: str = "what was found and done, as JSON") -> None:
    """Those about how much memory and which ways of computing."""
    add = parser.add_argument
    add("--max-memory", type=_parse_bytes, metavar="BYTES", help="for activations, and as much again for images, e.g. 4G")
    add("--compile", action="store_true", help="for many faces on CUDA or ROCm: torch.compile and CUDA graphs")
    add("--report", type=parse_local_path, metavar="FILE", help=report_help)


def add_ray_arguments(parser: argparse.ArgumentParser) -> None:
    """On which processes."""
    parser.add_argument(
        "--ray",
        nargs="?",
        type=_parse_address,
        const="local",
        metavar="ADDRESS",
        help="on many processes by Ray: local (the default), or the cluster at host:port, or auto",
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="with --ray: how many; default one a GPU, or one for four processors"
    )


def _parse_address(text: str) -> str:
    if text not in ("auto", "local") and re.fullmatch(r"[^/\\]+:\d+", text) is None:
        raise argparse.ArgumentTypeError(f"expected host:port, auto or local, got {text!r}; inputs stand before --ray")
    return text


def _parse_bytes(text: str) -> int:
    units = {"K": 2**10, "M": 2**20, "G": 2**30}
    number, unit = (text[:-1], units[text[-1].upper()]) if text[-1:].upper() in units else (text, 1)
    try:
        value = int(float(number) * unit)
    except (ValueError, OverflowError):
        value = 0
    if value <= 0:
        raise argparse.ArgumentTypeError(f"expected a positive number of bytes such as 4000000000, 4G or 500M, got {text!r}")
    return value


def add_appearance_arguments(parser: argparse.ArgumentParser) -> None:
    """Those about what a restored face looks like, but for the mask and the strength."""
    add = parser.add_argument
    add("--template", default=DEFAULTS.template, choices=TEMPLATES)
    add("--mask-expand", type=float, default=DEFAULTS.mask_expand, metavar="F", help="of the face's width; negative shrinks")
    add("--color", default=DEFAULTS.color, choices=COLORS, help="auto: what is gray stays gray; match: the input's colors")
    add("--grain", type=float, default=DEFAULTS.grain, metavar="0..1", help="of the image's own, on the restored faces")
    add(
        "--preserve", default=",".join(DEFAULTS.preserve), metavar="REGION,...", help=f"stays as it is: {', '.join(REGIONS)}"
    )
