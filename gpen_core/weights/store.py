"""From a name to what is built from its file: found or fetched, compared with its digest, read, checked, remembered."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from ..errors import MissingWeights, WeightsChanged, WeightsError, oom_context
from ..progress import Progress, ProgressEvent, no_progress
from . import checkpoint, digest
from .catalog import Entry, find_entry
from .digest import PUBLISHED, STRUCTURE, DigestRecord
from .download_options import DownloadOptions
from .folders import format_folders, resolve_path
from .weights_file import WeightsFile, open_weights

log = logging.getLogger(__name__)

Built = TypeVar("Built")
Build = Callable[[object, "Entry | None"], Built]
"""Makes something from a file's content, or raises `WeightsError`; the entry is that of the file's name, if any."""


class Store:
    """The weights files of some folders, and those of the catalog that can be fetched into the first of them."""

    def __init__(self, folders: Sequence[Path], options: DownloadOptions | None = None) -> None:
        self.folders = tuple(folders)
        self.options = options or DownloadOptions.from_environment()

    def load(self, name: str, build: Build[Built], progress: Progress = no_progress) -> Built:
        """Finds or fetches the file that `name` means and builds from it.

        Raises `MissingWeights` for a file that is not there and may not or cannot be fetched, `WeightsError` for one that
        is refused, `OutOfMemory` where it does not fit; each message names the file. What a file without a pin was is
        remembered once it could be built from.
        """
        path = self.fetch(name, build, progress)
        progress(ProgressEvent("load", 0, None, "model", f"Loading {path.name}"))
        return self.load_file(path, build)[0]

    def load_file(self, path: Path, build: Build[Built]) -> tuple[Built, DigestRecord]:
        """As `load`, for a file that is there, and what is known of it."""
        pin = pinned_digest(path)
        with open_weights(path) as file:
            record = self._verify(file)
            built = self._build(file, pin is not None, build, record.sha256)
        if pin is None and not record.date:  # what is remembered has a date
            digest.save_record(path, record)
        return built, record

    def accept_changed(self, name: str, build: Build[object], sha256: str | None = None) -> tuple[Path, DigestRecord]:
        """Remembers anew the file that `name` means, whatever was remembered of it: the user has replaced it. With `sha256`
        only a file that has this digest; `WeightsChanged` for another.

        Raises as `load_file` does, for a file that `build` does not accept and one that is not the catalog's where that has
        a digest of it; then what was remembered stays."""
        path = resolve_path(name, self.folders)
        if not isinstance(path, Path):
            raise self.missing_error(path, "there is nothing to be trusted")
        pin = pinned_digest(path)
        with open_weights(path) as file:
            record = digest.verify(file, pin) if pin else DigestRecord(file.sha256(), STRUCTURE)
            if sha256 not in (None, record.sha256):
                raise WeightsChanged(f"{path} was not accepted: its SHA-256 is {record.sha256}, not {sha256}.")
            self._build(file, pin is not None, build, record.sha256)
        if pin is None:
            digest.save_record(path, record)
        return path, record

    def fetch(self, name: str, build: Build[object], progress: Progress = no_progress) -> Path:
        """The file that `name` means, fetched if it is missing. What is fetched is verified; what was there is not: see
        `verify`. A fetched file without a digest must be one that `build` accepts."""
        entry = resolve_path(name, self.folders)
        if isinstance(entry, Path):
            return entry
        if self.options.offline:
            raise self.missing_error(entry, "downloads are switched off")

        def is_as_named(path: Path) -> object:
            with open_weights(path) as file:
                return self._build(file, False, lambda content, _: build(content, entry), None)

        try:
            from .download import Download  # brings the HTTP library, which is not needed where all files are there
        except ImportError as error:  # a registry's copy of this package may leave out what opens connections
            raise self.missing_error(entry, f"this copy cannot download ({error})") from error
        return Download(entry, self.folders[0], self.options, progress, is_as_named).run()

    def missing_error(self, entry: Entry, reason: str) -> MissingWeights:
        return MissingWeights(
            f"{entry.file} ({entry.purpose}) is not in {format_folders(self.folders)}, and {reason}. "
            "Put it there, or name the folder that has it as models folder; its publisher has "
            f"it at {entry.sources[0].url} ({entry.license})"
        )

    def verify(self, path: Path) -> DigestRecord:
        """Compares the file with its pin, or with what is remembered of it; see `digest.verify`.

        With `require_digest`, a file that nobody vouches for is compared with what the entry's sources publish, and
        refused if none of them knows it."""
        with open_weights(path) as file:
            return self._verify(file)

    def _verify(self, file: WeightsFile) -> DigestRecord:
        path = file.path
        record = digest.verify(file, pinned_digest(path))
        if not self.options.require_digest or record.has_digest:
            return record
        vouched = self.record_from_publisher(path, record.sha256)
        if vouched is None:
            raise WeightsError(
                f"{path} was refused: a digest is required, and nobody publishes one of this file (SHA-256 "
                f"{record.sha256}). Where no digest is required it is checked by its structure."
            )
        return vouched

    def record_from_publisher(self, path: Path, sha256: str) -> DigestRecord | None:
        """A record that says which source publishes this digest for this file, None if none does or none can be asked."""
        entry = find_entry(path.name)
        if entry is None or self.options.offline:
            return None
        try:
            from . import remote_digest
            from .request import RetryPolicy
        except ImportError as error:  # a registry's copy of this package may leave out what opens connections
            log.warning("Nobody is asked for the digest of %s: this copy opens no connections (%s).", path.name, error)
            return None

        sources = (source for source in entry.sources if source.publishes_digest)
        known = (source.url for source in sources if remote_digest.fetch_info(source, RetryPolicy()).sha256 == sha256)
        url = next(known, None)
        return DigestRecord(sha256, PUBLISHED, url) if url else None

    def _build(self, file: WeightsFile, is_pinned: bool, build: Build[Built], sha256: str | None) -> Built:
        with oom_context(f"the weights in {file.path}, which has {file.size / 1e6:.0f} MB", "take a smaller model"):
            content = checkpoint.read(file, is_pinned)
            if sha256 is not None:
                file.raise_if_changed(sha256)
            try:
                return build(content, find_entry(file.path.name))
            except WeightsError as error:
                raise type(error)(f"{file.path}: {error}") from error


def pinned_digest(path: Path) -> str | None:
    """The SHA-256 that the catalog demands of a file of this name."""
    entry = find_entry(path.name)
    return entry.digest_for(path.name) if entry else None
