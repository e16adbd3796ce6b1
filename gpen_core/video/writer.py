"""Frames encoded into a segment: a file of its own that is there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import OutputError
from ..files.atomic_write import write_bytes
from ..files.stale_temp import DAY, remove_stale, temp_name
from ..images import codecs
from ..images.codecs import Photo
from ..images.image import Picture
from ..images.metadata import Metadata
from .containers import create, failures, reason
from .encoding import PICTURES, Encoding, encoder_rate, new_stream, segment_shift
from .frame_folder import frame_name
from .planes import BT709, FULL, LIMITED, Planes
from .probe import Film, rgb_picture
from .reader import FilmFrame
from .write_errors import cure

SEGMENTS = ("nut", "mov")  # containers with timestamps in any time base; together they hold every codec


class SegmentWriter:
    """Writes frames one by one; `path` appears when it is closed.

    A segment of a film is a file that only `join` needs to read, one of a folder of pictures is a folder. Leaving a `with`
    block by an error leaves nothing behind; nor does a segment without frames. Raises `OutputError` where the disk or the
    encoder fails."""

    def __init__(self, path: Path, film: Film, encoding: Encoding) -> None:
        """`encoding` as `check_output` gives it."""
        self.path = path
        self._part = path.with_name(temp_name(path.name))
        self._sink: _Pictures | _Video | None = None
        with self._guarded():
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_stale(path, DAY)
            self._sink = (_Pictures if encoding.encoder == PICTURES else _Video)(self._part, film, encoding)
        self.count = 0

    def write(self, frame: FilmFrame, result: Picture | None = None, touched: NDArray[np.bool_] | None = None) -> None:
        """Adds a frame: as decoded, or with what `result` (upright, of its size and depth) has otherwise where `touched`
        [H, W] is true. Where it is false nothing changes, but for chroma samples that stand for touched pixels, too."""
        assert self._sink is not None, "the writer is closed"
        with self._guarded():
            if result is None or touched is None or not touched.any():
                self._sink.write(frame, None, None)
            else:
                self._sink.write(frame, result, touched)
        self.count += 1

    def close(self) -> None:
        """Writes what the encoder holds back and gives the segment its name."""
        if self._sink is None:
            return
        with self._guarded():
            if self.count:
                self._sink.close()
                if self.path.is_dir():  # of a run that was killed before it reported the segment
                    shutil.rmtree(self.path)
                os.replace(self._part, self.path)
        self.discard()

    def discard(self) -> None:
        """Ends the writer; what is not yet a whole segment is removed."""
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.end()
        if self._part.is_dir():
            shutil.rmtree(self._part, ignore_errors=True)
        with contextlib.suppress(OSError):
            self._part.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self.discard()
            if isinstance(error, failures()):
                said = reason(error)
                raise OutputError(
                    f"{self.path} cannot be written: {said}. What is finished is kept: {cure(error)}."
                ) from error
            raise

    def __enter__(self) -> SegmentWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()


class _Video:
    """The encoder counts frames; their timestamps are put onto its packets."""

    def __init__(self, path: Path, film: Film, encoding: Encoding) -> None:
        self._film, self._encoding, self._path = film, encoding, path
        self._times: list[int] = []
        for name in SEGMENTS:
            self._container = create(path, name, film.time_base)
            if encoding.encoder in self._container.supported_codecs:
                break
        self._stream = new_stream(self._container, film, encoding)
        self._step, self._shift = 1 / encoder_rate(film), segment_shift(film)

    def write(self, frame: FilmFrame, result: Picture | None, touched: NDArray[np.bool_] | None) -> None:
        coded = frame.coded
        planes = planes_of_rgb(rgb_picture(coded.picture), self._film) if isinstance(coded, Photo) else coded
        if result is not None and touched is not None:
            planes = planes.changed(frame.picture, result, touched)
        encoded = to_format(planes, self._encoding)
        encoded.pts, encoded.time_base = len(self._times), self._step
        self._times.append(frame.pts)
        self._mux(self._stream.encode(encoded))

    def _mux(self, packets: list[Any]) -> None:
        for packet in packets:
            ticks = packet.time_base / self._step
            pts, dts = round(packet.pts * ticks), round(packet.dts * ticks)
            packet.pts = self._time(pts) + self._shift
            packet.dts = min(self._time(dts) + self._shift, packet.pts)
            packet.time_base = self._film.time_base
            self._container.mux(packet)

    def _time(self, number: int) -> int:
        """A frame's timestamp; before the first and beyond the last, as if frames followed there, too."""
        inside = min(max(number, 0), len(self._times) - 1)
        return self._times[inside] + (number - inside) * self._film.frame_ticks

    def close(self) -> None:
        self._mux(self._stream.encode(None))
        self._container.close()
        with open(self._path, "rb+") as file:
            os.fsync(file.fileno())

    def end(self) -> None:
        with contextlib.suppress(*failures()):
            self._container.close()


def planes_of_rgb(picture: Picture, film: Film) -> Planes:
    """A picture's own values as planes G, B, R, brought to the film's depth."""
    pixels = picture.pixels
    if picture.peak != 2**film.bits - 1:
        pixels = np.rint(picture.region(picture.whole) * (2**film.bits - 1)).astype(
            np.uint8 if film.bits == 8 else np.uint16
        )
    arrays = tuple(np.ascontiguousarray(pixels[..., channel]) for channel in (1, 2, 0))
    return Planes(arrays, film.format, film.colours)


def to_format(planes: Planes, encoding: Encoding) -> Any:
    """A PyAV frame in the encoder's format, padded to its size."""
    frame = planes.padded(encoding.size).to_frame()
    if planes.format == encoding.format:
        return frame
    colours, interpolation = planes.colours, None
    if planes.layout.kind == "gbrp":
        source, range_, matrix, interpolation = FULL, LIMITED, BT709, "BICUBIC"
    else:
        source = range_ = FULL if colours.is_full else LIMITED
        matrix = colours.matrix_for(planes.size)
    return frame.reformat(
        format=encoding.format,
        src_color_range=source,
        dst_color_range=range_,
        src_colorspace=matrix,
        dst_colorspace=matrix,
        interpolation=interpolation,
    )


class _Pictures:
    """A folder of frames, each named as the one that it was, else by its number."""

    def __init__(self, path: Path, film: Film, encoding: Encoding) -> None:
        self._path, self._film = path, film
        path.mkdir()

    def write(self, frame: FilmFrame, result: Picture | None, touched: NDArray[np.bool_] | None) -> None:
        photo = frame.coded if isinstance(frame.coded, Photo) else Photo(frame.picture, Metadata(), "PNG", False)
        name = frame_name(frame.number, frame.name)
        if result is None or touched is None:
            data = photo.data or self._encoded(photo, name)
        else:
            pixels = np.where(touched[..., None], result.pixels, frame.picture.pixels)
            data = self._encoded(Photo(Picture(pixels), photo.metadata, photo.format, photo.lossy), name)
        write_bytes(self._path / name, data)

    @staticmethod
    def _encoded(photo: Photo, name: str) -> bytes:
        return codecs.encode(photo, codecs.format_of(Path(name), "PNG"))

    def close(self) -> None:
        """Each picture is there already."""

    def end(self) -> None:
        """Nothing is open."""
