"""A video whose segments are restored by other processes, for which restorers of this one stand in."""

import random

import numpy as np
import pytest
import torch
import video_files
from video_fakes import SIZE, frames, restorer
from video_files import read_frames, use_ten_frame_segments, write_lossless_video

from gpen_core import FaceRestorer, InputError, OutputError, RestoreOptions, VideoOptions, restore_video
from gpen_core.errors import DeviceError
from gpen_core.video import segments
from gpen_core.video.restore_video import SegmentRestorer
from gpen_core.video.segments import SegmentResult

VIDEO = VideoOptions(codec="ffv1", temporal_smoothing=1)
COUNT = 35


@pytest.fixture(autouse=True)
def short_segments(monkeypatch):
    """Of ten frames, the last of five."""
    use_ten_frame_segments(monkeypatch)


@pytest.fixture
def film(tmp_path):
    return write_lossless_video(tmp_path / "film.mkv", COUNT)


class Half(FaceRestorer):
    """Says that it computes in half precision."""

    dtype = torch.float16


class Others:
    """Two other processes, who take the segments by turns in no order; after `most`, they say no more."""

    def __init__(self, film, target, most=COUNT, kinds=(FaceRestorer, FaceRestorer), video=VIDEO):
        self.film, self.target, self.most, self.kinds, self.video = film, target, most, kinds, video
        self.networks, self.told = [], []

    def __call__(self, found_key, count, finished):
        workers = [self.worker(found_key, kind) for kind in self.kinds]
        numbers = list(range(count))
        random.Random(1).shuffle(numbers)
        for turn, number in enumerate(numbers):
            if turn == self.most:
                raise OutputError("no more")
            self.told.append(workers[turn % 2].restore(number))
            assert SegmentResult(*list(self.told[-1])) == self.told[-1]
            finished(self.told[-1])

    def worker(self, found_key, kind):
        own, network = restorer()
        own.__class__ = kind
        self.networks.append(network)
        return SegmentRestorer(self.film, self.target, own, RestoreOptions(), self.video, found_key)


@pytest.mark.slow
def test_other_processes_make_the_video_of_one(film, tmp_path):
    whole = restore_video(film, tmp_path / "whole.mkv", restorer()[0], None, VIDEO)
    runner, network = restorer()
    others, said = Others(film, tmp_path / "out.mkv"), []
    result = restore_video(film, tmp_path / "out.mkv", runner, None, VIDEO, executor=others, progress=said.append)
    assert all(map(np.array_equal, read_frames(tmp_path / "out.mkv"), read_frames(tmp_path / "whole.mkv")))
    assert video_files.packets(tmp_path / "out.mkv") == video_files.packets(tmp_path / "whole.mkv")
    assert network.faces == 0 and all(one.faces > 0 for one in others.networks)
    assert (result.segments, result.restored, result.notes) == ((4, 0), whole.restored, whole.notes)
    assert result.tracks[0].flicker_after.rms == pytest.approx(whole.tracks[0].flicker_after.rms, rel=1e-9)
    done = [event.done for event in said if event.stage == "restore"]
    assert done[0] == 0 and done[-1] == COUNT and done == sorted(done)
    assert result.seconds["network"] == pytest.approx(sum(one.seconds["network"] for one in others.told))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film.mkv", "out.mkv", "whole.mkv"]


def test_other_processes_keep_to_the_ranges(film, tmp_path):
    video, target = VideoOptions(codec="ffv1", ranges="0.2-0.6,1-1.1"), tmp_path / "out.mkv"
    whole = restore_video(film, tmp_path / "whole.mkv", restorer()[0], None, video)
    result = restore_video(film, target, restorer()[0], None, video, executor=Others(film, target, video=video))
    assert all(map(np.array_equal, read_frames(target), read_frames(tmp_path / "whole.mkv")))
    assert [n for n, done in enumerate(result.restored) if done] == [*range(5, 15), 25, 26, 27]
    assert result.restored == whole.restored


@pytest.mark.slow
def test_segments_between_rare_key_frames_of_a_transport_stream(tmp_path, monkeypatch):
    """Each begins at a frame that no seek leads to."""
    for name in ("MIN_SEGMENT_SECONDS", "MAX_SEGMENT_SECONDS"):
        monkeypatch.setattr(segments, name, 2.0)
    rare = {"x264-params": "keyint=250:min-keyint=250:scenecut=0"}
    film = video_files.write_video(tmp_path / "film.ts", COUNT, SIZE, rate=5, options=rare, pictures=list(frames(COUNT)))
    restore_video(film, tmp_path / "whole.mkv", restorer()[0], None, VIDEO)
    target = tmp_path / "out.mkv"
    result = restore_video(film, target, restorer()[0], None, VIDEO, executor=Others(film, target))
    assert result.segments == (4, 0)
    assert all(map(np.array_equal, read_frames(target), read_frames(tmp_path / "whole.mkv")))


RARE_KEYS = {"g": "120", "bf": "2", "sc_threshold": "1000000000"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("suffix", "codec", "options"),
    [
        (".vob", "mpeg2video", RARE_KEYS),
        (".mxf", "mpeg2video", RARE_KEYS),
        (".ogv", "libvpx", {"g": "120", "deadline": "realtime", "cpu-used": "8"}),
        (".avi", "libx264", {"x264-params": "keyint=250:min-keyint=250:scenecut=0"}),
    ],
)
def test_segments_of_a_part_of_containers_without_a_good_index(tmp_path, monkeypatch, suffix, codec, options):
    for name in ("MIN_SEGMENT_SECONDS", "MAX_SEGMENT_SECONDS"):
        monkeypatch.setattr(segments, name, 1.2)
    film, part = tmp_path / f"film{suffix}", VideoOptions(codec="ffv1", temporal_smoothing=0, start=0.4)
    video_files.write_video(film, 90, SIZE, codec, options=options, pictures=list(frames(90)))
    restore_video(film, tmp_path / "whole.mkv", restorer()[0], None, part)
    target = tmp_path / "out.mkv"
    result = restore_video(film, target, restorer()[0], None, part, executor=Others(film, target, video=part))
    assert result.segments == (3, 0) and len(result.restored) == 80
    assert all(map(np.array_equal, read_frames(target), read_frames(tmp_path / "whole.mkv")))


@pytest.mark.slow
def test_either_goes_on_where_the_other_ended(film, tmp_path):
    target = tmp_path / "out.mkv"
    with pytest.raises(OutputError, match="no more"):
        restore_video(film, target, restorer()[0], None, VIDEO, executor=Others(film, target, most=2))
    broken, network = restorer()
    network.fails_after = 20
    with pytest.raises(RuntimeError):
        restore_video(film, target, broken, None, VIDEO)
    others = Others(film, target)
    result = restore_video(film, target, restorer()[0], None, VIDEO, executor=others)
    assert result.segments[0] == 4 and 2 <= result.segments[1] == sum(not one.seconds for one in others.told) < 4
    restore_video(film, tmp_path / "whole.mkv", restorer()[0], None, VIDEO)
    assert all(map(np.array_equal, read_frames(target), read_frames(tmp_path / "whole.mkv")))


@pytest.mark.slow
def test_a_local_run_takes_what_others_made(film, tmp_path):
    target = tmp_path / "out.mkv"
    with pytest.raises(OutputError):
        restore_video(film, target, restorer()[0], None, VIDEO, executor=Others(film, target, most=3))
    assert restore_video(film, target, restorer()[0], None, VIDEO).segments == (4, 3)


@pytest.mark.slow
def test_segments_of_two_precisions_are_not_joined(film, tmp_path):
    target = tmp_path / "out.mkv"
    others = Others(film, target, kinds=(FaceRestorer, Half))
    with pytest.raises(DeviceError, match="Give all workers the same device and precision"):
        restore_video(film, target, restorer()[0], None, VIDEO, executor=others)
    assert not target.exists()


def test_a_worker_without_the_work_folder_says_so(film, tmp_path):
    with pytest.raises(InputError, match=r"A worker cannot find .*out\.mkv\.unfinished.*all machines share"):
        SegmentRestorer(film, tmp_path / "out.mkv", restorer()[0], RestoreOptions(), VIDEO, "0123456789abcdef")
