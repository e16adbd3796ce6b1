"""`gpen export`: write a network as an ONNX file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import OptionsError
from .arguments import add_models_dir_argument, parse_local_path
from .model_loading import open_store
from .progress_display import progress_reporter
from .terminal import print_line

if TYPE_CHECKING:
    import torch

    from ..network import GPENConfig
    from ..weights.catalog import Entry


DESCRIPTION = """Writes a network as an ONNX file, and compares its output with the network's. Needs onnx and onnxruntime.

  gpen export gpen-bfr-512 -o gpen-512.onnx"""


def add_command(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    export = commands.add_parser(
        "export", parents=[shared], help="write a network as an ONNX file for other programs", description=DESCRIPTION
    )
    export.add_argument("model", metavar="NAME|FILE", help="a network listed by `gpen models`, or a weights file")
    export.add_argument("-o", "--output", type=parse_local_path, required=True, metavar="FILE.onnx", help="file to write")
    export.add_argument("--half", action="store_true", help="use float16: half the size. Input and output are still float32")
    export.add_argument(
        "--batch", type=_parse_count, metavar="N", help="fixed number of faces per batch, 1 to 64 (default: any)"
    )
    export.add_argument("--offline", action="store_true", help="do not download anything (same as GPEN_OFFLINE=1)")
    add_models_dir_argument(export)
    export.set_defaults(command=_export)


def _parse_count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 64:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 to 64, got {text!r}")
    return int(text)


def _export(args: argparse.Namespace) -> int:
    output: Path = args.output
    if output.suffix.lower() != ".onnx":
        raise OptionsError(f"The output must be an .onnx file, got {output}.")
    from ..batch.file_keys import same_file_key
    from ..batch.read_files import ReadFiles
    from ..network import validate_state_dict
    from ..optional_packages import require
    from ..weights.folders import resolve_path
    from ..weights.name_check import MODEL, check_name
    from ..weights.onnx_export import export

    def build(content: object, entry: Entry | None) -> tuple[dict[str, torch.Tensor], GPENConfig]:
        return validate_state_dict(content, entry.size if entry else None)

    require("onnx")  # before anything is downloaded
    store = open_store(args, offline=args.offline)
    check_name(args.model, MODEL, store.folders)
    if isinstance(path := resolve_path(args.model, store.folders), Path):
        ReadFiles([path]).raise_if_overwritten(output, same_file_key(output))
    with progress_reporter(args) as progress:
        state_dict, config = store.load(args.model, build, progress)
    error = export(state_dict, config, output, args.half, args.batch)
    kind = "average" if args.half else "largest"
    print_line(f"{output}: GPEN-{config.size}; {kind} difference in ONNX Runtime {error:.1e} standard deviations")
    return 0
