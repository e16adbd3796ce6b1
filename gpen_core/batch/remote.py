"""Images on object stores and other machines. The only module that imports fsspec.

fsspec defines the file systems (`s3://`, `gs://`, `az://`, `sftp://`, `memory://`, ...). Each has its own package, and its
own variables or configuration for signing in."""

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

from ..errors import InputError, MissingDependency, OutputError, UnsupportedPackage, first_line, is_out_of_memory
from ..files.regular_file import FileTooLarge
from ..files.stale_temp import temp_name
from ..images.open_file import MAX_IMAGE_BYTES
from ..optional_packages import install_command, version_guard
from .locations import Url

log = logging.getLogger(__name__)

Out = TypeVar("Out")

MAX_ATTEMPTS = 3
RETRY_DELAYS = (1.0, 4.0)  # seconds before the second and the third attempt
RETRYABLE_STATUS = {408, 425, 429, 500, 502, 503, 504}  # HTTP statuses
RETRYABLE_ERRNOS = {
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
RETRYABLE_NAMES = re.compile(
    r"time.?out|slow.?down|service.?unavailable|connection(closed|reset)|serverdisconnected|payloaderror", re.I
)
OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oci", "oss", "memory"}
"""Schemes where an object appears only when its upload is complete."""
READ_SIZE = 64 << 20  # bytes per read, which may return fewer
STREAMING_SCHEMES = {"http", "https"}
"""Schemes that are read from start to end, because a server may send more than the requested range."""
HEADER_BYTES = 1 << 20  # bytes at the beginning of a streamed file that are searched for its header


def _fsspec() -> Any:
    try:
        import fsspec
    except ImportError as error:
        raise MissingDependency(f"URLs require the package fsspec. Install it: {install_command('fsspec')}") from error
    return fsspec


def _filesystem_class(scheme: str) -> Any:
    fsspec = _fsspec()
    try:
        return fsspec.get_filesystem_class(scheme)
    except (ImportError, ValueError) as error:
        packages = "s3:// needs s3fs, gs:// gcsfs, az:// adlfs, sftp:// paramiko, https:// aiohttp"
        raise MissingDependency(
            f"{scheme}:// cannot be used ({first_line(error)}). Install its package with pip: {packages}."
        ) from error


def object_key(url: Url) -> str:
    """Return a key that is equal for two names of one object. Raises `MissingDependency`."""
    filesystem = _filesystem_class(url.scheme)
    scheme = filesystem.protocol if isinstance(filesystem.protocol, str) else filesystem.protocol[0]
    return f"{scheme}://{filesystem._strip_protocol(url.link)}{url.chain}"


def _resolve(url: Url) -> tuple[Any, str]:
    """Return the file system, which fsspec caches, and the path in it."""
    filesystem, fsspec = _filesystem_class(url.scheme), _fsspec()
    if url.chain:
        system, path = fsspec.core.url_to_fs(url.text)
        return system, str(path)
    return fsspec.filesystem(url.scheme, **filesystem._get_kwargs_from_urls(url.text)), str(
        filesystem._strip_protocol(url.text)
    )


class _Truncated(ConnectionError):
    """A file ended before its announced length."""


def read(url: Url) -> bytes:
    """Read the whole file. Raises `InputError` on a permanent error, or after three attempts."""

    def operation() -> bytes:
        with _open_file(url) as (file, size):
            data = _read_to_end(file, MAX_IMAGE_BYTES)
        _raise_if_too_large(url, len(data))
        if size is not None and len(data) < size:
            raise _Truncated(f"it ended after {len(data):,} of {size:,} bytes")
        return data

    return _with_retries(url, "read", InputError, operation)


def read_header(url: Url, reader: Callable[[BinaryIO, int], Out]) -> Out:
    """Return the result of `reader(file, length)`. Only the parts that it reads are downloaded. Errors as in `read`."""

    def operation() -> Out:
        with _open_file(url) as (file, size):
            if url.scheme not in STREAMING_SCHEMES:
                return reader(file, size or 0)
            head = _read_to_end(file, HEADER_BYTES)
            return reader(io.BytesIO(head), size or len(head))

    return _with_retries(url, "read", InputError, operation)


def _read_to_end(file: Any, max_bytes: int) -> bytes:
    """Read until the end, or until more than `max_bytes` bytes were read. A read over HTTP may return fewer bytes than
    requested."""
    data = io.BytesIO()
    while data.tell() <= max_bytes and (chunk := file.read(min(READ_SIZE, max_bytes + 1 - data.tell()))):
        data.write(chunk)
    return data.getvalue()


@contextlib.contextmanager
def _open_file(url: Url) -> Iterator[tuple[Any, int | None]]:
    system, path = _resolve(url)
    is_streamed = url.scheme in STREAMING_SCHEMES
    size = system.info(path).get("size") if is_streamed else None
    _raise_if_too_large(url, size or 0)
    # A block size of 0 reads from start to end. Without a size, fsspec would request it again.
    options = {"block_size": 0, "size": size or 1} if is_streamed else {}
    with system.open(path, "rb", **options) as file:
        size = size if is_streamed else getattr(file, "size", None)
        _raise_if_too_large(url, size or 0)
        yield file, size


def _raise_if_too_large(url: Url, size: int) -> None:
    if size > MAX_IMAGE_BYTES:
        raise InputError(f"{url} cannot be read: {FileTooLarge(size, MAX_IMAGE_BYTES).strerror}.")


def write(url: Url, data: bytes) -> None:
    """Write an object atomically: it is uploaded at once or, if the store has no atomic uploads, written under another name
    and moved. Raises `OutputError`."""
    is_object = url.scheme in OBJECT_STORES

    def operation() -> None:
        system, path = _resolve(url)
        if is_object:
            system.pipe_file(path, data)
        else:
            _write_and_move(system, path, data)

    _with_retries(url, "written", OutputError, operation)


def _write_and_move(system: Any, path: str, data: bytes) -> None:
    folder, name = posixpath.split(path)
    part = posixpath.join(folder, temp_name(name))
    if folder:
        system.makedirs(folder, exist_ok=True)
    try:
        system.pipe_file(part, data)
        system.mv(part, path)
    except BaseException:
        with contextlib.suppress(Exception):  # report the first error
            system.rm_file(part)
        raise


def is_file(url: Url) -> bool:
    """Raises `InputError` if the store does not answer."""
    return _object_type(url) not in (None, "directory")


def is_folder(url: Url) -> bool:
    """Raises `InputError` if the store does not answer."""
    return _object_type(url) == "directory"


def _object_type(url: Url) -> str | None:
    """Return the type of an object, or None if it does not exist. fsspec's `isfile` hides all other errors."""

    def operation() -> str | None:
        system, path = _resolve(url)
        try:
            return str(system.info(path)["type"])
        except FileNotFoundError:
            return None

    return _with_retries(url, "checked", InputError, operation)


def list_files(url: Url, recursive: bool) -> list[str]:
    """Return the paths of the files in a folder, relative to it and sorted. Raises `InputError`."""

    def operation() -> list[str]:
        system, path = _resolve(url)
        top = path.rstrip("/")
        names = system.find(path, maxdepth=None if recursive else 1)
        return sorted(name[len(top) :].lstrip("/") for name in names if name.startswith(top))

    return _with_retries(url, "listed", InputError, operation)


def glob(url: Url) -> list[str]:
    """Return the URLs of the files that match a pattern, sorted. Raises `InputError`."""

    def operation() -> list[str]:
        system, path = _resolve(url)
        found = system.glob(path, detail=True)
        files = (name for name, info in found.items() if info.get("type") != "directory")
        return sorted(f"{system.unstrip_protocol(name)}{url.chain}" for name in files)

    return _with_retries(url, "listed", InputError, operation)


def _with_retries(url: Url, action: str, error_type: type[InputError | OutputError], operation: Callable[[], Out]) -> Out:
    """Return the result of `operation`. Temporary errors are retried.

    Each file system has its own error types. All except ours become `error_type`, so that only this image fails."""
    for attempt in range(MAX_ATTEMPTS):
        try:
            with version_guard("fsspec"):
                return operation()
        except (InputError, OutputError, MissingDependency, UnsupportedPackage):
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise
            if not _is_retryable(error):
                raise error_type(f"{url} cannot be {action}: {_error_text(error)}.") from error
            if attempt == MAX_ATTEMPTS - 1:
                raise error_type(f"{url} cannot be {action}, tried {MAX_ATTEMPTS} times: {_error_text(error)}.") from error
            log.debug("%s: %s; trying again.", url, _error_text(error))
        time.sleep(RETRY_DELAYS[attempt])
    raise AssertionError("unreachable")


def _is_retryable(error: BaseException | None) -> bool:
    while error is not None:
        found = (getattr(error, name, None) for name in ("status", "status_code", "code"))
        codes = {next((code for code in found if code is not None), None)}  # aiohttp warns if `code` is read
        response = getattr(error, "response", None)  # a dict in botocore
        if isinstance(response, dict):
            codes.add(response.get("ResponseMetadata", {}).get("HTTPStatusCode"))
        numbers = {int(code) for code in codes if isinstance(code, int) or (isinstance(code, str) and code.isdigit())}
        if numbers & RETRYABLE_STATUS or isinstance(error, (TimeoutError, ConnectionError)):
            return True
        if (isinstance(error, OSError) and error.errno in RETRYABLE_ERRNOS) or RETRYABLE_NAMES.search(type(error).__name__):
            return True
        error = error.__cause__
    return False


def _error_text(error: BaseException) -> str:
    if isinstance(error, FileNotFoundError):
        return "it does not exist"
    strerror = getattr(error, "strerror", None)
    text = strerror if isinstance(strerror, str) and strerror else first_line(error)
    return text[:300].rstrip(".") or type(error).__name__
