"""Settings of encoders: how quality, preset and bit rate are set. The table is `encoders.json`.

The keys of an entry. A user's own file with one entry (the codec `FILE.json`) also has `encoder`, FFmpeg's name:

- `quality`: `option` (one of FFmpeg's, or several that get the same number; `qscale` sets FFmpeg's fixed quantizer), the
  `default`, and the numbers for `best` (0 if missing) and `worst`. Without it, the quality cannot be set.
- `preset`: the option that trades speed for size.
- `options`: always set. `quality_options`: set with a quality. `bitrate_options`: set with a bit rate; without them, the
  encoder has no bit rate.
- `lossless`: the encoder is lossless, so RGB stays RGB. `alpha`: it keeps alpha. `verified`: false if it was never tested.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import OptionsError

TABLE = Path(__file__).with_name("encoders.json")
QSCALE = 118  # FF_QP2LAMBDA
NAMES = {"h264": ("libx264", "libopenh264"), "hevc": ("libx265",), "av1": ("libsvtav1", "libaom-av1")}
NAMES |= {"vp9": ("libvpx-vp9",), "prores": ("prores_ks",)}
"""Encoders by codec. The first that PyAV includes is used."""


@dataclass(frozen=True)
class EncoderSettings:
    """An entry of the table."""

    quality_options: tuple[str, ...] = ()
    """The options that get the quality's number; empty if the encoder has none."""
    default: int = 0
    """Chosen so that encoding changes nothing visible, see docs/video-benchmarks.md."""
    best: int = 0
    worst: int = 0
    preset_option: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    with_quality: Mapping[str, str] = field(default_factory=dict)
    with_bitrate: Mapping[str, str] | None = None
    is_lossless: bool = False
    has_alpha: bool = False
    is_verified: bool = True

    @classmethod
    def from_mapping(cls, entry: Mapping[str, Any]) -> EncoderSettings:
        """Parse an entry. Raises `KeyError`, `TypeError` or `ValueError` if it is invalid."""
        unknown = set(entry) - KEYS
        if unknown:
            raise ValueError(f"unknown key {min(unknown)!r}; known: {', '.join(sorted(KEYS))}")
        quality = entry.get("quality")
        option = quality["option"] if quality else ()
        bitrate = entry.get("bitrate_options")
        return cls(
            quality_options=(option,) if isinstance(option, str) else tuple(map(str, option)),
            default=int(quality["default"]) if quality else 0,
            best=int(quality.get("best", 0)) if quality else 0,
            worst=int(quality["worst"]) if quality else 0,
            preset_option=str(entry.get("preset", "")),
            options=_texts(entry.get("options", {})),
            with_quality=_texts(entry.get("quality_options", {})),
            with_bitrate=None if bitrate is None else _texts(bitrate),
            is_lossless=bool(entry.get("lossless", False)),
            has_alpha=bool(entry.get("alpha", False)),
            is_verified=bool(entry.get("verified", True)),
        )

    def encoder_options(
        self, crf: int | None = None, preset: str | None = None, bitrate: int | None = None
    ) -> dict[str, str]:
        """Return FFmpeg's options for this quality, preset and bit rate (bits per second)."""
        options = dict(self.options)
        if preset is not None:
            options[self.preset_option] = preset
        if bitrate is not None:
            return {**options, **(self.with_bitrate or {}), "b": str(bitrate)}
        number = self.default if crf is None else crf
        if self.quality_options == ("qscale",):
            options |= {"flags": "+qscale", "global_quality": str(number * QSCALE)}
        else:
            options |= {name: str(number) for name in self.quality_options}
        return {**options, **self.with_quality}


KEYS = frozenset(
    ("encoder", "quality", "preset", "options", "quality_options", "bitrate_options", "lossless", "alpha", "verified")
)
UNKNOWN = EncoderSettings(with_bitrate={}, has_alpha=True)
"""The settings of an encoder without an entry: FFmpeg's defaults, and any bit rate."""


def _texts(options: Mapping[str, Any]) -> dict[str, str]:
    return {str(name): str(value) for name, value in options.items()}


@functools.cache
def known_encoders() -> dict[str, EncoderSettings]:
    """Return the table, by FFmpeg's name of the encoder."""
    entries = json.loads(TABLE.read_text("utf-8"))
    return {name: EncoderSettings.from_mapping(entry) for name, entry in entries.items()}


def codec_candidates(codec: str) -> list[tuple[str, EncoderSettings]]:
    """Return the encoders for `codec`, each with its settings.

    `codec` is a codec, an encoder's name or a file with an entry. Raises `OptionsError` for an invalid file."""
    if codec.lower().endswith(".json"):
        return [_read_entry(Path(codec))]
    return [(name, known_encoders().get(name, UNKNOWN)) for name in NAMES.get(codec, (codec,))]


def _read_entry(path: Path) -> tuple[str, EncoderSettings]:
    try:
        entry = json.loads(path.read_text("utf-8"))
        return str(entry["encoder"]), EncoderSettings.from_mapping(entry)
    except OSError as error:
        raise OptionsError(f"The encoder settings in {path} cannot be read: {error.strerror or error}.") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise OptionsError(f"{path} has no valid encoder settings ({error}). See docs/video.md for an example.") from error
