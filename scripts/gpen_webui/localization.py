"""Translation where the page itself cannot translate: in text that a style sheet writes, or that holds a number.

All else the host's page translates, as long as a text stands alone in its element; see `localizations`."""

from __future__ import annotations

import functools
import json
from pathlib import Path

from modules import shared

FOLDER = Path(__file__).resolve().parents[2] / "localizations"


def translate(text: str) -> str:
    """The text in the language that the host's settings name; the text itself where there is none of ours."""
    return _load(str(getattr(shared.opts, "localization", None))).get(text, text)


@functools.lru_cache(maxsize=2)
def _load(name: str) -> dict[str, str]:
    known = {path.stem: path for path in FOLDER.glob("*.json")}
    return dict(json.loads(known[name].read_text("utf-8"))) if name in known else {}
