"""How frames are encoded: which encoder, how good, in which pixel format, and whether the output can hold it all."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from ..errors import InputError, OptionsError, first_line, name_offenders
from .containers import FORMATS, failures, knows_chapters, library, open_input
from .hdr import NOTHING_SAID, Mastering
from .planes import BT709, FULL, LIMITED, Layout
from .probe import Film, Stream
from .stream_copy import add_copy, is_derived

PICTURES = "pictures"  # the codec of a folder of frames
NAMES = {
    "h264": ("libx264", "libopenh264"),
    "hevc": ("libx265",),
    "av1": ("libsvtav1", "libaom-av1"),
    "vp9": ("libvpx-vp9",),
    "prores": ("prores_ks",),
}
"""Encoders by codec, the first that is there."""


@dataclass(frozen=True)
class Quality:
    """What sets an encoder's quality."""

    option: str
    """crf, cq or qscale; empty where nothing is lost."""
    default: int
    """Chosen by measurement, see docs/video.md: what re-encoding changes cannot be seen."""
    most: int = 0
    """The worst that it can be set to."""
    more: tuple[tuple[str, str], ...] = ()


NVENC = (("preset", "p5"), ("rc", "vbr"), ("b", "0"))
QUALITIES = {
    "libx264": Quality("crf", 16, 51),
    "libx265": Quality("crf", 18, 51, (("x265-params", "log-level=error:info=0"),)),
    "libsvtav1": Quality("crf", 20, 63, (("preset", "6"),)),
    "libaom-av1": Quality("crf", 20, 63, (("cpu-used", "4"), ("b", "0"))),
    "libvpx-vp9": Quality("crf", 18, 63, (("b", "0"), ("row-mt", "1"), ("cpu-used", "2"))),
    "h264_nvenc": Quality("cq", 18, 51, NVENC),
    "hevc_nvenc": Quality("cq", 20, 51, NVENC),
    "av1_nvenc": Quality("cq", 22, 51, NVENC),
    "ffv1": Quality("", 0, 0, (("level", "3"), ("g", "1"), ("slicecrc", "1"))),
    "prores_ks": Quality("", 0, 0, (("profile", "3"),)),
    "mpeg4": Quality("qscale", 2, 31),
    "mpeg2video": Quality("qscale", 2, 31),
    "mjpeg": Quality("qscale", 2, 31, (("strict", "unofficial"),)),
}
LOSSLESS = ("ffv1",)
RGB = 0  # the matrix of what is no YCbCr
QSCALE = 118  # FF_QP2LAMBDA
BITS_A_PIXEL = 0.3  # for encoders of which no option for quality is known
HELD_BACK = 64  # frames: more than any encoder reorders
RATE_TERMS = 1001  # of an encoder's frame rate: MPEG-4's are 16 bits


@dataclass(frozen=True)
class Encoding:
    """What is asked for, and after `check_output` what that comes to."""

    codec: str = "auto"
    """auto (H.264, HEVC above 8 bits), h264, hevc, av1, vp9, ffv1, prores, or the name of an encoder of FFmpeg."""
    crf: int | None = None
    """The quality in the encoder's own numbers, less is better; None for the default."""
    encoder: str = ""
    format: str = ""
    """The encoder's pixel format."""
    size: tuple[int, int] = (0, 0)
    """Width and height of what is encoded: perhaps a pixel more than the film."""
    copied: tuple[int, ...] = ()
    """Indices of the film's streams that go into the output as they are."""
    mastering: Mastering = NOTHING_SAID
    notes: tuple[str, ...] = ()
    """What the output will be without, or has otherwise than the film."""

    @property
    def options(self) -> dict[str, str]:
        """The encoder's."""
        quality = QUALITIES.get(self.encoder)
        if quality is None:
            return {}
        value = quality.default if self.crf is None else self.crf
        chosen = {quality.option: str(value)} if quality.option else {}
        if quality.option == "qscale":
            chosen = {"flags": "+qscale", "global_quality": str(value * QSCALE)}
        if self.encoder == "ffv1" and any(side % 2 for side in self.size):
            chosen["slices"] = "1"  # FFmpeg 7.1 loses the last column of chroma with more of them
        chosen = {**dict(quality.more), **chosen}
        for name, said in self.mastering.options(self.encoder).items():
            chosen[name] = f"{chosen[name]}:{said}" if name in chosen else said
        return chosen


def is_folder_target(target: Path) -> bool:
    """Whether frames are to be written as pictures: to a folder, or to a name without a suffix."""
    return target.is_dir() or not target.suffix


def check_output(film: Film, target: Path, encoding: Encoding) -> Encoding:
    """What will be written, tried out without a file: the encoder is opened, and each stream offered to the container.

    Raises `OptionsError` for an unknown or missing encoder, a quality that it does not have and an unknown container;
    `InputError` where the container cannot hold a stream, which is named with a container that can."""
    if is_folder_target(target):
        left = tuple(f"{one} is not in a folder of pictures." for one in film.others)
        return Encoding(PICTURES, encoder=PICTURES, format=film.format, size=film.size, notes=left)
    suffix = target.suffix.lower()
    if suffix not in FORMATS:
        raise OptionsError(f"{target}: {suffix} is no container that is written. Choose one of {', '.join(FORMATS)}.")
    chosen = _with_encoder(film, encoding, suffix)
    copied, notes = _copied(film, suffix)
    return replace(chosen, copied=copied, notes=(*chosen.notes, *notes))


def _with_encoder(film: Film, encoding: Encoding, suffix: str) -> Encoding:
    codec = encoding.codec
    if codec == "auto":
        codec = "av1" if suffix == ".webm" else "h264" if film.bits <= 8 else "hevc"
    name, formats = _find(codec)
    _check_quality(name, encoding.crf)
    chosen = replace(encoding, encoder=name, format=_best_format(film, name, formats), size=film.size)
    chosen = replace(chosen, mastering=film.mastering)
    needs_even = _needs_even(chosen)
    failed = None if needs_even else _refusal(film, chosen, suffix)
    if needs_even or (failed is not None and any(side % 2 for side in film.size)):
        even = (film.size[0] + film.size[0] % 2, film.size[1] + film.size[1] % 2)
        said = (
            f"{name} needs even sizes: {film.size[0]} x {film.size[1]} becomes {even[0]} x {even[1]}, the border repeated."
        )
        chosen = replace(chosen, size=even, notes=(said,))
        failed = _refusal(film, chosen, suffix)
    if failed is not None:
        _raise_refusal(film, chosen, suffix, failed)
    return replace(chosen, notes=(*chosen.notes, *_losses(film, chosen)))


def _needs_even(chosen: Encoding) -> bool:
    """Whether it is x265 with a size of which parts would have no colour: it says on stderr what it refuses."""
    layout = Layout.of(chosen.format)
    assert layout is not None
    return chosen.encoder == "libx265" and bool(chosen.size[0] % layout.across or chosen.size[1] % layout.down)


def _check_quality(encoder: str, crf: int | None) -> None:
    quality = QUALITIES.get(encoder, Quality("", 0))
    if crf is None:
        return
    if not quality.option:
        raise OptionsError(f"{encoder} has no quality that a number could set (got {crf}). Leave that option out.")
    if not 0 <= crf <= quality.most:
        raise OptionsError(f"Expected a quality from 0 to {quality.most} for {encoder}, got {crf}; less is better.")


def _find(codec: str) -> tuple[str, list[str]]:
    """An encoder's name and the pixel formats that it takes."""
    for name in NAMES.get(codec, (codec,)):
        try:
            found = library().Codec(name, "w")
        except failures():
            continue
        if found.type == "video" and found.video_formats:
            return found.name, [one.name for one in found.video_formats]
    known = ", ".join(dict.fromkeys((*NAMES, "ffv1", "h264_nvenc", "hevc_nvenc")))
    raise OptionsError(f"No video encoder {codec!r} is part of this PyAV. Choose auto or one of {known}.")


def _best_format(film: Film, encoder: str, formats: list[str]) -> str:
    """The one that holds the film's planes with the least lost, then with the least more."""
    wanted = Layout.of(film.format)
    assert wanted is not None
    if wanted.kind == "gbrp" and encoder not in LOSSLESS:  # what players show
        wanted = Layout("yuv", 2, 2, min(wanted.bits, 10))
    if wanted.kind == "gray":
        wanted = replace(wanted, across=4, down=4)
    layouts = {name: Layout.of(name) for name in formats if not name.startswith("yuvj")}
    known = {name: layout for name, layout in layouts.items() if layout is not None}
    if not known:
        raise OptionsError(
            f"{encoder} takes no pixel format that is known here ({', '.join(formats[:5])}). Choose another codec."
        )

    def cost(name: str) -> tuple[int, ...]:
        one = known[name]
        no_colour = one.kind == "gray" and wanted.kind != "gray"
        coarser = max(0, one.across - wanted.across) + max(0, one.down - wanted.down)
        more = wanted.across * wanted.down - one.across * one.down
        return (
            no_colour,
            max(0, wanted.bits - one.bits),
            coarser,
            one.kind != wanted.kind,
            one.bits,
            more,
            name != one.name,
        )

    return min(known, key=cost)


def new_stream(container: Any, film: Film, encoding: Encoding) -> Any:
    """The video stream of an output, its encoder set up but not opened: its time base is one frame."""
    os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 says on stderr all that it is told, otherwise
    rate = encoder_rate(film)
    stream = container.add_stream(encoding.encoder, rate=rate, options=encoding.options)
    context = stream.codec_context
    stream.time_base = film.time_base  # which PyAV 14 sets for the context, too
    context.width, context.height = encoding.size
    context.pix_fmt, context.time_base = encoding.format, 1 / rate
    context.sample_aspect_ratio = film.aspect
    if encoding.encoder not in QUALITIES:
        context.bit_rate = round(BITS_A_PIXEL * encoding.size[0] * encoding.size[1] * rate)
    tag_colours(context, film, encoding.format)
    return stream


def encoder_rate(film: Film) -> Fraction:
    """Frames a second, as the encoder is told."""
    return max(Fraction(1, RATE_TERMS), (1 / film.frame_seconds).limit_denominator(RATE_TERMS))


def segment_shift(film: Film) -> int:
    """What is added to timestamps in segments: their containers know none below zero, and frames are decoded earlier than
    they are shown."""
    return HELD_BACK * film.frame_ticks - film.origin


def tag_colours(context: Any, film: Film, format_: str) -> None:
    """The film's colour tags on a codec context; RGB that became YCbCr is tagged with the matrix that made it so."""
    colours = film.colours
    made, was = Layout.of(format_), Layout.of(film.format)
    assert made is not None and was is not None
    if made.kind == "gbrp":
        context.color_range, context.colorspace = FULL, RGB
    elif was.kind == "gbrp":
        context.color_range, context.colorspace = LIMITED, BT709
    else:
        context.color_range, context.colorspace = colours.range, colours.matrix
    context.color_primaries, context.color_trc = colours.primaries, colours.transfer


def _losses(film: Film, encoding: Encoding) -> list[str]:
    had, gets = Layout.of(film.format), Layout.of(encoding.format)
    assert had is not None and gets is not None
    notes = []
    if gets.bits < had.bits:
        notes.append(f"{encoding.encoder} takes at most {gets.bits} bits here: the film's {had.bits} are rounded.")
    if had.kind != "gray" and (gets.across > had.across or gets.down > had.down):
        notes.append(f"{encoding.encoder} takes {encoding.format} here: the film's {film.format} has finer colour.")
    return notes


def _refusal(film: Film, encoding: Encoding, suffix: str) -> BaseException | None:
    """What the encoder or the container says against it, if anything."""
    with _trial(suffix) as container:
        try:
            new_stream(container, film, encoding)
            container.start_encoding()
        except failures() as error:
            return error
    return None


def _raise_refusal(film: Film, encoding: Encoding, suffix: str, failed: BaseException) -> None:
    others = [other for other in (".mkv", ".mp4", ".mov") if other != suffix and _refusal(film, encoding, other) is None]
    if others:
        raise InputError(
            f"A {suffix} file cannot hold video of {encoding.encoder} ({first_line(failed)}). Name the output "
            f"{others[0]}, or choose another codec."
        ) from failed
    raise OptionsError(
        f"{encoding.encoder} cannot be used here for {encoding.size[0]} x {encoding.size[1]} pixels of {encoding.format} "
        f"({first_line(failed)}). It may need a device that is not there, or other options: choose another codec or quality."
    ) from failed


@contextlib.contextmanager
def _trial(suffix: str) -> Iterator[Any]:
    """A container that is written nowhere."""
    container = library().open(io.BytesIO(), "w", format=FORMATS[suffix])
    try:
        yield container
    finally:
        with contextlib.suppress(*failures()):
            container.close()


def _copied(film: Film, suffix: str) -> tuple[tuple[int, ...], list[str]]:
    """Indices of the streams that are copied, and what is to be said of the others."""
    if film.is_folder or not film.others:
        return (), []
    held = _holds(film, suffix)
    others = [one for one in film.others if not is_derived(one)]
    refused = [one for one in others if not held[one.index]]
    lost = [one for one in refused if one.kind in ("data", "attachment") and not _somewhere(film, one)]
    if len(refused) > len(lost):
        _refuse_streams(film, suffix, [one for one in refused if one not in lost])
    version = library().__version__
    notes = [f"{one} is left out: PyAV {version} can write no container with it." for one in lost]
    if not knows_chapters():
        notes.append(
            f"Chapters, if there are any, are lost: PyAV {version} does not know them. Update it: pip install -U av"
        )
    return tuple(one.index for one in others if held[one.index]), notes


def _somewhere(film: Film, stream: Stream) -> bool:
    return any(_holds(film, suffix)[stream.index] for suffix in SUGGESTED)


SUGGESTED = (".mkv", ".mov", ".mp4", ".ts")


def _refuse_streams(film: Film, suffix: str, refused: list[Stream]) -> None:
    others = [one for one in film.others if not is_derived(one)]
    able = [other for other in SUGGESTED if all(_holds(film, other)[one.index] for one in others)]
    advice = f"Name the output {able[0]}" if able else "No one container holds them all: remove some from the film first"
    raise InputError(
        f"A {suffix} file cannot hold {name_offenders([str(one) for one in refused])} of {film.path}. {advice}."
    )


def _holds(film: Film, suffix: str) -> dict[int, bool]:
    """By stream, whether a container can hold it: each is offered to one that is written nowhere."""
    held = {}
    with open_input(film.path) as source:
        for one in film.others:
            with _trial(suffix) as container:
                try:
                    add_copy(container, source.streams[one.index])
                    container.start_encoding()
                    held[one.index] = True
                except failures():
                    held[one.index] = False
    return held
