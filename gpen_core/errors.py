"""Every error that gpen_core raises on purpose. Each message says what was expected, what came, and what to do."""

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
    """An option has a value that it cannot have."""


class InputError(GpenError):
    """An image cannot be read, or is of a kind that cannot be restored without loss."""


class ImageTooLarge(InputError):
    """An image has more pixels than are read; said by its header, before anything is decoded."""


class OutputError(GpenError):
    """A result cannot be written where it should go. Nothing half-written is left behind."""


class WeightsError(GpenError):
    """A weights file is missing, unreadable, or is not what its name says."""


class MissingWeights(WeightsError):
    """No file of that name lies in any models folder."""


class WeightsChanged(WeightsError):
    """A weights file is another than what is remembered of it, or that record cannot be read: see
    `accept_changed_weights`."""


class DeviceError(GpenError):
    """The device or precision asked for is not available here."""


class OutOfMemory(GpenError):
    """The device ran out of memory, also on the smallest piece of work that could be tried."""


class MissingDependency(GpenError):
    """An optional package is needed for this and is not installed."""


class UnsupportedPackage(GpenError):
    """A package's functions have changed in the version that is installed."""


class Interrupted(GpenError):
    """Raised by a progress callable to stop the work; nothing is written after it."""


def describe_unexpected(error: BaseException) -> str:
    """What to say of an error that nobody foresaw."""
    return f"Unexpected {type(error).__name__}: {first_line(error)}. Please report it."


# What Python says of a library's code in C that failed and told no reason: seen where it could not allocate.
NO_REASON_PATTERN = re.compile("error return without exception set|without setting an exception")
# What allocators, loaders of libraries, OpenCV, Pillow and backends say. ALLOC_FAILED is of cuBLAS and cuDNN, which allocate
# their workspaces themselves; a thread needs memory for its stack; what cannot be created is oneDNN's compiled code.
OUT_OF_MEMORY_PATTERN = re.compile(
    "out of memory|allocate memory|could not allocate tensor|(not enough|insufficient) memory|alloc_failed|bad.alloc|"
    "failed to allocate|failed to map segment|can't start new thread|could not create a primitive(?! descriptor)"
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether any library or backend means this when it is out of memory; few have an exception type for it."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # CUDA's
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    if isinstance(error, SystemError) and NO_REASON_PATTERN.search(str(error)):
        return True
    is_library_error = isinstance(error, (RuntimeError, ImportError, OSError)) or type(error).__module__ in (
        "cv2",
        "safetensors",
    )
    return (
        is_library_error
        and not isinstance(error, GpenError)
        and OUT_OF_MEMORY_PATTERN.search(str(error).lower()) is not None
    )


class ErrorConverter(contextlib.ContextDecorator):
    """Replaces an error in its block by what `convert` returns; where that is None, the error passes.

    This is no generator of `contextlib.contextmanager`: since Python 3.12 a generator that raises another error leaves the
    first one in a cycle, which keeps all that its frames hold, such as networks and images, until the collector runs."""

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
    """Whatever says in the block that memory ran out becomes `OutOfMemory`: there was not enough for `purpose`."""
    return ErrorConverter(partial(_to_out_of_memory, purpose, advice))


def _to_out_of_memory(purpose: str, advice: str, error: Exception) -> OutOfMemory | None:
    if isinstance(error, GpenError) or not is_out_of_memory(error):
        return None
    reason = first_line(error)[:200] or type(error).__name__
    help_ = f"Close other programs{f', {advice},' if advice else ''} or allow this one more memory."
    return OutOfMemory(f"There is not enough memory for {purpose} ({reason}). {help_}")


def first_line(error: BaseException) -> str:
    """The first line of what an error says, empty if it says nothing."""
    return (str(error).strip().splitlines() or [""])[0]


MAX_LISTED_PROBLEMS = 5


def summarize_problems(problems: list[str]) -> str:
    """The first five offences and how many more there are, for a message."""
    more = len(problems) - MAX_LISTED_PROBLEMS
    return "; ".join(problems[:MAX_LISTED_PROBLEMS]) + (f" (and {more} more)" if more > 0 else "")
