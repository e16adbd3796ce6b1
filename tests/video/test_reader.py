"""Frames as they were decoded, from any of them on, out of videos that are whole and of videos that are not."""

import logging
import re
from fractions import Fraction

import av
import numpy as np
import pytest
import video_files
from PIL import Image

from gpen_core.errors import InputError
from gpen_core.images.image import apply_orientation
from gpen_core.video.probe import probe
from gpen_core.video.reader import FrameReader


def same(one, other):
    planes = all(np.array_equal(a, b) for a, b in zip(one.native.arrays, other.native.arrays))
    return planes and (one.number, one.pts, one.seconds) == (other.number, other.pts, other.seconds)


def times_of(frames):
    return [frame.pts for frame in frames]


def decoded(path):
    """Each frame's planes by PyAV alone."""
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield frame.pts, frame.to_ndarray()


def test_frames_are_as_decoded(tmp_path):
    path = video_files.write_video(tmp_path / "a.mp4", 30, (96, 64))
    frames = list(FrameReader(probe(path)).frames())
    assert [frame.number for frame in frames] == list(range(30))
    for frame, (pts, planes) in zip(frames, decoded(path)):
        assert frame.pts == pts and frame.seconds == pytest.approx(frame.number / 25)
        assert np.array_equal(frame.native.arrays[0], planes[:64])
        assert [one.shape for one in frame.native.arrays] == [(64, 96), (32, 48), (32, 48)]


def test_the_image_is_what_was_encoded(tmp_path):
    """Against the source: the colors' matrix and range are those of the tags. The other matrix is 20 dB off."""
    for tags in ({"colorspace": 1, "color_range": 1}, {"colorspace": 5, "color_range": 1}):
        source = np.zeros((64, 96, 3), np.uint8)
        source[:, :48], source[:, 48:] = (200, 60, 40), (30, 90, 220)
        space = tags["colorspace"]
        frame = av.VideoFrame.from_ndarray(source, "rgb24").reformat(
            format="yuv444p", src_colorspace=space, dst_colorspace=space, src_color_range=2, dst_color_range=1
        )
        with av.open(str(tmp_path / "a.mp4"), "w") as out:
            video = out.add_stream("libx264", rate=25, options={"crf": "1"})
            video.width, video.height, video.pix_fmt = 96, 64, "yuv444p"
            for name, value in tags.items():
                setattr(video.codec_context, name, value)
            frame.pts = 0
            out.mux(video.encode(frame))
            out.mux(video.encode())
        (read,) = FrameReader(probe(tmp_path / "a.mp4")).frames()
        assert video_files.psnr(read.image.pixels, source) > 45


def test_a_rare_matrix_is_read_like_an_unspecified_one(tmp_path):
    given = {"codec": "ffv1", "count": 1}
    plain = video_files.write_video(tmp_path / "plain.mkv", **given)
    tagged = video_files.write_video(tmp_path / "tagged.mkv", context={"colorspace": 12}, **given)
    assert probe(tagged).colors.matrix == 12
    (one,), (other,) = (list(FrameReader(probe(path)).frames()) for path in (plain, tagged))
    assert np.array_equal(one.image.pixels, other.image.pixels)


def test_ten_bits_are_an_image_of_sixteen(tmp_path):
    path = video_files.write_video(tmp_path / "a.mkv", 3, codec="ffv1", pixels="yuv420p10le")
    frames = list(FrameReader(probe(path)).frames())
    eight = list(video_files.moving_noise(3, (96, 64)))
    assert frames[0].image.pixels.dtype == np.uint16 and frames[0].native.arrays[0].max() > 255
    assert video_files.psnr(frames[1].image.pixels / 257, eight[1]) > 27


@video_files.needs_rotation
@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_turned_video_is_read_upright(tmp_path, orientation):
    turns = {3: (180,), 6: (270,), 8: (90,), 2: (0, True), 4: (0, False, True), 5: (90, True), 7: (270, True)}
    plain = video_files.write_video(tmp_path / "plain.mp4", 2)
    turned = video_files.write_video(tmp_path / "turned.mp4", 2, rotation=turns[orientation])
    film = probe(turned)
    if turns[orientation][1:]:  # which of the two diagonals it is, is FFmpeg's to say
        orientation = film.orientation
        assert orientation in ((2,), (4,), (5, 7))[(turns[orientation][0] > 0) * 2 if orientation > 4 else orientation // 4]
    else:
        assert film.orientation == orientation
    one, other = next(FrameReader(probe(plain)).frames()), next(FrameReader(film).frames())
    assert other.image.size == film.size
    for a, b in zip(one.native.arrays, other.native.arrays):
        assert np.array_equal(apply_orientation(a, orientation), b)
    assert np.array_equal(apply_orientation(one.image.pixels, orientation), other.image.pixels)


@video_files.needs_rotation
def test_a_quarter_turn_of_422_repeats_its_chroma(tmp_path):
    path = video_files.write_video(tmp_path / "a.mov", 2, codec="prores_ks", pixels="yuv422p10le", rotation=(90,))
    frame = next(FrameReader(probe(path)).frames())
    assert frame.native.format == "yuv444p10le"
    y, cb, _ = frame.native.arrays
    assert y.shape == cb.shape == (96, 64) and np.array_equal(cb[0::2], cb[1::2])


@pytest.mark.parametrize("options", [{}, {"x264-params": "keyint=40:open-gop=1:bframes=5"}])
@pytest.mark.parametrize("first", [1, 39, 41, 75, 119])
def test_going_on_gives_the_same_frames(tmp_path, first, options):
    film = probe(video_files.write_video(tmp_path / "a.mp4", 120, (64, 48), options=options))
    frames = list(FrameReader(film).frames())
    rest = list(FrameReader(film).frames(first, times_of(frames)))
    assert len(rest) == 120 - first and all(same(a, b) for a, b in zip(frames[first:], rest))
    assert all(same(a, b) for a, b in zip(frames[first:], FrameReader(film).frames(first)))


def test_start_and_end_in_seconds(tmp_path):
    film = probe(video_files.write_video(tmp_path / "a.mp4", 120, (64, 48)))
    frames = list(FrameReader(film).frames())
    part = list(FrameReader(film, 3.2, 4.0).frames())
    assert [frame.number for frame in part] == list(range(20)) and part[0].pts == frames[80].pts
    assert [frame.pts for frame in part] == [frame.pts for frame in frames[80:100]]
    rest = list(FrameReader(film, 3.2, 4.0).frames(5, times_of(part)))
    assert all(same(a, b) for a, b in zip(part[5:], rest)) and len(rest) == 15
    assert list(FrameReader(film, 99).frames()) == []


CONTAINERS = {
    "ts": ("mpegts", "libx264", {"x264-params": "keyint=250:min-keyint=250:scenecut=0"}),
    "m2ts": ("mpegts", "libx264", {"x264-params": "keyint=250:min-keyint=250:scenecut=0", "mpegts_m2ts_mode": "1"}),
    "hevc.ts": ("mpegts", "libx265", {"x265-params": "keyint=250:min-keyint=250:scenecut=0:log-level=error"}),
    "mpg": ("mpeg", "mpeg2video", {"g": "250", "bf": "2", "sc_threshold": "1000000000"}),
    "vob": ("vob", "mpeg2video", {"g": "250", "bf": "2", "sc_threshold": "1000000000"}),
    "mxf": ("mxf", "mpeg2video", {"g": "120", "bf": "2", "sc_threshold": "1000000000"}),
    "ogv": ("ogg", "libvpx", {"g": "250", "deadline": "realtime", "cpu-used": "8"}),
    "avi": ("avi", "libx264", {"x264-params": "keyint=250:min-keyint=250:scenecut=0"}),
    "mkv": ("matroska", "libx264", {"x264-params": "keyint=250:min-keyint=250:scenecut=0"}),
    "mp4": ("mp4", "libx264", {"x264-params": "keyint=250:min-keyint=250:scenecut=0"}),
    "h264": ("h264", "libx264", {"x264-params": "keyint=250:min-keyint=250:scenecut=0"}),
    "hevc": ("hevc", "libx265", {"x265-params": "keyint=250:min-keyint=250:scenecut=0:log-level=error"}),
}
"""Format, encoder and its options: a key frame each ten seconds."""


@pytest.fixture(scope="module", params=CONTAINERS)
def rare_keys(request, tmp_path_factory):
    """A video and its 280 frames."""
    format_, codec, options = CONTAINERS[request.param]
    path = tmp_path_factory.mktemp("video") / f"a.{request.param}"
    film = probe(video_files.write_video(path, 280, (64, 48), codec, options=options, container=format_))
    frames = list(FrameReader(film).frames())
    assert [frame.number for frame in frames] == list(range(280))
    return film, frames


@pytest.mark.parametrize("seconds", [1.0, 3.0, 10.0])
def test_a_start_between_key_frames_loses_no_frame(rare_keys, seconds):
    film, frames = rare_keys
    reader = FrameReader(film, seconds)
    first = round(seconds * 25)
    part = list(reader.frames())
    assert times_of(part) == times_of(frames[first:])
    assert not reader.notes or film.has_file_order_timestamps
    assert [frame.number for frame in part] == list(range(280 - first))
    assert all(np.array_equal(a.image.pixels, b.image.pixels) for a, b in zip(part, frames[first:]))


@pytest.mark.parametrize("first", [75, 250, 279])
def test_frames_after_a_resume_have_their_numbers(rare_keys, first):
    film, frames = rare_keys
    rest = list(FrameReader(film).frames(first, times_of(frames)))
    assert len(rest) == 280 - first and all(same(a, b) for a, b in zip(frames[first:], rest))


def test_frames_after_a_resume_of_a_part(rare_keys):
    film, frames = rare_keys
    part = list(FrameReader(film, 3.0, 11.0).frames())
    rest = list(FrameReader(film, 3.0, 11.0).frames(50, times_of(part)))
    assert times_of(rest) == times_of(frames[125:275]) and [frame.number for frame in rest] == list(range(50, 200))


def test_a_frame_that_was_not_there_before_is_not_counted(tmp_path):
    """What a seek decodes otherwise than the first pass has no number, and what it misses is decoded from further back."""
    film = probe(video_files.write_video(tmp_path / "a.mp4", 120, (64, 48)))
    frames = list(FrameReader(film).frames())
    known = frames[:80] + frames[81:]
    assert times_of(FrameReader(film).frames(75, times_of(known))) == times_of(known[75:])
    times = times_of(frames)
    times.insert(100, times[99] + 7)
    assert [frame.number for frame in FrameReader(film).frames(75, times)] == list(range(75, 100))


@pytest.mark.parametrize("first", [0, 40, 119])
def test_avi_with_b_frames_is_numbered_in_order(tmp_path, first):
    """AVI has no time for frames that are shown in another order than they are decoded."""
    options = {"x264-params": "keyint=48:bframes=3:b-adapt=0", "g": "48"}
    film = probe(video_files.write_video(tmp_path / "a.avi", 120, (64, 48), options=options))
    reader = FrameReader(film)
    frames = list(reader.frames())
    assert np.diff(times_of(frames)).tolist() == [1] * 119 and film.time_base == Fraction(1, 25)
    assert len(reader.notes) == 1 and "frames got theirs by counting" in reader.notes[0]
    in_order = list(video_files.moving_noise(120, (64, 48)))
    assert all(video_files.psnr(frame.image.pixels, one) > 25 for frame, one in zip(frames, in_order))
    rest = list(FrameReader(film).frames(first, times_of(frames)))
    assert len(rest) == 120 - first and all(same(a, b) for a, b in zip(frames[first:], rest))
    part = list(FrameReader(film, 1.0, 2.0).frames())
    assert len(part) == 25 and all(np.array_equal(a.image.pixels, b.image.pixels) for a, b in zip(part, frames[25:]))


def test_timestamps_that_do_not_rise_are_told_once(tmp_path):
    times = [frame // 2 for frame in range(24)]
    one = video_files.write_video(tmp_path / "1.ts", 24, (64, 48), options={"bf": "0"})
    write_over(one, times)
    reader = FrameReader(probe(one))
    assert len(list(reader.frames())) == 24
    assert sum("were corrected" in note for note in reader.notes) == 1


def write_over(path, times):
    """Give a transport stream's video other times in frames, for presentation (ISO/IEC 13818-1, 2.4.3.6)."""
    data = bytearray(path.read_bytes())
    for time, start in zip(times, re.finditer(b"\x00\x00\x01\xe0", bytes(data))):
        ticks, at = time * 3600 + 90000, start.end() + 5
        parts = (ticks >> 29 & 14 | 0x21, ticks >> 22 & 255, ticks >> 14 & 254 | 1, ticks >> 7 & 255, ticks << 1 & 254 | 1)
        data[at : at + 5] = bytes(parts)
    path.write_bytes(data)


@pytest.mark.parametrize(("suffix", "later"), [(".ts", 0), (".ts", 30), (".ts", -1800), (".mpg", 0)])
def test_a_recording_joined_from_two(tmp_path, suffix, later):
    """The second begins at the same time as the first, or at another. It keeps its own times behind the first."""
    begin = 3600 if suffix == ".ts" else 0
    one, two = (
        video_files.write_video(
            tmp_path / f"{n}{suffix}",
            *(120, (64, 48)),
            codec="mpeg2video" if suffix == ".mpg" else "libx264",
            options={"g": "12"},
            times=[(begin + n * later) * 25 + frame + n * (frame > 60) for frame in range(120)],
            base=Fraction(1, 25),
            pictures=video_files.moving_noise(120, (64, 48), n),
        )
        for n in range(2)
    )
    path = tmp_path / f"both{suffix}"
    path.write_bytes(one.read_bytes() + two.read_bytes())
    info = probe(path)
    reader = FrameReader(info)
    frames = list(reader.frames())
    alone = [[frame.seconds for frame in FrameReader(probe(one)).frames()] for one in (one, two)]
    expected = [*alone[0], *(4.8 + seconds for seconds in alone[1])]
    assert [frame.seconds for frame in frames] == pytest.approx(expected, abs=1e-4)
    assert [note for note in reader.notes if "Joined recordings: timestamps jump at 4.800 s." in note] == reader.notes[:1]
    for first in (80, 119, 130, 200):
        rest = list(FrameReader(info).frames(first, times_of(frames)))
        assert len(rest) == len(frames) - first and all(same(a, b) for a, b in zip(frames[first:], rest))
    part = list(FrameReader(info, 6.0, 7.0).frames())
    expected = [frame for frame in frames if 5.99999 <= frame.seconds < 6.99999]
    assert len(part) == len(expected) and times_of(part) == times_of(expected)
    assert all(np.array_equal(a.image.pixels, b.image.pixels) for a, b in zip(part, expected))


def test_times_of_a_variable_rate(tmp_path):
    times = [0, 10, 15, 40, 41, 90, 200, 230]
    film = probe(video_files.write_video(tmp_path / "a.mp4", 8, times=times, base=Fraction(1, 100)))
    frames = list(FrameReader(film).frames())
    assert [round(frame.seconds * 100) for frame in frames] == times
    assert [frame.pts for frame in FrameReader(film).frames(6, times_of(frames))] == [frame.pts for frame in frames[6:]]


def test_seconds_count_from_the_first_frame(tmp_path):
    path = video_files.write_video(tmp_path / "a.ts", 50, times=range(250, 300), base=Fraction(1, 25))
    film = probe(path)
    assert film.start_pts > 0
    frames = list(FrameReader(film, 1.0).frames())
    assert frames[0].seconds == pytest.approx(1.0) and len(frames) == 25


def test_a_video_cut_off_gives_what_is_there(tmp_path, caplog):
    whole = video_files.write_video(tmp_path / "a.mkv", 100, sound="aac").read_bytes()
    path = tmp_path / "cut.mkv"
    path.write_bytes(whole[: len(whole) // 2])
    reader = FrameReader(probe(path))
    with caplog.at_level(logging.WARNING):
        frames = list(reader.frames())
    assert 20 < len(frames) < 80 and [frame.number for frame in frames] == list(range(len(frames)))
    assert any("was cut off" in note for note in reader.notes) and "cut.mkv" in caplog.text
    whole_ones = list(FrameReader(probe(tmp_path / "a.mkv")).frames())
    assert all(same(a, b) for a, b in zip(frames[:-5], whole_ones))


def test_what_cannot_be_decoded_is_left_out_and_said_once(tmp_path):
    path = video_files.write_video(tmp_path / "a.mkv", 60, (64, 48), codec="ffv1", options={"g": "1", "slicecrc": "1"})
    reader = FrameReader(probe(path))
    whole = list(reader.frames())
    assert reader.notes == []
    film = video_files.write_video(tmp_path / "b.mp4", 60, (64, 48), codec="libx264", options={"g": "10", "bf": "0"})
    data = bytearray(film.read_bytes())
    with av.open(str(film)) as container:
        broken = [packet.pos for packet in container.demux(video=0) if packet.size][25:27]
    for at in broken:
        data[at + 4 : at + 40] = bytes(36)
    film.write_bytes(data)
    reader = FrameReader(probe(film))
    frames = list(reader.frames())
    assert len(whole) == 60 and 50 <= len(frames) < 60 and frames[-1].seconds == pytest.approx(59 / 25)
    assert len(reader.notes) == len(set(reader.notes)) >= 1


def test_sizes_that_change_are_refused(tmp_path):
    data = b"".join(
        video_files.write_video(tmp_path / f"{n}.ts", 10, size, container="mpegts").read_bytes()
        for n, size in enumerate([(96, 64), (64, 64)])
    )
    (tmp_path / "both.ts").write_bytes(data)
    with pytest.raises(InputError, match="64 x 64 px, but the first is 96 x 64"):
        list(FrameReader(probe(tmp_path / "both.ts")).frames())


def test_a_folder_of_frames(tmp_path):
    pictures = list(video_files.moving_noise(4, (24, 16)))
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    film = probe(tmp_path, Fraction(10))
    frames = list(FrameReader(film).frames())
    assert [(frame.number, frame.pts, frame.seconds, frame.name) for frame in frames] == [
        (n, n, n / 10, f"{n}.png") for n in range(4)
    ]
    assert all(np.array_equal(frame.image.pixels, picture) for frame, picture in zip(frames, pictures))
    assert [frame.name for frame in FrameReader(film, 0.1, 0.3).frames()] == ["1.png", "2.png"]
    assert [frame.name for frame in FrameReader(film).frames(2, range(4))] == ["2.png", "3.png"]
    Image.fromarray(pictures[0][:8]).save(tmp_path / "9 odd one.png")
    with pytest.raises(InputError, match=r"9 odd one\.png is 24 x 8 px, but the first frame is 24 x 16"):
        list(FrameReader(film).frames())


def test_frames_are_cropped_at_the_left_as_the_codec_says(tmp_path):
    """FFmpeg's decoders crop fewer columns where the rest would begin at an unusual address in memory."""
    whole, cropped = video_files.write_video(tmp_path / "a.h264", 3, (96, 64), container="h264"), tmp_path / "b.h264"
    with av.open(str(whole)) as source:
        stream = source.streams.video[0]
        crop = av.bitstream.BitStreamFilterContext("h264_metadata=crop_left=6:crop_right=4", stream)
        packets = [part for packet in source.demux(stream) if packet.size for part in crop.filter(packet)]
        cropped.write_bytes(b"".join(map(bytes, packets)))
    before, after = ([one.native.arrays for one in FrameReader(probe(path)).frames()] for path in (whole, cropped))
    assert len(after) == 3 and probe(cropped).size == (86, 64)
    for planes, parts in zip(before, after):
        assert np.array_equal(planes[0][:, 6:92], parts[0]) and np.array_equal(planes[1][:, 3:46], parts[1])
