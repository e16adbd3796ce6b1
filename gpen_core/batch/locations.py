"""Locations of images: local paths, and URLs of files on object stores or other machines."""

from __future__ import annotations

import glob
import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from ..files.path_checks import URL_SCHEME

QUERY_SCHEMES = ("http", "https")
CHAINED = {"zip", "tar", "libarchive", "dir", "reference", "simplecache", "filecache", "blockcache"}
"""Schemes whose URLs mean a file inside the location after `::`. Otherwise `::` is part of a name."""


@dataclass(frozen=True)
class Url:
    """A URL for fsspec, such as `s3://bucket/folder/a.png`.

    `zip://a.png::s3://bucket/b.zip` is a link and the chain of its containers. A folder may end with `/`."""

    text: str

    @property
    def scheme(self) -> str:
        return self.text.partition("://")[0]

    @property
    def link(self) -> str:
        """The URL without the chain."""
        return self.text.removesuffix(self.chain)

    @property
    def chain(self) -> str:
        """The part from the first `::` on if the scheme is in `CHAINED`, else empty."""
        return self.text[self.text.index("::") :] if self.scheme in CHAINED and "::" in self.text else ""

    @property
    def name(self) -> str:
        """The part after the last `/` of the path. Empty if the path ends with `/` or is a whole bucket or server."""
        has_bucket = self.scheme not in CHAINED
        return self.path.rpartition("/")[2] if "/" in self.path.lstrip("/") or not has_bucket else ""

    @property
    def path(self) -> str:
        """The path with the bucket or server, without query and chain."""
        path = self.link.partition("://")[2]
        return path.partition("?")[0] if self.scheme in QUERY_SCHEMES else path

    @property
    def is_pattern(self) -> bool:
        return self.scheme not in QUERY_SCHEMES and glob.has_magic(self.link)

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix

    def __truediv__(self, relative_path: str) -> Url:
        folder = self.link if self.link.endswith("://") else f"{self.link.removesuffix('/')}/"
        return Url(f"{folder}{relative_path}{self.chain}")

    def __str__(self) -> str:
        return self.text


Location = Path | Url


def parse_location(text: str) -> Location:
    """Parse a path or URL. `file://` gives a path."""
    scheme = URL_SCHEME.match(text)
    if scheme is None:
        return Path(text)
    if scheme[1].lower() in ("file", "local"):
        return Path(_local_path(unquote(text[scheme.end() :])))
    return Url(scheme[1].lower() + text[len(scheme[1]) :])


@dataclass(frozen=True)
class OutputPlace:
    """The output location as the user typed it."""

    location: Location
    is_folder: bool
    """Whether it ended with a slash, so that it is a folder even if it has a suffix."""

    def __str__(self) -> str:
        return str(self.location)


def parse_output(text: str) -> OutputPlace:
    """Parse an output path or URL, see `parse_location`."""
    return OutputPlace(parse_location(text), text.endswith(("/", os.sep)))


def _local_path(path: str) -> str:
    """Convert the part after `file://` to a path. On Windows, a slash precedes the drive."""
    return path[1:] if os.name == "nt" and re.match(r"/[A-Za-z]:", path) else path
