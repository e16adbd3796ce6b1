"""All errors that gpen_core raises on purpose. Each message says what failed, why, and what to do."""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Callable
from functools import partial
from types import TracebackType


class GpenError(Exception):
    """Base of all errors of this package."""


class OptionsError(GpenError):
    """An option has an invalid value."""


class InputError(GpenError):
    """An image cannot be read, or its format cannot be restored without loss."""


class ImageTooLarge(InputError):
    """An image has more pixels than the limit. Its header is checked before decoding."""


class FaceNumberError(GpenError):
    """An image or a video lacks faces whose numbers were asked for."""


class OutputError(GpenError):
    """An output cannot be written. No partial file is left behind."""


class WeightsError(GpenError):
    """A weights file is missing, unreadable, or does not match its name."""


class MissingWeights(WeightsError):
    """No models folder has a file of that name."""


class WeightsChanged(WeightsError):
    """A weights file differs from its recorded digest, or that record cannot be read. See
    `accept_changed_weights`."""


class DeviceError(GpenError):
    """The requested device or precision is not available."""


class OutOfMemory(GpenError):
    """The device ran out of memory, even with the smallest batch, tile or strip."""


class MissingDependency(GpenError):
    """A required optional package is not installed."""


class UnsupportedPackage(GpenError):
    """The installed version of a package has an incompatible API."""


class Interrupted(GpenError):
    """Raised by a progress callback to stop the work. Nothing is written after it."""


def describe_unexpected(error: BaseException) -> str:
    """Return the message for an unexpected error."""
    return f"Unexpected {type(error).__name__}: {first_line(error)}. Please report it."


# Python's message if C code failed without an exception. Libraries do that when they cannot allocate memory.
NO_REASON_PATTERN = re.compile("error return without exception set|without setting an exception")
# Messages of allocators, library loaders, OpenCV, Pillow and backends. cuBLAS and cuDNN allocate their own workspaces and
# report ALLOC_FAILED. A new thread needs memory for its stack. "create a primitive" is about oneDNN's compiled code.
OUT_OF_MEMORY_PATTERN = re.compile(
    "out of memory|allocate memory|could not allocate tensor|(not enough|insufficient) memory|alloc_failed|bad.alloc|"
    "failed to allocate|failed to map segment|can't start new thread|could not create a primitive(?! descriptor)"
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error means that memory ran out. Few libraries and backends have an exception type for it."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # CUDA's
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    if isinstance(error, SystemError) and NO_REASON_PATTERN.search(str(error)):
        return True
    package = type(error).__module__.partition(".")[0]
    is_library_error = isinstance(error, (RuntimeError, ImportError, OSError)) or package in (
        "cv2",
        "onnxruntime",
        "safetensors",
    )
    return (
        is_library_error
        and not isinstance(error, GpenError)
        and OUT_OF_MEMORY_PATTERN.search(str(error).lower()) is not None
    )


class ErrorConverter(contextlib.ContextDecorator):
    """Replaces an error in its block by the one that `convert` returns. If `convert` returns None, the error is unchanged.

    This is not a `contextlib.contextmanager`: since Python 3.12, a generator that raises another error leaves the first one
    in a reference cycle. Its frames would keep networks and images in memory until the garbage collector runs."""

    def __init__(self, convert: Callable[[Exception], Exception | None]) -> None:
        self.convert = convert

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        other = self.convert(error) if isinstance(error, Exception) else None
        try:
            if other is not None:
                raise other from error
        finally:
            del other  # its traceback holds this frame


def oom_context(purpose: str, advice: str = "") -> ErrorConverter:
    """Convert errors in the block that mean that memory ran out to `OutOfMemory`, naming the `purpose`."""
    return ErrorConverter(partial(_to_out_of_memory, purpose, advice))


def _to_out_of_memory(purpose: str, advice: str, error: Exception) -> OutOfMemory | None:
    if isinstance(error, GpenError) or not is_out_of_memory(error):
        return None
    reason = first_line(error)[:200] or type(error).__name__
    help_ = f"Close other programs{f', {advice},' if advice else ''} or give this one more memory."
    return OutOfMemory(f"There is not enough memory for {purpose} ({reason}). {help_}")


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or an empty string."""
    return (str(error).strip().splitlines() or [""])[0]


MAX_LISTED_PROBLEMS = 5


def summarize_problems(problems: list[str]) -> str:
    """Join the first five problems and the number of further ones into one line."""
    more = len(problems) - MAX_LISTED_PROBLEMS
    return "; ".join(problems[:MAX_LISTED_PROBLEMS]) + (f" (and {more} more)" if more > 0 else "")
