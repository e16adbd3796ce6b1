"""`gpen download`, `gpen models` and `gpen convert`."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

from ..errors import OptionsError, WeightsError
from ..progress import pluralize
from .arguments import add_models_dir_argument
from .exit_status import exit_status
from .model_loading import open_store
from .progress_display import progress_reporter
from .terminal import print_error, print_line, print_summary

DOWNLOAD = """Downloads weights in advance, and verifies them. An interrupted download resumes.

  gpen download
  gpen download gpen-bfr-512 --models-dir carried"""
MODELS = """Prints the folder of the weights, and for each file whether it is there and how it was verified.

  gpen models
  gpen models --verify"""
CONVERT = """Converts a weights file to .safetensors, which loads faster. The original is kept.

  gpen convert GPEN-BFR-2048.onnx"""
DEFAULT_DOWNLOADS = ("gpen-bfr-2048", "retinaface_resnet50", "parsenet")


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add the three commands to the parser."""
    download = commands.add_parser("download", parents=[shared], help="download and verify weights", description=DOWNLOAD)
    download.add_argument(
        "names", nargs="*", metavar="NAME", help=f"names listed by `gpen models` (default: {' '.join(DEFAULT_DOWNLOADS)})"
    )
    download.add_argument("--mirror", metavar="URL", help="try URL/FILE first for each file (default: $GPEN_MIRROR)")
    download.add_argument("--require-digest", action="store_true", help="reject weights without a published SHA-256")
    add_models_dir_argument(download)
    download.set_defaults(command=_download)
    models = commands.add_parser("models", parents=[shared], help="list known and downloaded weights", description=MODELS)
    models.add_argument("--verify", action="store_true", help="check the SHA-256 and the tensors of each file")
    models.add_argument("--accept-changed", action="append", metavar="NAME", help="accept a weights file that you replaced")
    add_models_dir_argument(models)
    models.set_defaults(command=_models)
    convert = commands.add_parser(
        "convert", parents=[shared], help="convert a weights file to .safetensors", description=CONVERT
    )
    convert.add_argument(
        "file",
        metavar="FILE",
        help="a .pth, .pt or .onnx file, or a name in the models folder. The result is written next to it",
    )
    add_models_dir_argument(convert)
    convert.set_defaults(command=_convert)


def _download(args: argparse.Namespace) -> int:
    from ..pipeline.network_loading import validate_checkpoint
    from ..weights.catalog import CATALOG, find_entry
    from ..weights.name_check import suggest
    from .weights_report import describe_weights

    entries = [find_entry(name) for name in args.names or DEFAULT_DOWNLOADS]
    if None in entries:
        unknown = next(name for name in args.names if find_entry(name) is None)
        names = [entry.name for entry in CATALOG]
        raise OptionsError(f"Unknown weights {unknown!r}.{suggest(unknown, names)} Available: {', '.join(names)}.")
    store = open_store(args, mirror=args.mirror, require_digest=args.require_digest)
    refused: Counter[type[BaseException]] = Counter()
    for entry in filter(None, entries):
        try:
            with progress_reporter(args) as progress:
                path = store.fetch(entry.name, validate_checkpoint, progress)
                record = store.verify(path)
            print_summary(args, f"{entry.name}: {path} ({describe_weights(record)})")
        except WeightsError as error:
            print_error(error)
            refused[type(error)] += 1
    return exit_status(refused, len(entries))


def _models(args: argparse.Namespace) -> int:
    from ..pipeline.network_loading import validate_checkpoint
    from .weights_report import describe_weights, list_weights

    store = open_store(args)
    for name in args.accept_changed or ():
        path, record = store.accept_changed(name, validate_checkpoint)
        print_line(f"{path} is accepted: {describe_weights(record)}, SHA-256 {record.sha256}")
    if args.accept_changed:
        return 0
    print_line(f"models folder: {', '.join(map(str, store.folders))}")
    refused = 0
    for line in list_weights(store, args.verify):
        location = f"  {line.folder}" if line.folder else ""
        print_line(f"{line.name:22}  {line.file:33}  {line.size:>17}  {line.state}{location}")
        refused += line.is_refused
    if refused:
        print_error(f"{pluralize(refused, 'file')} cannot be used.")
    return exit_status({WeightsError: refused} if refused else {})


def _convert(args: argparse.Namespace) -> int:
    from ..errors import MissingWeights
    from ..network import extract_state_dict
    from ..weights import convert
    from ..weights.catalog import find_entry
    from ..weights.folders import resolve_path

    store = open_store(args, offline=True)
    path = resolve_path(args.file, store.folders)
    if not isinstance(path, Path):
        raise MissingWeights(f"{args.file} is not in {store.folders[0]}. Run `gpen download {args.file}` first.")
    if (entry := find_entry(path.name)) is not None and entry.is_graph:
        raise OptionsError(f"{path} is used as it is. It needs no conversion.")
    if path.suffix.lower() == ".safetensors":
        raise OptionsError(f"{path} is already a .safetensors file.")
    state_dict, record = store.load_as_is(path, lambda content, entry: extract_state_dict(content))
    print_summary(args, str(convert.save_safetensors(path, record, state_dict)))
    return 0
