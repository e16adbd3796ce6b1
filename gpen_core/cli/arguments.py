"""Arguments that several commands have."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..options import ANGLES, CHOICES, COLORS, DETECTORS, ORDERS, PRECISIONS, REGIONS, TEMPLATES, RestoreOptions

DEFAULTS = RestoreOptions()


def options_of(given: argparse.Namespace) -> RestoreOptions:
    """The options that a command has; the others are the defaults. Raises `OptionsError`."""
    known = RestoreOptions.__dataclass_fields__
    return RestoreOptions(**{name: value for name, value in vars(given).items() if name in known})


def models_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models-dir", type=Path, metavar="DIR", help="default: $GPEN_MODELS_DIR, else the cache directory")


def detection_arguments(parser: argparse.ArgumentParser) -> None:
    """Those about finding faces."""
    add = parser.add_argument
    add("--detector", default=DETECTORS[0], metavar="NAME|FILE")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps, directml")
    add("--dtype", default="auto", choices=PRECISIONS)
    add("--order", default=DEFAULTS.order, choices=ORDERS)
    add("--confidence", type=float, default=DEFAULTS.confidence, metavar="C", help="of the detector, 0 to 1")
    add(
        "--detect-size",
        type=int,
        default=DEFAULTS.detect_size,
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


def selection_arguments(parser: argparse.ArgumentParser) -> None:
    """Those about which of the faces found are restored."""
    add = parser.add_argument
    add("--faces", default=DEFAULTS.faces, metavar=f"{'|'.join(CHOICES)}|0,2-4", help="numbers count from 0 in --order")
    add("--min-face", type=float, default=DEFAULTS.min_face, metavar="PX", help="shorter side of a face's box")
    add("--max-faces", type=int, default=DEFAULTS.max_faces, metavar="N", help="the largest N")


def look_arguments(parser: argparse.ArgumentParser) -> None:
    """Those about what a restored face looks like, but for the mask and the strength."""
    add = parser.add_argument
    add("--template", default=DEFAULTS.template, choices=TEMPLATES)
    add("--mask-grow", type=float, default=DEFAULTS.mask_grow, metavar="F", help="of the face's width; negative shrinks")
    add("--color", default=DEFAULTS.color, choices=COLORS, help="auto: what is grey stays grey; match: the input's colours")
    add("--grain", type=float, default=DEFAULTS.grain, metavar="0..1", help="of the picture's own, on the restored faces")
    add("--keep", default=",".join(DEFAULTS.keep), metavar="REGION,...", help=f"stays as it is: {', '.join(REGIONS)}")
