"""Arguments that several commands have."""

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
    OUTPUT_FORMATS,
    PRECISIONS,
    Option,
    RestoreOptions,
    VideoOptions,
    declared_options,
)

DEFAULTS = RestoreOptions()
GROUP_TITLES = {
    "selection": "which faces",
    "detection": "finding faces",
    "look": "how restored faces look",
    "upscale": "upscaling",
    "video": "video",
}


def options_from_args(args: argparse.Namespace) -> RestoreOptions:
    """The options that a command has; the others are the defaults. Raises `OptionsError`."""
    return RestoreOptions.from_mapping(vars(args))


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
        "--model",
        default=AUTO,
        metavar="NAME|FILE|auto",
        help="network that restores; auto: for each face the smallest downloaded one that suits it (default: %(default)s)",
    )


def add_option_arguments(
    parser: argparse.ArgumentParser,
    kind: type[RestoreOptions | VideoOptions],
    *groups: str,
    without: Collection[str] = (),
    helps: Mapping[str, str] | None = None,
    types: Mapping[str, Callable[[str], Any]] | None = None,
) -> None:
    """The declared options of these groups, each group under its title, but for those in `without`.

    `helps` replaces texts of options that mean something else to this command, `types` how their values are read."""
    for group in groups:
        add = parser.add_argument_group(GROUP_TITLES[group]).add_argument
        for option in declared_options(kind, CLI, group):
            if option.name not in without:
                help_ = (helps or {}).get(option.name, option.spec.help)
                add(f"--{option.name.replace('_', '-')}", **_argument(option, help_, (types or {}).get(option.name)))


def _argument(option: Option, text: str, read: Callable[[str], Any] | None) -> dict[str, Any]:
    spec, default = option.spec, option.default_for(CLI)
    is_number = spec.minimum is not None
    if spec.multiple:
        text, default = f"{text.rstrip('.')}; any of {', '.join(spec.choices)}.", ",".join(default)
    facts = [spec.range_text] if is_number else []
    if default not in (None, ""):
        facts.append(f"default: {default:g}" if is_number else f"default: {default}")
    facts_text = f" ({'; '.join(facts)})" if facts else ""
    argument: dict[str, Any] = {"default": default, "help": f"{text[:1].lower()}{text[1:].rstrip('.')}{facts_text}"}
    if spec.choices and not spec.multiple:
        return {**argument, "choices": spec.choices}
    argument["type"] = read or ((int if spec.is_whole else float) if is_number else str)
    return {**argument, "metavar": _metavar(option)}


def _metavar(option: Option) -> str:
    spec = option.spec
    if spec.minimum is None:
        return option.name.upper()
    return spec.unit.upper() or ("N" if spec.is_whole else "X")


def add_device_arguments(parser: argparse.ArgumentParser) -> None:
    """Which detector and device, and what may be downloaded for them."""
    add = parser.add_argument_group("model and device").add_argument
    add("--detector", default=DETECTORS[0], metavar="NAME|FILE", help="network that finds faces (default: %(default)s)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, xpu, mps, directml (default: %(default)s)")
    add("--dtype", default="auto", choices=PRECISIONS, help="precision of the network (default: %(default)s)")
    add("--offline", action="store_true", help="download nothing; as $GPEN_OFFLINE=1")
    add("--require-digest", action="store_true", help="refuse weights that no published digest vouches for")


def add_run_arguments(parser: argparse.ArgumentParser, report_help: str = "what was found and done, as JSON") -> None:
    """Those about how much memory and which ways of computing."""
    add = parser.add_argument
    add("--max-memory", type=_parse_bytes, metavar="BYTES", help="for activations, and as much again for images, e.g. 4G")
    add("--compile", action="store_true", help="for many faces on CUDA or ROCm: torch.compile and CUDA graphs")
    add("--report", type=parse_local_path, metavar="FILE", help=report_help)


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """How results are called and written, and how large an image may be."""
    add = parser.add_argument_group("files").add_argument
    add("--format", choices=OUTPUT_FORMATS, help="write all results so (default: as the input; else png)")
    add(
        "--quality",
        type=_parse_quality,
        metavar="N",
        help="of JPEG and WebP, 1 to 100 (default: JPEG 95; WebP as the input)",
    )
    add("--suffix", default="", metavar="TEXT", help="put TEXT behind the names of results in a folder, such as _restored")
    add(
        "--max-pixels",
        type=_parse_pixels,
        metavar="N",
        help="refuse larger images, e.g. 50M (default: what half of the memory holds, but at least 179M)",
    )


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
