"""The video stream that is restored: animated images have still images beside theirs."""

import numpy as np
import pytest
import video_files
from PIL import Image

from gpen_core.errors import InputError
from gpen_core.images import formats
from gpen_core.video.containers import supports_animated_webp
from gpen_core.video.probe import probe
from gpen_core.video.reader import FrameReader

needs_avif = pytest.mark.skipif(formats.missing_reader("AVIF") is not None, reason="this Pillow has no AVIF")
DURATIONS = [100, 40, 300, 100]  # ms
KINDS = [".gif", ".apng", ".png", ".webp", pytest.param(".avif", marks=needs_avif)]


def write_animation(path, frames, **options):
    images = [frame if isinstance(frame, Image.Image) else Image.fromarray(frame) for frame in frames]
    kind = {".apng": "PNG"}.get(path.suffix)
    images[0].save(path, kind, save_all=True, append_images=images[1:], duration=DURATIONS, **options)
    return path


def raise_without_decoder(suffix):
    if suffix == ".webp" and not supports_animated_webp():
        pytest.skip("this PyAV does not read animated WebP")


@pytest.mark.parametrize("suffix", KINDS)
def test_an_animated_image_is_a_video(tmp_path, suffix):
    raise_without_decoder(suffix)
    frames = [np.full((48, 64, 3), (60 * n, 250 - 60 * n, 90), np.uint8) for n in range(4)]
    info = probe(write_animation(tmp_path / f"a{suffix}", frames, quality=95))
    reader = FrameReader(info)
    read = list(reader.frames())
    assert [round(frame.seconds, 3) for frame in read] == [0, 0.1, 0.14, 0.44]
    assert reader.last_frame_ticks(reader.timestamps()) * info.time_base == pytest.approx(0.1)
    assert max(np.abs(one.image.pixels.astype(int) - frame).max() for one, frame in zip(read, frames)) < 8


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_an_animation_keeps_its_alpha(tmp_path, suffix):
    raise_without_decoder(suffix)
    frames = [np.full((48, 64, 4), (60 * n, 250, 90, 255 - 50 * n), np.uint8) for n in range(4)]
    info = probe(write_animation(tmp_path / f"a{suffix}", frames, lossless=True))
    assert [int(frame.alpha.max()) for frame in FrameReader(info).frames()] == [255, 205, 155, 105]


@needs_avif
def test_an_avif_is_refused_if_its_alpha_would_be_lost(tmp_path):
    path = write_animation(tmp_path / "a.avif", [Image.new("RGBA", (64, 48), (9, 60 * n, 9, 90)) for n in range(4)])
    with pytest.raises(InputError, match=r"alpha channel that cannot be read .* and would be lost"):
        probe(path)


@pytest.mark.parametrize("suffix", KINDS[2:])
def test_a_still_image_is_no_video(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    Image.new("RGB", (64, 48)).save(path)
    with pytest.raises(InputError, match=r"is an image.*, not a supported video"):
        probe(path)


def test_an_old_pyav_names_the_one_that_reads_webp(tmp_path):
    if supports_animated_webp():
        pytest.skip("this PyAV reads animated WebP")
    path = write_animation(tmp_path / "a.webp", video_files.moving_noise(4, (64, 48)))
    with pytest.raises(
        InputError, match=r"is an animated WebP, which needs PyAV 19 \(this is .*\)\. .* save it as GIF or MP4"
    ):
        probe(path)
