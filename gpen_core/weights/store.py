"""From a name to what is built from its file: found or fetched, compared with its digest, read, checked, remembered."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from ..errors import MissingWeights, OutputError, WeightsChanged, WeightsError, oom_context
from ..optional_packages import install_command
from ..progress import Progress, ProgressEvent, no_progress
from . import checkpoint, convert, digest
from .catalog import Entry, find_entry, find_export
from .digest import PIN, PUBLISHED, STRUCTURE, DigestRecord
from .download_options import DownloadOptions
from .folders import format_folders, resolve_path
from .onnx_runtime import RUNTIME, has_runtime
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
        """As `load`, for a file that is there, and what is known of it.

        An ONNX file is converted once: see `conversions_folder`."""
        if path.suffix.lower() == ".onnx":
            return self._load_onnx(path, build)
        return self.read_file(path, build)

    def read_file(self, path: Path, build: Build[Built]) -> tuple[Built, DigestRecord]:
        """As `load_file`, from the file itself, whatever was made of it before."""
        pin = pinned_digest(path)
        with open_weights(path) as file:
            record = self._verify(file)
            built = self._build(file, pin is not None, build, record.sha256)
        if pin is None and not record.date:  # what is remembered has a date
            digest.save_record(path, record)
        return built, record

    def conversions_folder(self, path: Path) -> Path:
        """Where what was read from an ONNX file is kept as `.safetensors`: beside the file. If that is one of the models
        folders, in the first of them: in others, other programs would list it."""
        return self.folders[0] if path.parent in self.folders else path.parent

    def _load_onnx(self, path: Path, build: Build[Built]) -> tuple[Built, DigestRecord]:
        folder = self.conversions_folder(path)
        sha256 = self.verify(path).sha256
        for one in (folder, path.parent):
            kept = convert.find_conversion(path, sha256, one)
            if kept is not None:
                return self.read_file(kept, build)

        def read(content: object, entry: Entry | None) -> tuple[object, Built]:
            return content, build(content, entry)

        log.info("Converting %s. This is done once.", path)
        (content, built), record = self.read_file(path, read)
        if isinstance(content, dict):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                log.info("The conversion is kept: %s", convert.save_safetensors(path, record, content, folder))
            except (OSError, OutputError) as error:
                log.warning("%s is converted again when it is next loaded: %s", path.name, error)
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
        found = resolve_path(name, self.folders)
        if isinstance(found, Path):
            entry = self._replacement(name, found)
            if entry is None:
                return found
        else:
            entry = found
        if self.options.offline:
            raise self.missing_error(entry, "downloads are switched off")

        def is_as_named(path: Path) -> object:
            with open_weights(path) as file:
                return self._build(file, False, lambda content, _: build(content, entry), None)

        try:
            from .download import Download  # brings the HTTP library, which is not needed where all files are there
        except ImportError as error:  # a registry's copy of this package may leave out what opens connections
            raise self.missing_error(entry, f"this copy cannot download ({error})") from error
        faults: list[MissingWeights] = []
        for one in self._downloads(entry):
            try:
                return Download(one, self.folders[0], self.options, progress, is_as_named).run()
            except MissingWeights as error:
                faults.append(error)
        raise type(faults[0])("\n".join(map(str, faults))) from faults[0]

    def _replacement(self, name: str, path: Path) -> Entry | None:
        """What to download in place of a file that is there: the released one, for an ONNX file that was asked for by the
        network's name and that cannot be converted here. None where the file is to be used."""
        entry = find_entry(name)
        is_usable = path.suffix.lower() != ".onnx" or has_runtime() or path == Path(name).expanduser()
        if entry is None or is_usable or self.options.offline or any(one.tensors_sha256 for one in entry.exports):
            return None
        log.warning("%s is not used: converting it needs ONNX Runtime: %s", path, install_command(RUNTIME))
        return entry

    def _downloads(self, entry: Entry) -> Iterator[Entry]:
        """The file of the catalog and its ONNX exports, in the order in which they are tried. The exports' digests are
        known, so they come first where a digest is required and the file has none."""
        exports = [entry.for_export(one) for one in entry.exports if one.tensors_sha256 is not None or has_runtime()]
        if self.options.require_digest and entry.sha256 is None:
            yield from exports
            yield entry
        else:
            yield entry
            yield from exports

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
        if find_export(record.sha256) is not None:
            record = replace(record, checked_by=PIN)
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
