"""Chooses the output's container if the user does not."""

from __future__ import annotations

from ..errors import GpenError, InputError, OptionsError
from ..files.path_checks import AnyPath, local_path
from ..optional_packages import version_guard
from ..options import VideoOptions
from .alpha import raise_if_alpha_is_lost
from .check_video import probe_video
from .containers import OUTPUT_FORMATS
from .encoding import resolve_encoding

PREFERRED_SUFFIXES = (".mp4", ".mkv", ".mov", ".ts", ".avi")  # tried in this order


@version_guard("av")
def output_suffix(source: AnyPath, video: VideoOptions | None = None) -> str:
    """Return an output suffix for `restore_video`.

    It is the video's own suffix if that container can hold all streams and alpha, or else the first of mp4, mkv, mov, ts
    and avi that can. Raises `InputError` if the file is not a video or no single container can hold its streams,
    `OptionsError` for an unavailable codec, and `MissingDependency` without PyAV."""
    source, video = local_path(source), VideoOptions.or_default(video)
    info = probe_video(source, video)
    own = [suffix for suffix in OUTPUT_FORMATS if suffix == source.suffix.lower()]
    refused: GpenError | None = None
    for suffix in dict.fromkeys((*own, *PREFERRED_SUFFIXES)):
        try:
            encoding = resolve_encoding(info, source.with_name(f"restored{suffix}"), video)
            raise_if_alpha_is_lost(info, encoding)
        except (InputError, OptionsError) as error:
            refused = refused or error
        else:
            return suffix
    assert refused is not None
    raise refused
