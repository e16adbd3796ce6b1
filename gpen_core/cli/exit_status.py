"""Exit statuses of all commands, chosen by the types of the errors that occurred."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from ..errors import DeviceError, InputError, Interrupted, OptionsError, OutOfMemory, WeightsError


class ExitStatus(IntEnum):
    """The exit statuses of `gpen`. If several apply, the highest is used."""

    DONE = 0
    FAILED = 1
    """Some inputs failed, an output could not be written, or an error was unexpected."""
    USAGE = 2
    NO_INPUT = 3
    """No input could be read."""
    WEIGHTS = 4
    """Weights are missing or rejected."""
    OUT_OF_MEMORY = 5
    """Out of memory, and every fallback failed."""
    HUNG_UP = 129
    INTERRUPTED = 130
    BROKEN_PIPE = 141
    TERMINATED = 143


class Terminated(KeyboardInterrupt):
    """SIGTERM. Like Ctrl-C, it lets a command finish or undo its current write and write its report."""


class HungUp(Terminated):
    """SIGHUP, handled like SIGTERM."""


# The first matching type is used. All other errors are `FAILED`.
STATUSES: tuple[tuple[type[BaseException], ExitStatus], ...] = (
    (OptionsError, ExitStatus.USAGE),
    (DeviceError, ExitStatus.USAGE),
    (InputError, ExitStatus.NO_INPUT),
    (WeightsError, ExitStatus.WEIGHTS),
    (OutOfMemory, ExitStatus.OUT_OF_MEMORY),
    (Interrupted, ExitStatus.INTERRUPTED),
    (HungUp, ExitStatus.HUNG_UP),
    (Terminated, ExitStatus.TERMINATED),
    (KeyboardInterrupt, ExitStatus.INTERRUPTED),
    (BrokenPipeError, ExitStatus.BROKEN_PIPE),
)


def exit_status(errors: Mapping[type[BaseException], int], inputs: int = 1) -> ExitStatus:
    """Return the exit status of a command with this many inputs.

    `errors` counts the failed inputs by error type, or contains the one error that ended the command. `NO_INPUT` means
    that every input is unreadable. If only some are, the status is `FAILED`."""
    found = {_status_of(error) for error in errors}
    if found <= {ExitStatus.NO_INPUT} and sum(errors.values()) == inputs:
        return ExitStatus.NO_INPUT
    return max((ExitStatus.FAILED if one is ExitStatus.NO_INPUT else one for one in found), default=ExitStatus.DONE)


def _status_of(error: type[BaseException]) -> ExitStatus:
    return next((status for kind, status in STATUSES if issubclass(error, kind)), ExitStatus.FAILED)
