"""Translates texts that the host's page cannot translate: texts in style sheets and texts with numbers.

The page translates all other texts, if each has an element of its own. See `localizations`."""

from __future__ import annotations

import functools
import json
from pathlib import Path

from modules import shared

FOLDER = Path(__file__).resolve().parents[2] / "localizations"


def translate(text: str) -> str:
    """Translate the text into the host's language. Without a translation, return it unchanged."""
    return _load(str(getattr(shared.opts, "localization", None))).get(text, text)


@functools.lru_cache(maxsize=2)
def _load(name: str) -> dict[str, str]:
    known = {path.stem: path for path in FOLDER.glob("*.json")}
    return dict(json.loads(known[name].read_text("utf-8"))) if name in known else {}
