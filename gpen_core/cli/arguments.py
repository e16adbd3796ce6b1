"""Arguments that several commands share."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from ..batch.locations import parse_location
from ..options import (
    AUTO,
    CLI,
    DETECTORS,
    IMAGE_FORMATS,
    PRECISIONS,
    Option,
    RestoreOptions,
    VideoOptions,
    declared_options,
    parse_time,
)

GROUP_TITLES = {
    "selection": "which faces",
    "detection": "finding faces",
    "look": "how restored faces look",
    "upscale": "upscaling",
    "video": "video",
}


def options_from_args(args: argparse.Namespace) -> RestoreOptions:
    """Return the options of a command, with defaults for those that it does not have. Raises `OptionsError`."""
    values = {name: value for name, value in vars(args).items() if value is not None}
    if len(values.get("faces", ())) == 1:  # given once: errors quote it as it was given
        (values["faces"],) = values["faces"]
    return RestoreOptions.from_mapping(values)


def parse_local_path(text: str) -> Path:
    """Parse a local path. URLs are only allowed for images."""
    place = parse_location(text)
    if not isinstance(place, Path):
        raise argparse.ArgumentTypeError(f"expected a local file or folder, got {text!r}")
    return place


def parse_seconds(text: str) -> float:
    """Parse seconds, or minutes and hours before them."""
    try:
        return parse_time(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected seconds such as 83.5 or 1:23.5, got {text!r}") from None


def add_models_dir_argument(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--models-dir",
        type=Path,
        metavar="DIR",
        help="folder of the weights (default: $GPEN_MODELS_DIR, else the cache directory)",
    )


def add_input_list(group: argparse._ArgumentGroup, inputs: argparse.Action) -> None:
    """Add `--input-list`, which makes INPUT optional. argparse's `*` does not work if options come before the inputs."""

    class InputListAction(argparse.Action):
        def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option: str | None = None) -> None:
            inputs.required = False
            setattr(namespace, self.dest, values)

    group.add_argument(
        "--input-list",
        type=parse_local_path,
        action=InputListAction,
        metavar="FILE",
        help="file with one input per line (- is the standard input), or a Parquet file with a column path",
    )


def add_option_arguments(
    parser: argparse.ArgumentParser,
    kind: type[RestoreOptions | VideoOptions],
    *groups: str,
    without: Collection[str] = (),
    helps: Mapping[str, str] | None = None,
    types: Mapping[str, Callable[[str], Any]] | None = None,
) -> None:
    """Add the declared options of these groups, each group under its title, except those in `without`.

    `helps` replaces help texts, and `types` the parsers of values, for options that differ in this command."""
    for group in groups:
        add = parser.add_argument_group(GROUP_TITLES[group]).add_argument
        for option in declared_options(kind, CLI, group):
            if option.name not in without:
                help_ = (helps or {}).get(option.name, option.spec.help)
                argument = _argument(option, help_, (types or {}).get(option.name))
                add(f"--{option.flag}", dest=option.name, **argument)


def _argument(option: Option, text: str, read: Callable[[str], Any] | None) -> dict[str, Any]:
    spec, default = option.spec, option.default_for(CLI)
    is_number = spec.minimum is not None
    if spec.multiple:
        text, default = f"{text.rstrip('.')}; any of {', '.join(spec.choices)}.", ",".join(default)
    facts = [spec.range_text] if is_number else []
    if default not in (None, "", ()):
        facts.append(f"default: {default:g}" if is_number else f"default: {default}")
    facts_text = f" ({'; '.join(facts)})" if facts else ""
    argument: dict[str, Any] = {"default": default, "help": f"{text[:1].lower()}{text[1:].rstrip('.')}{facts_text}"}
    if spec.choices and not spec.multiple:
        return {**argument, "choices": spec.choices}
    if spec.is_repeatable:  # argparse would append to a default
        return {**argument, "default": None, "action": "append", "metavar": _metavar(option)}
    argument["type"] = read or ((int if spec.is_whole else float) if is_number else str)
    return {**argument, "metavar": _metavar(option)}


def _metavar(option: Option) -> str:
    spec = option.spec
    if spec.minimum is None:
        return option.flag.upper().replace("-", "_")
    return spec.unit.upper() or ("N" if spec.is_whole else "X")


def add_device_arguments(parser: argparse.ArgumentParser, with_model: bool = True) -> None:
    """Add the arguments for model, detector, models folder, device, precision and downloads."""
    group = parser.add_argument_group("model and device")
    add = group.add_argument
    if with_model:
        model_help = "restoration network. auto: the smallest downloaded one that fits each face (default: %(default)s)"
        add("--model", default=AUTO, metavar="NAME|FILE|auto", help=model_help)
    add("--detector", default=DETECTORS[0], metavar="NAME|FILE", help="face detector (default: %(default)s)")
    add_models_dir_argument(group)
    device_help = "auto, cpu, cuda, cuda:1, xpu, mps, directml, openvino or tensorrt (default: %(default)s)"
    add("--device", default="auto", help=device_help)
    add(
        "--dtype",
        default="auto",
        choices=PRECISIONS,
        help="precision of the network (default: %(default)s)",
    )
    add("--offline", action="store_true", help="do not download anything (same as GPEN_OFFLINE=1)")
    add("--require-digest", action="store_true", help="reject weights without a published SHA-256")


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments for memory, compilation and the report."""
    add = parser.add_argument_group("run").add_argument
    add(
        "--max-memory",
        type=_parse_bytes,
        metavar="BYTES",
        help="memory limit for the network, and the same limit for images, e.g. 4G",
    )
    add("--compile", action="store_true", help="use torch.compile and CUDA graphs: faster for many faces (CUDA, ROCm)")
    report_help = "write a JSON report, or stream JSON Lines if FILE ends in .jsonl"
    add("--report", type=parse_local_path, metavar="FILE", help=report_help)


def add_output_arguments(group: argparse._ArgumentGroup) -> None:
    """Add the arguments for the names and formats of results, and for the size limit of images."""
    add = group.add_argument
    add(
        "--format",
        choices=IMAGE_FORMATS,
        help="format of all results (default: the input's, or png if it cannot be written)",
    )
    add(
        "--quality",
        type=_parse_quality,
        metavar="N",
        help="quality of JPEG and WebP, 1 to 100 (default: JPEG 95; WebP as the input)",
    )
    add_suffix_argument(group)
    add(
        "--max-pixels",
        type=_parse_pixels,
        metavar="N",
        help="reject larger images, e.g. 50M (default: as many as fit into half of the memory, at least 179M)",
    )


def add_suffix_argument(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--suffix",
        default="",
        metavar="TEXT",
        help="append TEXT to the names of results in a folder, e.g. _restored. {ext} in it becomes the input's suffix",
    )


def add_ray_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments for running on several processes or machines."""
    add = parser.add_argument_group("several processes or machines").add_argument
    add(
        "--ray",
        nargs="?",
        type=_parse_address,
        const="local",
        metavar="ADDRESS",
        help="use several processes with Ray: local (default), or a cluster: host:port or auto",
    )
    add(
        "--workers",
        type=int,
        metavar="N",
        help="number of processes with --ray (default: one per GPU, or one per four processors)",
    )


def _parse_address(text: str) -> str:
    if text not in ("auto", "local") and re.fullmatch(r"[^/\\]+:\d+", text) is None:
        raise argparse.ArgumentTypeError(f"expected host:port, auto or local, got {text!r}. Put inputs before --ray")
    return text


def _parse_quality(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= 100):
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 to 100, got {text!r}")
    return int(text)


def _parse_pixels(text: str) -> int:
    units = {"K": 10**3, "M": 10**6, "G": 10**9}
    return _parse_count(text, units, "a positive number of pixels such as 50000000 or 200M")


def _parse_bytes(text: str) -> int:
    units = {"K": 2**10, "M": 2**20, "G": 2**30}
    return _parse_count(text, units, "a positive number of bytes such as 4000000000, 4G or 500M")


def _parse_count(text: str, units: Mapping[str, int], expected: str) -> int:
    number, unit = (text[:-1], units[text[-1].upper()]) if text[-1:].upper() in units else (text, 1)
    try:
        value = int(float(number) * unit)
    except (ValueError, OverflowError):
        value = 0
    if value <= 0:
        raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
    return value
