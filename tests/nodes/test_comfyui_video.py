"""Restore Video (GPEN), of videos and of frames, in a fake ComfyUI."""

import io
import shutil
import sys
from fractions import Fraction
from pathlib import Path

import av
import fake_comfyui
import helpers
import numpy as np
import pytest
import synthetic_video
import torch
import video_files

from gpen_core.tools.demo import images as demo_pictures

NODE = "GPEN_RestoreVideo"
SIZE = (256, 192)
COUNT = 12
TIMES = [0, 40, 80, 130, 160, 200, 250, 280, 320, 360, 410, 440]  # ms


@pytest.fixture(scope="session")
def comfy_models(tmp_path_factory, detector_weights):
    folder = tmp_path_factory.mktemp("comfyui") / "models"
    files = {
        f"facedetection/{helpers.DETECTOR_FILE}": detector_weights,
        "GPEN/gpen-red-256.pth": helpers.constant_weights(256, (1, 0, 0)),
    }
    helpers.write_weights(folder, files)
    return folder


@pytest.fixture
def host(comfy_models, monkeypatch):
    return fake_comfyui.Host(comfy_models, monkeypatch)


def load(host, name="gpen-red-256.pth"):
    return host.run("GPEN_LoadModel", model=name, precision="fp32", detector="detection_mobilenet0.25_Final.pth")[0]


@pytest.fixture
def red(host, monkeypatch):
    """Gives what its network gives, without computing it."""
    model = load(host)

    def forward(x, pulse, strip_bytes):
        pulse()
        return torch.tensor([1.0, -1, -1]).view(1, 3, 1, 1).repeat(len(x), 1, 256, 256)

    monkeypatch.setattr(model.restorer.network, "forward", forward)
    return model


def face_frames(count=COUNT, path="pan", size=SIZE):
    """The astronaut's face moving in a small frame."""
    made = synthetic_video.render_video(demo_pictures.astronaut(), path, count, size, middle=(225, 170), width=420)
    return [frame for frame, _ in made]


@pytest.fixture(scope="session")
def film(tmp_path_factory):
    """With sound, subtitles, and frames that do not come evenly."""
    path = tmp_path_factory.mktemp("films") / "a film.mkv"
    return video_files.write_video(
        path, COUNT, SIZE, times=TIMES, base=Fraction(1, 1000), sound="aac", subtitle=True, pictures=face_frames()
    )


def frames_of(path):
    with av.open(str(path)) as container:
        return [(frame.time, frame.to_ndarray(format="rgb24").astype(int)) for frame in container.decode(video=0)]


def red_pixels(frame):
    return int(((frame[..., 0] > 200) & (frame[..., 1] < 60)).sum())


def of_file(host, path):
    return fake_comfyui.VideoFromFile(str(path) if isinstance(path, Path) else path)


def left_in_temp(host):
    temp = Path(host.folder_paths.get_temp_directory())
    return sorted(path for path in temp.rglob("*") if path.is_file()) if temp.exists() else []


@pytest.fixture(autouse=True)
def empty_temp(host):
    shutil.rmtree(host.folder_paths.get_temp_directory(), ignore_errors=True)


@pytest.mark.slow
def test_a_video_goes_in_and_out_as_a_file(host, red, film):
    video, *_, summary = host.run(NODE, gpen_model=red, video=of_file(host, film))
    out = Path(video.get_stream_source())
    assert left_in_temp(host) == [out] and out.suffix == ".mkv"
    assert video_files.digests(out) == video_files.digests(film)
    before, after = frames_of(film), frames_of(out)
    assert [time for time, _ in after] == [time for time, _ in before]
    assert all(red_pixels(frame) > 500 for _, frame in after)
    corner = np.s_[150:, :60]  # far from the face
    assert np.mean([video_files.psnr(a[corner], b[corner]) for (_, a), (_, b) in zip(before, after)]) > 38
    first, face = summary.splitlines()
    assert first == "12 frames, 1 person: 1 restored, 0 skipped"
    assert face.startswith("face 0: restored in 12 of 12 frames (frames 0 to 11; ")
    assert fake_comfyui.ProgressBar.shown[-1] == (12, 12)  # the frames that were joined


@pytest.mark.slow
def test_the_file_is_the_one_that_was_loaded_not_a_copy(host, red, film, monkeypatch):
    """Nothing of its size is written before the result."""
    seen = []
    core = sys.modules[host.nodes[NODE].__module__.replace(".nodes.video", ".gpen_core")]
    whole = core.restore_video

    def restore_video(path, *more, **named):
        seen.append(path)
        return whole(path, *more, **named)

    monkeypatch.setattr(core, "restore_video", restore_video)
    host.run(NODE, gpen_model=red, video=of_file(host, film))
    assert seen == [film]


@pytest.mark.slow
def test_a_video_in_memory_is_written_first_and_deleted_again(host, red, film):
    video, *_ = host.run(NODE, gpen_model=red, video=of_file(host, io.BytesIO(film.read_bytes())))
    out = Path(video.get_stream_source())
    assert left_in_temp(host) == [out] and out.suffix == ".mkv" and video_files.digests(out) == video_files.digests(film)


@pytest.mark.slow
def test_a_video_made_of_images(host, red):
    images = torch.from_numpy(np.stack(face_frames(6))).float() / 255
    video, *_, summary = host.run(NODE, gpen_model=red, video=fake_comfyui.VideoFromComponents(images, 24))
    out = Path(video.get_stream_source())
    assert left_in_temp(host) == [out] and out.suffix == ".mp4"
    assert len(frames_of(out)) == 6 and all(red_pixels(frame) > 500 for _, frame in frames_of(out))
    assert summary.startswith("6 frames, 1 person: 1 restored")


class Newer(fake_comfyui.VideoFromFile):
    """As later versions of ComfyUI have it."""

    window, is_edited = (0.0, 0.0), False

    def get_active_trim_window(self):
        return self.window

    def has_pending_frame_edits(self):
        return self.is_edited

    def save_to(self, path, format="auto", codec="auto", metadata=None, crf=None):  # noqa: A002
        assert crf is not None and crf <= 16  # nothing that can be seen is lost on the way
        images = torch.from_numpy(np.stack([frame for _, frame in frames_of(self.file)][:3])).float() / 255
        fake_comfyui.VideoFromComponents(images[:, :, 64:], 25).save_to(path)


@pytest.mark.slow
def test_a_trimmed_video_keeps_what_is_left_of_it(host, red, film):
    trimmed = Newer(str(film))
    trimmed.window = (0.1, 0.2)
    out = Path(host.run(NODE, gpen_model=red, video=trimmed)[0].get_stream_source())
    assert [round(time, 3) for time, _ in frames_of(out)] == [0.0, 0.03, 0.07, 0.12, 0.15]
    sound = video_files.digests(out)[1]
    whole = video_files.digests(film)[1]
    assert 0 < len(sound) < len(whole) and "".join(sound) in "".join(whole)
    trimmed.window = (0.3, 0.0)
    out = Path(host.run(NODE, gpen_model=red, video=trimmed)[0].get_stream_source())
    assert len(frames_of(out)) == 4


def test_edits_that_wait_are_made_first(host, red, film):
    edited = Newer(str(film))
    edited.is_edited, edited.window = True, (0.1, 0.2)  # which saving does, too
    out = Path(host.run(NODE, gpen_model=red, video=edited)[0].get_stream_source())
    assert left_in_temp(host) == [out]
    assert [frame.shape for _, frame in frames_of(out)] == [(192, 192, 3)] * 3


@pytest.mark.parametrize("after", [1, 6, 14, 24])
@pytest.mark.slow
def test_an_interrupted_run_leaves_nothing(host, red, film, after):
    host.management.interrupted_after = after
    with pytest.raises(fake_comfyui.InterruptProcessingException):
        host.run(NODE, gpen_model=red, video=of_file(host, io.BytesIO(film.read_bytes())))
    temp = Path(host.folder_paths.get_temp_directory())
    assert temp.exists() and not list(temp.iterdir())
    host.management.interrupted_after = None
    assert "1 restored" in host.run(NODE, gpen_model=red, video=of_file(host, film))[3]


def test_strength_zero_needs_no_model_and_reads_nothing(host):
    wanted = host.nodes[NODE].check_lazy_status
    assert wanted(strength=0.0, gpen_model=None) == [] and wanted(strength=0.1, gpen_model=None) == ["gpen_model"]
    video = of_file(host, Path("not there.mp4"))
    out, *_, summary = host.run(NODE, video=video, strength=0.0)
    assert out is video and summary == "Strength is 0: nothing was restored."


def test_exactly_one_of_video_and_frames_is_expected(host, red, batch):
    error = host.module("gpen_core").InputError
    with pytest.raises(error, match="Neither video nor image is connected"):
        host.run(NODE, gpen_model=red)
    with pytest.raises(error, match="Both video and image are connected"):
        host.run(NODE, gpen_model=red, image=batch, video=of_file(host, Path("x.mp4")))


def test_without_a_face_the_video_is_passed_on(host, red, tmp_path):
    video = of_file(host, video_files.write_video(tmp_path / "noise.mp4", 6))
    out, *_, summary = host.run(NODE, gpen_model=red, video=video)
    assert out is video and not left_in_temp(host)
    assert summary.splitlines() == [
        "6 frames, no people",
        "Nothing was restored. The video is passed on unchanged.",
    ]


@pytest.mark.slow
def test_who_is_left_alone_is_said_with_the_reason(host, red, film):
    for values, reason in (
        ({"min_duration": 5.0}, "5 s"),
        ({"min_face_size": 500}, "minimum 500 px"),
    ):
        out, *_, summary = host.run(NODE, gpen_model=red, video=of_file(host, film), **values)
        assert "face 0: skipped (frames 0 to 11; " in summary and reason in summary, summary
        assert out.get_stream_source() == str(film) and not left_in_temp(host)


@pytest.mark.slow
def test_a_face_that_is_not_there_is_an_error(host, red, film):
    with pytest.raises(host.module("gpen_core").GpenError, match="there is no face 1: the only face is 0"):
        host.run(NODE, gpen_model=red, video=of_file(host, film), faces="1")
    assert not left_in_temp(host)


@pytest.mark.slow
def test_one_mask_counts_for_all_frames(host, red, film):
    mask = torch.zeros(1, 48, 64)
    mask[..., 40:] = 1
    out, *_, summary = host.run(NODE, gpen_model=red, video=of_file(host, film), region_mask=mask)
    assert all(frame[:, :158, 0].mean() < 200 and red_pixels(frame[:, :156]) == 0 for _, frame in frames_of(out.file))
    assert "1 restored" in summary
    out, *_, summary = host.run(NODE, gpen_model=red, video=of_file(host, film), region_mask=torch.zeros(9, 8, 8))
    assert summary == "The mask is empty (zero everywhere): nothing was restored." and out.file == str(film)
    with pytest.raises(host.module("gpen_core").InputError, match="has 3 frames, but the video has 12"):
        host.run(NODE, gpen_model=red, video=of_file(host, film), region_mask=torch.ones(3, 8, 8))


def halves(count):
    """Masks of each frame: the left half, then the right half of the frame is white."""
    masks = np.zeros((count, 48, 64), np.uint8)
    masks[: count // 2, :, :32] = masks[count // 2 :, :, 32:] = 255
    return masks


def mask_film(tmp_path, count=COUNT):
    pictures = [np.repeat(one[..., None], 3, 2) for one in halves(count)]
    return video_files.write_video(tmp_path / "mask.mkv", count, (64, 48), "ffv1", pictures=pictures)


def sides(frames):
    """Of each frame: whether its left and its right half have red pixels."""
    return [(red_pixels(one[:, :126]) > 0, red_pixels(one[:, 130:]) > 0) for one in frames]


@pytest.mark.parametrize("kind", ["batch", "file", "memory", "images"])
def test_a_mask_for_each_frame_of_a_video(host, red, film, tmp_path, kind):
    """A batch in memory, or a video: of a file, of bytes, or of images."""
    masks = torch.from_numpy(halves(COUNT)).float() / 255
    path = mask_film(tmp_path)
    given = {
        "batch": lambda: {"region_mask": masks},
        "file": lambda: {"mask_video": of_file(host, path)},
        "memory": lambda: {"mask_video": of_file(host, io.BytesIO(path.read_bytes()))},
        "images": lambda: {"mask_video": fake_comfyui.VideoFromComponents(masks[..., None].expand(-1, -1, -1, 3), 25)},
    }
    out, *_ = host.run(NODE, gpen_model=red, video=of_file(host, film), **given[kind]())
    shown = sides(frame for _, frame in frames_of(out.file))
    assert shown == [(True, False)] * (COUNT // 2) + [(False, True)] * (COUNT // 2)
    assert left_in_temp(host) == [Path(out.file)]


def test_a_mask_video_is_trimmed_as_the_video_is_or_by_itself(host, red, film, tmp_path):
    trimmed = Newer(str(film))
    trimmed.window = (0.2, 0.0)  # from frame 5 on
    mask = Newer(str(mask_film(tmp_path, 10)))
    mask.window = (0.12, 0.0)  # the last seven, of which two have the left half
    out, *_ = host.run(NODE, gpen_model=red, video=trimmed, mask_video=mask)
    assert sides(frame for _, frame in frames_of(out.file)) == [(True, False)] * 2 + [(False, True)] * 5
    with pytest.raises(host.module("gpen_core").InputError, match="Both region_mask and mask_video are connected"):
        host.run(NODE, gpen_model=red, video=trimmed, mask_video=mask, region_mask=torch.ones(8, 8))


def test_a_mask_for_each_frame_of_a_batch(host, red, batch, tmp_path):
    masks = torch.from_numpy(halves(8)).float() / 255
    for given in ({"region_mask": masks}, {"mask_video": of_file(host, mask_film(tmp_path, 8))}):
        _, image, mask, _ = run_frames(host, red, batch, **given)
        assert not mask[:4, :, 130:].any() and not mask[4:, :, :126].any() and all(one.any() for one in mask)
        assert torch.equal(image[mask == 0], batch[mask == 0]) and not left_in_temp(host)
    with pytest.raises(host.module("gpen_core").InputError, match=r"masks: 3. Expected 8 \(one for each frame\) or 1"):
        run_frames(host, red, batch, region_mask=torch.ones(3, 4, 4))


def test_what_is_no_video_is_said_before_anything_is_loaded(host, red, tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(host.module("gpen_core").InputError, match=r"text\.mp4 cannot be read as a video"):
        host.run(NODE, gpen_model=red, video=of_file(host, tmp_path / "text.mp4"))
    assert not host.management.loaded and not left_in_temp(host)


def test_without_pyav_it_is_said_what_to_do(host, red, film, monkeypatch):
    containers = host.module("gpen_core.video.containers")
    missing = host.module("gpen_core").MissingDependency

    def library():
        raise missing("PyAV is needed (no module)")

    monkeypatch.setattr(containers, "import_av", library)
    with pytest.raises(missing, match=r"(?s)PyAV is needed.*ComfyUI's requirements\.txt"):
        host.run(NODE, gpen_model=red, video=of_file(host, film))
    assert not left_in_temp(host)


def test_a_temp_folder_that_cannot_be_written_is_named(host, red, film, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setattr(host.folder_paths, "get_temp_directory", lambda: str(tmp_path / "file"))
    with pytest.raises(host.module("gpen_core").OutputError, match="Cannot write to ComfyUI's temp folder"):
        host.run(NODE, gpen_model=red, video=of_file(host, film))


@pytest.mark.slow
def test_running_out_of_memory_is_the_error_that_comfyui_acts_on(host, red, film, monkeypatch):
    def forward(x, pulse, strip_bytes):
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(red.restorer.network, "forward", forward)
    with pytest.raises(torch.cuda.OutOfMemoryError, match="memory"):
        host.run(NODE, gpen_model=red, video=of_file(host, film))
    assert not left_in_temp(host)


@pytest.mark.slow
def test_within_inference_mode_as_comfyui_runs_nodes(host, film):
    """What one thread makes in it, no other thread may write to outside of it."""
    with torch.inference_mode():
        red = load(host)
        image = torch.from_numpy(demo_pictures.astronaut())[None].float() / 255
        host.run("GPEN_RestoreFaces", gpen_model=red, image=image)
        assert "1 restored" in host.run(NODE, gpen_model=red, video=of_file(host, film))[3]
        assert "1 restored" in host.run("GPEN_RestoreFaces", gpen_model=red, image=image)[3]


@pytest.fixture(scope="session")
def batch():
    return torch.from_numpy(np.stack(face_frames(8, "shake"))).float() / 255


def run_frames(host, red, image, **more):
    return host.run(NODE, gpen_model=red, image=image, color="none", **more)


def test_frames_that_are_a_video(host, red, batch):
    before = batch.clone()
    video, image, mask, summary = run_frames(host, red, batch)
    assert image.shape == batch.shape and mask.shape == batch.shape[:3] and torch.equal(batch, before)
    assert torch.equal(image[mask == 0], batch[mask == 0]) and all(one.max() > 0.99 for one in mask)
    assert (image[mask == 1] - torch.tensor([1.0, 0, 0])).abs().max() < 0.01
    first, person = summary.splitlines()
    assert first == "8 frames, 1 person: 1 restored, 0 skipped"
    assert person.startswith("face 0: restored in 8 of 8 frames (frames 0 to 7; ")
    assert isinstance(video, fake_comfyui.ExecutionBlocker)


def test_frames_keep_their_type_and_alpha(host, red, batch):
    alpha = torch.rand(8, *SIZE[::-1], 1, generator=torch.Generator().manual_seed(1))
    rgba = torch.cat((batch, alpha), 3).half()
    _, image, mask, _ = run_frames(host, red, rgba)
    assert image.dtype == torch.float16 and torch.equal(image[..., 3], rgba[..., 3]) and mask.max() > 0.99


def test_frames_beyond_white_are_warned_of_once(host, red, batch, caplog):
    run_frames(host, red, torch.where(batch > 0.9, 3.0, batch))
    assert sum("clipped to 0 to 1" in record.getMessage() for record in caplog.records) == 1


def test_a_frame_with_what_is_no_number_is_named_as_a_frame(host, red, batch):
    broken = batch.clone()
    broken[2, 5, 5] = float("nan")
    with pytest.raises(host.module("gpen_core").InputError, match="Frame 2 of the video has values that are not finite"):
        run_frames(host, red, broken)


def test_the_last_text_on_the_node_says_that_it_is_done(host, red, film, batch, monkeypatch):
    said = []
    sys.modules["server"].PromptServer.instance.send_progress_text = lambda text, node_id: said.append((text, node_id))
    monkeypatch.setattr(host.nodes[NODE], "hidden", fake_comfyui.types.SimpleNamespace(unique_id="5"))
    for given in ({"video": of_file(host, film)}, {"image": batch}):
        said.clear()
        host.run(NODE, gpen_model=red, **given)
        assert len(said) > 1 and said[-1] == ("Done", "5")
    said.clear()
    with pytest.raises(host.module("gpen_core").OptionsError):
        host.run(NODE, gpen_model=red, image=batch, aligned=True)
    assert said == []


def test_frames_without_faces_come_back(host, red):
    gray = torch.full((3, 96, 128, 3), 0.5)
    _, image, mask, summary = run_frames(host, red, gray)
    assert torch.equal(image, gray) and image.data_ptr() != gray.data_ptr() and not mask.any()
    assert summary == "3 frames, no people"
    assert run_frames(host, red, gray, strength=0.0)[1] is gray and "batch is empty" in run_frames(host, red, gray[:0])[3]


def test_frames_take_one_mask_and_nothing_else(host, red, batch):
    core = host.module("gpen_core")
    left = torch.zeros(48, 64)
    left[:, :32] = 1
    _, image, mask, _ = run_frames(host, red, batch, region_mask=left)
    assert not mask[:, :, 132:].any() and mask[:, :, :124].any() and torch.equal(image[mask == 0], batch[mask == 0])
    box = {"x": 0, "y": 0, "width": 9, "height": 9}
    for name, value in (("background", batch), ("bboxes", box), ("aligned", True)):
        with pytest.raises(
            core.OptionsError, match=f"Videos do not support bounding boxes.* Disconnect or switch off {name} of"
        ):
            run_frames(host, red, batch, **{name: value})


@pytest.mark.slow
def test_frames_are_steadied_only_where_asked(host, batch, comfy_models, monkeypatch):
    """A network that answers noise with noise: its restored face differs less from frame to frame."""
    noise = np.random.default_rng(3).normal(0, 0.06, (8, *SIZE[::-1], 3)).astype(np.float32)
    still = torch.from_numpy((np.stack(face_frames(1) * 8) / 255 + noise).clip(0, 1).astype(np.float32))
    file = comfy_models / "GPEN" / "gpen-sharp-256.pth"
    helpers.write_weights(file.parent, {file.name: helpers.sharpening_weights(256, 1.0)})
    try:
        model = load(host, file.name)
    finally:
        file.unlink()
    flicker = {}
    for smoothing in (0.0, 1.0):
        _, image, mask, _ = run_frames(host, model, still, temporal_smoothing=smoothing)
        inside = mask.min(0).values > 0.99
        assert inside.sum() > 500
        flicker[smoothing] = float((image[1:] - image[:-1])[:, inside].std())
    assert flicker[1.0] < 0.5 * flicker[0.0], flicker


@pytest.mark.slow
def test_frames_can_be_interrupted(host, red, batch):
    for after in (1, 9, 12):
        host.management.interrupted_after = after
        with pytest.raises(fake_comfyui.InterruptProcessingException):
            run_frames(host, red, batch)
    host.management.interrupted_after = None
    assert "1 restored" in run_frames(host, red, batch)[3]
