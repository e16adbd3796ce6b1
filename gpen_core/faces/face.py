"""One detected face and what happened to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..progress import pluralize

Landmarks = NDArray[np.float64]
Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels"""


@dataclass(frozen=True, eq=False)
class Face:
    """A detected face in input pixels. The restorer fills in the outcome."""

    box: Box
    score: float
    """The detector's confidence, 0 to 1."""
    landmarks: Landmarks
    """[5, 2]: left eye, right eye, nose, left and right mouth corner, as the viewer sees them."""
    restored: bool = False
    reason: str | None = None
    """Why the face was skipped."""
    note: str | None = None
    """Anything unusual about its restoration."""
    change: float | None = None
    """How much the face differs from the image before the swap (see `swap_detection`); None without such an image."""
    network: int | None = None
    """Resolution in pixels of the network that restored it."""
    identity: float | None = None
    """Similarity of the restored face to the input, -1 to 1 (see `identity`); None if it was not measured."""
    similarity: float | None = None
    """Similarity to the most similar person to restore (`like:`), before the restoration; None without one."""
    similarity_restored: float | None = None
    """`similarity` after the restoration; None if it was not measured."""

    def __repr__(self) -> str:
        box = ",".join(f"{v:.0f}" for v in self.box)
        outcome = "restored" if self.restored else f"skipped: {self.reason}" if self.reason else f"score {self.score:.2f}"
        return f"Face({box}, {outcome})"

    @property
    def width(self) -> float:
        return self.box[2] - self.box[0]

    @property
    def height(self) -> float:
        return self.box[3] - self.box[1]

    @property
    def shorter_side(self) -> float:
        return min(self.width, self.height)

    @property
    def area(self) -> float:
        return max(self.width, 0.0) * max(self.height, 0.0)

    @property
    def center(self) -> tuple[float, float]:
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2

    def outcome_text(self, done: str = "restored") -> str:
        """Return `restored at 512 px (120x140 px); NOTE` or `skipped (120x140 px): REASON`, with the size of the box."""
        details = f"{self.width:.0f}x{self.height:.0f} px"
        if self.change is not None:
            details += f", change {self.change:.3f}"
        if self.identity is not None:
            details += f", identity {self.identity:.2f}"
        if not self.restored:
            return f"skipped ({details}): {self.reason}"
        by = "" if self.network is None else f" at {self.network} px"
        return f"{done}{by} ({details})" + (f"; {self.note}" if self.note else "")

    def to_json(self) -> dict[str, Any]:
        return {
            "box": [round(v, 2) for v in self.box],
            "score": round(self.score, 4),
            "landmarks": [[round(float(x), 2), round(float(y), 2)] for x, y in self.landmarks],
            "restored": self.restored,
            "reason": self.reason,
            "note": self.note,
            "change": _rounded(self.change),
            "network": self.network,
            "identity": _rounded(self.identity),
            "similarity": _rounded(self.similarity),
            "similarity_restored": _rounded(self.similarity_restored),
        }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def faces_text(count: int, restored: int, found: str = "found", done: str = "restored") -> str:
    """Return counts as text: `3 faces found, 2 restored, 1 skipped`. `found` and `done` replace the verbs."""
    return f"{pluralize(count, 'face')} {found}, {restored:,} {done}, {count - restored:,} skipped"
