"""Downloads a file of the catalog into a models folder and verifies it.

The steps: lock; check whether the file exists; acquire an earlier unfinished download; for each source, download the
rest; hash the whole file; sync; rename. A wrong file is deleted. An unfinished file is kept for the next run.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from filelock import Timeout

from ..errors import MissingWeights, WeightsChanged, WeightsError
from ..files.lock_file import file_lock, has_locks
from ..files.size_text import file_size_text
from ..progress import Progress, ProgressEvent
from . import digest, remote_digest
from .catalog import Entry, Source
from .digest import PIN, PUBLISHED, STRUCTURE, DigestRecord
from .download_options import DownloadOptions
from .partial_file import PartialFile, acquire, remove_stale
from .remote_digest import RemoteDigest
from .request import RetryPolicy, SourceError
from .transfer import Transfer

log = logging.getLogger(__name__)

MIN_FREE_DISK = 16 << 20  # bytes that a download leaves free

Check = Callable[[Path], object]


class DownloadFailed(MissingWeights):
    """No source could serve the file. The unfinished download is kept for the next run unless it was wrong."""


@dataclass(frozen=True)
class _Candidate:
    """A source, and what it published about its file before the download."""

    source: Source
    known: RemoteDigest
    digests: tuple[str, ...]
    """The file must have one of these. If empty, only its structure can be checked."""
    checked_by: str

    @property
    def identity(self) -> str | None:
        """A key for this exact content, with which a download is resumed; None if the source gives none."""
        if len(self.digests) == 1:
            return self.digests[0]
        return f"{self.source.url} {self.known.validator} {self.known.bytes}" if self.known.validator else None


class Download:
    """The download of one file of the catalog into one folder."""

    def __init__(
        self,
        entry: Entry,
        folder: Path,
        options: DownloadOptions,
        progress: Progress,
        check: Check,
        policy: RetryPolicy | None = None,
    ) -> None:
        """`check(path)` raises `WeightsError` if the file's structure is not the entry's. It is called for files without
        a digest before they get their name. `progress` counts bytes and may raise `Interrupted` to cancel."""
        self.entry = entry
        self.target = folder / entry.file
        self.options = options
        self.progress = progress
        self.check = check
        self.policy = policy or RetryPolicy()
        self.earlier: DigestRecord | None = None

    def run(self) -> Path:
        """Download the file unless it exists, and return its path. `DownloadFailed` lists the error of each source."""
        try:
            self.target.parent.mkdir(parents=True, exist_ok=True)
            with self._lock():
                if not self.target.exists():
                    self._fetch()
        except OSError as error:
            raise DownloadFailed(self._write_error_message(error)) from error
        return self.target

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """Let one process of those that share the folder download. The others wait, and can be cancelled."""
        path = self.target.with_name(f".{self.target.name}.lock")
        lock = file_lock(path)
        can_lock = has_locks(path)
        if not can_lock:
            log.info("%s cannot be locked.", self.target)  # acquiring a part by renaming is enough
        while can_lock:
            try:
                lock.acquire(timeout=0.2)
                break
            except Timeout:
                text = f"Waiting for another download of {self.entry.file}"
                self.progress(ProgressEvent("download", 0, None, "byte", text))
        try:
            yield
        finally:
            lock.release()

    def _fetch(self) -> None:
        log.warning("Downloading %s. %s", self.entry.file, self.entry.license)
        try:
            self.earlier = digest.load_record(self.target)
        except WeightsChanged:  # without a file, there is nothing that it protects: anyone could delete it
            log.warning("%s is damaged and will be replaced.", digest.record_path(self.target))
        faults: list[str] = []
        for candidate in self._candidates(faults):
            try:
                return self._fetch_from(candidate)
            except (SourceError, WeightsError) as fault:
                log.info("%s: %s", candidate.source.url, fault)
                faults.append(f"{candidate.source.url}: {fault}")
        raise DownloadFailed(
            f"{self.entry.file} ({self.entry.purpose}) could not be downloaded into {self.target.parent}:\n  "
            + "\n  ".join(faults)
            + f"\nTry again later, name a mirror ($GPEN_MIRROR), or put the file there by hand "
            f"({self.entry.license})"
        )

    def _candidates(self, faults: list[str]) -> Iterator[_Candidate]:
        """Yield the sources in the order in which they are tried. Those without a digest come last."""
        mirrors = _mirrors(self.entry, self.options.mirror)
        if self.entry.sha256 is not None:
            known = RemoteDigest(self.entry.sha256, self.entry.bytes)
            yield from (_Candidate(s, known, (self.entry.sha256,), PIN) for s in (*mirrors, *self.entry.sources))
            return
        infos = {source: self._fetch_info(source) for source in self.entry.sources if source.publishes_digest}
        digests = tuple(dict.fromkeys(known.sha256 for known in infos.values() if known.sha256))
        vouched = [_Candidate(s, replace(k, validator=None), (k.sha256,), PUBLISHED) for s, k in infos.items() if k.sha256]
        # If the publishers agree on one source, a mirror's file must have its digest and length. With several, it must have
        # one of their digests, and its length is asked for.
        if len(vouched) == 1:
            yield from (replace(vouched[0], source=s) for s in mirrors)
        elif digests:
            yield from (_Candidate(s, self._fetch_info(s), digests, PUBLISHED) for s in mirrors)
        yield from vouched
        rest = [s for s in self.entry.sources if not (s in infos and infos[s].sha256)]
        for source in (*(mirrors if not digests else ()), *rest):
            if self.options.require_digest:
                faults.append(f"{source.url}: no source publishes a digest of its file, but one is required")
            else:
                yield _Candidate(source, self._fetch_info(source), (), STRUCTURE)

    def _fetch_info(self, source: Source) -> RemoteDigest:
        waiting = ProgressEvent("download", 0, None, "byte", "Waiting for the server")
        return remote_digest.fetch_info(source, self.policy, lambda: self._report_progress(waiting))

    def _fetch_from(self, candidate: _Candidate) -> None:
        self._raise_if_changed(candidate.source, candidate.digests)
        announced = candidate.known.bytes or 0
        if announced > self.entry.max_size:
            raise SourceError(f"announced {announced:,} bytes, far more than the file can have")
        partial = acquire(self.target, candidate.identity)
        try:
            self._check_disk_space(candidate, partial)
            in_one_piece = self._complete(candidate, partial)
            try:
                sha256 = self._verify(candidate, partial)
            except SourceError:
                if in_one_piece:
                    raise
                partial.truncate()  # the fault may be in an earlier part from another source or run
                self._complete(candidate, partial)
                sha256 = self._verify(candidate, partial)
            self._commit(candidate, partial, sha256)
        finally:
            partial.unlock()

    def _complete(self, candidate: _Candidate, partial: PartialFile) -> bool:
        known = candidate.known
        return Transfer(
            candidate.source, self.entry.max_size, known.bytes, known.validator, self.policy, self._report_progress
        ).run(partial)

    def _verify(self, candidate: _Candidate, partial: PartialFile) -> str:
        """Return the digest of the whole file on disk. A wrong file is deleted."""
        size = partial.size
        self.progress(ProgressEvent("verify", size, size, "byte", f"Verifying {self.entry.file}"))
        sha256 = digest.file_sha256(partial.path)
        try:
            if candidate.digests and sha256 not in candidate.digests:
                expected = " or ".join(candidate.digests)
                raise SourceError(f"sent a file with the SHA-256 {sha256}, expected {expected}. The file was deleted")
            self._raise_if_changed(candidate.source, (sha256,))
            if candidate.checked_by == STRUCTURE:
                self.check(partial.path)
        except (SourceError, WeightsError):
            partial.discard()
            raise
        return sha256

    def _commit(self, candidate: _Candidate, partial: PartialFile, sha256: str) -> None:
        if candidate.checked_by == STRUCTURE:
            log.warning(
                "%s: no source published a digest of this file, so only its structure was checked (tensors, names, shapes). "
                "Its SHA-256 is %s.",
                self.entry.file,
                sha256,
            )
        if candidate.checked_by != PIN:
            digest.save_record(self.target, DigestRecord(sha256, candidate.checked_by, candidate.source.url))
        partial.commit(self.target)
        remove_stale(self.target)

    def _raise_if_changed(self, source: Source, digests: tuple[str, ...]) -> None:
        """Raise `SourceError` if this source served a file with another digest before."""
        before = self.earlier
        if before is not None and before.source == source.url and digests and before.sha256 not in digests:
            raise SourceError(
                f"serves another file than on {before.date} (SHA-256 {' or '.join(digests)}, recorded {before.sha256}). "
                f"To accept it, delete {digest.record_path(self.target)}"
            )

    def _check_disk_space(self, candidate: _Candidate, partial: PartialFile) -> None:
        needed = (candidate.known.bytes or self.entry.known_bytes or 0) - partial.size + MIN_FREE_DISK
        free = shutil.disk_usage(self.target.parent).free
        if free < needed:
            raise OSError(errno.ENOSPC, f"{file_size_text(needed)} needed, {file_size_text(free)} free")

    def _report_progress(self, event: ProgressEvent) -> None:
        self.progress(
            replace(event, total=event.total or self.entry.approximate_bytes, text=f"{self.entry.file}: {event.text}")
        )

    def _write_error_message(self, error: OSError) -> str:
        folder = self.target.parent
        if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None)):
            problem = f"The disk is full ({error.strerror})"
            advice = "Free some space and run again; the download resumes"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            problem = f"The folder is not writable ({error.strerror})"
            advice = "Make the folder writable"
        else:
            problem, advice = f"{error.strerror or error}", "Check the folder"
        return (
            f"{self.entry.file} ({self.entry.purpose}) cannot be downloaded into {folder}. {problem}. {advice}, "
            "or use another models folder."
        )


def _mirrors(entry: Entry, mirror: str | None) -> tuple[Source, ...]:
    if mirror is None:
        return ()
    return (Source(f"{mirror.rstrip('/')}/{quote(entry.file)}", allows_http=True),)
