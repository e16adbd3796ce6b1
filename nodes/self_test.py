"""A line in the log when faces are first restored here: whether one comes out right on this device, in this precision."""

from __future__ import annotations

import logging
import os
from functools import cache

import torch

log = logging.getLogger(__name__)

ENV_VARIABLE = "GPEN_SELF_TEST"
ADVICE = (
    "Faces may come out wrong. Try the precision fp32 in Load GPEN Model, or ComfyUI's option --cpu; the documentation's "
    "page Trouble says more."
)


@cache
def run_once(device: torch.device, dtype: torch.dtype) -> None:
    """Tells and never fails. The environment variable GPEN_SELF_TEST=0 turns it off."""
    if os.environ.get(ENV_VARIABLE) == "0":
        return
    from ..gpen_core import run_self_test

    result = run_self_test(device, dtype)
    if result.passed:
        log.info("GPEN self-test: %s", result.text)
    else:
        log.warning("GPEN self-test: %s. %s", result.text.rstrip("."), ADVICE)
