"""Encodes frames into a segment, a file that appears only when it is complete."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..files.atomic_write import write_bytes
from ..files.stale_temp import DAY, remove_stale, temp_name
from ..images import codecs, formats
from ..images.codecs import EncodedImage
from ..images.image import ImageData
from ..images.metadata import Metadata
from .containers import av_errors, open_output, write_error
from .encoding import IMAGE_SEQUENCE, Encoding, encoder_frame_rate, new_stream, segment_pts_offset
from .frame_folder import frame_name
from .planes import BT709, FULL, LIMITED, Planes
from .probe import VideoInfo, as_rgb
from .reader import DecodedFrame

COLOR_TAGS = ("color_range", "colorspace", "color_primaries", "color_trc")
"""Tags of a frame, from which ProRes takes those of its video. Older versions of PyAV have only the first two."""
SEGMENT_FORMATS = ("nut", "mov")  # support any time base; together they can hold every codec
WEBM_ALPHA_FORMATS = ("matroska",)  # supports WebM's alpha; counts milliseconds, as the output then does


class SegmentWriter:
    """Writes frames one by one. `path` appears when the writer is closed.

    A segment of a video is a file for `mux.concatenate` only; a segment of a folder of images is a folder. An error in a
    `with` block leaves no file, and neither does a segment without frames. Raises `OutputError` if the disk or the encoder
    fails."""

    def __init__(self, path: Path, info: VideoInfo, encoding: Encoding) -> None:
        """`encoding` is the result of `resolve_encoding`."""
        self.path = path
        self._temp_path = path.with_name(temp_name(path.name))
        self._sink: _ImageSink | _VideoSink | None = None
        with self._discard_on_error():
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_stale(path, DAY)
            self._sink = (_ImageSink if encoding.encoder == IMAGE_SEQUENCE else _VideoSink)(self._temp_path, info, encoding)
        self.count = 0

    def write(self, frame: DecodedFrame, result: ImageData | None = None, mask: NDArray[np.bool_] | None = None) -> None:
        """Add a frame as decoded, or changed to `result` (upright, same size and depth) where `mask` [H, W] is true.

        Elsewhere nothing changes, except chroma samples that also cover changed pixels."""
        assert self._sink is not None, "the writer is closed"
        with self._discard_on_error():
            if result is None or mask is None or not mask.any():
                self._sink.write(frame, None, None)
            else:
                self._sink.write(frame, result, mask)
        self.count += 1

    def close(self) -> None:
        """Flush the encoder and give the segment its name."""
        if self._sink is None:
            return
        with self._discard_on_error():
            if self.count:
                self._sink.close()
                if self.path.is_dir():  # from a run that was killed before it reported the segment
                    shutil.rmtree(self.path)
                os.replace(self._temp_path, self.path)
        self.discard()

    def discard(self) -> None:
        """Close the writer and delete an unfinished segment."""
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.release()
        if self._temp_path.is_dir():
            shutil.rmtree(self._temp_path, ignore_errors=True)
        with contextlib.suppress(OSError):
            self._temp_path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _discard_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self.discard()
            if isinstance(error, av_errors()):
                raise write_error(self.path, error) from error
            raise

    def __enter__(self) -> SegmentWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()


class _VideoSink:
    """Encodes into a file. The encoder gets frame numbers, and its packets get the timestamps."""

    def __init__(self, path: Path, info: VideoInfo, encoding: Encoding) -> None:
        self._info, self._encoding, self._path = info, encoding, path
        self._timestamps: list[int] = []
        for name in WEBM_ALPHA_FORMATS if encoding.has_webm_alpha else SEGMENT_FORMATS:
            self._container = open_output(path, name, info.time_base, is_segment=True)
            if encoding.encoder in self._container.supported_codecs:
                break
        self._stream = new_stream(self._container, info, encoding)
        self._frame_duration, self._pts_offset = 1 / encoder_frame_rate(info), segment_pts_offset(info)

    def write(self, frame: DecodedFrame, result: ImageData | None, mask: NDArray[np.bool_] | None) -> None:
        coded = frame.native
        planes = image_to_planes(coded.image, self._info) if isinstance(coded, EncodedImage) else coded
        if result is not None and mask is not None:
            planes = planes.apply_difference(frame.image, result, mask)
        encoded = to_encoder_frame(planes, self._encoding)
        for name in filter(partial(hasattr, encoded), COLOR_TAGS):
            setattr(encoded, name, getattr(self._stream.codec_context, name))
        encoded.pts, encoded.time_base = len(self._timestamps), self._frame_duration
        self._timestamps.append(frame.pts)
        self._mux(self._stream.encode(encoded))

    def _mux(self, packets: list[Any]) -> None:
        for packet in packets:
            ticks = packet.time_base / self._frame_duration
            pts, dts = round(packet.pts * ticks), round(packet.dts * ticks)
            packet.pts = self._timestamp(pts) + self._pts_offset
            packet.dts = min(self._timestamp(dts) + self._pts_offset, packet.pts)
            packet.time_base = self._info.time_base
            self._container.mux(packet)

    def _timestamp(self, number: int) -> int:
        """Return a frame's timestamp, extrapolated before the first frame and after the last."""
        inside = min(max(number, 0), len(self._timestamps) - 1)
        return self._timestamps[inside] + (number - inside) * self._info.frame_ticks

    def close(self) -> None:
        self._mux(self._stream.encode(None))
        self._container.close()
        with open(self._path, "rb+") as file:
            os.fsync(file.fileno())

    def release(self) -> None:
        with contextlib.suppress(*av_errors()):
            self._container.close()


def image_to_planes(image: ImageData, info: VideoInfo) -> Planes:
    """Return an image as planes G, B, R (and alpha, if the video has it) in the video's bit depth."""
    rgb, max_value, kind = as_rgb(image), 2**info.bits - 1, np.uint8 if info.bits == 8 else np.uint16
    pixels, alpha = rgb.pixels, image.alpha
    if image.max_value != max_value:
        pixels = np.rint(rgb.crop_rgb(rgb.full_region) * max_value).astype(kind)
        alpha = None if alpha is None else np.rint(alpha.astype(np.float64) * (max_value / image.max_value)).astype(kind)
    arrays = [np.ascontiguousarray(pixels[..., channel]) for channel in (1, 2, 0)]
    if info.layout.has_alpha:
        arrays.append(np.full(arrays[0].shape, max_value, kind) if alpha is None else np.ascontiguousarray(alpha))
    return Planes(tuple(arrays), info.format, info.colors)


def to_encoder_frame(planes: Planes, encoding: Encoding) -> Any:
    """Return a PyAV frame in the encoder's format, padded to its size. Alpha is dropped if the format has none."""
    planes = planes if encoding.layout.has_alpha else planes.without_alpha()
    if encoding.is_limited_range and planes.layout.kind == "yuv" and planes.colors.is_full_range:
        planes = planes.to_limited_range(encoding.layout.bits)
    frame = planes.pad(encoding.size).to_frame()
    if planes.format == encoding.format:
        return frame
    colors, interpolation = planes.colors, None
    if planes.layout.kind == "gbrp":
        source, range_, matrix, interpolation = FULL, LIMITED, BT709, "BICUBIC"
    else:
        source = range_ = FULL if colors.is_full_range else LIMITED
        matrix = colors.effective_matrix(planes.size)
    return frame.reformat(
        format=encoding.format,
        src_color_range=source,
        dst_color_range=range_,
        src_colorspace=matrix,
        dst_colorspace=matrix,
        interpolation=interpolation,
    )


class _ImageSink:
    """Writes a folder of images. Each has the name of its input image, or its number."""

    def __init__(self, path: Path, info: VideoInfo, encoding: Encoding) -> None:
        self._path, self._info = path, info
        path.mkdir()

    def write(self, frame: DecodedFrame, result: ImageData | None, mask: NDArray[np.bool_] | None) -> None:
        encoded = (
            frame.native
            if isinstance(frame.native, EncodedImage)
            else EncodedImage(ImageData(frame.image.pixels, frame.alpha), Metadata(), "PNG", False)
        )
        name = frame_name(frame.number, frame.name)
        if result is None or mask is None:
            data = encoded.data or self._encode(encoded, name)
        else:
            pixels = np.where(mask[..., None], result.pixels, frame.image.pixels)
            data = self._encode(
                EncodedImage(ImageData(pixels, frame.alpha), encoded.metadata, encoded.format, encoded.lossy), name
            )
        write_bytes(self._path / name, data)

    @staticmethod
    def _encode(encoded: EncodedImage, name: str) -> bytes:
        return codecs.encode(encoded, formats.output_format(Path(name), "PNG"))

    def close(self) -> None:
        """Do nothing, because each image was written at once."""

    def release(self) -> None:
        """Do nothing, because no file is open."""
