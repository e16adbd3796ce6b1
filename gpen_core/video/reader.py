"""A film's frames one by one, from any of them on."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..images.codecs import Photo
from ..images.image import Picture, upright
from .containers import failures, library, open_input, reason
from .planes import Planes, to_rgb
from .probe import Film, frame_files, read_frame, rgb_picture

log = logging.getLogger(__name__)

BACK = (2.0, 8.0, 32.0)  # seconds before a wanted frame that are sought, until decoding begins at or before it
READ_FAILURES = 16
MISSING = 1.0  # seconds at the end without frames that are taken for a film cut off

Stamped = tuple[int, Any]
"""A timestamp and PyAV's frame."""


@dataclass(frozen=True, eq=False)
class FilmFrame:
    """One frame of a film."""

    number: int
    """From 0, counted from the first frame that is restored."""
    pts: int
    """In the film's time base."""
    seconds: float
    picture: Picture
    """RGB [H, W, 3], upright; uint8, or uint16 where the film has more than 8 bits."""
    coded: Planes | Photo
    """As decoded, upright: a film's planes, a folder's picture with what its file carried."""
    name: str = ""
    """Of a folder's picture."""


@dataclass
class Reader:
    """Decodes a film from `start` to `end`, both in seconds after its first frame; the end is not included."""

    film: Film
    start: float | None = None
    end: float | None = None
    notes: list[str] = field(default_factory=list)
    """What was wrong with the film, once each; also logged as warnings."""
    _is_seeking: bool = field(default=False, init=False, repr=False)
    """Until the first frame after a seek: what cannot be decoded before it was not asked for."""

    def frames(self, first: int = 0, times: Sequence[int] | NDArray[np.int64] | None = None) -> Iterator[FilmFrame]:
        """The frames from number `first` on.

        `times`: the timestamps of all frames from an earlier pass. With them decoding begins shortly before the frame, and
        frames are numbered by them; it ends early where the video no longer gives these frames. A frame that cannot
        be decoded is left out; a film that was cut off ends where it ends; both are put into `notes`. Raises `InputError`
        for a frame of another size, and where a folder's picture cannot be read."""
        if self.film.is_folder:
            yield from self._pictures(first)
            return
        numbered = enumerate(self._first_pass()) if times is None else self._known(first, np.asarray(times))
        for number, (pts, frame) in numbered:
            if number >= first:
                yield self._film_frame(number, pts, frame)

    def _film_frame(self, number: int, pts: int, frame: Any) -> FilmFrame:
        film = self.film
        pixels = upright(to_rgb(frame, film.colours, film.bits), film.orientation)
        planes = Planes.from_frame(frame, film.decoded_format, film.colours).turned(film.orientation)
        return FilmFrame(number, pts, film.seconds_at(pts), Picture(np.ascontiguousarray(pixels)), planes)

    def _pictures(self, first: int) -> Iterator[FilmFrame]:
        film = self.film
        paths = frame_files(film.path)
        start = 0 if self.start is None else max(0, film.pts_at(self.start))
        end = len(paths) if self.end is None else min(len(paths), film.pts_at(self.end))
        for number, pts in enumerate(range(start + first, end), first):
            photo = read_frame(paths[pts], film.size)
            picture = rgb_picture(photo.picture)
            yield FilmFrame(number, pts, film.seconds_at(pts), picture, photo, paths[pts].name)

    def _first_pass(self) -> Iterator[Stamped]:
        """From `self.start` on."""
        wanted = None if self.start is None else self.film.pts_at(self.start)
        for pts, frame in self._decoded() if wanted is None else self._reaching(wanted):
            if wanted is None or pts >= wanted:
                self._check(frame, pts)
                yield pts, frame

    def _reaching(self, wanted: int) -> Iterator[Stamped]:
        """From a frame on that is at or before `wanted`: a container without an index leads to any key frame near it, or
        cannot seek."""
        for seconds in BACK:
            decoded = self._decoded(self._earlier(wanted, seconds))
            first = next(decoded, None)
            if first is not None and first[0] <= wanted:
                return chain([first], decoded)
        return self._decoded()

    def _known(self, first: int, times: NDArray[np.int64]) -> Iterator[tuple[int, Stamped]]:
        """Frames with their numbers, each at its time in the first pass. Where decoding from one place misses a frame, it
        begins further back, at last where the first pass began."""
        number = first
        for seconds in (*(() if self._were_set_right(times) else BACK), None):
            if number >= len(times):
                return
            decoded = self._first_pass() if seconds is None else self._decoded(self._earlier(int(times[number]), seconds))
            for pts, frame in decoded:
                if number >= len(times) or pts > times[number]:
                    break
                if pts == times[number]:
                    self._check(frame, pts)
                    yield number, (pts, frame)
                    number += 1

    def _were_set_right(self, times: NDArray[np.int64]) -> bool:
        """Whether some of them are not the file's own but follow the one before, see `_decoded`: then a timestamp may be
        that of several frames, and only the first pass tells which."""
        return self.film.frame_ticks > 1 and bool((np.diff(times) == 1).any())

    def _earlier(self, pts: int, seconds: float) -> int | None:
        """So many seconds before; None where that is before the first frame."""
        at = pts - round(seconds / self.film.time_base)
        return at if at > self.film.origin else None

    def _decoded(self, near: int | None = None) -> Iterator[Stamped]:
        """Frames to `self.end`, their timestamps strictly rising: from the first on, or after seeking to that timestamp.
        There are none where the container cannot seek, or frames after it have no timestamps."""
        film, last = self.film, None
        end = None if self.end is None else film.pts_at(self.end)
        self._is_seeking = near is not None
        for frame in self._all(near):
            pts = frame.pts
            if pts is None:
                if self._is_seeking:
                    return
                pts = film.origin if last is None else last + film.frame_ticks
            self._is_seeking = False
            if last is not None and pts <= last:
                self._note(f"Timestamps that do not rise, first at {film.seconds_at(last):.3f} s, were set right.")
                pts = last + 1
            last = pts
            if end is not None and pts >= end:
                return
            yield pts, frame
        self._note_if_cut_off(last)

    def _all(self, near: int | None) -> Iterator[Any]:
        """Frames in the order of showing."""
        with open_input(self.film.path) as container:
            stream = container.streams[self.film.video]
            stream.thread_type = "AUTO"
            if near is not None:
                try:
                    container.seek(near, stream=stream)
                except failures() as error:
                    log.debug("%s cannot seek (%s).", self.film.path, reason(error))
                    return
            for packet in self._packets(container, stream):
                yield from self._frames_of(stream, packet)

    def _packets(self, container: Any, stream: Any) -> Iterator[Any]:
        """To the end, which None stands for; where reading fails, it is tried a few times to go on behind it."""
        for _ in range(READ_FAILURES):
            try:
                for packet in container.demux(stream):
                    if packet.size:
                        yield packet
                break
            except failures() as error:
                self._note(f"The file cannot be read in places ({reason(error)}).")
        yield None

    def _frames_of(self, stream: Any, packet: Any) -> Iterator[Any]:
        """A packet's frames; None gives those that the decoder holds back, perhaps behind ones that are broken."""
        for _ in range(1 if packet is not None else READ_FAILURES):
            try:
                yield from stream.codec_context.decode(packet)
                return
            except library().error.EOFError:
                return
            except failures() as error:
                self._note(f"Frames that cannot be decoded ({reason(error)}) were left out.")

    def _check(self, frame: Any, pts: int) -> None:
        size = (frame.width, frame.height)
        size = size[::-1] if self.film.orientation >= 5 else size
        if size != self.film.size:
            first = "{} x {}".format(*self.film.size)
            raise InputError(
                f"{self.film.path}: the frame at {self.film.seconds_at(pts):.3f} s has {size[0]} x {size[1]} pixels and the "
                f"first {first}: all must be of one size. Cut the film there: end before it, and start anew from it."
            )

    def _note_if_cut_off(self, last: int | None) -> None:
        film = self.film
        if last is None or film.seconds is None or not film.is_length_said:
            return
        reached = film.seconds_at(last) + float(film.frame_seconds)
        if film.seconds - reached > max(MISSING, 2 * float(film.frame_seconds)):
            self._note(
                f"The film ends after {reached:.3f} s of {film.seconds:.3f}: it was cut off. What is there is restored."
            )

    def _note(self, text: str) -> None:
        if text not in self.notes and not self._is_seeking:
            self.notes.append(text)
            log.warning("%s: %s", self.film.path, text)
