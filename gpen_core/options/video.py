"""The additional options of a video."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import OptionsError
from .restore import AUTO
from .spec import COMMAND_LINE_ONLY, FACE_EMBEDDER, VIDEO_FRONT_ENDS, DeclaredOptions, declare
from .times import TimeRange, parse_ranges, range_text

DEFAULT_MIN_DURATION = 0.3  # seconds: longer than most false positives last, see docs/video.md
VIDEO_FORMATS = ("mp4", "m4v", "mov", "mkv", "webm", "avi", "ts", "m2ts", "nut", "flv", "mxf", "png")
"""Formats of results, by their suffixes. png is a folder of images."""
INTERLACED = ("deinterlace", "refuse", "keep")


@dataclass(frozen=True, kw_only=True, repr=False)
class VideoOptions(DeclaredOptions):
    """How to restore a video, in addition to `RestoreOptions`. Raises `OptionsError` for an invalid value.

    docs/reference/options.md lists the fields with their meaning, ranges and defaults."""

    temporal_smoothing: float = declare(
        1.0, "Temporal smoothing", "Temporal smoothing of restored faces. 0 processes each frame independently.",
        "video", minimum=0, maximum=1, step=0.05, front_ends=VIDEO_FRONT_ENDS,
    )  # fmt: skip
    min_duration: float = declare(
        DEFAULT_MIN_DURATION, "Min duration", "Skip people visible for less than this time.",
        "video", minimum=0, step=0.1, unit="s", is_advanced=True, front_ends=VIDEO_FRONT_ENDS,
    )  # fmt: skip
    join_people: str = declare(
        AUTO, "Join people",
        "Gives a person one number in all shots, by comparing faces with SFace. auto: if SFace is downloaded. "
        "on: downloads it (39 MB). off: a person may have another number in each shot.",
        "video", choices=(AUTO, "on", "off"), is_advanced=True, front_ends=VIDEO_FRONT_ENDS,
        weights=lambda value: (FACE_EMBEDDER,) if value == "on" else (),
    )  # fmt: skip
    start: float | None = declare(
        None, "Start", "Start time in seconds or H:M:S, from the first frame.",
        "video", minimum=0, step=0.1, unit="s", is_advanced=True, front_ends=COMMAND_LINE_ONLY,
    )  # fmt: skip
    end: float | None = declare(
        None, "End", "End time in seconds or H:M:S, from the first frame.",
        "video", minimum=0, step=0.1, unit="s", is_advanced=True, front_ends=COMMAND_LINE_ONLY,
    )  # fmt: skip
    ranges: tuple[TimeRange, ...] = declare(
        (), "Ranges",
        "Restore only between these two times, e.g. 10-20 or 1:05-1:20, and keep the rest of the video unchanged (start and "
        "end would cut it). May be given several times.",
        "video", convert=parse_ranges, is_repeatable=True, flag="range", is_advanced=True, front_ends=COMMAND_LINE_ONLY,
    )  # fmt: skip
    fps: float | None = declare(
        None, "Frame rate", "Frames per second of a folder of images (25 by default).",
        "video", minimum=0, step=0.1, is_advanced=True, front_ends=COMMAND_LINE_ONLY,
    )  # fmt: skip
    interlaced: str = declare(
        "deinterlace", "Interlaced video",
        "Interlaced video. deinterlace: applies bwdif. refuse: stops with an error. keep: treats the frames as progressive.",
        "video", choices=INTERLACED, is_advanced=True, front_ends=COMMAND_LINE_ONLY,
    )  # fmt: skip
    codec: str = declare(
        "auto", "Codec",
        "Video codec. auto: H.264, or HEVC for more than 8 bits. Or h264, hevc, av1, vp9, prores, ffv1, an encoder such as "
        "hevc_nvenc, or a JSON file with encoder settings.",
        "video", placeholder="auto, h264, hevc, av1, vp9, prores, ffv1 or the name of an encoder", is_advanced=True,
        front_ends=COMMAND_LINE_ONLY,
    )  # fmt: skip
    crf: int | None = declare(
        None, "Quality (CRF)",
        "Constant quality of the encoder. Lower is better and larger; for VideoToolbox, higher is better.",
        "video", minimum=0, maximum=255, step=1, is_advanced=True, front_ends=COMMAND_LINE_ONLY,
    )  # fmt: skip
    bitrate: int | None = declare(
        None, "Bit rate", "Average bit rate in bits per second instead of a quality, e.g. 8M.",
        "video", minimum=1, step=1, is_advanced=True, front_ends=COMMAND_LINE_ONLY,
    )  # fmt: skip
    preset: str | None = declare(
        None, "Preset", "Preset of the encoder, e.g. slow, p7 or 4. Slower presets give smaller files.",
        "video", placeholder="the name of a preset, such as slow", is_advanced=True, front_ends=COMMAND_LINE_ONLY,
    )  # fmt: skip
    pix_fmt: str | None = declare(
        None, "Pixel format", "Pixel format of the output, e.g. yuv420p. By default the one that loses least.",
        "video", placeholder="the name of a pixel format, such as yuv420p", is_advanced=True, front_ends=COMMAND_LINE_ONLY,
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fps == 0:
            raise OptionsError("fps is 0; expected frames a second, such as 25.")
        if self.crf is not None and self.bitrate is not None:
            raise OptionsError(f"crf is {self.crf} and bitrate {self.bitrate}; expected only one of them.")
        if self.end is not None and self.end <= (self.start or 0):
            raise OptionsError(f"end is {self.end:g} and start {self.start or 0:g}; expected an end after the start.")
        for start, end in self.ranges:
            if end <= (self.start or 0) or (self.end is not None and start >= self.end):
                last = "the end" if self.end is None else f"{self.end:g}"
                raise OptionsError(
                    f"range is {range_text(start, end)}, but only {self.start or 0:g} to {last} is written (start, end). "
                    "Expected a range within it."
                )
