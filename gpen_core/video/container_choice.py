"""Which container a video goes into where nobody has named one."""

from __future__ import annotations

from pathlib import Path

from ..errors import GpenError, InputError, OptionsError
from ..optional_packages import version_guard
from ..options import VideoOptions
from .alpha import raise_if_alpha_is_lost
from .check_video import probe_video
from .containers import OUTPUT_FORMATS
from .encoding import Encoding, resolve_encoding

PREFERRED_SUFFIXES = (".mp4", ".mkv", ".mov", ".ts")  # the first that holds all is taken


@version_guard("av")
def output_suffix(source: Path, video: VideoOptions | None = None) -> str:
    """The suffix of an output for `restore_video`: the video's own, or where that container is not written or cannot hold
    all of its streams and its alpha, one of mp4, mkv, mov and ts that can.

    Raises `InputError` for what is no video or has streams that no one container holds, `OptionsError` for a codec that is
    not there, `MissingDependency` without PyAV."""
    video = video or VideoOptions()
    info = probe_video(source, video)
    own = [suffix for suffix in OUTPUT_FORMATS if suffix == source.suffix.lower()]
    refused: GpenError | None = None
    for suffix in dict.fromkeys((*own, *PREFERRED_SUFFIXES)):
        try:
            encoding = resolve_encoding(info, source.with_name(f"restored{suffix}"), Encoding.from_options(video))
            raise_if_alpha_is_lost(info, encoding)
        except (InputError, OptionsError) as error:
            refused = refused or error
        else:
            return suffix
    assert refused is not None
    raise refused
