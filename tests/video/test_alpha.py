"""Alpha is kept where the output can hold it; elsewhere opaque frames pass and others are refused with their time."""

import av
import cv2
import numpy as np
import pytest
import video_files
from PIL import Image
from video_fakes import SIZE, frames, restorer

from gpen_core import InputError, VideoOptions, restore_video
from gpen_core.video.alpha import check_opaque, raise_if_alpha_is_lost
from gpen_core.video.encoding import resolve_encoding
from gpen_core.video.planes import PixelFormat, Planes
from gpen_core.video.probe import probe
from gpen_core.video.reader import FrameReader
from gpen_core.video.writer import SegmentWriter

ALPHA_FORMATS = [("ffv1", "yuva420p"), ("ffv1", "yuva444p10le"), ("ffv1", "bgra"), ("prores_ks", "yuva444p10le")]


def rgba(number, opaque=False):
    picture = next(video_files.moving_noise(1, (96, 64), number))
    alpha = np.full((64, 96, 1), 255, np.uint8)
    if not opaque:
        alpha[10:30, 5 + number : 40] = 70
    return np.concatenate((picture, alpha), 2)


def write(path, codec, pixels, opaque=(False, False, False)):
    with av.open(str(path), "w", format="nut" if codec == "ffv1" else "mov") as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, pixels
        for number, is_opaque in enumerate(opaque):
            frame = av.VideoFrame.from_ndarray(rgba(number, is_opaque), "rgba").reformat(format=pixels)
            frame.pts = number
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def write_webm(path, codec, alphas, rate=25):
    """Write frames of one color and these values of alpha, as web pages show them."""
    with av.open(str(path), "w", format="webm") as out:
        stream = out.add_stream(codec, rate=rate, options={"crf": "4", "b": "2M", "auto-alt-ref": "0"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuva420p"
        for number, alpha in enumerate(alphas):
            frame = av.VideoFrame.from_ndarray(np.full((64, 96, 4), (90, 120, 60, alpha), np.uint8), "rgba")
            frame = frame.reformat(format="yuva420p")
            frame.pts = number
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def alphas_of(path):
    return [int(np.median(frame.alpha)) for frame in FrameReader(probe(path)).frames()]


def through(tmp_path, source, target, encoding):
    info = probe(source)
    resolved = resolve_encoding(info, target, encoding)
    before = list(check_opaque(FrameReader(info).frames(), info, resolved))
    segment = tmp_path / "segment"
    with SegmentWriter(segment, info, resolved) as writer:
        for frame in before:
            writer.write(frame)
    return before, segment


@pytest.mark.parametrize(("codec", "pixels"), ALPHA_FORMATS)
def test_alpha_is_read(tmp_path, codec, pixels):
    info = probe(write(tmp_path / "a", codec, pixels))
    first = next(FrameReader(info).frames())
    assert PixelFormat.parse(info.format).has_alpha and info.is_transparent
    peak = first.image.max_value
    assert np.abs(first.alpha / peak - rgba(0)[..., 3] / 255).max() < 0.01
    assert first.image.alpha is None and first.image.pixels.shape == (64, 96, 3)


@pytest.mark.parametrize(("codec", "pixels"), ALPHA_FORMATS[:3])
def test_ffv1_keeps_all_planes_bit_for_bit(tmp_path, codec, pixels):
    source = write(tmp_path / "a", codec, pixels)
    before, segment = through(tmp_path, source, tmp_path / "o.mkv", VideoOptions(codec="ffv1"))
    after = list(FrameReader(probe(segment)).frames())
    for one, other in zip(before, after):
        assert all(map(np.array_equal, one.native.arrays, other.native.arrays))


@pytest.mark.parametrize(("suffix", "encoder"), [(".mov", "prores_ks"), (".mkv", "ffv1")])
def test_a_codec_with_alpha_is_chosen_by_itself(tmp_path, suffix, encoder):
    source = write(tmp_path / "a", "prores_ks", "yuva444p10le")
    assert resolve_encoding(probe(source), tmp_path / f"o{suffix}", VideoOptions()).encoder == encoder
    before, segment = through(tmp_path, source, tmp_path / f"o{suffix}", VideoOptions())
    after = list(FrameReader(probe(segment)).frames())
    assert all(np.abs(a.alpha.astype(int) - b.alpha).max() < 400 for a, b in zip(before, after))  # of 65,535
    opaque = write(tmp_path / "b", "prores_ks", "yuva444p10le", (True,))
    assert resolve_encoding(probe(opaque), tmp_path / f"o{suffix}", VideoOptions()).encoder == "libx265"


@pytest.mark.parametrize(("codec", "pixels"), ALPHA_FORMATS)
def test_opaque_frames_lose_nothing_but_the_channel(tmp_path, codec, pixels):
    source = write(tmp_path / "a", codec, pixels, (True, True))
    before, segment = through(tmp_path, source, tmp_path / "o.mp4", VideoOptions(codec="h264", crf=4))
    after = list(FrameReader(probe(segment)).frames())
    assert len(after) == 2 and after[0].alpha is None
    peaks = [one.image.max_value for one in (before[0], after[0])]
    luma = [one.image.pixels @ (0.2126, 0.7152, 0.0722) / peak * 255 for one, peak in zip((before[0], after[0]), peaks)]
    assert video_files.psnr(*luma) > 40


def test_a_gif_that_is_opaque_is_read(tmp_path):
    pictures = [Image.fromarray(one) for one in video_files.moving_noise(3, (96, 64))]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=40)
    info = probe(tmp_path / "a.gif")
    assert not info.is_transparent
    encoding = resolve_encoding(info, tmp_path / "o.mp4", VideoOptions())
    assert encoding.encoder == "libx264" and any("every frame must be opaque" in note for note in encoding.notes)
    assert len(list(check_opaque(FrameReader(info).frames(), info, encoding))) == 3


def test_the_first_frame_that_is_not_opaque_is_named(tmp_path):
    info = probe(write(tmp_path / "a", "ffv1", "yuva420p", (True, True, False)))
    encoding = resolve_encoding(info, tmp_path / "o.mp4", VideoOptions())
    raise_if_alpha_is_lost(info, encoding)
    with pytest.raises(InputError, match=r"frame at 0\.080 s is not opaque, but libx264 .* with ffv1"):
        list(check_opaque(FrameReader(info).frames(), info, encoding))


def test_a_folder_whose_first_image_has_no_alpha_needs_one_for_a_video(tmp_path):
    pictures = [Image.new("RGB", (64, 48)), Image.new("RGBA", (64, 48), (9, 9, 9, 128))]
    folder = tmp_path / "frames"
    folder.mkdir()
    for number, picture in enumerate(pictures):
        picture.save(folder / f"{number}.png")
    with pytest.raises(InputError, match=r"does not keep alpha.* first frame with an alpha channel"):
        restore_video(folder, tmp_path / "out.mkv", restorer()[0], None, VideoOptions(codec="ffv1"))
    pictures[0].convert("RGBA").save(folder / "0.png")
    restore_video(folder, tmp_path / "out.mkv", restorer()[0], None, VideoOptions(codec="ffv1"))
    alphas = [frame.alpha for frame in FrameReader(probe(tmp_path / "out.mkv")).frames()]
    assert [int(alpha.max()) for alpha in alphas] == [255, 128]


def test_transparent_video_for_mp4_is_refused_before_any_work(tmp_path):
    runner, network = restorer()
    source = write(tmp_path / "a", "ffv1", "bgra")
    with pytest.raises(InputError, match=r"frame at 0\.000 s is not opaque"):
        restore_video(source, tmp_path / "out.mp4", runner)
    assert network.faces == 0 and not (tmp_path / "out.mp4.unfinished").exists()


@pytest.mark.parametrize("target", ["frames", "out.mkv"])
def test_a_folder_with_alpha_keeps_it_where_a_face_is_restored(tmp_path, target):
    source = tmp_path / "in"
    source.mkdir()
    alpha = np.tile(np.linspace(0, 255, SIZE[0]).astype(np.uint8), (SIZE[1], 1))
    for number, picture in enumerate(frames(4)):
        Image.fromarray(np.dstack((picture, alpha))).save(source / f"{number:02d}.png")
    runner, network = restorer()
    restore_video(source, tmp_path / target, runner, None, VideoOptions(temporal_smoothing=0))
    assert network.faces == 4
    if target == "frames":
        after = [np.asarray(Image.open(path)) for path in sorted((tmp_path / target).iterdir())]
        assert all(np.array_equal(one[..., 3], alpha) for one in after)
    else:
        after = [frame.image.pixels for frame in FrameReader(probe(tmp_path / target)).frames()]
        assert all(np.array_equal(frame.alpha, alpha) for frame in FrameReader(probe(tmp_path / target)).frames())
    before = next(frames(4))
    assert cv2.absdiff(before, np.ascontiguousarray(after[0][..., :3])).max() > 50


def test_planes_with_alpha_are_turned_and_padded_as_luma():
    luma, chroma = np.arange(24, dtype=np.uint8).reshape(4, 6), np.arange(12, dtype=np.uint8).reshape(4, 3)
    planes = Planes((luma, chroma, chroma, luma + 100), "yuva422p", probe_colors())
    turned = planes.apply_orientation(6)
    assert turned.format == "yuva444p" and np.array_equal(turned.alpha, turned.arrays[0] + 100)
    assert [one.shape for one in planes.pad((8, 6)).arrays] == [(6, 8), (6, 4), (6, 4), (6, 8)]
    assert planes.without_alpha().format == "yuv422p" and len(planes.without_alpha().arrays) == 3


def probe_colors():
    from gpen_core.video.planes import ColorSpec

    return ColorSpec()


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
def test_a_transparent_webm_stays_one(tmp_path, codec):
    alphas = [250, 160, 90, 40, 10]
    source = write_webm(tmp_path / "a.webm", codec, alphas)
    assert alphas_of(source) == pytest.approx(alphas, abs=3)
    info = probe(source)
    timestamps = FrameReader(info).timestamps()
    assert [frame.number for frame in FrameReader(info).frames(3, timestamps)] == [3, 4]
    for name in ("out.webm", "copy.webm"):
        restore_video(source, tmp_path / name, restorer()[0])
        assert alphas_of(tmp_path / name) == pytest.approx(alphas, abs=4)
        assert list(FrameReader(probe(tmp_path / name)).timestamps()) == list(timestamps)
        source = tmp_path / "out.webm"


def test_alpha_that_webm_keeps_is_lost_in_mp4(tmp_path):
    source = write_webm(tmp_path / "a.webm", "libvpx-vp9", [250, 160])
    with pytest.raises(InputError, match=r"frame at 0\.000 s is not opaque, but libvpx-vp9 \(yuv420p\) does not keep"):
        restore_video(source, tmp_path / "out.mp4", restorer()[0], None, VideoOptions(codec="vp9"))
    opaque = write_webm(tmp_path / "b.webm", "libvpx-vp9", [255, 255])
    restore_video(opaque, tmp_path / "out.mkv", restorer()[0])
    assert PixelFormat.parse(probe(tmp_path / "out.mkv").format).has_alpha is False


@pytest.mark.parametrize("suffix", [".mkv", ".webm", ".mov"])
def test_what_keeps_alpha_can_be_read_again(tmp_path, suffix):
    restore_video(write(tmp_path / "a", "ffv1", "yuva420p"), tmp_path / f"b{suffix}", restorer()[0])
    assert probe(tmp_path / f"b{suffix}").is_transparent
