"""Pictures on object stores and other machines. The only file that imports fsspec.

Which file systems there are (`s3://`, `gs://`, `az://`, `sftp://`, `memory://`, ...) and how they are signed in to is
fsspec's to say: each needs its own package, and has its own variables or configuration."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import posixpath
import re
import time
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, TypeVar

from ..errors import InputError, MissingExtra, OutputError, UnsupportedPackage, first_line, is_out_of_memory
from ..files.regular_file import FileTooLarge
from ..files.stale_temp import temp_name
from ..images.open_file import MAX_IMAGE_BYTES
from ..optional_packages import calls_of
from .locations import Url

log = logging.getLogger(__name__)

Out = TypeVar("Out")

ATTEMPTS = 3
PAUSES = (1.0, 4.0)  # seconds before the second and the third
PASSING_CODES = {408, 425, 429, 500, 502, 503, 504}  # HTTP: ask again later
PASSING_ERRNOS = {
    errno.EAGAIN,
    errno.EBUSY,  # s3fs: "slow down", 503
    errno.EIO,  # s3fs: internal error, 500
    errno.ETIMEDOUT,
    errno.EPIPE,
    errno.ECONNABORTED,
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
}
PASSING_NAMES = re.compile(
    r"time.?out|slow.?down|service.?unavailable|connection(closed|reset)|serverdisconnected|payloaderror", re.I
)
OBJECTS = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oci", "oss", "memory"}
"""Where an object appears whole when its upload ends, and is not there before."""
AT_ONCE = 64 << 20  # bytes asked for by one read, which may return fewer
STREAMED = {"http", "https"}
"""Servers here may send more than the range they were asked for, which fsspec reads whole: they are read front to back."""
HEAD = 1 << 20  # bytes at the beginning of a streamed file that are searched for its header


def _fsspec() -> Any:
    try:
        import fsspec
    except ImportError as error:
        raise MissingExtra("Pictures named by URLs need fsspec: pip install 'sd-gpen[remote]'") from error
    return fsspec


def _kind(scheme: str) -> Any:
    fsspec = _fsspec()
    try:
        return fsspec.get_filesystem_class(scheme)
    except (ImportError, ValueError) as error:
        known = "s3:// needs s3fs, gs:// gcsfs, az:// adlfs, sftp:// paramiko, https:// aiohttp"
        raise MissingExtra(f"{scheme}:// cannot be used here ({first_line(error)}). By pip install: {known}.") from error


def key(url: Url) -> str:
    """Equal for two names of one object. Raises `MissingExtra`."""
    kind = _kind(url.scheme)
    scheme = kind.protocol if isinstance(kind.protocol, str) else kind.protocol[0]
    return f"{scheme}://{kind._strip_protocol(url.link)}{url.chain}"


def _opened(url: Url) -> tuple[Any, str]:
    """The file system, which fsspec keeps for further calls, and the path there."""
    kind, fsspec = _kind(url.scheme), _fsspec()
    if url.chain:
        system, path = fsspec.core.url_to_fs(url.text)
        return system, str(path)
    return fsspec.filesystem(url.scheme, **kind._get_kwargs_from_urls(url.text)), str(kind._strip_protocol(url.text))


class _CutOff(ConnectionError):
    """A file ended before the length that was announced."""


def read(url: Url) -> bytes:
    """All of it. Raises `InputError` where that fails, for good or three times in a row."""

    def work() -> bytes:
        with _file(url) as (file, size):
            data = _read_to_end(file, MAX_IMAGE_BYTES)
        _refuse_long(url, len(data))
        if size is not None and len(data) < size:
            raise _CutOff(f"it ended after {len(data):,} of {size:,} bytes")
        return data

    return _told(url, "read", InputError, work)


def looked_into(url: Url, look: Callable[[BinaryIO, int], Out]) -> Out:
    """What `look` makes of the open file and its length in bytes: only what it reads is fetched. Raises as `read` does."""

    def work() -> Out:
        with _file(url) as (file, size):
            if url.scheme not in STREAMED:
                return look(file, size or 0)
            head = _read_to_end(file, HEAD)
            return look(io.BytesIO(head), size or len(head))

    return _told(url, "read", InputError, work)


def _read_to_end(file: Any, most: int) -> bytes:
    """All of the file; of one that has more than `most` bytes, at least one byte more. A read over HTTP returns what has
    arrived, not all that was asked for."""
    data = io.BytesIO()
    while data.tell() <= most and (piece := file.read(min(AT_ONCE, most + 1 - data.tell()))):
        data.write(piece)
    return data.getvalue()


@contextlib.contextmanager
def _file(url: Url) -> Iterator[tuple[Any, int | None]]:
    system, path = _opened(url)
    is_streamed = url.scheme in STREAMED
    size = system.info(path).get("size") if is_streamed else None
    _refuse_long(url, size or 0)
    streamed = {"block_size": 0, "size": size or 1} if is_streamed else {}
    with system.open(path, "rb", **streamed) as file:  # without a size it would be asked for again
        size = size if is_streamed else getattr(file, "size", None)
        _refuse_long(url, size or 0)
        yield file, size


def _refuse_long(url: Url, size: int) -> None:
    if size > MAX_IMAGE_BYTES:
        raise InputError(f"{url} cannot be read: {FileTooLarge(size, MAX_IMAGE_BYTES).strerror}.")


def write(url: Url, data: bytes) -> None:
    """The object holds all of `data` afterwards, or what it held before: it is put at once, or, where files grow as they
    are written, under another name beside it and moved. Raises `OutputError`."""
    is_object = url.scheme in OBJECTS

    def work() -> None:
        system, path = _opened(url)
        if is_object:
            system.pipe_file(path, data)
        else:
            _write_and_move(system, path, data)

    _told(url, "written", OutputError, work)


def _write_and_move(system: Any, path: str, data: bytes) -> None:
    folder, name = posixpath.split(path)
    part = posixpath.join(folder, temp_name(name))
    if folder:
        system.makedirs(folder, exist_ok=True)
    try:
        system.pipe_file(part, data)
        system.mv(part, path)
    except BaseException:
        with contextlib.suppress(Exception):  # what went wrong before is what is told
            system.rm_file(part)
        raise


def is_file(url: Url) -> bool:
    """Raises `InputError` where nobody says."""
    return _type(url) not in (None, "directory")


def is_folder(url: Url) -> bool:
    """Raises `InputError` where nobody says."""
    return _type(url) == "directory"


def _type(url: Url) -> str | None:
    """None where nothing is. fsspec's own `isfile` takes every failure for that."""

    def work() -> str | None:
        system, path = _opened(url)
        try:
            return str(system.info(path)["type"])
        except FileNotFoundError:
            return None

    return _told(url, "looked for", InputError, work)


def files_in(url: Url, recursive: bool) -> list[str]:
    """What lies in a folder, by its path below it, sorted. Raises `InputError`."""

    def work() -> list[str]:
        system, path = _opened(url)
        top = path.rstrip("/")
        names = system.find(path, maxdepth=None if recursive else 1)
        return sorted(name[len(top) :].lstrip("/") for name in names if name.startswith(top))

    return _told(url, "listed", InputError, work)


def matches(url: Url) -> list[str]:
    """URLs of the files that a pattern matches, sorted. Raises `InputError`."""

    def work() -> list[str]:
        system, path = _opened(url)
        found = system.glob(path, detail=True)
        files = (name for name, info in found.items() if info.get("type") != "directory")
        return sorted(f"{system.unstrip_protocol(name)}{url.chain}" for name in files)

    return _told(url, "listed", InputError, work)


def _told(url: Url, done: str, kind: type[InputError | OutputError], work: Callable[[], Out]) -> Out:
    """What `work` returns, tried again while what fails may pass. Every file system has errors of its own: all but our own
    become one of `kind`, so that they are this picture's alone."""
    for attempt in range(ATTEMPTS):
        try:
            with calls_of("fsspec"):
                return work()
        except (InputError, OutputError, MissingExtra, UnsupportedPackage):
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise
            if not _may_pass(error):
                raise kind(f"{url} cannot be {done}: {_said(error)}.") from error
            if attempt == ATTEMPTS - 1:
                raise kind(f"{url} cannot be {done}, tried {ATTEMPTS} times: {_said(error)}.") from error
            log.debug("%s: %s; trying again.", url, _said(error))
        time.sleep(PAUSES[attempt])
    raise AssertionError("unreachable")


def _may_pass(error: BaseException | None) -> bool:
    while error is not None:
        found = (getattr(error, name, None) for name in ("status", "status_code", "code"))
        codes = {next((code for code in found if code is not None), None)}  # aiohttp warns where `code` is asked for
        response = getattr(error, "response", None)  # botocore's is a dict
        if isinstance(response, dict):
            codes.add(response.get("ResponseMetadata", {}).get("HTTPStatusCode"))
        numbers = {int(code) for code in codes if isinstance(code, int) or (isinstance(code, str) and code.isdigit())}
        if numbers & PASSING_CODES or isinstance(error, (TimeoutError, ConnectionError)):
            return True
        if (isinstance(error, OSError) and error.errno in PASSING_ERRNOS) or PASSING_NAMES.search(type(error).__name__):
            return True
        error = error.__cause__
    return False


def _said(error: BaseException) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such object"
    strerror = getattr(error, "strerror", None)
    said = strerror if isinstance(strerror, str) and strerror else first_line(error)
    return said[:300].rstrip(".") or type(error).__name__
