"""The files that arguments name besides the inputs."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..options import RestoreOptions, face_references, photo_path

if TYPE_CHECKING:
    from ..batch.read_files import ReadFiles

WEIGHTS = ("model", "models", "detector", "upscaler")
"""Arguments whose values are names or files. `models` has several values."""


def read_files(args: argparse.Namespace, options: RestoreOptions, *paths: Path) -> ReadFiles:
    """Return the files that `--input-list`, `--faces` and the arguments of networks name, and `paths`."""
    from ..batch.read_files import ReadFiles

    return ReadFiles([*_named(args, options), *paths])


def _named(args: argparse.Namespace, options: RestoreOptions) -> Iterator[Path]:
    if (listing := getattr(args, "input_list", None)) is not None:
        yield listing
    for reference in face_references(options.faces):
        yield from (Path(path) for path in map(photo_path, reference.photos) if path is not None)
    names = ",".join(str(getattr(args, name, "")) for name in WEIGHTS).split(",")
    yield from (Path(name) for name in names if os.path.isfile(name))
