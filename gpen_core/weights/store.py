"""Loads networks by name: finds or downloads the file, verifies its digest, reads it, builds from it and records it."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from ..errors import ErrorConverter, MissingWeights, OutputError, WeightsChanged, WeightsError, oom_context
from ..files.size_text import file_size_text
from ..network import OnnxModel
from ..optional_packages import install_command
from ..progress import Progress, ProgressEvent, no_progress
from ..version import __version__
from . import checkpoint, convert, digest
from .catalog import Entry, find_entry, find_export
from .digest import PIN, PUBLISHED, STRUCTURE, DigestRecord, WeightsOrigin
from .download_options import DownloadOptions
from .folders import expand_home, format_folders, resolve_path
from .onnx_runtime import RUNTIME, has_runtime
from .weights_file import WeightsFile, open_weights

log = logging.getLogger(__name__)

Built = TypeVar("Built")
Build = Callable[[object, "Entry | None"], Built]
"""Builds an object from a file's content and the catalog entry of its name, if any. Raises `WeightsError`.

The content is what `checkpoint.read` returns; for an entry with `is_graph`, the verified bytes of the file."""


class Store:
    """The weights files in the models folders.

    `fetch` finds a file or downloads it into the first folder, `verify` compares its digest, `load_file` verifies it and
    builds from it, and `load` does all of this."""

    def __init__(self, folders: Sequence[Path], options: DownloadOptions | None = None, keep_onnx: bool = False) -> None:
        """With `keep_onnx`, ONNX files are not converted, because ONNX Runtime will run them."""
        self.folders = tuple(folders)
        self.keep_onnx = keep_onnx
        self.options = options or DownloadOptions.from_environment()

    def load(self, name: str, build: Build[Built], progress: Progress = no_progress) -> Built:
        """Find or download the file that `name` means, and build from it.

        The digest of a file without a pinned digest is recorded after `build` accepted it. Raises `MissingWeights` if the
        file is missing and cannot be downloaded, `WeightsError` if it is refused, and `OutOfMemory`. Each message names
        the file.
        """
        return self.load_with_origin(name, build, progress)[0]

    def load_with_origin(
        self, name: str, build: Build[Built], progress: Progress = no_progress
    ) -> tuple[Built, WeightsOrigin]:
        """Do the same as `load`, and return which file the weights came from, too."""
        path = self.fetch(name, build, progress)
        progress(ProgressEvent("load", 0, None, "model", f"Loading {path.name}"))
        built, record = self.load_file(path, build, progress)
        return built, WeightsOrigin.from_record(path, record)

    def load_file(self, path: Path, build: Build[Built], progress: Progress = no_progress) -> tuple[Built, DigestRecord]:
        """Build from an existing file, as `load` does, and return its record, too.

        An ONNX file of a network is converted once, see `conversions_folder`. `build` gets an `OnnxModel` if that is not
        possible."""
        if path.suffix.lower() == ".onnx" and not self.keep_onnx and not _is_graph(path):
            return self._load_onnx(path, build, progress)
        return self.load_as_is(path, build)

    def load_as_is(self, path: Path, build: Build[Built], not_converted: str | None = None) -> tuple[Built, DigestRecord]:
        """Do the same as `load_file`, but read this file, even if it has a conversion.

        `not_converted` is why an ONNX file cannot be converted, if that is known; see `checkpoint.read`."""
        pin = pinned_digest(path)
        with open_weights(path) as file:
            if path.suffix.lower() == ".safetensors":
                built, record = self._build_safetensors(file, build)
            else:
                record = self._verify(path, file.sha256())
                built = self._read_and_build(file, pin is not None, build, record.sha256, not_converted)
        if pin is None and not record.date:  # a saved record has a date
            digest.save_record(path, record)
        return built, record

    def conversions_folder(self, path: Path) -> Path:
        """Return the folder for the `.safetensors` file of a converted ONNX file.

        It is the file's own folder, or the first models folder if the file is in any of them. Other programs would list
        the conversion in the others."""
        return self.folders[0] if path.parent in self.folders else path.parent

    def _load_onnx(self, path: Path, build: Build[Built], progress: Progress) -> tuple[Built, DigestRecord]:
        folder = self.conversions_folder(path)
        before = self.verify(path)
        for one in (folder, path.parent):
            kept = convert.find_conversion(path, before.sha256, one)
            if kept is not None:
                return self.load_as_is(kept, build)

        def build_and_keep(content: object, entry: Entry | None) -> tuple[object, Built]:
            return content, build(content, entry)

        is_known = before.not_converted_by == __version__ and has_runtime()
        if not is_known:
            log.info("Converting %s once.", path)
            progress(ProgressEvent("load", 0, None, "model", f"Converting {path.name}, only this once"))
        (content, built), record = self.load_as_is(path, build_and_keep, before.not_converted if is_known else None)
        if isinstance(content, OnnxModel) and not is_known:
            record = replace(record, not_converted=content.reason, not_converted_by=__version__)
            digest.save_record(path, record)
        if isinstance(content, dict):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                log.info("Saved the conversion: %s", convert.save_safetensors(path, record, content, folder))
            except (OSError, OutputError) as error:
                log.warning("The conversion of %s was not saved and is repeated on the next load: %s", path.name, error)
        return built, record

    def accept_changed(self, name: str, build: Build[object], sha256: str | None = None) -> tuple[Path, DigestRecord]:
        """Record the digest of a file that the user replaced, and return its path and new record.

        Raises `WeightsChanged` if `sha256` is given and the file has another digest. Raises the errors of `load_file` if
        `build` refuses the file or the catalog pins another digest. The old record stays after an error."""
        path = resolve_path(name, self.folders)
        if not isinstance(path, Path):
            raise self.missing_error(path, "there is no file to accept")
        pin = pinned_digest(path)
        with open_weights(path) as file:
            actual = file.sha256()
            record = digest.verify(path, actual, pin) if pin else DigestRecord(actual, STRUCTURE)
            if sha256 not in (None, record.sha256):
                raise WeightsChanged(f"{path} was not accepted: its SHA-256 is {record.sha256}, not {sha256}.")
            self._read_and_build(file, pin is not None, build, record.sha256)
        if pin is None:
            digest.save_record(path, record)
        return path, record

    def fetch(self, name: str, build: Build[object], progress: Progress = no_progress) -> Path:
        """Return the path of the file that `name` means, after downloading it if it is missing.

        Downloads are verified; `build` must accept one without a digest. Existing files are not verified, see `verify`."""
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
                return self._read_and_build(file, False, lambda content, _: build(content, entry), None)

        try:
            from .download import Download  # imports the HTTP library, which is needed for missing files only
        except ImportError as error:  # a registry's copy of this package may lack the modules that open connections
            raise self.missing_error(entry, f"this copy cannot download ({error})") from error
        faults: list[MissingWeights] = []
        for one in self._downloads(entry):
            try:
                return Download(one, self.folders[0], self.options, progress, is_as_named).run()
            except MissingWeights as error:
                faults.append(error)
        raise type(faults[0])("\n".join(map(str, faults))) from faults[0]

    def _replacement(self, name: str, path: Path) -> Entry | None:
        """Return the entry to download instead of the existing file, or None to use the file.

        The released file replaces an ONNX file that was found by the network's name and cannot be converted here."""
        entry = find_entry(name)
        is_usable = path.suffix.lower() != ".onnx" or has_runtime() or path == expand_home(name) or _is_graph(path)
        if entry is None or is_usable or self.options.offline or any(one.tensors_sha256 for one in entry.exports):
            return None
        log.warning("%s was skipped, because converting it needs ONNX Runtime: %s", path, install_command(RUNTIME))
        return entry

    def _downloads(self, entry: Entry) -> Iterator[Entry]:
        """Yield the file of the catalog and its ONNX exports, in the order in which they are tried.

        The exports have known digests, so they come first if a digest is required and the file has none."""
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
            f"Download it from {entry.sources[0].url} and put it there, or set the models folder that has it. "
            f"({entry.license})"
        )

    def verify(self, path: Path) -> DigestRecord:
        """Compare the file with its pinned digest or its record, see `digest.verify`, and return its record.

        With `require_digest`, a file without a pinned or published digest is compared with the digests that its sources
        publish, and refused if none of them matches."""
        return self._verify(path, digest.file_sha256(path))

    def _verify(self, path: Path, sha256: str) -> DigestRecord:
        record = digest.verify(path, sha256, pinned_digest(path))
        if find_export(record.sha256) is not None:
            record = replace(record, checked_by=PIN)
        if not self.options.require_digest or record.has_digest:
            return record
        vouched = self.record_from_publisher(path, record.sha256)
        if vouched is None:
            raise WeightsError(
                f"{path} was refused: a digest is required, but no source publishes one of this file (SHA-256 "
                f"{record.sha256}). Without that requirement, its structure is checked instead."
            )
        return vouched

    def record_from_publisher(self, path: Path, sha256: str) -> DigestRecord | None:
        """Return a record with the source that publishes this digest for this file, or None. None if offline."""
        entry = find_entry(path.name)
        if entry is None or self.options.offline:
            return None
        try:
            from . import remote_digest
            from .request import RetryPolicy
        except ImportError as error:  # a registry's copy of this package may lack the modules that open connections
            log.warning("This copy cannot fetch the digest of %s from its sources (%s).", path.name, error)
            return None

        sources = (source for source in entry.sources if source.publishes_digest)
        known = (source.url for source in sources if remote_digest.fetch_info(source, RetryPolicy()).sha256 == sha256)
        url = next(known, None)
        return DigestRecord(sha256, PUBLISHED, url) if url else None

    def _build_safetensors(self, file: WeightsFile, build: Build[Built]) -> tuple[Built, DigestRecord]:
        """Build from a `.safetensors` file while a thread hashes the same bytes. Parsing them runs nothing.

        If the digest is refused, that is the error, and nothing of what was built is left."""
        with ThreadPoolExecutor(1, "gpen-hash") as pool, _oom_context(file):
            data = file.read_bytes()
            hashed = pool.submit(file.in_memory(data).sha256)
            try:
                content = checkpoint.read(file.in_memory(data), is_pinned=False)
                del data
                built = _build_from(content, file.path, build)
            finally:
                record = self._verify(file.path, hashed.result())
        file.raise_if_changed(record.sha256)
        return built, record

    def _read_and_build(
        self,
        file: WeightsFile,
        is_pinned: bool,
        build: Build[Built],
        sha256: str | None,
        not_converted: str | None = None,
    ) -> Built:
        with _oom_context(file):
            content: object
            if _is_graph(file.path):
                if not is_pinned:
                    raise WeightsError(f"{file.path} was refused: only the released file, whose SHA-256 is known, is read.")
                content = _read_graph(file, sha256)
            else:
                content = checkpoint.read(file, is_pinned, self.keep_onnx, not_converted)
            if sha256 is not None:
                file.raise_if_changed(sha256)
            return _build_from(content, file.path, build)


def _build_from(content: object, path: Path, build: Build[Built]) -> Built:
    """Build from the content of a file. Errors name the file."""
    try:
        return build(content, find_entry(path.name))
    except WeightsError as error:
        raise type(error)(f"{path}: {error}") from error


def _oom_context(file: WeightsFile) -> ErrorConverter:
    return oom_context(f"the weights in {file.path}, which has {file_size_text(file.size)}", "use a smaller model")


def pinned_digest(path: Path) -> str | None:
    """Return the SHA-256 that the catalog pins for a file of this name, or None."""
    entry = find_entry(path.name)
    return entry.digest_for(path.name) if entry else None


def _is_graph(path: Path) -> bool:
    entry = find_entry(path.name)
    return entry is not None and entry.is_graph


def _read_graph(file: WeightsFile, sha256: str | None) -> bytes:
    """Return the bytes that had this digest. No other bytes may reach OpenCV's parser. Raises `WeightsError`."""
    content = file.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise WeightsError(f"{file.path} changed while it was read and was not loaded. Run again.")
    return content
