"""Segments become one video with everything else that the source carried, whole or not at all."""

import io
import itertools
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import video_files
from PIL import Image

from gpen_core import ProgressEvent
from gpen_core.errors import InputError, Interrupted, OutputError
from gpen_core.options import VideoOptions
from gpen_core.video import containers
from gpen_core.video.encoding import resolve_encoding
from gpen_core.video.mux import concatenate, decoding_timestamps
from gpen_core.video.probe import probe
from gpen_core.video.reader import FrameReader
from gpen_core.video.writer import SegmentWriter

DATA = Path(__file__).parents[1] / "data"
needs_chapters = pytest.mark.skipif(
    not hasattr(av.container.InputContainer, "chapters"), reason="this PyAV does not know chapters"
)
needs_attachments = pytest.mark.skipif(
    not hasattr(av.container.OutputContainer, "add_attachment"), reason="this PyAV cannot attach files"
)
TAGGED_BY_FRAMES = ("prores",) if hasattr(av.VideoFrame, "color_primaries") else ()  # an older PyAV cannot tag them


def through(tmp_path, source, target, codec="auto", start=None, end=None, length=13, progress=None):
    """The video unchanged through segments of `length` frames: (its frames, the output's)."""
    film = probe(source)
    encoding = resolve_encoding(film, target, VideoOptions(codec=codec))
    frames = list(FrameReader(film, start, end).frames())
    segments = []
    for first in range(0, len(frames), length):
        segments.append(tmp_path / f"segment {first:04d}.nut")
        with SegmentWriter(segments[-1], film, encoding) as writer:
            for frame in frames[first : first + length]:
                writer.write(frame)
    more = {} if progress is None else {"progress": progress}
    concatenate(segments, FrameReader(film, start, end), target, encoding, **more)
    return frames, list(FrameReader(probe(target)).frames())


@pytest.mark.parametrize("suffix", [".ts", ".m2ts"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_transport_stream_of_a_few_small_frames_can_be_opened(tmp_path, suffix, count):
    """FFmpeg takes one of fewer than 11 packets for a program stream, as soon as two frames are in it."""
    source = video_files.write_video(tmp_path / "a.mkv", count, (32, 32))
    before, after = through(tmp_path, source, tmp_path / f"out{suffix}")
    assert len(before) == len(after) == count
    data, length = (tmp_path / f"out{suffix}").read_bytes(), 188 if suffix == ".ts" else 192
    assert len(data) % length == 0 and set(data[length - 188 :: length]) == {0x47}  # Blu-ray's packets have a time in front


def test_an_output_that_cannot_be_opened_is_an_error_and_no_file(tmp_path, monkeypatch):
    def open_input(path):
        if "out.ts" in path.name:  # the result under its temporary name
            raise InputError("unknown format")
        return containers.open_input(path)

    monkeypatch.setattr("gpen_core.video.mux.open_input", open_input)
    source = video_files.write_video(tmp_path / "a.mkv", 3, (32, 32))
    with pytest.raises(OutputError, match=r"out\.ts was not written, because the result cannot be opened\."):
        through(tmp_path, source, tmp_path / "out.ts")
    assert not (tmp_path / "out.ts").exists()


def video_times(path):
    """(pts, dts) in seconds of the first video stream's packets."""
    with av.open(str(path)) as container:
        some = [packet for packet in container.demux(video=0) if packet.size]
        return [(packet.pts * packet.time_base, packet.dts * packet.time_base) for packet in some if packet.dts is not None]


CARRIED = {
    ".mp4": {"sound": "aac"},
    ".mov": {"sound": "pcm_s16le"},
    ".mkv": {"sound": "libopus", "subtitle": True},
}


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [(suffix, codec) for suffix in (".mp4", ".mkv") for codec in ("h264", "hevc", "av1")]
    + [(".mov", "h264"), (".mov", "prores"), (".mkv", "ffv1")],
)
def test_all_packets_of_other_streams_are_the_same(tmp_path, suffix, codec):
    source = video_files.write_video(tmp_path / f"a{suffix}", 60, **CARRIED[suffix])
    target = tmp_path / f"out{suffix}"
    before, after = through(tmp_path, source, target, codec)
    assert video_files.packets(source) == video_files.packets(target)
    assert [frame.seconds for frame in before] == [frame.seconds for frame in after]
    film = probe(target)
    assert [(one.kind, one.language) for one in film.streams] == [(one.kind, one.language) for one in probe(source).streams]
    times = video_times(target)
    assert all(dts <= pts for pts, dts in times) and all(a[1] < b[1] for a, b in itertools.pairwise(times))


def test_two_sounds_and_subtitles_with_their_dispositions(tmp_path):
    source = tmp_path / "a.mkv"
    video_files.write_video(source, 50, sound="aac", subtitle=True, metadata={"title": "Ein Video", "artist": "they"})
    through(tmp_path, source, tmp_path / "o.mkv")
    with av.open(str(source)) as one, av.open(str(tmp_path / "o.mkv")) as other:
        assert other.metadata["title"] == "Ein Video"
        for a, b in zip(one.streams, other.streams):
            assert (a.type, a.language, a.disposition) == (b.type, b.language, b.disposition)
    assert len(video_files.digests(tmp_path / "o.mkv")) == 2


def test_subtitles_that_are_shown_together_stay_together(tmp_path, monkeypatch):
    """Such as the layers of a sign."""
    lines = [f"{n}\n00:00:00,{n // 20 * 40:03} --> 00:00:00,{n // 20 * 40 + 40:03}\nline {n}\n" for n in range(60)]
    monkeypatch.setattr(video_files, "subtitles", lambda count: "\n".join(lines).encode())
    source = video_files.write_video(tmp_path / "a.mkv", 10, subtitle=True)
    through(tmp_path, source, tmp_path / "o.mkv")
    assert video_files.packets(source) == video_files.packets(tmp_path / "o.mkv")
    assert len(video_files.packets(source)[1]) == 60


@needs_attachments
def test_attachments_are_kept(tmp_path):
    source = video_files.write_video(tmp_path / "a.mkv", 20, font=b"glyphs" * 100, sound="aac")
    through(tmp_path, source, tmp_path / "o.mkv")
    assert video_files.digests(source) == video_files.digests(tmp_path / "o.mkv")
    with av.open(str(tmp_path / "o.mkv")) as out:
        (font,) = [stream for stream in out.streams if stream.type == "attachment"]
        assert (font.name, font.data) == ("a font.ttf", b"glyphs" * 100)


@needs_chapters
@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_chapters_are_kept_and_cut(tmp_path, suffix):
    source = video_files.write_video(tmp_path / f"a{suffix}", 100, chapters=[(0, 1000), (1000, 2500), (2500, 4000)])

    def chapters(path):
        with av.open(str(path)) as container:
            some = container.chapters()
            return [
                (float(c["start"] * c["time_base"]), float(c["end"] * c["time_base"]), c["metadata"]["title"]) for c in some
            ]

    through(tmp_path, source, tmp_path / f"o{suffix}")
    assert chapters(tmp_path / f"o{suffix}") == chapters(source)
    through(tmp_path, source, tmp_path / f"p{suffix}", start=2.0, end=3.0)
    assert chapters(tmp_path / f"p{suffix}") == [(0, 0.5, "part 1"), (0.5, 1.0, "part 2")]


def test_times_of_a_variable_rate_are_exact(tmp_path):
    times = np.cumsum(np.random.default_rng(3).integers(300, 9000, 60)).tolist()
    source = video_files.write_video(tmp_path / "a.mp4", 60, times=times, base=Fraction(1, 90000))
    for codec in ("h264", "hevc", "av1"):
        before, after = through(tmp_path, source, tmp_path / "o.mp4", codec)
        assert [frame.seconds for frame in after] == [frame.seconds for frame in before]
        assert max(abs(a.seconds - (t - times[0]) / 90000) for a, t in zip(after, times)) < 1e-9
    _, after = through(tmp_path, source, tmp_path / "o.mkv")
    assert max(abs(a.seconds - b.seconds) for a, b in zip(before, after)) <= 0.001


def test_the_last_frame_is_shown_as_long_as_the_others(tmp_path):
    source = video_files.write_video(tmp_path / "a.mp4", 30)
    through(tmp_path, source, tmp_path / "o.mp4")
    assert probe(tmp_path / "o.mp4").duration == pytest.approx(1.2) and probe(tmp_path / "o.mp4").frame_rate == 25


def test_colors_aspect_and_depth_are_kept(tmp_path):
    for name, value in (("o.mkv", 9), ("o.mp4", 9)):
        tags = {"color_range": 1, "colorspace": value, "color_primaries": 9, "color_trc": 18}
        tags["sample_aspect_ratio"] = Fraction(4, 3)
        source = video_files.write_video(tmp_path / "a.mp4", 6, pixels="yuv420p10le", context=tags)
        for codec in ("auto", "av1", *(("ffv1", *TAGGED_BY_FRAMES) if name == "o.mkv" else ())):
            through(tmp_path, source, tmp_path / name, codec)
            one, other = probe(source), probe(tmp_path / name)
            assert (other.colors, other.bits) == (one.colors, 10), (name, codec)
            assert other.sample_aspect_ratio == Fraction(4, 3), (name, codec)


def test_what_an_hdr_video_says_of_its_display_is_kept(tmp_path):
    display = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
    params = f"log-level=error:master-display={display}:max-cll=1000,400"
    tags = {"color_range": 1, "colorspace": 9, "color_primaries": 9, "color_trc": 16}
    options = {"x265-params": params}
    source = video_files.write_video(
        tmp_path / "a.mp4", 4, codec="libx265", pixels="yuv420p10le", options=options, context=tags
    )
    before = probe(source).mastering
    assert before.encoder_options("libx265") == {"x265-params": f"master-display={display}:max-cll=1000,400"}
    through(tmp_path, source, tmp_path / "o.mp4")
    copy = probe(tmp_path / "o.mp4")
    assert copy.mastering == before and copy.colors.transfer == 16
    through(tmp_path, source, tmp_path / "o.mkv", "av1")
    after = probe(tmp_path / "o.mkv").mastering
    assert after.light == (1000, 400) and abs(after.display[0][0] - before.display[0][0]) < 1e-3
    through(tmp_path, source, tmp_path / "p.mp4", "h264")
    assert probe(tmp_path / "p.mp4").mastering == before
    for codec, lost in (("hevc", False), ("h264", False), ("av1", False), ("ffv1", True), ("prores", True)):
        notes = resolve_encoding(probe(source), tmp_path / "o.mkv", VideoOptions(codec=codec)).notes
        assert any("does not keep the mastering display" in note for note in notes) == lost, codec


def test_full_range_is_kept(tmp_path):
    source = video_files.write_video(tmp_path / "a.mp4", 3, pixels="yuvj420p", context={"color_range": 2})
    assert probe(source).colors.range == 2
    before, after = through(tmp_path, source, tmp_path / "o.mp4")
    assert probe(tmp_path / "o.mp4").colors.range == 2
    assert video_files.psnr(before[1].image.pixels, after[1].image.pixels) > 38


@pytest.mark.parametrize(("codec", "suffix"), [("prores", ".mov"), ("mpeg2video", ".mkv"), ("mpeg4", ".mp4")])
def test_full_range_becomes_limited_for_a_codec_that_has_no_other(tmp_path, codec, suffix):
    source = video_files.write_video(tmp_path / "a.mp4", 3, pixels="yuvj420p", context={"color_range": 2})
    before, after = through(tmp_path, source, tmp_path / f"o{suffix}", codec)
    assert probe(tmp_path / f"o{suffix}").colors.range != 2
    difference = after[1].image.crop_rgb(after[1].image.full_region) - before[1].image.crop_rgb(before[1].image.full_region)
    assert np.abs(difference.mean((0, 1))).max() < 1 / 255  # it would be 4 and more


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_gray_is_as_bright_as_before(tmp_path, codec):
    source = video_files.write_video(tmp_path / "a.mkv", 3, codec="ffv1", pixels="gray")
    before, after = through(tmp_path, source, tmp_path / "o.mp4", codec)
    assert probe(tmp_path / "o.mp4").colors.range == 2
    assert video_files.psnr(before[1].image.pixels, after[1].image.pixels) > 38


@video_files.needs_rotation
def test_a_turned_video_is_shown_as_before(tmp_path):
    source = video_files.write_video(tmp_path / "a.mp4", 6, rotation=(90,), sound="aac")
    before, after = through(tmp_path, source, tmp_path / "o.mp4")
    assert probe(tmp_path / "o.mp4").size == probe(source).size == (64, 96)
    assert video_files.psnr(before[2].native.arrays[0], after[2].native.arrays[0]) > 42
    with av.open(str(tmp_path / "o.mp4")) as out:
        assert "rotate" not in out.streams.video[0].metadata


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_part_of_a_video_begins_at_zero_with_its_sound_in_time(tmp_path, suffix):
    sound, subtitle = ("aac", False) if suffix == ".mp4" else ("libopus", True)
    source = video_files.write_video(tmp_path / f"a{suffix}", 100, sound=sound, subtitle=subtitle)
    target = tmp_path / f"o{suffix}"
    _, after = through(tmp_path, source, target, start=1.2, end=2.8)
    assert len(after) == 40 and after[0].pts == 0
    whole, part = video_files.packets(source), video_files.packets(target)
    for index, some in part.items():
        times = dict(whole[index])
        shifts = [times[digest] - seconds for digest, seconds in some if digest in times]
        if index == 1:
            assert len(shifts) == len(some) and max(abs(shift - 1.2) for shift in shifts) < 0.002
            assert all(-0.002 <= seconds < 1.6 for _, seconds in some) and len(some) in (74, 75, 76, 80, 81)
        else:  # the one that was shown already at the start is shown from it on
            assert [round(seconds, 3) for _, seconds in some] == [0.0, 0.4, 0.9, 1.4]


def test_a_video_whose_clock_does_not_begin_at_zero(tmp_path):
    source = video_files.write_video(tmp_path / "a.ts", 50, times=range(250, 300), base=Fraction(1, 25))
    for name in ("o.ts", "o.mkv"):
        before, after = through(tmp_path, source, tmp_path / name)
        assert len(after) == 50
        assert max(abs(a.seconds - b.seconds) for a, b in zip(before, after)) < 0.0011


@pytest.mark.parametrize("start", [None, 0.4])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_a_cover_image_is_kept_or_its_loss_is_told(tmp_path, suffix, start):
    cover = jpeg()
    source = video_files.write_video(tmp_path / "a.mp4", 20, sound="aac", cover=cover)
    assert [one.is_cover for one in probe(source).streams] == [False, False, True]
    encoding = resolve_encoding(probe(source), tmp_path / f"o{suffix}", VideoOptions())
    through(tmp_path, source, tmp_path / f"o{suffix}", start=start)
    with av.open(str(tmp_path / f"o{suffix}")) as out:
        covers = [stream for stream in out.streams.video if stream.disposition & av.stream.Disposition.attached_pic]
        kept = [bytes(packet) for stream in covers for packet in out.demux(stream) if packet.size]
        assert len(out.streams.video) == 1 + len(covers)
    can_keep = suffix == ".mp4" or (suffix == ".mkv" and hasattr(av.container.OutputContainer, "add_attachment"))
    assert kept == ([cover] if can_keep else [])
    assert any("is a cover image and was dropped" in note for note in encoding.notes) != can_keep


def jpeg():
    file = io.BytesIO()
    Image.new("RGB", (16, 16), (200, 30, 60)).save(file, "JPEG")
    return file.getvalue()


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_clock_that_starts_at_ten_hours_starts_at_zero(tmp_path, suffix):
    """As in a recording of television. Sound and video keep their distance."""
    times, starts = range(36_000 * 25 + 3, 36_000 * 25 + 33), {}
    source = tmp_path / "a.ts"
    video_files.write_video(source, 30, times=times, base=Fraction(1, 25), sound="aac", sound_start=36_000)
    through(tmp_path, source, tmp_path / f"o{suffix}")
    for path in (source, tmp_path / f"o{suffix}"):
        with av.open(str(path)) as container:
            starts[path] = [float(stream.start_time * stream.time_base) for stream in container.streams]
    (video_before, sound_before), (video_after, sound_after) = starts.values()
    assert video_before > 36_000 and sound_after < 0.05
    assert video_after - sound_after == pytest.approx(video_before - sound_before, abs=0.0011)


@pytest.mark.parametrize(("suffix", "start"), [(".mkv", None), (".ts", None), (".mp4", 1.0)])
def test_the_sound_of_joined_recordings_keeps_step_with_their_frames(tmp_path, suffix, start):
    """Sound of the second part is in the file before frames of the first, and the reverse, as in any recording."""
    names = [tmp_path / "1.ts", tmp_path / "2.ts"]
    for name, count in zip(names, (50, 40)):
        video_files.write_video(name, count, (64, 48), sound="aac")
    (tmp_path / "both.ts").write_bytes(names[0].read_bytes() + names[1].read_bytes())
    _, after = through(tmp_path, tmp_path / "both.ts", tmp_path / f"o{suffix}", start=start)
    cut = start or 0.0
    assert [frame.seconds for frame in after] == pytest.approx([n / 25 for n in range(90 - round(cut * 25))], abs=0.0011)
    parts = [video_files.packets(name)[1] for name in names]
    picture = [info.start_pts * info.time_base for info in map(probe, (*names, tmp_path / f"o{suffix}"))]
    expected = [time - picture[0] - cut for _, time in parts[0]] + [time - picture[1] - cut + 2 for _, time in parts[1]]
    sound = [time - float(picture[2]) for _, time in video_files.packets(tmp_path / f"o{suffix}")[1]]
    expected = [time for time in expected if time >= -0.1 or not cut][-len(sound) :]
    overlap = 1024 / 48000  # the packet in which the first recording ends
    assert len(sound) > 80 and sound == pytest.approx(expected, abs=overlap)
    assert sound[-60:] == pytest.approx(expected[-60:], abs=0.0011)


@pytest.mark.parametrize(("pixels", "tag"), [("yuv422p10le", "apch"), ("yuv444p10le", "ap4h"), ("yuva444p10le", "ap4h")])
def test_editors_are_told_which_prores_it_is(tmp_path, pixels, tag):
    source = video_files.write_video(tmp_path / "a.mov", 3, codec="prores_ks", pixels=pixels)
    through(tmp_path, source, tmp_path / "o.mov", "prores")
    with av.open(str(tmp_path / "o.mov")) as out:
        assert out.streams.video[0].codec_context.codec_tag == tag


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_players_of_apple_show_hevc_and_begin_before_all_is_loaded(tmp_path, suffix):
    source = video_files.write_video(tmp_path / "a.mkv", 5, codec="libx265", pixels="yuv420p10le")
    through(tmp_path, source, tmp_path / f"o{suffix}")
    with av.open(str(tmp_path / f"o{suffix}")) as out:
        assert out.streams.video[0].codec_context.codec_tag == "hvc1"
    data = (tmp_path / f"o{suffix}").read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize("codec", ["h264", "mpeg4"])
def test_frames_in_avi_are_shown_when_they_are_decoded(tmp_path, codec):
    """AVI has no timestamps: with B-frames the video would be two frames late."""
    source = video_files.write_video(tmp_path / "a.mkv", 30, sound="libmp3lame")
    through(tmp_path, source, tmp_path / "o.avi", codec)
    with av.open(str(tmp_path / "o.avi")) as out:
        assert not out.streams.video[0].codec_context.has_b_frames
        times = [p.dts * p.time_base for p in out.demux(video=0) if p.size]
    assert times[0] == 0 and len(times) == 30 and times[-1] == pytest.approx(29 / 25, abs=0.001)


def test_a_container_that_cannot_hold_a_stream_is_refused(tmp_path):
    source = video_files.write_video(tmp_path / "a.mkv", 10, sound="aac", subtitle=True)
    film = probe(source)
    with pytest.raises(InputError, match=r"A \.mp4 file cannot hold stream 2 \(subtitle, subrip\).*Write a \.mkv file"):
        resolve_encoding(film, tmp_path / "o.mp4", VideoOptions())
    with pytest.raises(InputError, match=r"stream 1 \(audio, aac\); stream 2 .*\.mkv"):
        resolve_encoding(film, tmp_path / "o.webm", VideoOptions())
    assert resolve_encoding(film, tmp_path / "o.mkv", VideoOptions()).copied_streams == (1, 2)


@pytest.mark.parametrize("sound", ["libmp3lame", "mp2", "ac3"])
def test_the_sound_of_a_transport_stream_goes_into_another(tmp_path, sound):
    """Whatever the name of its decoder, such as mp3float."""
    source = video_files.write_video(tmp_path / "a.ts", 20, sound=sound)
    through(tmp_path, source, tmp_path / "o.ts")
    assert video_files.digests(source) == video_files.digests(tmp_path / "o.ts") != {}
    assert probe(tmp_path / "o.ts").other_streams == probe(source).other_streams


@pytest.mark.parametrize("suffix", [".mkv", ".avi"])
def test_pcm_without_an_order_of_channels_goes_into_mp4(tmp_path, suffix):
    source = video_files.write_video(tmp_path / f"a{suffix}", 20, sound="pcm_s16le", layout="stereo")
    through(tmp_path, source, tmp_path / "o.mp4")
    assert video_files.digests(source) == video_files.digests(tmp_path / "o.mp4") != {}
    with av.open(str(tmp_path / "o.mp4")) as out:
        assert out.streams.audio[0].layout.name == "stereo"


@pytest.mark.parametrize(
    ("suffix", "sound"),
    [*itertools.product([".avi", ".mkv"], ["ac3", "libmp3lame", "mp2", "aac"]), (".mkv", "eac3")],
)
def test_the_sound_of_an_avi_file_keeps_its_time(tmp_path, suffix, sound):
    """AVI computes it from the bytes if its header says that all packets have one size."""
    source = video_files.write_video(tmp_path / f"a{suffix}", 50, sound=sound)
    through(tmp_path, source, tmp_path / "o.avi")
    (before,), (after,) = (video_files.packets(path).values() for path in (source, tmp_path / "o.avi"))
    assert [digest for digest, _ in before] == [digest for digest, _ in after]
    assert [time - before[0][1] for _, time in before] == pytest.approx([time for _, time in after], abs=0.0011)
    header = (tmp_path / "o.avi").read_bytes()
    sound_header = header.index(b"strf", header.index(b"auds")) + 8
    assert int.from_bytes(header[sound_header + 8 : sound_header + 12], "little") > 0 or sound == "aac"  # bytes per second


@pytest.mark.parametrize("suffix", [".mkv", ".nut"])
def test_sound_of_several_packets_per_millisecond_keeps_its_time(tmp_path, suffix):
    """As TrueHD has them. A millisecond between two packets of 0.83 ms would stretch the sound by a fifth."""
    source, target = tmp_path / "source.mkv", tmp_path / f"out{suffix}"
    with av.open(str(source), "w") as out:
        video, sound = out.add_stream("libx264", rate=25), out.add_stream("pcm_s16le", rate=48000)
        video.width, video.height, video.pix_fmt, sound.layout = 64, 64, "yuv420p", "mono"
        for picture in video_files.moving_noise(25, (64, 64)):
            out.mux(video.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        out.mux(video.encode())
        for number in range(1200):
            wave = av.AudioFrame.from_ndarray(np.full((1, 40), number, np.int16), "s16", "mono")
            wave.sample_rate, wave.pts, wave.time_base = 48000, number * 40, Fraction(1, 48000)
            out.mux(sound.encode(wave))
    through(tmp_path, source, target)
    before, after = (video_files.packets(path)[1] for path in (source, target))
    assert len(before) == 1200 and [digest for digest, _ in before] == [digest for digest, _ in after]
    assert [at - after[0][1] for _, at in after] == pytest.approx([at for _, at in before], abs=0.0011)


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_sound_without_durations_keeps_its_last_packet(tmp_path, suffix):
    """Matroska has none for ALAC. MP4's edit list then ended before that packet."""
    source = video_files.write_video(tmp_path / "a.mkv", 20, (64, 48), sound="alac")
    through(tmp_path, source, tmp_path / f"o{suffix}")
    assert video_files.digests(source) == video_files.digests(tmp_path / f"o{suffix}") != {}


TELETEXT = b"\x56\x05deu\x09\x00"  # ETSI EN 300 468, 6.2.43: its descriptor
BROADCAST = {"subtitle": (6, TELETEXT), "unknown": (11, b"")}


@pytest.mark.parametrize("kind", BROADCAST)
@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".ts"])
def test_a_stream_without_a_name_does_not_stop_a_recording_of_television(tmp_path, suffix, kind):
    """Teletext, and a service beside the program. Sound and video are copied, and a note tells the loss."""
    source = video_files.write_video(tmp_path / "a.ts", 20, sound="aac")
    with av.open(str(source)) as one, av.open(str(tmp_path / "b.ts"), "w") as out:
        added = [out.add_stream_from_template(stream, opaque=True) for stream in (*one.streams, one.streams.audio[0])]
        for packet in one.demux():
            if packet.size:
                packet.stream = added[packet.stream_index]
                out.mux(packet)
    rewrite_program(tmp_path / "b.ts", 0x102, *BROADCAST[kind])
    film = probe(tmp_path / "b.ts")
    assert [one.kind for one in film.streams] == ["video", "audio", kind]
    encoding = resolve_encoding(film, tmp_path / f"o{suffix}", VideoOptions())
    assert any(f"stream 2 ({kind}, unknown) was dropped" in note for note in encoding.notes)
    through(tmp_path, tmp_path / "b.ts", tmp_path / f"o{suffix}")
    assert [one.kind for one in probe(tmp_path / f"o{suffix}").streams] == ["video", "audio"]


def rewrite_program(path, pid, stream_type, descriptors):
    """Give a stream of a transport stream by FFmpeg another type (ISO/IEC 13818-1, 2.4.4.9)."""
    data = bytearray(path.read_bytes())
    for start in range(0, len(data), 188):
        if data[start + 1 : start + 3] == b"\x50\x00":  # the beginning of the table in FFmpeg's PID 0x1000
            table = data[start + 5 : start + 188]
            old, place, new = table[: 3 + table[2] - 4], 12 + table[11], table[: 12 + table[11]]
            while place < len(old):
                end = place + 5 + old[place + 4]
                is_it = int.from_bytes(old[place + 1 : place + 3], "big") & 0x1FFF == pid
                changed = bytes([stream_type, *old[place + 1 : place + 3], 0xF0, len(descriptors)]) + descriptors
                new, place = new + (changed if is_it else old[place:end]), end
            new[2] = len(new) - 3 + 4
            new += crc32_mpeg(new).to_bytes(4, "big")
            data[start + 5 : start + 188] = new.ljust(183, b"\xff")
    path.write_bytes(data)


def crc32_mpeg(data):
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value >> 31 else 0)) & 0xFFFFFFFF
    return value


def test_timecode_of_quicktime_is_made_anew(tmp_path):
    source = tmp_path / "a.mov"
    video_files.write_video(source, 10, metadata={"timecode": "01:00:00:00"})
    film = probe(source)
    assert [one.kind for one in film.other_streams] == ["data"]
    encoding = resolve_encoding(film, tmp_path / "o.mkv", VideoOptions())
    assert encoding.copied_streams == ()
    through(tmp_path, source, tmp_path / "o.mov")
    if hasattr(av.VideoStream, "set_display_rotation"):  # older ones do not tell the muxer the frame rate, which it needs
        assert [one.kind for one in probe(tmp_path / "o.mov").streams] == ["video", "data"]


def test_decoding_times():
    """As encoders give them: rising, never later than shown, and the shortest delay that allows it."""
    shown = np.array([0, 40, 20, 10, 30, 80, 60])
    times = decoding_timestamps(shown, 10, 10)
    assert times.tolist() == [-20, -10, 0, 10, 20, 30, 40]
    assert (np.diff(times) > 0).all() and (times <= shown).all()
    assert decoding_timestamps(np.array([5, 6, 9]), 1, 1).tolist() == [5, 6, 9]


@pytest.mark.parametrize("size", [(40, 32), (96, 64)])  # the last frame is decoded before others, or last
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_the_last_frame_lasts_as_long_as_in_the_source(tmp_path, suffix, size):
    """Also when it is restored again, and no further than the end that was asked for."""
    images = [Image.fromarray(one) for one in video_files.moving_noise(6, size)]
    times = [100, 50, 100, 200, 100, 3000]  # ms
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:], duration=times, loop=0)
    source, again = tmp_path / f"b{suffix}", tmp_path / f"c{suffix}"
    for path, output, end, seconds in (
        ("a.gif", source, None, 3.55),
        (source, again, None, 3.55),
        (source, again, 1.2, 1.2),
    ):
        through(tmp_path, tmp_path / path, output, end=end)
        reader = FrameReader(probe(output))
        assert [frame.seconds for frame in reader.frames()] == pytest.approx([0, 0.1, 0.15, 0.25, 0.45, 0.55], abs=1e-3)
        assert reader.info.duration == pytest.approx(seconds, abs=1e-3) and not reader.notes


def test_the_last_frame_of_a_video_that_was_cut_off_lasts_no_longer_than_others(tmp_path):
    times = [0, 2, 4, 7, 9, 12, 14, *range(16, 100, 2)]
    path = video_files.write_video(tmp_path / "a.mp4", len(times), times=times, options={"bf": "2"})
    through(tmp_path, path, tmp_path / "whole.mp4")
    data = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) * 2 // 3])
    before, _ = through(tmp_path, tmp_path / "cut.mp4", tmp_path / "out.mp4")
    assert 5 < len(before) < len(times) - 5
    assert probe(tmp_path / "out.mp4").duration == pytest.approx(before[-1].seconds + 0.1, abs=0.1)


@pytest.mark.skipif(av.library_versions["libavformat"] < (62,), reason="this FFmpeg does not read titles of tracks in MP4")
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_titles_of_tracks_stay(tmp_path, suffix):
    """Of the video and of a copied stream, from one MP4 file to another container: sound, and subtitles that become SRT."""
    source = DATA / "mov_text.mp4" if suffix == ".mkv" else video_files.write_video(tmp_path / "a.mp4", 25, sound="aac")
    with av.open(str(source)) as read, av.open(str(tmp_path / "b.mp4"), "w") as out:
        copies = {one.index: out.add_stream_from_template(one, opaque=True) for one in read.streams}
        for copy in copies.values():
            copy.metadata["title"] = f"Title {copy.index}"
        for packet in read.demux():
            if packet.size:
                packet.stream = copies[packet.stream_index]
                out.mux(packet)
    through(tmp_path, tmp_path / "b.mp4", tmp_path / f"c{suffix}")
    with av.open(str(tmp_path / f"c{suffix}")) as container:
        found = [one.metadata.get("title") or one.metadata.get("name") for one in container.streams]
    assert found == [f"Title {index}" for index in copies] and len(found) >= 2


@pytest.mark.parametrize(("suffix", "language"), [(".mov", "ger"), (".mp4", "deu"), (".mkv", "deu")])
def test_the_language_of_sound_is_kept(tmp_path, suffix, language):
    """QuickTime's list of languages has the other of the two codes of German."""
    through(tmp_path, video_files.write_video(tmp_path / "a.mkv", 5, sound="aac"), tmp_path / f"o{suffix}")
    assert [one.language for one in probe(tmp_path / f"o{suffix}").other_streams] == [language]


PHONE = {
    "com.apple.quicktime.location.ISO6709": "+48.1374+011.5755+519.000/",
    "com.apple.quicktime.make": "Apple",
    "com.apple.quicktime.creationdate": "2024-05-01T12:00:00+0200",
    "creation_time": "2024-05-01T10:00:00.000000Z",
}


@pytest.mark.parametrize("suffix", [".mov", ".mp4", ".mkv"])
def test_place_and_camera_of_a_phone_are_kept(tmp_path, suffix):
    with av.open(str(tmp_path / "a.mov"), "w", container_options={"movflags": "use_metadata_tags"}) as out:
        out.metadata.update(PHONE)
        video = out.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        for picture in video_files.moving_noise(3, (64, 64)):
            out.mux(video.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        out.mux(video.encode())
    through(tmp_path, tmp_path / "a.mov", tmp_path / f"o{suffix}")
    with av.open(str(tmp_path / f"o{suffix}")) as written:
        found = {key.lower(): value for key, value in written.metadata.items()}
    # FFmpeg reads a date that is in two places as one text.
    assert {key: set(found[key.lower()].split(";")) for key in PHONE} == {key: {value} for key, value in PHONE.items()}
    assert suffix != ".mkv" or "major_brand" not in found


def test_segments_out_of_order_are_refused(tmp_path):
    film = probe(video_files.write_video(tmp_path / "a.mp4", 20))
    encoding = resolve_encoding(film, tmp_path / "o.mp4", VideoOptions())
    frames = list(FrameReader(film).frames())
    paths = [tmp_path / "1.nut", tmp_path / "2.nut"]
    for path, part in zip(paths, (frames[:10], frames[10:])):
        with SegmentWriter(path, film, encoding) as writer:
            for frame in part:
                writer.write(frame)
    with pytest.raises(InputError, match="does not follow"):
        concatenate(paths[::-1], FrameReader(film), tmp_path / "o.mp4", encoding)
    with pytest.raises(InputError, match="no segment"):
        concatenate([], FrameReader(film), tmp_path / "o.mp4", encoding)
    paths[1].write_bytes(b"broken")
    with pytest.raises(InputError, match=r"2\.nut cannot be read"):
        concatenate(paths, FrameReader(film), tmp_path / "o.mp4", encoding)
    assert not (tmp_path / "o.mp4").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="file sizes cannot be limited there")
def test_a_disk_that_fills_leaves_the_output_as_it_was(tmp_path):
    import resource

    source = video_files.write_video(tmp_path / "a.mkv", 30, (160, 120), codec="ffv1", sound="aac")
    film = probe(source)
    target = tmp_path / "out" / "o.mkv"
    target.parent.mkdir()
    target.write_bytes(b"before")
    encoding = resolve_encoding(film, target, VideoOptions(codec="ffv1"))
    with SegmentWriter(tmp_path / "s.nut", film, encoding) as writer:
        for frame in FrameReader(film).frames():
            writer.write(frame)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        with pytest.raises(OutputError, match=r"o\.mkv cannot be written: File too large"):
            concatenate([tmp_path / "s.nut"], FrameReader(film), target, encoding)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert target.read_bytes() == b"before" and [path.name for path in target.parent.iterdir()] == ["o.mkv"]
    concatenate([tmp_path / "s.nut"], FrameReader(film), target, encoding)
    assert probe(target).frame_count == 30


def test_progress_can_stop_it(tmp_path):
    source = video_files.write_video(tmp_path / "a.mp4", 30)
    seen = []

    def stop(event):
        seen.append(event)
        if event.done >= 10:
            raise Interrupted

    with pytest.raises(Interrupted):
        through(tmp_path, source, tmp_path / "o.mp4", progress=stop)
    assert seen[-1] == ProgressEvent("join", 16, 30, "frame", "Joining the segments")
    assert not (tmp_path / "o.mp4").exists()


def test_a_video_cut_off_is_joined_as_far_as_it_goes(tmp_path):
    whole = video_files.write_video(tmp_path / "a.mkv", 100, sound="aac").read_bytes()
    path = tmp_path / "cut.mkv"
    path.write_bytes(whole[: len(whole) // 2])
    before, after = through(tmp_path, path, tmp_path / "o.mkv")
    assert len(before) == len(after)
    one, other = video_files.digests(path)[1], video_files.digests(tmp_path / "o.mkv")[1]
    assert one == other


def test_frames_go_to_a_folder(tmp_path):
    source = tmp_path / "frames"
    source.mkdir()
    for number, picture in enumerate(video_files.moving_noise(5, (24, 16))):
        Image.fromarray(picture).save(source / f"{number}.png")
    film, target = probe(source), tmp_path / "out"
    encoding = resolve_encoding(film, target, VideoOptions())
    segments = []
    for part in (slice(0, 3), slice(3, 5)):
        segments.append(tmp_path / f"segment {part.start}")
        with SegmentWriter(segments[-1], film, encoding) as writer:
            for frame in list(FrameReader(film).frames())[part]:
                writer.write(frame)
    concatenate(segments, FrameReader(film), target, encoding)
    assert sorted(path.name for path in target.iterdir()) == [f"{n}.png" for n in range(5)]
    assert all((target / f"{n}.png").read_bytes() == (source / f"{n}.png").read_bytes() for n in range(5))


def test_mp4_subtitles_become_srt_in_matroska(tmp_path):
    """The file is FFmpeg's, of an SRT file with one subtitle in italics: PyAV encodes no subtitles."""
    source = DATA / "mov_text.mp4"
    encoding = resolve_encoding(probe(source), tmp_path / "o.mkv", VideoOptions())
    assert any(note.endswith("(subtitle, mov_text) was converted to SRT.") for note in encoding.notes)
    through(tmp_path, source, tmp_path / "o.mkv")
    with av.open(str(tmp_path / "o.mkv")) as out:
        (stream,) = out.streams.subtitles
        assert (stream.codec_context.name.replace("srt", "subrip"), stream.language) == ("subrip", "deu")
        found = [(bytes(p), round(float(p.pts * p.time_base), 2), p.duration) for p in out.demux(stream) if p.size]
    assert found == [(b"<i>one</i>", 0.1, 300), ("zwölf".encode(), 0.9, 500)]
