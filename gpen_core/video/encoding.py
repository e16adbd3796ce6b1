"""Chooses the encoder, its settings and its pixel format, and checks that the container can hold all streams."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from ..errors import InputError, OptionsError, first_line
from ..files.path_checks import is_folder
from ..options import VideoOptions
from .containers import OUTPUT_FORMATS, av_errors, import_av, open_null_output
from .copied_streams import select_copied_streams
from .encoder_settings import NAMES, UNKNOWN, EncoderSettings, codec_candidates
from .hdr import NO_MASTERING, Mastering
from .planes import BT709, FULL, LIMITED, PixelFormat
from .probe import VideoInfo

IMAGE_SEQUENCE = "images"  # the codec for a folder of frames
ALPHA_CODECS = {".mov": "prores", ".mkv": "ffv1", ".nut": "ffv1", ".avi": "ffv1", ".webm": "vp9"}
"""The codec that keeps alpha, by the output's suffix."""
WEBM_ALPHA_CODECS = ("vp8", "vp9")
"""Codecs whose alpha is beside the frame in a packet, which only `WEBM_ALPHA_SUFFIXES` can hold."""
WEBM_ALPHA_SUFFIXES = (".webm", ".mkv")
RGB_MATRIX = 0  # the matrix number of RGB
LIMITED_RANGE_CODECS = ("prores", "mpeg2video", "mpeg4")
"""Codecs whose videos players take for limited range: they have no tag for it, or FFmpeg does not write it."""
BITS_PER_PIXEL = 0.3  # for encoders without a known quality option
MAX_REORDERED_FRAMES = 64  # more than any encoder reorders
MAX_RATE_DENOMINATOR = 1001  # of an encoder's frame rate; MPEG-4 allows 16 bits


@dataclass(frozen=True)
class Encoding:
    """How a video is encoded, and what is copied with it; see `resolve_encoding`."""

    encoder: str
    """FFmpeg's name, or `IMAGE_SEQUENCE`."""
    format: str
    """The encoder's pixel format."""
    size: tuple[int, int]
    """Width and height of the encoded frames (px), up to a pixel more than the video."""
    settings: EncoderSettings = UNKNOWN
    options: Mapping[str, str] = field(default_factory=dict)
    """Encoder options for the quality, the preset and the bit rate."""
    container_options: tuple[tuple[str, str], ...] = ()
    """Encoder options that the container needs."""
    copied_streams: tuple[int, ...] = ()
    """Indices of the streams that are copied."""
    mastering: Mastering = NO_MASTERING
    notes: tuple[str, ...] = ()
    """Differences between the output and the video."""

    @property
    def encoder_options(self) -> dict[str, str]:
        """FFmpeg's options for the encoder."""
        options = dict(self.options)
        if self.has_webm_alpha:
            options["auto-alt-ref"] = "0"  # libvpx refuses alpha with it
        if self.encoder == "ffv1" and any(side % 2 for side in self.size):
            options["slices"] = "1"  # with more slices, FFmpeg 7.1 loses the last column of chroma
        for name, setting in (*self.mastering.encoder_options(self.encoder).items(), *self.container_options):
            options[name] = f"{options[name]}:{setting}" if name in options and name.endswith("-params") else setting
        return options

    @property
    def is_limited_range(self) -> bool:
        """Whether the codec has limited range only."""
        return import_av().Codec(self.encoder, "w").canonical_name in LIMITED_RANGE_CODECS

    @property
    def layout(self) -> PixelFormat:
        """The properties of `format`."""
        return PixelFormat.of(self.format)

    @property
    def has_webm_alpha(self) -> bool:
        """Whether alpha is beside the frame in a packet, as in WebM."""
        return self.layout.has_alpha and import_av().Codec(self.encoder, "w").canonical_name in WEBM_ALPHA_CODECS


def is_image_sequence(target: Path) -> bool:
    """Whether the output is a folder of images: an existing folder, or a name without a suffix."""
    return is_folder(target) or not target.suffix


def resolve_encoding(info: VideoInfo, target: Path, video: VideoOptions) -> Encoding:
    """Choose the encoding that the options ask for, and test the encoder and the container in memory.

    Raises `OptionsError` for an unavailable encoder, an invalid quality or an unknown container. Raises `InputError` for a
    stream that the container cannot hold, with a container that can."""
    if is_image_sequence(target):
        dropped = tuple(f"{one} was dropped, because the output is a folder of images." for one in info.other_streams)
        return Encoding(IMAGE_SEQUENCE, info.format, info.size, notes=dropped)
    suffix = target.suffix.lower()
    if suffix not in OUTPUT_FORMATS:
        raise OptionsError(f"{target}: {suffix} files cannot be written. Available: {', '.join(OUTPUT_FORMATS)}.")
    chosen = _select_encoder(info, video, suffix)
    copied_streams, notes = select_copied_streams(info, suffix, lambda container: new_stream(container, info, chosen))
    return replace(chosen, copied_streams=copied_streams, notes=(*chosen.notes, *notes))


def _select_encoder(info: VideoInfo, video: VideoOptions, suffix: str) -> Encoding:
    name, settings, formats = _find_encoder(_auto_codec(info, suffix) if video.codec == "auto" else video.codec)
    if suffix not in WEBM_ALPHA_SUFFIXES and import_av().Codec(name, "w").canonical_name in WEBM_ALPHA_CODECS:
        formats = [one for one in formats if not _has_alpha(one)]
    _check_settings(name, settings, video)
    chosen = Encoding(
        name,
        _choose_format(info, name, settings, formats, video.pix_fmt),
        info.size,
        settings,
        settings.encoder_options(video.crf, video.preset, video.bitrate),
        _container_options(name, settings, suffix),
        mastering=info.mastering,
    )
    is_odd = _needs_even_size(chosen)
    failed = None if is_odd else _encoder_error(info, chosen, suffix)
    if is_odd or (failed is not None and any(side % 2 for side in info.size)):
        even = (info.size[0] + info.size[0] % 2, info.size[1] + info.size[1] % 2)
        note = (
            f"{name} needs an even width and height, so {info.size[0]} x {info.size[1]} was padded to {even[0]} x {even[1]}."
        )
        chosen = replace(chosen, size=even, notes=(note,))
        failed = _encoder_error(info, chosen, suffix)
    if failed is not None:
        _raise_encoder_error(info, chosen, suffix, failed)
    return replace(chosen, notes=(*chosen.notes, *_losses(info, chosen)))


def _has_alpha(format_: str) -> bool:
    layout = PixelFormat.parse(format_)
    return layout is not None and layout.has_alpha


def _auto_codec(info: VideoInfo, suffix: str) -> str:
    """Return a codec that all players support, or one that keeps alpha if the first frame is not opaque."""
    if info.is_transparent and suffix in ALPHA_CODECS:
        return ALPHA_CODECS[suffix]
    return "av1" if suffix == ".webm" else "h264" if info.bits <= 8 else "hevc"


def _container_options(encoder: str, settings: EncoderSettings, suffix: str) -> tuple[tuple[str, str], ...]:
    """Return encoder options for containers without timestamps that readers use: AVI and MXF.

    Their frames must be stored in display order, or players would show them late. MXF also counts the frames after a key
    frame in 8 bits and expects H.264's headers in the frames."""
    if suffix == ".avi":
        return (("bf", "0"),)
    if suffix != ".mxf":
        return ()
    gop = () if "g" in settings.options else (("g", "100"),)
    headers = (("x264-params", "repeat-headers=1"),) if encoder == "libx264" else ()
    return (("bf", "0"), *gop, *headers)


def _needs_even_size(chosen: Encoding) -> bool:
    """Whether x265 would refuse the size, because chroma samples would not cover it. x265 prints its error to stderr."""
    across, down = chosen.layout.subsampling_x, chosen.layout.subsampling_y
    return chosen.encoder == "libx265" and bool(chosen.size[0] % across or chosen.size[1] % down)


def _check_settings(encoder: str, settings: EncoderSettings, asked: VideoOptions) -> None:
    """Raise `OptionsError` for a quality, preset or bit rate that the encoder does not have."""
    if asked.crf is not None:
        if not settings.quality_options:
            raise OptionsError(f"{encoder} has no quality setting (got {asked.crf}). Omit crf.")
        low, high = sorted((settings.best, settings.worst))
        if not low <= asked.crf <= high:
            better = "lower" if settings.best < settings.worst else "higher"
            raise OptionsError(
                f"Expected a quality from {low} to {high} for {encoder}, got {asked.crf}. A {better} number is better."
            )
    if asked.bitrate is not None and settings.with_bitrate is None:
        raise OptionsError(f"{encoder} has no bit rate setting. Omit bitrate.")
    if asked.preset is not None and not settings.preset_option:
        raise OptionsError(f"{encoder} has no presets (got {asked.preset!r}). Omit preset.")


def _find_encoder(codec: str) -> tuple[str, EncoderSettings, list[str]]:
    """Return an encoder's name, its settings, and the pixel formats that it supports."""
    for name, settings in codec_candidates(codec):
        try:
            found = import_av().Codec(name, "w")
        except av_errors():
            continue
        if found.type == "video" and found.video_formats:
            return found.name, settings, [one.name for one in found.video_formats]
    known = ", ".join(dict.fromkeys((*NAMES, "ffv1", "h264_nvenc", "hevc_nvenc")))
    raise OptionsError(f"Unknown video encoder {codec!r}, or PyAV does not include it. Available: auto, {known}.")


def _choose_format(info: VideoInfo, encoder: str, settings: EncoderSettings, formats: list[str], asked: str | None) -> str:
    """Return the pixel format that was asked for, or that loses least of the video, then the one with the least overhead."""
    if asked is not None:
        available = [name for name in formats if PixelFormat.parse(name) is not None]
        if asked not in available:
            raise OptionsError(f"{encoder} does not support the pixel format {asked!r}. Available: {', '.join(available)}.")
        return asked
    target = info.layout
    if target.kind == "gbrp" and not settings.is_lossless:  # players show YCbCr
        target = PixelFormat("yuv", 2, 2, min(target.bits, 10), target.has_alpha)
    target = replace(target, has_alpha=target.has_alpha and settings.has_alpha)
    if target.kind == "gray":
        target = replace(target, subsampling_x=4, subsampling_y=4)
    layouts = {name: PixelFormat.parse(name) for name in formats if not name.startswith("yuvj")}
    known = {name: layout for name, layout in layouts.items() if layout is not None}
    if not known:
        raise OptionsError(f"{encoder} has no supported pixel format ({', '.join(formats[:5])}). Choose another codec.")

    def cost(name: str) -> tuple[int, ...]:
        one = known[name]
        loses_color = one.kind == "gray" and target.kind != "gray"
        coarser = max(0, one.subsampling_x - target.subsampling_x) + max(0, one.subsampling_y - target.subsampling_y)
        finer = target.subsampling_x * target.subsampling_y - one.subsampling_x * one.subsampling_y
        return (
            loses_color,
            one.has_alpha != target.has_alpha,
            max(0, target.bits - one.bits),
            coarser,
            one.kind != target.kind,
            one.bits,
            finer,
            name != one.name,
        )

    return min(known, key=cost)


def new_stream(container: Any, info: VideoInfo, encoding: Encoding) -> Any:
    """Add the video stream to an output and configure its encoder without opening it. Its time base is one frame."""
    os.environ.setdefault("SVT_LOG", "1")  # or SVT-AV1 prints its settings to stderr
    rate = encoder_frame_rate(info)
    stream = container.add_stream(encoding.encoder, rate=rate, options=encoding.encoder_options)
    context = stream.codec_context
    stream.time_base = info.time_base  # PyAV 14 also sets the context's
    context.width, context.height = encoding.size
    context.pix_fmt, context.time_base = encoding.format, 1 / rate
    context.sample_aspect_ratio = info.sample_aspect_ratio
    if encoding.settings == UNKNOWN and "b" not in encoding.options:
        context.bit_rate = round(BITS_PER_PIXEL * encoding.size[0] * encoding.size[1] * rate)
    write_color_tags(context, info, encoding.format)
    return stream


def encoder_frame_rate(info: VideoInfo) -> Fraction:
    """Return the frames per second for the encoder."""
    return max(Fraction(1, MAX_RATE_DENOMINATOR), (1 / info.frame_duration).limit_denominator(MAX_RATE_DENOMINATOR))


def segment_pts_offset(info: VideoInfo) -> int:
    """Return the offset of timestamps in segments.

    Their containers have no negative timestamps, and frames are decoded before they are shown."""
    return MAX_REORDERED_FRAMES * info.frame_ticks - info.start_pts


def write_color_tags(context: Any, info: VideoInfo, format_: str) -> None:
    """Write the color tags of the encoded frames to a codec context.

    They are the video's. RGB that was converted to YCbCr gets the matrix and the range of the conversion, and so does full
    range that a codec does not have."""
    colors = info.colors
    made, was = PixelFormat.of(format_), info.layout
    if made.kind == "gbrp":
        context.color_range, context.colorspace = FULL, RGB_MATRIX
    elif was.kind == "gbrp":
        context.color_range, context.colorspace = LIMITED, BT709
    elif made.kind == "gray" and (was.kind != "gray" or colors.range not in (LIMITED, FULL)):
        context.color_range, context.colorspace = FULL, colors.matrix  # which FFmpeg takes gray for
    else:
        context.color_range, context.colorspace = colors.range, colors.matrix
        if colors.is_full_range and context.codec.canonical_name in LIMITED_RANGE_CODECS:
            context.color_range = LIMITED
    context.color_primaries, context.color_trc = colors.primaries, colors.transfer


def _losses(info: VideoInfo, encoding: Encoding) -> list[str]:
    had, gets, notes = info.layout, encoding.layout, []
    if gets.bits < had.bits:
        notes.append(f"{encoding.encoder} supports at most {gets.bits} bits, so the video's {had.bits} bits were rounded.")
    if had.has_alpha and not gets.has_alpha:
        notes.append(f"{encoding.encoder} ({encoding.format}) does not keep alpha, so every frame must be opaque.")
    if encoding.mastering != NO_MASTERING and not encoding.mastering.encoder_options(encoding.encoder):
        notes.append(f"{encoding.encoder} does not keep the mastering display and light levels of HDR.")
    if not encoding.settings.is_verified:
        notes.append(f"The settings for {encoding.encoder} are untested. Check the result.")
    if had.kind != "gray" and (gets.subsampling_x > had.subsampling_x or gets.subsampling_y > had.subsampling_y):
        notes.append(f"{encoding.encoder} uses {encoding.format}, which has coarser color than the video's {info.format}.")
    return notes


def _encoder_error(info: VideoInfo, encoding: Encoding, suffix: str) -> BaseException | None:
    """Return the error of the encoder or the container, or None."""
    with open_null_output(suffix) as container:
        try:
            stream = new_stream(container, info, encoding)
            container.start_encoding()
            return _unknown_options(stream, encoding)
        except av_errors() as error:
            return error


def _unknown_options(stream: Any, encoding: Encoding) -> BaseException | None:
    """Return an error for options that the encoder does not have. FFmpeg leaves them in PyAV's options."""
    rest = sorted(set(stream.codec_context.options) & set(encoding.encoder_options))
    return ValueError(f"it has no option {', '.join(rest)}") if rest else None


def _raise_encoder_error(info: VideoInfo, encoding: Encoding, suffix: str, failed: BaseException) -> None:
    others = [
        other for other in (".mkv", ".mp4", ".mov") if other != suffix and _encoder_error(info, encoding, other) is None
    ]
    if others:
        raise InputError(
            f"A {suffix} file cannot hold video encoded with {encoding.encoder} ({first_line(failed)}). Write a {others[0]} "
            "file, or choose another codec."
        ) from failed
    raise OptionsError(
        f"{encoding.encoder} cannot encode {encoding.size[0]} x {encoding.size[1]} pixels of {encoding.format} here "
        f"({first_line(failed)}). It may need a device that is missing. Choose another codec or quality."
    ) from failed
