"""Encoders as data: presets, bit rates, pixel formats, a user's own entry; and whether FFmpeg knows every option."""

import json

import av
import pytest
import video_files

from gpen_core.errors import OptionsError
from gpen_core.options import VideoOptions
from gpen_core.video.encoder_settings import EncoderSettings, known_encoders
from gpen_core.video.encoding import resolve_encoding
from gpen_core.video.probe import probe
from gpen_core.video.reader import FrameReader
from gpen_core.video.writer import SegmentWriter

HARDWARE = [f"{codec}_{kind}" for kind in ("nvenc", "amf", "qsv") for codec in ("h264", "hevc", "av1")]
HARDWARE += ["h264_videotoolbox", "hevc_videotoolbox"]


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return probe(video_files.write_video(tmp_path_factory.mktemp("video") / "a.mp4", 30, (192, 128)))


def size_of(film, path, encoding):
    resolved = resolve_encoding(film, path.with_suffix(".mkv"), encoding)
    with SegmentWriter(path, film, resolved) as writer:
        for frame in FrameReader(film).frames():
            writer.write(frame)
    return path.stat().st_size


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libsvtav1", "libvpx-vp9"])
def test_a_bit_rate_sets_the_size(tmp_path, film, codec):
    sizes = [
        size_of(film, tmp_path / f"{rate}.part", VideoOptions(codec=codec, bitrate=rate)) for rate in (60_000, 1_000_000)
    ]
    assert sizes[1] > 2 * sizes[0]


def test_a_preset_reaches_the_encoder(tmp_path, film):
    fast, slow = (size_of(film, tmp_path / f"{p}.part", VideoOptions(codec="h264", preset=p)) for p in ("ultrafast", "slow"))
    assert fast > 1.2 * slow
    assert resolve_encoding(film, tmp_path / "o.mkv", VideoOptions(codec="av1", preset="9")).encoder_options["preset"] == "9"
    assert (
        resolve_encoding(film, tmp_path / "o.mkv", VideoOptions(codec="vp9", preset="5")).encoder_options["cpu-used"] == "5"
    )


def test_a_pixel_format_is_taken(tmp_path, film):
    encoding = resolve_encoding(film, tmp_path / "o.mp4", VideoOptions(codec="hevc", pix_fmt="yuv422p10le"))
    assert encoding.format == "yuv422p10le"
    with SegmentWriter(tmp_path / "s.part", film, encoding) as writer:
        for frame in FrameReader(film).frames():
            writer.write(frame)
    assert probe(tmp_path / "s.part").format == "yuv422p10le"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (VideoOptions(codec="h264", preset="gradual"), "libx264 cannot encode"),
        (VideoOptions(codec="ffv1", preset="slow"), "ffv1 has no presets"),
        (VideoOptions(codec="ffv1", bitrate=1_000_000), "ffv1 has no bit rate"),
        (VideoOptions(codec="prores", bitrate=1_000_000), "prores_ks has no bit rate"),
        (
            VideoOptions(codec="h264", pix_fmt="yuv999p"),
            r"does not support the pixel format 'yuv999p'\. Available: .*yuv420p",
        ),
        (VideoOptions(codec="mpeg4", crf=0), r"from 1 to 31 for mpeg4, got 0\. A lower number is better"),
    ],
)
def test_what_an_encoder_does_not_have_is_refused(tmp_path, film, asked, message):
    with pytest.raises(OptionsError, match=message):
        resolve_encoding(film, tmp_path / "o.mkv", asked)


def test_a_file_describes_an_encoder(tmp_path, film):
    path = tmp_path / "mine.json"
    entry = {"encoder": "libx264", "quality": {"option": "qp", "default": 30, "worst": 69}, "options": {"tune": "film"}}
    path.write_text(json.dumps(entry))
    encoding = resolve_encoding(film, tmp_path / "o.mkv", VideoOptions(codec=str(path)))
    assert encoding.encoder == "libx264" and encoding.encoder_options == {"tune": "film", "qp": "30"}
    path.write_text(json.dumps({**entry, "options": {"tone": "film"}}))
    with pytest.raises(OptionsError, match="it has no option tone"):
        resolve_encoding(film, tmp_path / "o.mkv", VideoOptions(codec=str(path)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "has no valid encoder settings"),
        ("[]", "has no valid encoder settings"),
        ('{"encoder": "libx264", "qualty": 3}', "unknown key 'qualty'"),
    ],
)
def test_a_file_that_describes_no_encoder(tmp_path, film, content, message):
    (tmp_path / "mine.json").write_text(content)
    with pytest.raises(OptionsError, match=message):
        resolve_encoding(film, tmp_path / "o.mkv", VideoOptions(codec=str(tmp_path / "mine.json")))
    with pytest.raises(OptionsError, match=r"none\.json cannot be read: No such file"):
        resolve_encoding(film, tmp_path / "o.mkv", VideoOptions(codec=str(tmp_path / "none.json")))


@pytest.mark.parametrize("name", sorted(known_encoders()))
def test_ffmpeg_knows_every_option_of_the_table(name):
    """Against the encoder's own list: no device is needed for it."""
    settings = known_encoders()[name]
    try:
        context = av.CodecContext.create(name, "w")
    except (av.error.FFmpegError, ValueError):
        pytest.skip(f"no {name} in this PyAV")
    if not hasattr(context, "supported_options"):
        pytest.skip("this PyAV lists no options")
    listed = context.supported_options
    known = {one.name: one for one in (*listed.generic, *listed.private)}
    bitrates = [] if settings.with_bitrate is None else [settings.encoder_options(bitrate=1_000_000)]
    presets = [settings.encoder_options(preset="0")] if settings.preset_option else []
    for options in (settings.encoder_options(), *bitrates, *presets):
        assert set(options) <= set(known)
    for option, value in settings.encoder_options().items():
        choices = {choice.name for choice in known[option].choices}
        assert not choices or value in choices or value.isdigit() or value.startswith("+")
    for option in settings.quality_options if settings.quality_options != ("qscale",) else ():
        assert known[option].min <= settings.best <= known[option].max
        assert known[option].min <= settings.worst <= known[option].max


def test_hardware_encoders_have_a_quality_and_say_that_nobody_tried_them():
    for name in HARDWARE:
        settings = known_encoders()[name]
        assert settings.quality_options and settings.with_bitrate is not None and not settings.is_verified, name
    apple = known_encoders()["hevc_videotoolbox"]
    assert (apple.best, apple.worst) == (100, 1)
    assert apple.encoder_options(60) == {"flags": "+qscale", "global_quality": str(60 * 118)}
    assert known_encoders()["h264_nvenc"].encoder_options(20, "p7")["preset"] == "p7"
    assert known_encoders()["h264_amf"].encoder_options(20) == {"preset": "quality", "rc": "cqp", "qp_i": "20", "qp_p": "20"}


def test_an_entry_keeps_its_defaults():
    assert EncoderSettings.from_mapping({"encoder": "x"}).encoder_options() == {}
