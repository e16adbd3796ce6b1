"""What became of each person of a video, over all of its shots."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ..progress import pluralize
from .sequence import SequenceResult
from .video_result import VideoResult, people_count_text

MAX_RANGES = 5  # of frames, in a line


@dataclass
class PersonOutcome:
    """The result for one person, who may be visible several times."""

    number: int
    """The number of the person's first track, which the option `faces` accepts."""
    ranges: list[tuple[int, int]] = field(default_factory=list)
    """First and last frame of each time that the person is visible."""
    restored: int = 0
    """Number of frames in which the person was restored."""
    reason: str | None = None
    """Why the person was skipped, if no frame was restored."""
    size: tuple[float, float] = (0.0, 0.0)
    """Width and height of the face in pixels, at its largest."""

    @property
    def visible(self) -> int:
        """Number of frames in which the person is visible."""
        return sum(last - first + 1 for first, last in self.ranges)

    def add_size(self, width: float, height: float) -> None:
        self.size = max(self.size, (width, height))

    def __str__(self) -> str:
        """One line, such as `face 0: restored in 90 of 96 frames (frames 0 to 95, 80x91 px)`."""
        shown = [f"{first} to {last}" if last > first else f"{first}" for first, last in self.ranges[:MAX_RANGES]]
        more = ", ..." if len(self.ranges) > MAX_RANGES else ""
        where = f"(frames {', '.join(shown)}{more}; {self.size[0]:.0f}x{self.size[1]:.0f} px)"
        if self.restored:
            return f"face {self.number}: restored in {self.restored:,} of {pluralize(self.visible, 'frame')} {where}"
        return f"face {self.number}: skipped {where}: {self.reason or 'no part of it may be restored'}"


def people_of_video(result: VideoResult) -> list[PersonOutcome]:
    """Return the outcome of each person in a video, in the order of their numbers."""
    people: dict[int, PersonOutcome] = {}
    for one in sorted(result.tracks, key=lambda one: one.track.first):
        track = one.track
        person = people.setdefault(track.person, PersonOutcome(track.person))
        person.ranges.append((track.first, track.last))
        person.restored += one.frames
        person.reason = person.reason or one.reason
        for x0, y0, x1, y1 in track.boxes:
            person.add_size(float(x1 - x0), float(y1 - y0))
    return [people[number] for number in sorted(people)]


def people_of_sequence(results: Iterable[SequenceResult]) -> list[PersonOutcome]:
    """Return the outcome of each person in consecutive images, in the order of their numbers."""
    people: dict[int, PersonOutcome] = {}
    for frame, one in enumerate(results):
        for number, face in zip(one.people, one.faces):
            person = people.setdefault(number, PersonOutcome(number))
            if person.ranges and person.ranges[-1][1] >= frame - 1:
                person.ranges[-1] = (person.ranges[-1][0], frame)
            else:
                person.ranges.append((frame, frame))
            person.restored += face.restored
            person.reason = person.reason or face.reason
            person.add_size(face.width, face.height)
    return [people[number] for number in sorted(people)]


def people_text(frame_count: int, people: Sequence[PersonOutcome]) -> str:
    """Return a line with the totals, such as `96 frames, 2 people: 1 restored, 1 skipped`, then one line per person."""
    count = people_count_text(len(people), sum(one.restored > 0 for one in people))
    return "\n".join([f"{pluralize(frame_count, 'frame')}, {count}", *map(str, people)])
