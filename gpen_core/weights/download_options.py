"""Options for downloads: whether and from where. This module imports no HTTP library."""

from __future__ import annotations

import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from ..errors import OptionsError
from ..switches import is_switched_on


@dataclass(frozen=True)
class DownloadOptions:
    """Whether and from where files may be downloaded."""

    offline: bool = False
    require_digest: bool = False
    """Refuse files for which neither the catalog nor the source has a digest."""
    mirror: str | None = None
    """URL of a folder. `mirror/FILE` is tried before the catalog's sources. It may use http."""

    def __post_init__(self) -> None:
        if self.mirror is not None and not _is_http(self.mirror):
            raise OptionsError(f"The mirror must be an http or https address, got {self.mirror!r}.")

    @classmethod
    def from_environment(
        cls, offline: bool = False, require_digest: bool = False, mirror: str | None = None
    ) -> DownloadOptions:
        """Combine the arguments with `$GPEN_OFFLINE`, `$HF_HUB_OFFLINE` and `$GPEN_MIRROR`."""
        env_offline = any(is_switched_on(name) for name in ("GPEN_OFFLINE", "HF_HUB_OFFLINE"))
        return cls(offline or env_offline, require_digest, mirror or os.environ.get("GPEN_MIRROR") or None)


def _is_http(url: str) -> bool:
    try:
        return urlsplit(url).scheme in ("http", "https")
    except ValueError:  # such as half an IPv6 address
        return False
