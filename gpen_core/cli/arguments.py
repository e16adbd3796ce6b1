"""Arguments that several commands have."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..options import ANGLES, DETECTORS, ORDERS, PRECISIONS, RestoreOptions

DEFAULTS = RestoreOptions()


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
