"""Frames encoded: untouched ones bit for bit before the encoder, touched ones as the image says; never half a segment."""

import contextlib
import os
import sys
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
import video_files
from PIL import Image

from gpen_core.errors import InputError, OptionsError, OutputError
from gpen_core.images.image import ImageData
from gpen_core.options import VideoOptions
from gpen_core.video import writer as writers
from gpen_core.video.encoding import resolve_encoding
from gpen_core.video.planes import PixelFormat
from gpen_core.video.probe import probe
from gpen_core.video.reader import FrameReader
from gpen_core.video.writer import SegmentWriter

FORMATS = ["yuv420p", "yuv422p", "yuv444p", "yuv410p", "yuv411p", "yuv440p", "gray", "gbrp", "yuv420p10le", "yuv422p12le"]
FORMATS += ["gbrp10le", "gray16le"]


def lossless(tmp_path, pixels="yuv420p", size=(96, 64), count=3):
    return probe(
        video_files.write_video(
            tmp_path / f"{pixels}.nut", count, size, codec="ffv1", pixels={"gbrp": "bgr0"}.get(pixels, pixels)
        )
    )


def written(tmp_path, film, encoding, change=None, name="segment.nut"):
    """All frames through a segment: (frames before, frames after)."""
    frames = list(FrameReader(film).frames())
    with SegmentWriter(tmp_path / name, film, encoding) as writer:
        for frame in frames:
            writer.write(frame, *(change(frame) if change else ()))
    return frames, list(FrameReader(probe(tmp_path / name)).frames())


def same_planes(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one.native.arrays, other.native.arrays))


@pytest.mark.parametrize("size", [(96, 64), (95, 63)], ids=str)
@pytest.mark.parametrize("pixels", FORMATS)
def test_untouched_frames_are_encoded_as_decoded(tmp_path, pixels, size):
    film = lossless(tmp_path, pixels, size)
    encoding = resolve_encoding(film, tmp_path / "out.mkv", VideoOptions(codec="ffv1"))
    assert (encoding.format, encoding.size, encoding.notes) == ({"gbrp": "bgr0"}.get(pixels, pixels), size, ())
    nothing = np.zeros(size[::-1], bool)
    for change in (None, lambda frame: (None, None), lambda frame: (ImageData(255 - frame.image.pixels), nothing)):
        before, after = written(tmp_path, film, encoding, change)
        assert len(after) == 3 and all(map(same_planes, before, after))


def face(frame):
    """A lighter, redder oval."""
    height, width = frame.image.pixels.shape[:2]
    y, x = np.mgrid[:height, :width]
    inside = ((x - 41) / 25) ** 2 + ((y - 30) / 18) ** 2 < 1
    rgb = frame.image.pixels.astype(float) * 0.8 + frame.image.max_value * np.array([0.15, 0.05, 0.02])
    pixels = np.where(inside[..., None], np.rint(rgb), frame.image.pixels).astype(frame.image.pixels.dtype)
    return ImageData(pixels), inside


@pytest.mark.parametrize("size", [(96, 64), (95, 63)], ids=str)
@pytest.mark.parametrize("pixels", [one for one in FORMATS if one != "yuv410p"])
def test_only_touched_pixels_change_and_become_the_image(tmp_path, pixels, size):
    """Luma outside is untouched bit for bit, chroma but for the samples that stand for touched pixels."""
    film = lossless(tmp_path, pixels, size)
    before, after = written(tmp_path, film, resolve_encoding(film, tmp_path / "out.mkv", VideoOptions(codec="ffv1")), face)
    layout = PixelFormat.parse(pixels)
    for one, other in zip(before, after):
        wanted, inside = face(one)
        assert np.array_equal(one.native.arrays[0][~inside], other.native.arrays[0][~inside])
        far = cv2.dilate(inside.astype(np.uint8), np.ones((25, 25))) == 0
        assert np.array_equal(one.image.pixels[far], other.image.pixels[far])
        if pixels.startswith("yuv"):
            blocks = np.zeros(one.native.arrays[1].shape, bool)
            y, x = np.nonzero(inside)
            blocks[y // layout.subsampling_y, x // layout.subsampling_x] = True
            for number in (1, 2):
                assert np.array_equal(one.native.arrays[number][~blocks], other.native.arrays[number][~blocks])
        if pixels.startswith("gray"):
            continue
        core = cv2.erode(inside.astype(np.uint8), np.ones((7, 7))) > 0
        off = np.abs(other.image.pixels[core].astype(float) - wanted.pixels[core]) * 255 / wanted.max_value
        assert off.mean() < 1.2 and off.max() < (4 if layout.subsampling_x == 1 else 12), (off.mean(), off.max())


def test_what_did_not_change_inside_stays_as_decoded(tmp_path):
    """RGB of 8 bits cannot tell all planes apart: differences are added, not values."""
    film = lossless(tmp_path, "yuv420p")
    everywhere = np.ones((64, 96), bool)
    encoding = resolve_encoding(film, tmp_path / "out.mkv", VideoOptions(codec="ffv1"))
    before, after = written(tmp_path, film, encoding, lambda frame: (frame.image, everywhere))
    assert all(map(same_planes, before, after))


@pytest.mark.parametrize("target", ["out.mp4", "out.mkv"])
def test_a_video_of_odd_size_becomes_even_for_h264(tmp_path, target):
    film = lossless(tmp_path, "yuv420p", (95, 63))
    encoding = resolve_encoding(film, tmp_path / target, VideoOptions(codec="h264", crf=1))
    assert encoding.size == (96, 64) and "95 x 63 was padded to 96 x 64" in encoding.notes[0]
    before, after = written(tmp_path, film, encoding)
    assert video_files.psnr(before[1].native.arrays[0], after[1].native.arrays[0][:63, :95]) > 50
    padded = after[1].native.arrays[0]
    assert video_files.psnr(padded[:, 94], padded[:, 95]) > 40  # the border repeated, not black


def test_x265_gets_even_sizes_without_a_word(tmp_path, capfd):
    film = lossless(tmp_path, "yuv420p10le", (95, 63))
    encoding = resolve_encoding(film, tmp_path / "out.mkv", VideoOptions())
    assert (encoding.encoder, encoding.size) == ("libx265", (96, 64)) and len(encoding.notes) == 1
    written(tmp_path, film, encoding)
    assert resolve_encoding(
        lossless(tmp_path, "yuv444p", (95, 63)), tmp_path / "out.mkv", VideoOptions(codec="hevc")
    ).size == (95, 63)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("pixels", "codec", "encoder", "gets"),
    [
        ("yuv420p", "auto", "libx264", "yuv420p"),
        ("yuv422p", "auto", "libx264", "yuv422p"),
        ("yuv420p10le", "auto", "libx265", "yuv420p10le"),
        ("yuv422p12le", "auto", "libx265", "yuv422p12le"),
        ("yuv420p10le", "h264", "libx264", "yuv420p10le"),
        ("yuv422p12le", "h264", "libx264", "yuv422p10le"),
        ("yuv444p", "av1", "libsvtav1", "yuv420p"),
        ("yuv410p", "h264", "libx264", "yuv420p"),
        ("gbrp", "h264", "libx264", "yuv420p"),
        ("gbrp10le", "auto", "libx265", "yuv420p10le"),
        ("gray", "h264", "libx264", "gray"),
        ("gray", "av1", "libsvtav1", "yuv420p"),
        ("gray16le", "auto", "libx265", "gray12le"),
    ],
)
def test_the_pixel_format_that_keeps_most(tmp_path, pixels, codec, encoder, gets):
    film = lossless(tmp_path, pixels, (96, 64), 1)
    encoding = resolve_encoding(film, tmp_path / "out.mkv", VideoOptions(codec=codec))
    assert (encoding.encoder, encoding.format) == (encoder, gets)
    lost = {("yuv422p12le", "h264"), ("yuv444p", "av1"), ("gray16le", "auto"), ("gbrp", "h264"), ("gbrp10le", "auto")}
    assert bool(encoding.notes) == ((pixels, codec) in lost)


def natural(astronaut, count=24, size=(320, 240)):
    """A photograph moved by half a pixel and more each frame, with a little of a camera's noise."""
    rng = np.random.default_rng(1)
    for number in range(count):
        move = np.array([[0.9, 0, -60 - 1.5 * number], [0, 0.9, -10 - 0.5 * number]], np.float32)
        frame = cv2.warpAffine(astronaut, move, size, flags=cv2.INTER_AREA)
        yield np.clip(frame + rng.normal(0, 1.5, frame.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("codec", "at_least"), [("h264", 44), ("hevc", 43), ("av1", 43)])
def test_re_encoding_at_the_default_quality_cannot_be_seen(tmp_path, astronaut, codec, at_least):
    """Luma's PSNR against what was decoded; what a player shows differs by less than one level in the mean."""
    path = video_files.write_video(tmp_path / "a.mp4", 24, (320, 240), options={"crf": "20"}, pictures=natural(astronaut))
    film = probe(path)
    before, after = written(tmp_path, film, resolve_encoding(film, tmp_path / "out.mp4", VideoOptions(codec=codec)))
    worst = min(video_files.psnr(a.native.arrays[0], b.native.arrays[0]) for a, b in zip(before, after))
    print(codec, round(worst, 2), (tmp_path / "segment.nut").stat().st_size / path.stat().st_size)
    assert len(after) == 24 and worst > at_least


def test_crf_sets_the_quality(tmp_path, astronaut):
    film = probe(video_files.write_video(tmp_path / "a.mp4", 8, (320, 240), pictures=natural(astronaut)))
    sizes = []
    for crf in (10, 20, 35):
        written(tmp_path, film, resolve_encoding(film, tmp_path / "o.mp4", VideoOptions(codec="h264", crf=crf)))
        sizes.append((tmp_path / "segment.nut").stat().st_size)
    assert sizes[0] > 1.5 * sizes[1] > 3 * sizes[2]


def test_unknown_codecs_containers_and_qualities(tmp_path):
    film = lossless(tmp_path)
    with pytest.raises(OptionsError, match=r"Unknown video encoder 'h266', .*h264, hevc"):
        resolve_encoding(film, tmp_path / "o.mp4", VideoOptions(codec="h266"))
    with pytest.raises(OptionsError, match=r"Unknown video encoder 'aac'"):
        resolve_encoding(film, tmp_path / "o.mp4", VideoOptions(codec="aac"))
    with pytest.raises(OptionsError, match=r"\.txt files cannot be written.*\.mkv"):
        resolve_encoding(film, tmp_path / "o.txt", VideoOptions())
    with pytest.raises(OptionsError, match="ffv1 has no quality"):
        resolve_encoding(film, tmp_path / "o.mkv", VideoOptions(codec="ffv1", crf=20))
    with pytest.raises(OptionsError, match="from 0 to 51 for libx264, got 99"):
        resolve_encoding(film, tmp_path / "o.mp4", VideoOptions(codec="h264", crf=99))
    with pytest.raises(InputError, match=r"A \.webm file cannot hold video encoded with libx264.*\.mkv"):
        resolve_encoding(film, tmp_path / "o.webm", VideoOptions(codec="h264"))
    assert resolve_encoding(film, tmp_path / "o.webm", VideoOptions()).encoder == "libsvtav1"


def test_nvenc_that_is_not_there_is_refused_before_work(tmp_path):
    film = probe(video_files.write_video(tmp_path / "a.mp4", 2, (320, 240)))
    try:
        av.CodecContext.create("h264_nvenc", "w")
    except av.error.FFmpegError:
        pytest.skip("this PyAV has no nvenc")
    with contextlib.suppress(OptionsError):
        encoding = resolve_encoding(film, tmp_path / "o.mp4", VideoOptions(codec="h264_nvenc"))
        assert encoding.encoder_options["cq"] == "18"  # a machine that has it
        return
    with pytest.raises(OptionsError, match="may need a device that is missing"):
        resolve_encoding(film, tmp_path / "o.mp4", VideoOptions(codec="h264_nvenc"))


@pytest.mark.skipif(sys.platform == "win32", reason="file sizes cannot be limited there")
def test_a_disk_that_fills_leaves_nothing(tmp_path):
    import resource

    film = lossless(tmp_path, "yuv444p", (160, 120), 20)
    frames = list(FrameReader(film).frames())
    encoding = resolve_encoding(film, tmp_path / "o.mkv", VideoOptions(codec="ffv1"))
    work = tmp_path / "work"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with (
            pytest.raises(OutputError, match=r"segment\.nut cannot be written: File too large"),
            SegmentWriter(work / "segment.nut", film, encoding) as writer,
        ):
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
            for frame in frames:
                writer.write(frame)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(work.iterdir()) == []


def test_a_folder_that_may_not_be_made(tmp_path):
    film = lossless(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match=r"s\.nut cannot be written"):
        SegmentWriter(tmp_path / "file" / "s.nut", film, resolve_encoding(film, tmp_path / "o.mkv", VideoOptions()))


def test_an_error_inside_leaves_nothing_and_comes_through(tmp_path):
    film = lossless(tmp_path)
    (frame, *_) = FrameReader(film).frames()
    work = tmp_path / "work"
    encoding = resolve_encoding(film, tmp_path / "o.mkv", VideoOptions())
    with pytest.raises(KeyboardInterrupt), SegmentWriter(work / "s.nut", film, encoding) as writer:
        writer.write(frame)
        raise KeyboardInterrupt
    assert list(work.iterdir()) == []
    with SegmentWriter(work / "s.nut", film, resolve_encoding(film, tmp_path / "o.mkv", VideoOptions())):
        pass
    assert list(work.iterdir()) == []


def test_a_segment_is_there_only_when_it_is_whole(tmp_path, monkeypatch):
    film = lossless(tmp_path)
    path = tmp_path / "work" / "s.nut"
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(writers.os, "fsync", lambda fd: (synced.append(path.exists()), fsync(fd)))
    writer = SegmentWriter(path, film, resolve_encoding(film, tmp_path / "o.mkv", VideoOptions()))
    for frame in FrameReader(film).frames():
        writer.write(frame)
        assert not path.exists()
    writer.close()
    writer.close()
    assert synced == [False] and [one.name for one in path.parent.iterdir()] == ["s.nut"]


def test_frames_of_a_folder_become_a_video_and_come_back(tmp_path):
    source = tmp_path / "frames"
    source.mkdir()
    pictures = list(video_files.moving_noise(5, (96, 64)))
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(source / f"{number}.png")
    film = probe(source, Fraction(12))
    encoding = resolve_encoding(film, tmp_path / "o.mkv", VideoOptions(codec="ffv1"))
    assert encoding.format == "bgr0"
    frames = list(FrameReader(film).frames())
    with SegmentWriter(tmp_path / "s.nut", film, encoding) as writer:
        for frame in frames:
            writer.write(frame, *face(frame))
    again = list(FrameReader(probe(tmp_path / "s.nut")).frames())
    for one, other in zip(frames, again):
        wanted, inside = face(one)
        assert np.array_equal(np.dstack([other.native.arrays[k] for k in (2, 0, 1)]), wanted.pixels)
        assert inside.any()
    encoding = resolve_encoding(film, tmp_path / "o.mp4", VideoOptions(codec="h264", crf=4))
    with SegmentWriter(tmp_path / "t.nut", film, encoding) as writer:
        for frame in frames:
            writer.write(frame)
    again = list(FrameReader(probe(tmp_path / "t.nut")).frames())
    assert video_files.psnr(again[3].image.pixels, pictures[3]) > 27  # chroma of half the size


def test_images_are_written_with_the_names_of_the_frames(tmp_path):
    source = tmp_path / "frames"
    source.mkdir()
    for number, picture in enumerate(video_files.moving_noise(3, (96, 64))):
        Image.fromarray(picture).save(source / f"shot {number}.{'png' if number else 'tif'}")
    film = probe(source)
    encoding = resolve_encoding(film, tmp_path / "out", VideoOptions())
    assert encoding.encoder == "images"
    frames = list(FrameReader(film).frames())
    with SegmentWriter(tmp_path / "segment", film, encoding) as writer:
        writer.write(frames[0], *face(frames[0]))
        writer.write(frames[1])
    assert sorted(path.name for path in (tmp_path / "segment").iterdir()) == ["shot 0.tif", "shot 1.png"]
    assert np.array_equal(np.asarray(Image.open(tmp_path / "segment" / "shot 0.tif")), face(frames[0])[0].pixels)
    assert (tmp_path / "segment" / "shot 1.png").read_bytes() == (source / "shot 1.png").read_bytes()


def test_a_folder_has_no_place_for_sound(tmp_path):
    film = probe(video_files.write_video(tmp_path / "a.mp4", 3, sound="aac"))
    assert resolve_encoding(film, tmp_path / "out", VideoOptions()).notes == (
        "stream 1 (audio, aac) was dropped, because the output is a folder of images.",
    )


def test_a_videos_frames_as_images_are_numbered(tmp_path):
    film = lossless(tmp_path, "yuv420p10le")
    encoding = resolve_encoding(film, tmp_path / "out", VideoOptions())
    frames = list(FrameReader(film).frames())
    with SegmentWriter(tmp_path / "segment", film, encoding) as writer:
        for frame in frames:
            writer.write(frame)
    names = sorted(path.name for path in (tmp_path / "segment").iterdir())
    assert names == ["000001.png", "000002.png", "000003.png"]
    pixels = cv2.imread(str(tmp_path / "segment" / "000002.png"), cv2.IMREAD_UNCHANGED)[..., ::-1]
    assert pixels.dtype == np.uint16 and np.array_equal(pixels, frames[1].image.pixels)
