"""Which container a video goes into where nobody has named one."""

import av
import pytest
import video_fakes
import video_files
from PIL import Image

from gpen_core import InputError, OptionsError, VideoOptions, output_suffix, restore_video


@pytest.mark.parametrize("name", ["film.mp4", "film.MKV", "film.mov", "film.avi", "film.ts"])
def test_its_own_where_that_holds_all(tmp_path, name):
    film = video_files.write_video(tmp_path / name, 3, sound="aac")
    assert output_suffix(film) == name[4:].lower()


def test_mp4_where_its_own_is_not_written(tmp_path):
    film = video_files.write_video(tmp_path / "film.3gp", 3, container="mp4")
    assert output_suffix(film) == ".mp4"
    (tmp_path / "bare").write_bytes(film.read_bytes())
    assert output_suffix(tmp_path / "bare") == ".mp4"


def test_another_where_its_own_cannot_hold_a_stream(tmp_path):
    film = video_files.write_video(tmp_path / "film.webm", 3, sound="aac", container="matroska")
    assert output_suffix(film) == ".mp4"
    film = video_files.write_video(tmp_path / "subtitled.avi", 30, subtitle=True, container="matroska")
    assert output_suffix(film) == ".mkv"


def test_avi_for_the_sound_of_wmv(tmp_path):
    film = tmp_path / "film.wmv"
    with av.open(str(film), "w", format="asf") as out:
        video, sound = out.add_stream("wmv2", rate=10), out.add_stream("wmav2", rate=48000)
        video.width, video.height, video.pix_fmt, sound.layout, sound.bit_rate = 64, 48, "yuv420p", "mono", 64000
        for picture in video_files.moving_noise(12, (64, 48)):
            out.mux(video.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        out.mux(video.encode())
        for packet in video_files.sine(sound, 1.2):
            out.mux(packet)
    assert output_suffix(film) == ".avi"
    restorer = video_fakes.restorer(faces=())[0]
    with pytest.raises(InputError, match=r"A \.mp4 file cannot hold stream 1 \(audio, wmav2\).* Write a \.avi file\."):
        restore_video(film, tmp_path / "out.mp4", restorer)
    restore_video(film, tmp_path / "out.avi", restorer)
    (before,), (after,) = (video_files.packets(path).values() for path in (film, tmp_path / "out.avi"))
    assert [digest for digest, _ in before] == [digest for digest, _ in after]
    assert [time - before[0][1] for _, time in before] == pytest.approx(
        [time - after[0][1] for _, time in after], abs=0.0021
    )


def test_it_must_hold_what_is_encoded_too(tmp_path):
    film = video_files.write_video(tmp_path / "film.mp4", 3)
    assert output_suffix(film, VideoOptions(codec="prores")) in (".mkv", ".mov")


def test_what_cannot_be_is_said(tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(InputError, match="cannot be read as a video"):
        output_suffix(tmp_path / "text.mp4")
    with pytest.raises(OptionsError, match="Unknown video encoder 'nothing'"):
        output_suffix(video_files.write_video(tmp_path / "film.mp4", 3), VideoOptions(codec="nothing"))


def test_a_container_that_keeps_alpha_is_chosen(tmp_path):
    pictures = [Image.new("RGBA", (64, 48), (200, 0, 0, alpha)) for alpha in (0, 255)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=40, disposal=2)
    assert output_suffix(tmp_path / "a.gif") == ".mkv"
    pictures[1].save(tmp_path / "b.gif", save_all=True, append_images=pictures[1:], duration=40)
    assert output_suffix(tmp_path / "b.gif") == ".mp4"
