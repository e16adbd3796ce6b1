"""Runs the self-test before the first restoration on each device and in each precision, and logs the result."""

from __future__ import annotations

import logging
import os
from functools import cache

import torch

log = logging.getLogger(__name__)

ENV_VARIABLE = "GPEN_SELF_TEST"
ADVICE = (
    "Restored faces may be wrong. Try the precision fp32 in Load GPEN Model, or start ComfyUI with --cpu. See the Trouble "
    "page of the documentation."
)


@cache
def run_once(device: torch.device, dtype: torch.dtype) -> None:
    """Log the result; a failed test raises no error. The environment variable GPEN_SELF_TEST=0 turns the test off."""
    if os.environ.get(ENV_VARIABLE) == "0":
        return
    from ..gpen_core import run_self_test

    result = run_self_test(device, dtype)
    if result.passed:
        log.info("GPEN self-test: %s", result.text)
    else:
        log.warning("GPEN self-test: %s. %s", result.text.rstrip("."), ADVICE)
