"""Frames that go to the device as planes, there the CPU: once in each pass, and with the CPU's faces, cuts and tracks."""

import logging
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import synthetic_video
import torch
import video_files
from compositor_backends import CUDA, CUDA_OOM, raise_on_calls, use_torch_compositor
from helpers import FakeDetector, make_face
from video_fakes import SIZE, restorer
from video_files import av

from gpen_core import RestoreOptions, VideoOptions, restore_video
from gpen_core.faces.detection.retinaface import Detector
from gpen_core.pipeline import torch_upload
from gpen_core.pipeline.torch_image import to_device
from gpen_core.progress import ReplayableProgress, StageTimer, no_progress
from gpen_core.tools.demo.images import astronaut
from gpen_core.video import frame_image, torch_frame, torch_planes
from gpen_core.video.ffmpeg_rgb import find_chroma_layout
from gpen_core.video.first_pass import analyze_video
from gpen_core.video.people import find_people
from gpen_core.video.planes import ColorSpec, PixelFormat, Planes
from gpen_core.video.probe import probe
from gpen_core.video.reader import FrameReader
from gpen_core.video.torch_frame import DeviceFrame, TorchFrameImage, images_for_device
from gpen_core.video.torch_rgb import ChromaLayout, DevicePlanes

CPU = torch.device("cpu")
FACE = make_face((120.0, 96.0), 70.0, tilt=8)
COUNT, CUT = 10, 7
EXACT = VideoOptions(codec="ffv1", temporal_smoothing=1)


@pytest.fixture
def film(tmp_path):
    """A hand-held face, and a cut to another part of the photograph."""

    def write(pixels="yuv420p", size=SIZE):
        pictures = []
        for seed, (length, middle) in enumerate(((CUT, (224, 126)), (COUNT - CUT, (300, 260)))):
            shot = synthetic_video.render_video(astronaut(), "shake", length, SIZE, 3.0, seed, middle=middle, width=240)
            pictures += [np.ascontiguousarray(frame[: size[1], : size[0]]) for frame, _ in shot]
        return video_files.write_video(tmp_path / "film.mkv", COUNT, size, "ffv1", pixels, pictures=pictures)

    return write


def calls(monkeypatch, *what):
    """The arguments of each call, from now on, without those of `find_chroma_layout`, which converts noise."""
    monkeypatch.setattr(torch_frame, "find_chroma_layout", lambda *args: ChromaLayout())
    function, found = getattr(*what), []
    monkeypatch.setattr(*what, lambda *args, **named: found.append(args) or function(*args, **named))
    return found


def analyze(source, detector, device):
    info = probe(source)
    reader = FrameReader(info)
    args = (RestoreOptions(), VideoOptions(), 25.0, ReplayableProgress(no_progress), StageTimer({}))
    return analyze_video(reader.frames(make_image=images_for_device(torch.device(device))), reader, detector, *args)


def analyze_both(monkeypatch, source, detector, device="cpu", other=None):
    use_torch_compositor(monkeypatch, False)
    expected = analyze(source, detector, "cpu")
    use_torch_compositor(monkeypatch)
    return expected, analyze(source, other or detector, device)


def assert_same_analysis(expected, found, tolerance=0.02):
    assert found.cuts == expected.cuts and found.monochrome_tracks == expected.monochrome_tracks
    assert found.size == expected.size and np.array_equal(found.pts, expected.pts)
    assert len(found.tracks) == len(expected.tracks) > 0
    for one, other in zip(found.tracks, expected.tracks):
        assert (one.first, one.last, one.person) == (other.first, other.last, other.person)
        assert np.abs(one.landmarks - other.landmarks).max() < tolerance
        assert np.abs(one.boxes - other.boxes).max() < tolerance


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv422p", "yuv420p10le", "gray", "bgr0", "gbrp12le", "yuva444p"])
def test_cuts_and_tracks_are_the_cpus(monkeypatch, film, pixels):
    expected, found = analyze_both(monkeypatch, film(pixels), FakeDetector([FACE]))
    assert_same_analysis(expected, found)
    assert found.cuts == (CUT,)


def test_of_odd_sizes_too(monkeypatch, film):
    assert_same_analysis(*analyze_both(monkeypatch, film(size=(239, 191)), FakeDetector([FACE])))


def test_a_detector_finds_the_same_faces(monkeypatch, film, detector_weights):
    detector = Detector.from_state_dict(detector_weights, CPU)
    assert_same_analysis(*analyze_both(monkeypatch, film(), detector))


@pytest.mark.parametrize("device", [CUDA])
@pytest.mark.parametrize("is_async", ["0", "1"])
def test_on_a_gpu_too(monkeypatch, film, detector_weights, device, is_async):
    monkeypatch.setenv(torch_upload.ASYNC_VARIABLE, is_async)
    detectors = (Detector.from_state_dict(detector_weights, torch.device(one)) for one in ("cpu", device))
    source, detector = film(), next(detectors)
    assert_same_analysis(*analyze_both(monkeypatch, source, detector, device, next(detectors)), tolerance=0.5)


def test_a_frame_without_faces_is_never_converted_by_the_cpu(monkeypatch, film):
    use_torch_compositor(monkeypatch)
    source, converted = film(), calls(monkeypatch, frame_image, "to_rgb")
    uploaded = calls(monkeypatch, DeviceFrame, "__init__")
    assert analyze(source, FakeDetector([]), "cpu").cuts == (CUT,)
    assert not converted and len(uploaded) == COUNT


def test_frames_go_up_once_in_each_pass(monkeypatch, film, tmp_path):
    """The CPU converts only those in which it looks whether the face is gray: at intervals, and after the cut."""
    use_torch_compositor(monkeypatch)
    source, converted = film(), calls(monkeypatch, frame_image, "to_rgb")
    uploaded = calls(monkeypatch, DeviceFrame, "__init__")
    monkeypatch.setattr(torch_planes, "to_device", None)  # the planes that change are there already
    result = restore_video(source, tmp_path / "out.mkv", restorer(faces=(FACE,))[0], None, EXACT)
    assert all(result.restored) and len(uploaded) == 2 * COUNT and len(converted) == 3


def test_people_are_found_there_too(monkeypatch, film):
    use_torch_compositor(monkeypatch)
    source = film()
    uploaded = calls(monkeypatch, DeviceFrame, "__init__")
    assert len(find_people(source, FakeDetector([FACE])).people) >= 1 and len(uploaded) == COUNT


def test_uploads_do_not_outlive_the_detection(monkeypatch, film):
    use_torch_compositor(monkeypatch)
    reader = FrameReader(probe(film()))
    frames = list(reader.frames(make_image=images_for_device(CPU)))
    args = (RestoreOptions(), VideoOptions(), 25.0, ReplayableProgress(no_progress), StageTimer({}))
    analyze_video(iter(frames), reader, FakeDetector([FACE]), *args)
    assert all(isinstance(frame.image, TorchFrameImage) and not frame.image.is_uploaded for frame in frames)


@pytest.mark.parametrize("is_async", ["0", "1"])
def test_frames_that_do_not_fit_are_converted_by_the_cpu(monkeypatch, film, caplog, is_async):
    monkeypatch.setenv(torch_upload.ASYNC_VARIABLE, is_async)
    source = film()
    use_torch_compositor(monkeypatch, False)
    expected = analyze(source, FakeDetector([FACE]), "cpu")
    use_torch_compositor(monkeypatch)
    raise_on_calls(CUDA_OOM, (DevicePlanes, "upload"), monkeypatch, range(3, 99))
    with caplog.at_level(logging.WARNING):
        assert_same_analysis(expected, analyze(source, FakeDetector([FACE]), "cpu"))
    assert [one for one in caplog.messages if "fit" in one] == [torch_frame.WARNING]


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv420p10le"])
def test_asynchronous_uploads_change_nothing(monkeypatch, film, tmp_path, pixels):
    use_torch_compositor(monkeypatch)
    source, found = film(pixels), []
    for is_async in ("0", "1"):
        monkeypatch.setenv(torch_upload.ASYNC_VARIABLE, is_async)
        target = tmp_path / f"{is_async}.mkv"
        result = restore_video(source, target, restorer(faces=(FACE,))[0], None, EXACT)
        found.append((result.restored, [frame.native.arrays for frame in FrameReader(probe(target)).frames()]))
    (restored, one), (again, other) = found
    assert restored == again and len(one) == len(other) == COUNT
    assert all(np.array_equal(a, b) for first, second in zip(one, other) for a, b in zip(first, second))


def test_planes_that_were_converted_are_not_used():
    """Their RGB would differ from that of the frame."""
    info = SimpleNamespace(
        format="yuv420p", decoded_format="yuv420p", colors=ColorSpec(1, 1), bits=8, orientation=1, path=""
    )
    assert find_chroma_layout(av.VideoFrame(64, 64, "yuv420p"), info) == ChromaLayout()
    assert find_chroma_layout(av.VideoFrame(64, 64, "yuv420p10be"), info) is None
    turned = SimpleNamespace(**{**vars(info), "format": "yuv444p", "decoded_format": "yuv422p"})
    assert find_chroma_layout(av.VideoFrame(64, 64, "yuv422p"), turned) is None


@pytest.mark.parametrize("name", ["yuv420p", "nv12", "p010le", "yuyv422", "bgr0", "gray", "yuv444p16le"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_frames_of_any_format(name, orientation):
    format_, bits = PixelFormat.parse(name).name, PixelFormat.parse(name).bits
    turned = PixelFormat.parse(name).rotated.name if orientation >= 5 else format_
    info = SimpleNamespace(
        format=turned, decoded_format=format_, colors=ColorSpec(1, 1), bits=bits, orientation=orientation, path=""
    )
    frame = av.VideoFrame.from_ndarray(next(iter(video_files.moving_noise(1, (64, 50)))), "rgb24").reformat(format=name)
    before = Planes.from_frame(frame, format_, info.colors).arrays
    assert (find_chroma_layout(frame, info) is None) == (name == "yuyv422" and orientation >= 5)
    assert all(np.array_equal(a, b) for a, b in zip(before, Planes.from_frame(frame, format_, info.colors).arrays))


def test_an_unknown_conversion_is_left_to_the_cpu(monkeypatch, caplog):
    info = SimpleNamespace(format="gray", decoded_format="gray", colors=ColorSpec(1, 1), bits=8, orientation=1, path="a.mkv")
    monkeypatch.setattr("gpen_core.video.ffmpeg_rgb.upright_rgb", lambda *args: np.zeros((64, 64, 3), np.uint8))
    with caplog.at_level(logging.INFO):
        assert find_chroma_layout(av.VideoFrame(64, 64, "gray"), info) is None
    assert "converts the frames of a.mkv" in caplog.text


def test_a_device_that_converts_wrong_gets_rgb(monkeypatch, caplog):
    use_torch_compositor(monkeypatch)
    wrong = replace(torch_frame.CONVERSION, expected=lambda: torch_frame.CONVERSION.run(CPU) + 0.01)
    monkeypatch.setattr(torch_frame, "CONVERSION", wrong)
    assert images_for_device(CPU) is frame_image.convert_now
    assert "Using the CPU instead of cpu to convert the frames of videos to RGB" in caplog.text


def test_the_image_is_that_of_the_reader(monkeypatch, film):
    use_torch_compositor(monkeypatch)
    reader = FrameReader(probe(film("yuv420p10le")))
    for one, other in zip(reader.frames(), reader.frames(make_image=images_for_device(CPU))):
        image = other.image
        assert isinstance(image, TorchFrameImage) and not image.is_converted
        assert (image.size, image.dtype, image.max_value) == (one.image.size, one.image.dtype, one.image.max_value)
        assert not image.is_converted
        assert np.array_equal(image.pixels, one.image.pixels) and image.is_converted
        assert np.array_equal(image.writable().pixels, one.image.pixels)


DECODED = {
    "h264": {},
    "h264, chroma at the top left": {"options": {"x264-params": "chromaloc=2"}},
    "h264, interlaced": {"options": {"flags": "+ildct+ilme", "x264-params": "tff=1"}},
    "h264, full range": {"context": {"color_range": 2, "colorspace": 1}},
    "mjpeg": {"codec": "mjpeg", "pixels": "yuvj420p"},
    "mpeg2video": {"codec": "mpeg2video"},
    "prores": {"codec": "prores_ks", "pixels": "yuv422p10le"},
    "hevc": {"codec": "libx265", "pixels": "yuv420p10le", "context": {"color_range": 1, "colorspace": 9}},
}


@pytest.mark.parametrize("interlaced", ["keep", "deinterlace"])
@pytest.mark.parametrize("kind", DECODED)
def test_rgb_of_decoded_frames(monkeypatch, tmp_path, kind, interlaced):
    """As they come from decoders, with their tags."""
    use_torch_compositor(monkeypatch)
    info = probe(video_files.write_video(tmp_path / "film.mkv", 3, SIZE, **{"codec": "libx264", **DECODED[kind]}))
    reader = FrameReader(info, interlaced=interlaced)
    for one, other in zip(reader.frames(), reader.frames(make_image=images_for_device(CPU)), strict=True):
        if kind == "h264, interlaced" and interlaced == "keep" and not isinstance(other.image, TorchFrameImage):
            assert np.array_equal(one.image.pixels, other.image.pixels)  # FFmpeg 8 converts the fields one by one
            continue
        found = other.image.device_image(other.image.full_region, CPU, to_device).samples.numpy()
        assert np.abs(found.astype(float) - one.image.pixels).max() <= (1 if info.bits == 8 else 257)
