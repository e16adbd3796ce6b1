"""From a name to what is built from its file: found or fetched, compared with its digest, read, checked, remembered."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from ..errors import MissingWeights, WeightsError, memory_for
from ..progress import Progress, ProgressEvent, no_progress
from . import checkpoint, digest
from .catalog import Entry, find_entry
from .digest import PUBLISHED, STRUCTURE, Record
from .download_options import DownloadOptions
from .folders import listed, locate
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

    def load_file(self, path: Path, build: Build[Built]) -> tuple[Built, Record]:
        """As `load`, for a file that is there, and what is known of it."""
        pin = pin_of(path)
        with open_weights(path) as file:
            record = self._check(file)
            built = self._build(file, pin is not None, build, record.sha256)
        if pin is None and not record.date:  # what is remembered has a date
            digest.remember(path, record)
        return built, record

    def trust(self, name: str, build: Build[object]) -> tuple[Path, Record]:
        """Remembers anew the file that `name` means, whatever was remembered of it: the user has replaced it.

        Raises as `load_file` does, for a file that `build` does not accept and one that is not the catalog's where that has
        a digest of it; then what was remembered stays."""
        path = locate(name, self.folders)
        if not isinstance(path, Path):
            raise self.missing(path, "there is nothing to be trusted")
        pin = pin_of(path)
        with open_weights(path) as file:
            record = digest.check(file, pin) if pin else Record(file.sha256(), STRUCTURE)
            self._build(file, pin is not None, build, record.sha256)
        if pin is None:
            digest.remember(path, record)
        return path, record

    def fetch(self, name: str, build: Build[object], progress: Progress = no_progress) -> Path:
        """The file that `name` means, fetched if it is missing. What is fetched is verified; what was there is not: see
        `check`. A fetched file without a digest must be one that `build` accepts."""
        entry = locate(name, self.folders)
        if isinstance(entry, Path):
            return entry
        if self.options.offline:
            raise self.missing(entry, "downloads are switched off")

        def is_as_named(path: Path) -> object:
            with open_weights(path) as file:
                return self._build(file, False, lambda content, _: build(content, entry), None)

        try:
            from .download import Download  # brings the HTTP library, which is not needed where all files are there
        except ImportError as error:  # a registry's copy of this package may leave out what opens connections
            raise self.missing(entry, f"this copy cannot download ({error})") from error
        return Download(entry, self.folders[0], self.options, progress, is_as_named).run()

    def missing(self, entry: Entry, why: str) -> MissingWeights:
        return MissingWeights(
            f"{entry.file} ({entry.purpose}) is not in {listed(self.folders)}, and {why}. Put it there, or name the folder "
            f"that has it as models folder; its publisher has "
            f"it at {entry.sources[0].url} ({entry.licence})"
        )

    def check(self, path: Path) -> Record:
        """Compares the file with its pin, or with what is remembered of it; see `digest.check`.

        With `require_digest`, a file that nobody vouches for is compared with what the entry's sources publish, and
        refused if none of them knows it."""
        with open_weights(path) as file:
            return self._check(file)

    def _check(self, file: WeightsFile) -> Record:
        path = file.path
        record = digest.check(file, pin_of(path))
        if not self.options.require_digest or record.has_digest:
            return record
        vouched = self.published_record(path, record.sha256)
        if vouched is None:
            raise WeightsError(
                f"{path} was refused: a digest is required, and nobody publishes one of this file (SHA-256 "
                f"{record.sha256}). Where no digest is required it is checked by its structure."
            )
        return vouched

    def published_record(self, path: Path, sha256: str) -> Record | None:
        """A record that says which source publishes this digest for this file, None if none does or none can be asked."""
        entry = find_entry(path.name)
        if entry is None or self.options.offline:
            return None
        try:
            from . import remote_digest
            from .request import Patience
        except ImportError as error:  # a registry's copy of this package may leave out what opens connections
            log.warning("Nobody is asked for the digest of %s: this copy opens no connections (%s).", path.name, error)
            return None

        sources = (source for source in entry.sources if source.publishes_digest)
        known = (source.url for source in sources if remote_digest.ask(source, Patience()).sha256 == sha256)
        url = next(known, None)
        return Record(sha256, PUBLISHED, url) if url else None

    def _build(self, file: WeightsFile, is_pinned: bool, build: Build[Built], sha256: str | None) -> Built:
        with memory_for(f"the weights in {file.path}, which has {file.size / 1e6:.0f} MB", "take a smaller model"):
            content = checkpoint.read(file, is_pinned)
            if sha256 is not None:
                file.refuse_change(sha256)
            try:
                return build(content, find_entry(file.path.name))
            except WeightsError as error:
                raise type(error)(f"{file.path}: {error}") from error


def pin_of(path: Path) -> str | None:
    """The SHA-256 that the catalog demands of a file of this name."""
    entry = find_entry(path.name)
    return entry.pin_for(path.name) if entry else None
