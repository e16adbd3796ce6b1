"""Which files a run reads and writes: the few of them, as lists (`plan.Plan` is for any number)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from .job import Boxes, Job, inputs_of
from .places import Place, place_of, same_file_key
from .plan import Plan, Wishes
from .sources import Found, Sources

__all__ = ["Boxes", "Job", "expand", "inputs_of", "plan", "same_file_key"]


def expand(arguments: Iterable[str]) -> list[Place]:
    """The pictures that files, folders (not what lies deeper) and glob patterns name, each once. Names that stand for
    nothing stay in: reading them says why."""
    found: dict[str, Place] = {}
    for one in Sources(tuple(arguments)):
        place = place_of(one.source)
        found.setdefault(same_file_key(place), place)
    return list(found.values())


def plan(
    sources: Sequence[Place],
    out: Place | None,
    in_place: bool,
    before_swap: Path | None = None,
    background: Path | None = None,
    boxes: Boxes | None = None,
    region_mask: Path | None = None,
) -> list[Job]:
    """Where each result goes, and what belongs to which picture, see `Plan`. Raises `OptionsError`."""
    wishes = Wishes(out, in_place, before_swap, background, boxes, region_mask)
    with Plan(map(Found.named, sources), wishes) as planned:
        return list(planned)
