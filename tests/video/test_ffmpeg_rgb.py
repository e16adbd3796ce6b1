"""Conversion to RGB of only the parts of a frame that have faces."""

from types import SimpleNamespace

import av
import numpy as np
import pytest
import synthetic_video
import torch
import video_files
from helpers import make_face
from video_fakes import identity_network, restorer

from gpen_core import RestoreOptions, VideoOptions, restore_video
from gpen_core.images.image import Region
from gpen_core.pipeline.torch_image import upload
from gpen_core.tools.demo.images import astronaut
from gpen_core.video import ffmpeg_rgb, frame_image
from gpen_core.video.ffmpeg_rgb import FrameImages, convert_parts, find_part_converter
from gpen_core.video.planes import ColorSpec, PixelFormat, Planes
from gpen_core.video.probe import probe
from gpen_core.video.reader import FrameReader

PARTS = Region(0, 0, 20, 10), Region(31, 23, 64, 40), Region(60, 50, 80, 80)


def made(name, orientation, size=(96, 80)):
    """A frame of noise and its `VideoInfo`."""
    layout = PixelFormat.parse(name)
    info = SimpleNamespace(
        format=layout.rotated.name if orientation >= 5 else layout.name,
        decoded_format=layout.name,
        colors=ColorSpec(),
        bits=layout.bits,
        orientation=orientation,
        size=size[::-1] if orientation >= 5 else size,
        path="",
    )
    noise = next(iter(video_files.moving_noise(1, size)))
    return av.VideoFrame.from_ndarray(noise, "rgb24").reformat(format=name), info


@pytest.mark.parametrize("name", ["yuv420p", "yuvj422p", "yuv444p10le", "yuv410p", "yuva420p", "gray", "gray16le", "gbrp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_part_has_the_pixels_of_the_whole(name, orientation):
    frame, info = made(name, orientation)
    assert find_part_converter(frame, info) is not None
    planes = Planes.from_frame(frame, info.decoded_format, info.colors).apply_orientation(orientation)
    image, expected = FrameImages(convert_parts)(frame, planes, info), frame_image.convert_now(frame, planes, info)
    for part in PARTS:
        assert np.array_equal(image.part(part).pixels, expected.pixels[part.slices])
        assert np.array_equal(image.crop_rgb(part), expected.crop_rgb(part))
    assert not image.is_converted
    assert np.array_equal(image.pixels, expected.pixels) and image.is_converted
    assert np.array_equal(image.part(PARTS[0]).pixels, expected.pixels[PARTS[0].slices])


@pytest.mark.parametrize(
    "name, size", [("nv12", (96, 80)), ("yuyv422", (96, 80)), ("rgb24", (96, 80)), ("yuv420p", (97, 80))]
)
def test_other_frames_are_converted_as_a_whole(name, size):
    """Formats with mixed planes, and odd widths, where FFmpeg moves the chroma samples a little."""
    frame, info = made(name, 1, size)
    planes = Planes.from_frame(frame, info.decoded_format, info.colors)
    image, expected = FrameImages(convert_parts)(frame, planes, info), frame_image.convert_now(frame, planes, info)
    assert find_part_converter(frame, info) is None
    assert np.array_equal(image.part(PARTS[1]).pixels, expected.pixels[PARTS[1].slices]) and image.is_converted


def test_the_frame_keeps_its_content():
    frame, info = made("yuv422p", 1)
    before = Planes.from_frame(frame, "yuv422p", info.colors).arrays
    assert find_part_converter(frame, info) is not None
    assert all(np.array_equal(*pair) for pair in zip(before, Planes.from_frame(frame, "yuv422p", info.colors).arrays))


def test_an_upload_converts_only_its_part():
    frame, info = made("yuv420p", 1)
    planes = Planes.from_frame(frame, info.decoded_format, info.colors)
    image, expected = FrameImages(convert_parts)(frame, planes, info), frame_image.convert_now(frame, planes, info)
    uploaded = upload(image, PARTS[1], torch.device("cpu"))
    assert np.array_equal(uploaded.samples.numpy(), expected.pixels[PARTS[1].slices]) and not image.is_converted


def test_interlaced_frames(tmp_path):
    """FFmpeg 8 converts their fields one by one, which a part would not show."""
    flags = {"flags": "+ildct+ilme", "x264-params": "tff=1"}
    path = video_files.write_video(tmp_path / "film.mkv", 2, (96, 80), "libx264", options=flags)
    reader = FrameReader(probe(path), interlaced="keep")
    for one, other in zip(reader.frames(), reader.frames(make_image=FrameImages(convert_parts))):
        assert np.array_equal(other.image.part(PARTS[1]).pixels, one.image.pixels[PARTS[1].slices])


@pytest.mark.parametrize("options", [RestoreOptions(), RestoreOptions(grain=0.5), RestoreOptions(fidelity=0.5)])
def test_only_the_parts_with_faces_are_converted(monkeypatch, tmp_path, options):
    """The result is that of whole frames. Grain is measured in the whole frame."""
    shot = synthetic_video.render_video(astronaut(), "shake", 6, (480, 240), 3.0, 0, middle=(224, 126), width=400)
    source = video_files.write_video(tmp_path / "film.mkv", 6, (480, 240), "libx264", pictures=[one for one, _ in shot])
    faces = [make_face((100, 120), 50), make_face((360, 100), 40)]
    to_rgb, widths, sizes, found = frame_image.to_rgb, [], [], []
    monkeypatch.setattr(frame_image, "to_rgb", lambda *args: widths.append(args[0].width) or to_rgb(*args))
    for is_partial in (True, False):
        if not is_partial:
            monkeypatch.setattr(ffmpeg_rgb, "find_part_converter", lambda *args: None)
        runner, network = restorer(lambda crop: crop * 0.5, faces=faces)
        network.network = identity_network(512)
        target = tmp_path / f"{is_partial}.mkv"
        widths.clear()
        result = restore_video(source, target, runner, options, VideoOptions(codec="ffv1"))
        assert all(result.restored)
        sizes.append(sum(width == 480 for width in widths))
        found.append([frame.native.arrays for frame in FrameReader(probe(target)).frames()])
    assert all(np.array_equal(*pair) for both in zip(*found) for pair in zip(*both))
    first_pass = 6
    assert sizes[1] == 2 * first_pass
    assert sizes[0] - 1 == (2 * first_pass if options.grain else first_pass)  # one frame of noise to compare with
