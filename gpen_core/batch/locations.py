"""Where an image is: a path, or the URL of a file on an object store or another machine."""

from __future__ import annotations

import glob
import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

URL_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")  # a single letter is a drive
QUERY_SCHEMES = ("http", "https")
CHAINED = {"zip", "tar", "libarchive", "dir", "reference", "simplecache", "filecache", "blockcache"}
"""Their URLs name a place within what follows `::`. Elsewhere `::` is a part of a name, which fsspec does not know."""


@dataclass(frozen=True)
class Url:
    """A place that fsspec knows, such as `s3://bucket/folder/a.png`, or `zip://a.png::s3://bucket/b.zip`: a link, and the
    chain of what it lies in. A folder's may end with `/`."""

    text: str

    @property
    def scheme(self) -> str:
        return self.text.partition("://")[0]

    @property
    def link(self) -> str:
        """Without the chain."""
        return self.text.removesuffix(self.chain)

    @property
    def chain(self) -> str:
        """From the first `::` on, where the scheme is of a place within another one; else empty."""
        return self.text[self.text.index("::") :] if self.scheme in CHAINED and "::" in self.text else ""

    @property
    def name(self) -> str:
        """What follows the last `/` of its path; empty for a folder that ends so, and for a whole bucket or server."""
        has_bucket = self.scheme not in CHAINED
        return self.path.rpartition("/")[2] if "/" in self.path.lstrip("/") or not has_bucket else ""

    @property
    def path(self) -> str:
        """With the bucket or server, without a query or chain."""
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
    """A `Url` where it begins as one, but `file://` is a path."""
    scheme = URL_SCHEME.match(text)
    if scheme is None:
        return Path(text)
    if scheme[1].lower() in ("file", "local"):
        return Path(_local_path(unquote(text[scheme.end() :])))
    return Url(scheme[1].lower() + text[len(scheme[1]) :])


@dataclass(frozen=True)
class OutputPlace:
    """Where results go, as it was typed."""

    location: Location
    is_folder: bool
    """Whether it ended with a slash, and so names a folder whatever its suffix is."""


def parse_output(text: str) -> OutputPlace:
    """See `parse_location`."""
    return OutputPlace(parse_location(text), text.endswith(("/", os.sep)))


def _local_path(path: str) -> str:
    """What a URL has after `file://`: on Windows a drive stands behind a slash there."""
    return path[1:] if os.name == "nt" and re.match(r"/[A-Za-z]:", path) else path


def is_folder(path: str | Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112  Path.is_dir raises on names that are too long
