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

from ..errors import InputError, OptionsError, first_line, summarize_problems
from .containers import OUTPUT_FORMATS, av_errors, import_av, open_input, supports_chapters
from .hdr import NO_MASTERING, Mastering
from .planes import BT709, FULL, LIMITED, PixelFormat
from .probe import StreamInfo, VideoInfo
from .stream_copy import add_stream_copy, holds_cover, is_generated

IMAGE_SEQUENCE = "images"  # the codec of a folder of frames
ENCODERS = {
    "h264": ("libx264", "libopenh264"),
    "hevc": ("libx265",),
    "av1": ("libsvtav1", "libaom-av1"),
    "vp9": ("libvpx-vp9",),
    "prores": ("prores_ks",),
}
"""Encoders by codec, the first that is there."""


@dataclass(frozen=True)
class RateControl:
    """What sets an encoder's quality."""

    option: str
    """crf, cq or qscale; empty where nothing is lost."""
    default: int
    """Chosen by measurement, see docs/video.md: what re-encoding changes cannot be seen."""
    max_value: int = 0
    """The worst that it can be set to."""
    extra_options: tuple[tuple[str, str], ...] = ()


NVENC_OPTIONS = (("preset", "p5"), ("rc", "vbr"), ("b", "0"))
RATE_CONTROLS = {
    "libx264": RateControl("crf", 16, 51),
    "libx265": RateControl("crf", 18, 51, (("x265-params", "log-level=error:info=0"),)),
    "libsvtav1": RateControl("crf", 20, 63, (("preset", "6"),)),
    "libaom-av1": RateControl("crf", 20, 63, (("cpu-used", "4"), ("b", "0"))),
    "libvpx-vp9": RateControl("crf", 18, 63, (("b", "0"), ("row-mt", "1"), ("cpu-used", "2"))),
    "h264_nvenc": RateControl("cq", 18, 51, NVENC_OPTIONS),
    "hevc_nvenc": RateControl("cq", 20, 51, NVENC_OPTIONS),
    "av1_nvenc": RateControl("cq", 22, 51, NVENC_OPTIONS),
    "ffv1": RateControl("", 0, 0, (("level", "3"), ("g", "1"), ("slicecrc", "1"))),
    "prores_ks": RateControl("", 0, 0, (("profile", "3"),)),
    "mpeg4": RateControl("qscale", 2, 31),
    "mpeg2video": RateControl("qscale", 2, 31),
    "mjpeg": RateControl("qscale", 2, 31, (("strict", "unofficial"),)),
}
LOSSLESS_ENCODERS = ("ffv1",)
RGB_MATRIX = 0  # the matrix of what is no YCbCr
QSCALE = 118  # FF_QP2LAMBDA
BITS_PER_PIXEL = 0.3  # for encoders of which no option for quality is known
MAX_REORDERED_FRAMES = 64  # frames: more than any encoder reorders
MAX_RATE_DENOMINATOR = 1001  # of an encoder's frame rate: MPEG-4's are 16 bits


@dataclass(frozen=True)
class Encoding:
    """What is asked for, and after `resolve_encoding` what that comes to."""

    codec: str = "auto"
    """auto (H.264, HEVC above 8 bits), h264, hevc, av1, vp9, ffv1, prores, or the name of an encoder of FFmpeg."""
    crf: int | None = None
    """The quality in the encoder's own numbers, less is better; None for the default."""
    encoder: str = ""
    format: str = ""
    """The encoder's pixel format."""
    size: tuple[int, int] = (0, 0)
    """Width and height of what is encoded: perhaps a pixel more than the video."""
    copied_streams: tuple[int, ...] = ()
    """Indices of the video's streams that go into the output as they are."""
    mastering: Mastering = NO_MASTERING
    notes: tuple[str, ...] = ()
    """What the output will be without, or has otherwise than the video."""

    @property
    def encoder_options(self) -> dict[str, str]:
        """The encoder's."""
        rate_control = RATE_CONTROLS.get(self.encoder)
        if rate_control is None:
            return {}
        value = rate_control.default if self.crf is None else self.crf
        options = {rate_control.option: str(value)} if rate_control.option else {}
        if rate_control.option == "qscale":
            options = {"flags": "+qscale", "global_quality": str(value * QSCALE)}
        if self.encoder == "ffv1" and any(side % 2 for side in self.size):
            options["slices"] = "1"  # FFmpeg 7.1 loses the last column of chroma with more of them
        options = {**dict(rate_control.extra_options), **options}
        for name, setting in self.mastering.encoder_options(self.encoder).items():
            options[name] = f"{options[name]}:{setting}" if name in options else setting
        return options


def is_image_sequence(target: Path) -> bool:
    """Whether frames are to be written as images: to a folder, or to a name without a suffix."""
    return target.is_dir() or not target.suffix


def resolve_encoding(info: VideoInfo, target: Path, encoding: Encoding) -> Encoding:
    """What will be written, tried out without a file: the encoder is opened, and each stream offered to the container.

    Raises `OptionsError` for an unknown or missing encoder, a quality that it does not have and an unknown container;
    `InputError` where the container cannot hold a stream, which is named with a container that can."""
    if is_image_sequence(target):
        dropped = tuple(f"{one} is not in a folder of images." for one in info.other_streams)
        return Encoding(IMAGE_SEQUENCE, encoder=IMAGE_SEQUENCE, format=info.format, size=info.size, notes=dropped)
    suffix = target.suffix.lower()
    if suffix not in OUTPUT_FORMATS:
        raise OptionsError(f"{target}: {suffix} is no container that is written. Choose one of {', '.join(OUTPUT_FORMATS)}.")
    chosen = _select_encoder(info, encoding, suffix)
    copied_streams, notes = _select_copied_streams(info, suffix)
    return replace(chosen, copied_streams=copied_streams, notes=(*chosen.notes, *notes))


def _select_encoder(info: VideoInfo, encoding: Encoding, suffix: str) -> Encoding:
    codec = encoding.codec
    if codec == "auto":
        codec = "av1" if suffix == ".webm" else "h264" if info.bits <= 8 else "hevc"
    name, formats = _find_encoder(codec)
    _check_crf(name, encoding.crf)
    chosen = replace(encoding, encoder=name, format=_best_format(info, name, formats), size=info.size)
    chosen = replace(chosen, mastering=info.mastering)
    is_odd = _needs_even_size(chosen)
    failed = None if is_odd else _encoder_error(info, chosen, suffix)
    if is_odd or (failed is not None and any(side % 2 for side in info.size)):
        even = (info.size[0] + info.size[0] % 2, info.size[1] + info.size[1] % 2)
        note = (
            f"{name} needs even sizes: {info.size[0]} x {info.size[1]} becomes {even[0]} x {even[1]}, the border repeated."
        )
        chosen = replace(chosen, size=even, notes=(note,))
        failed = _encoder_error(info, chosen, suffix)
    if failed is not None:
        _raise_encoder_error(info, chosen, suffix, failed)
    return replace(chosen, notes=(*chosen.notes, *_losses(info, chosen)))


def _needs_even_size(chosen: Encoding) -> bool:
    """Whether it is x265 with a size of which parts would have no color: it says on stderr what it refuses."""
    layout = PixelFormat.parse(chosen.format)
    assert layout is not None
    return chosen.encoder == "libx265" and bool(
        chosen.size[0] % layout.subsampling_x or chosen.size[1] % layout.subsampling_y
    )


def _check_crf(encoder: str, crf: int | None) -> None:
    rate_control = RATE_CONTROLS.get(encoder, RateControl("", 0))
    if crf is None:
        return
    if not rate_control.option:
        raise OptionsError(f"{encoder} has no quality that a number could set (got {crf}). Leave that option out.")
    if not 0 <= crf <= rate_control.max_value:
        raise OptionsError(
            f"Expected a quality from 0 to {rate_control.max_value} for {encoder}, got {crf}; less is better."
        )


def _find_encoder(codec: str) -> tuple[str, list[str]]:
    """An encoder's name and the pixel formats that it takes."""
    for name in ENCODERS.get(codec, (codec,)):
        try:
            found = import_av().Codec(name, "w")
        except av_errors():
            continue
        if found.type == "video" and found.video_formats:
            return found.name, [one.name for one in found.video_formats]
    known = ", ".join(dict.fromkeys((*ENCODERS, "ffv1", "h264_nvenc", "hevc_nvenc")))
    raise OptionsError(f"No video encoder {codec!r} is part of this PyAV. Choose auto or one of {known}.")


def _best_format(info: VideoInfo, encoder: str, formats: list[str]) -> str:
    """The one that holds the video's planes with the least lost, then with the least more."""
    target = PixelFormat.parse(info.format)
    assert target is not None
    if target.kind == "gbrp" and encoder not in LOSSLESS_ENCODERS:  # what players show
        target = PixelFormat("yuv", 2, 2, min(target.bits, 10))
    if target.kind == "gray":
        target = replace(target, subsampling_x=4, subsampling_y=4)
    layouts = {name: PixelFormat.parse(name) for name in formats if not name.startswith("yuvj")}
    known = {name: layout for name, layout in layouts.items() if layout is not None}
    if not known:
        raise OptionsError(
            f"{encoder} takes no pixel format that is known here ({', '.join(formats[:5])}). Choose another codec."
        )

    def cost(name: str) -> tuple[int, ...]:
        one = known[name]
        loses_color = one.kind == "gray" and target.kind != "gray"
        coarser = max(0, one.subsampling_x - target.subsampling_x) + max(0, one.subsampling_y - target.subsampling_y)
        finer = target.subsampling_x * target.subsampling_y - one.subsampling_x * one.subsampling_y
        return (
            loses_color,
            max(0, target.bits - one.bits),
            coarser,
            one.kind != target.kind,
            one.bits,
            finer,
            name != one.name,
        )

    return min(known, key=cost)


def new_stream(container: Any, info: VideoInfo, encoding: Encoding) -> Any:
    """The video stream of an output, its encoder set up but not opened: its time base is one frame."""
    os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 says on stderr all that it is told, otherwise
    rate = encoder_frame_rate(info)
    stream = container.add_stream(encoding.encoder, rate=rate, options=encoding.encoder_options)
    context = stream.codec_context
    stream.time_base = info.time_base  # which PyAV 14 sets for the context, too
    context.width, context.height = encoding.size
    context.pix_fmt, context.time_base = encoding.format, 1 / rate
    context.sample_aspect_ratio = info.sample_aspect_ratio
    if encoding.encoder not in RATE_CONTROLS:
        context.bit_rate = round(BITS_PER_PIXEL * encoding.size[0] * encoding.size[1] * rate)
    write_color_tags(context, info, encoding.format)
    return stream


def encoder_frame_rate(info: VideoInfo) -> Fraction:
    """Frames a second, as the encoder is told."""
    return max(Fraction(1, MAX_RATE_DENOMINATOR), (1 / info.frame_duration).limit_denominator(MAX_RATE_DENOMINATOR))


def segment_pts_offset(info: VideoInfo) -> int:
    """What is added to timestamps in segments: their containers know none below zero, and frames are decoded earlier than
    they are shown."""
    return MAX_REORDERED_FRAMES * info.frame_ticks - info.start_pts


def write_color_tags(context: Any, info: VideoInfo, format_: str) -> None:
    """The video's color tags on a codec context; RGB that became YCbCr is tagged with the matrix that made it so."""
    colors = info.colors
    made, was = PixelFormat.parse(format_), PixelFormat.parse(info.format)
    assert made is not None and was is not None
    if made.kind == "gbrp":
        context.color_range, context.colorspace = FULL, RGB_MATRIX
    elif was.kind == "gbrp":
        context.color_range, context.colorspace = LIMITED, BT709
    else:
        context.color_range, context.colorspace = colors.range, colors.matrix
    context.color_primaries, context.color_trc = colors.primaries, colors.transfer


def _losses(info: VideoInfo, encoding: Encoding) -> list[str]:
    had, gets = PixelFormat.parse(info.format), PixelFormat.parse(encoding.format)
    assert had is not None and gets is not None
    notes = []
    if gets.bits < had.bits:
        notes.append(f"{encoding.encoder} takes at most {gets.bits} bits here: the video's {had.bits} are rounded.")
    if had.kind != "gray" and (gets.subsampling_x > had.subsampling_x or gets.subsampling_y > had.subsampling_y):
        notes.append(f"{encoding.encoder} takes {encoding.format} here: the video's {info.format} has finer color.")
    return notes


def _encoder_error(info: VideoInfo, encoding: Encoding, suffix: str) -> BaseException | None:
    """What the encoder or the container says against it, if anything."""
    with _null_container(suffix) as container:
        try:
            new_stream(container, info, encoding)
            container.start_encoding()
        except av_errors() as error:
            return error
    return None


def _raise_encoder_error(info: VideoInfo, encoding: Encoding, suffix: str, failed: BaseException) -> None:
    others = [
        other for other in (".mkv", ".mp4", ".mov") if other != suffix and _encoder_error(info, encoding, other) is None
    ]
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
def _null_container(suffix: str) -> Iterator[Any]:
    """A container that is written nowhere."""
    container = import_av().open(io.BytesIO(), "w", format=OUTPUT_FORMATS[suffix])
    try:
        yield container
    finally:
        with contextlib.suppress(*av_errors()):
            container.close()


def _select_copied_streams(info: VideoInfo, suffix: str) -> tuple[tuple[int, ...], list[str]]:
    """Indices of the streams that are copied, and what is to be said of the others."""
    if info.is_folder or not info.other_streams:
        return (), []
    supported = _supported_streams(info, suffix)
    covers = [one for one in info.other_streams if one.is_cover]
    others = [one for one in info.other_streams if not is_generated(one) and not one.is_cover]
    unsupported = [one for one in others if not supported[one.index]]
    dropped = [one for one in unsupported if one.kind in ("data", "attachment") and not _fits_any_container(info, one)]
    if len(unsupported) > len(dropped):
        _raise_unsupported_streams(info, suffix, [one for one in unsupported if one not in dropped])
    version = import_av().__version__
    notes = [f"{one} is left out: PyAV {version} can write no container with it." for one in dropped]
    if not supports_chapters():
        notes.append(
            f"Chapters, if there are any, are lost: PyAV {version} does not know them. Update it: pip install -U av"
        )
    kept_covers = [one for one in covers if holds_cover(OUTPUT_FORMATS[suffix], one)]
    notes += [
        f"{one} is a cover image and is left out: PyAV {version} can put none into a {suffix} file."
        for one in covers
        if one not in kept_covers
    ]
    kept = (*(one for one in others if supported[one.index]), *kept_covers)
    return tuple(sorted(one.index for one in kept)), notes


def _fits_any_container(info: VideoInfo, stream: StreamInfo) -> bool:
    return any(_supported_streams(info, suffix)[stream.index] for suffix in SUGGESTED_SUFFIXES)


SUGGESTED_SUFFIXES = (".mkv", ".mov", ".mp4", ".ts")


def _raise_unsupported_streams(info: VideoInfo, suffix: str, unsupported: list[StreamInfo]) -> None:
    others = [one for one in info.other_streams if not is_generated(one) and not one.is_cover]
    candidates = [other for other in SUGGESTED_SUFFIXES if all(_supported_streams(info, other)[one.index] for one in others)]
    advice = (
        f"Name the output {candidates[0]}"
        if candidates
        else "No one container holds them all: remove some from the video first"
    )
    raise InputError(
        f"A {suffix} file cannot hold {summarize_problems([str(one) for one in unsupported])} of {info.path}. {advice}."
    )


def _supported_streams(info: VideoInfo, suffix: str) -> dict[int, bool]:
    """By stream, whether a container can hold it: each is offered to one that is written nowhere."""
    supported = {}
    with open_input(info.path) as source:
        for one in info.other_streams:
            with _null_container(suffix) as container:
                try:
                    add_stream_copy(container, source.streams[one.index])
                    container.start_encoding()
                    supported[one.index] = True
                except av_errors():
                    supported[one.index] = False
    return supported
