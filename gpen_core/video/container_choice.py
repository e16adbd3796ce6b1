"""Which container a film goes into where nobody has named one."""

from __future__ import annotations

from pathlib import Path

from ..errors import GpenError, InputError, OptionsError
from ..optional_packages import calls_of
from ..options import VideoOptions
from .containers import FORMATS
from .encoding import Encoding, check_output
from .restore_video import film_of

COMMON = (".mp4", ".mkv", ".mov", ".ts")  # the first that holds all is taken


@calls_of("av")
def suffix_for(source: Path, video: VideoOptions | None = None) -> str:
    """The suffix of an output for `restore_video`: the film's own, or where that container is not written or cannot hold all
    of its streams, one of mp4, mkv, mov and ts that can.

    Raises `InputError` for what is no film or has streams that no one container holds, `OptionsError` for a codec that is
    not there, `MissingExtra` without PyAV."""
    video = video or VideoOptions()
    film = film_of(source, video)
    own = [suffix for suffix in FORMATS if suffix == source.suffix.lower()]
    refused: GpenError | None = None
    for suffix in dict.fromkeys((*own, *COMMON)):
        try:
            check_output(film, source.with_name(f"restored{suffix}"), Encoding(video.codec, video.crf))
        except (InputError, OptionsError) as error:
            refused = refused or error
        else:
            return suffix
    assert refused is not None
    raise refused
