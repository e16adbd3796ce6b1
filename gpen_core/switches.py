"""Environment variables that switch something on."""

from __future__ import annotations

import os

TRUE_VALUES = ("1", "on", "true", "yes")


def is_switched_on(name: str) -> bool:
    """Whether the environment variable is one of `TRUE_VALUES`, in any case."""
    return os.environ.get(name, "").lower() in TRUE_VALUES
