"""Every error that gpen_core raises on purpose. Each message says what was expected, what came, and what to do."""


class GpenError(Exception):
    """Base of all errors of this package."""


class OptionsError(GpenError):
    """An option has a value that it cannot have."""


class InputError(GpenError):
    """A picture cannot be read, or is of a kind that cannot be restored without loss."""


class OutputError(GpenError):
    """A result cannot be written where it should go. Nothing half-written is left behind."""


class WeightsError(GpenError):
    """A weights file is missing, unreadable, or is not what its name says."""


class MissingWeights(WeightsError):
    """No file of that name lies in any models folder."""


class DeviceError(GpenError):
    """The device or precision asked for is not available here."""


class OutOfMemory(GpenError):
    """The device ran out of memory, also on the smallest piece of work that could be tried."""


class MissingExtra(GpenError):
    """An optional package is needed for this and is not installed."""


class Interrupted(GpenError):
    """Raised by a progress callable to stop the work; nothing is written after it."""


def first_line(error: BaseException) -> str:
    """The first line of what an error says, empty if it says nothing."""
    return (str(error).strip().splitlines() or [""])[0]


NAMED_OFFENDERS = 5


def name_offenders(offences: list[str]) -> str:
    """The first five offences and how many more there are, for a message."""
    more = len(offences) - NAMED_OFFENDERS
    return "; ".join(offences[:NAMED_OFFENDERS]) + (f" (and {more} more)" if more > 0 else "")
