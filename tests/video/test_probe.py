"""What is known of a video before it is decoded, and what is refused."""

from fractions import Fraction

import av
import numpy as np
import pytest
import video_files
from PIL import Image

from gpen_core.errors import InputError, MissingDependency, OptionsError
from gpen_core.video import containers
from gpen_core.video.probe import frame_files, probe
from gpen_core.video.reader import FrameReader


def test_size_time_and_streams(tmp_path):
    film = probe(video_files.write_video(tmp_path / "a.mp4", 30, (96, 64), sound="aac"))
    assert (film.size, film.frame_rate, film.frame_count, film.duration, film.bits) == ((96, 64), 25, 30, 1.2, 8)
    assert film.time_base == Fraction(1, 12800) and film.codec == "h264" and not film.is_folder
    assert [(one.kind, one.codec, one.language) for one in film.streams] == [
        ("video", "h264", "und"),
        ("audio", "aac", "deu"),
    ]
    assert [one.index for one in film.other_streams] == [1]


@pytest.mark.parametrize(("suffix", "codec"), [("h264", "libx264"), ("hevc", "libx265")])
def test_a_stream_without_a_container_has_the_rate_of_its_codec(tmp_path, suffix, codec):
    path = video_files.write_video(tmp_path / f"raw.{suffix}", 10, codec=codec, container=suffix, rate=30)
    assert probe(path).frame_rate == 30
    assert [round(frame.seconds, 3) for frame in FrameReader(probe(path)).frames()][:3] == [0, 0.033, 0.067]


def test_a_matroska_file_that_begins_late_is_no_longer_than_others(tmp_path):
    """FFmpeg writes the time at which the stream ends as its duration."""
    film = video_files.write_video(tmp_path / "a.mkv", 30, times=range(125_000, 125_030))
    reader = FrameReader(probe(film))
    assert reader.info.duration == pytest.approx(1.2, abs=0.01) and reader.info.frame_count == 30
    assert len(list(reader.frames())) == 30 and reader.notes == []


def test_ten_bits_and_color_tags(tmp_path):
    tags = {"color_range": 1, "colorspace": 9, "color_primaries": 9, "color_trc": 16}
    path = video_files.write_video(tmp_path / "a.mkv", 3, codec="libx265", pixels="yuv420p10le", context=tags)
    film = probe(path)
    assert film.bits == 10 and film.format == "yuv420p10le"
    assert (film.colors.range, film.colors.matrix, film.colors.primaries, film.colors.transfer) == (1, 9, 9, 16)


@pytest.mark.parametrize(("matrix", "colors"), [(8, "YCgCo"), (14, "ICtCp")])
def test_colors_that_would_become_others_are_refused(tmp_path, matrix, colors):
    path = video_files.write_video(tmp_path / "a.mkv", 1, codec="ffv1", pixels="yuv444p", context={"colorspace": matrix})
    with pytest.raises(InputError, match=rf"a\.mkv has {colors} colors, which are not supported\. Convert the video"):
        probe(path)


def test_pixels_that_are_not_square(tmp_path):
    film = probe(video_files.write_video(tmp_path / "a.mp4", 3, context={"sample_aspect_ratio": Fraction(4, 3)}))
    assert film.sample_aspect_ratio == Fraction(4, 3) and film.size == (96, 64)


@video_files.needs_rotation
@pytest.mark.parametrize(
    ("turn", "orientation"), [((90, False, False), 8), ((180, False, False), 3), ((270, False, False), 6)]
)
def test_a_turned_video_has_the_size_that_is_shown(tmp_path, turn, orientation):
    path = video_files.write_video(tmp_path / "a.mp4", 3, rotation=turn, context={"sample_aspect_ratio": Fraction(4, 3)})
    film = probe(path)
    assert film.orientation == orientation
    quarter = turn[0] % 180 == 90
    assert film.size == ((64, 96) if quarter else (96, 64))
    assert film.sample_aspect_ratio == (Fraction(3, 4) if quarter else Fraction(4, 3))


def test_no_such_file(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        probe(tmp_path / "nothing.mp4")


@pytest.mark.parametrize("data", [b"", b"hello, I am a text\n" * 40, bytes(range(256)) * 50])
def test_what_is_no_video(tmp_path, data):
    (tmp_path / "a.mp4").write_bytes(data)
    with pytest.raises(InputError, match=r"a\.mp4 cannot be read as a video .*copy it again"):
        probe(tmp_path / "a.mp4")


def test_a_video_without_its_index_was_cut_off(tmp_path):
    whole = video_files.write_video(tmp_path / "a.mp4", 30).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="may be cut off"):
        probe(tmp_path / "cut.mp4")


def test_sound_alone_is_no_video(tmp_path):
    with av.open(str(tmp_path / "a.m4a"), "w", format="mp4") as out:
        stream = out.add_stream("aac", rate=48000)
        stream.layout = "mono"
        for packet in video_files.sine(stream, 1):
            out.mux(packet)
    with pytest.raises(InputError, match="no video stream, only audio"):
        probe(tmp_path / "a.m4a")


def test_a_video_without_frames(tmp_path):
    path = video_files.write_video(tmp_path / "a.mkv", 0, sound=None)
    with pytest.raises(InputError, match=r"has no \w+ frame|cannot be read as a video"):
        probe(path)


def test_a_folder_of_frames_in_natural_order(tmp_path):
    for number in (10, 9, 1):
        Image.fromarray(np.full((8, 12, 3), number, np.uint8)).save(tmp_path / f"frame {number}.png")
    (tmp_path / "notes.txt").write_text("no image")
    film = probe(tmp_path)
    assert film.is_folder and film.size == (12, 8) and (film.frame_rate, film.frame_count) == (25, 3)
    assert [path.stem for path in frame_files(tmp_path)] == ["frame 1", "frame 9", "frame 10"]
    assert probe(tmp_path, Fraction(30000, 1001)).time_base == Fraction(1001, 30000)


def test_an_empty_folder(tmp_path):
    with pytest.raises(InputError, match=r"contains no images"):
        probe(tmp_path)


def test_a_frame_rate_is_for_folders_only(tmp_path):
    with pytest.raises(OptionsError, match="only for a folder of images"):
        probe(video_files.write_video(tmp_path / "a.mp4", 2), Fraction(30))
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(OptionsError, match="above 0"):
        probe(tmp_path, Fraction(-1))


def test_without_pyav_it_is_said_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(MissingDependency, match=r"Install it: .* -m pip install av"):
        containers.import_av()
