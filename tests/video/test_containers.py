"""A path is a path, whatever its name looks like, and a video holds its frames itself."""

import os
import shutil
import socket
import struct
from pathlib import Path

import av
import pytest
import video_files
from PIL import Image

from gpen_core.errors import InputError
from gpen_core.options import VideoOptions
from gpen_core.video import containers
from gpen_core.video.encoding import resolve_encoding
from gpen_core.video.mux import concatenate
from gpen_core.video.probe import probe
from gpen_core.video.reader import FrameReader
from gpen_core.video.writer import SegmentWriter

SCHEMES = ("http", "tcp", "ftp", "rtmp", "rtsp", "tls", "gopher")
posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return video_files.write_video(tmp_path_factory.mktemp("video") / "a.mp4", 5, (32, 32))


@pytest.fixture
def silent():
    """The address of a server that never answers; nobody may have asked it in the end."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


@posix
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_name_is_no_address(tmp_path, monkeypatch, video, silent, scheme):
    monkeypatch.chdir(tmp_path)
    name = Path(f"{scheme}:{silent}")
    shutil.copy(video, name)
    film = probe(name)
    assert len(list(FrameReader(film).frames())) == 5
    output = Path(f"{scheme}:{silent}.mp4")
    write(film, output)
    assert sorted(path.name for path in tmp_path.iterdir()) == [name.name, output.name]
    assert len(list(FrameReader(probe(output)).frames())) == 5


NAMES = (
    "concat:a.mp4|b.mp4",
    "subfile:,,start,0,end,1,,:a.mp4",
    "async:a.mp4",
    "cache:a.mp4",
    "data:a.mp4",
    "file:a.mp4",
    "pipe:0",
    "pipe:1.mp4",
    "video=screen.mp4",
    "frame%03d.png",
    "-x.mp4",
    "a?b#c.mp4",
    "a\nb.mp4",
)


@posix
@pytest.mark.parametrize("name", NAMES)
def test_odd_names_are_names(tmp_path, monkeypatch, video, name):
    monkeypatch.chdir(tmp_path)
    shutil.copy(video, Path(name))
    film = probe(Path(name))
    assert len(list(FrameReader(film).frames())) == 5
    segment = Path(f"{name}.part")
    write_segment(film, segment)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, segment.name])


def write_segment(film, path):
    """Return its encoding."""
    encoding = resolve_encoding(film, Path("out.mp4"), VideoOptions())
    with SegmentWriter(path, film, encoding) as writer:
        for frame in FrameReader(film).frames():
            writer.write(frame)
    return encoding


def write(film, path):
    segment = Path("a segment")
    concatenate([segment], FrameReader(film), path, write_segment(film, segment))
    segment.unlink()


def test_a_numbered_image_does_not_read_its_siblings(tmp_path):
    for number in range(3):
        Image.new("RGB", (16, 16), (number, 0, 0)).save(tmp_path / f"frame{number:03d}.png")
    pattern = tmp_path / "frame%03d.png"
    Image.new("RGB", (16, 16)).save(pattern)
    with pytest.raises(InputError, match=r"is an image, not a supported video"):
        probe(pattern)


PLAYLISTS = {
    "an HLS playlist": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{neighbor}\n#EXT-X-ENDLIST\n",
    "a playlist (ffconcat)": "ffconcat version 1.0\nfile {neighbor}\n",
    "an XML file": '<?xml version="1.0"?><MPD><Period/></MPD>{neighbor}',
}


@pytest.mark.parametrize("kind", PLAYLISTS)
@pytest.mark.parametrize("suffix", [".mp4", ".m3u8", ".ts"])
def test_a_playlist_is_refused_by_name(tmp_path, kind, suffix):
    video_files.write_video(tmp_path / "neighbor.ts", 5, (32, 32))
    path = tmp_path / f"holiday{suffix}"
    path.write_text(PLAYLISTS[kind].format(neighbor="neighbor.ts"))
    with pytest.raises(InputError) as caught:
        probe(path)
    assert str(path) in str(caught.value) and "neighbor" not in str(caught.value)
    assert kind in str(caught.value) or "cannot be read as a video" in str(caught.value)


def test_a_playlist_that_names_itself_opens_nothing(tmp_path):
    path = tmp_path / "a.ffconcat"
    path.write_text("ffconcat version 1.0\nfile a.ffconcat\n")
    with pytest.raises(InputError, match=r"is a playlist \(ffconcat\), not a supported video"):
        probe(path)


def test_a_playlist_opens_nothing_even_if_its_format_were_read(tmp_path, monkeypatch):
    """The second lock: FFmpeg has no protocol to open another file with."""
    video_files.write_video(tmp_path / "neighbor.ts", 5, (32, 32))
    for name, kind in (("hls", "an HLS playlist"), ("concat", "a playlist (ffconcat)")):
        monkeypatch.setitem(containers.INPUT_OPTIONS, "format_whitelist", name)
        path = tmp_path / "list"
        path.write_text(PLAYLISTS[kind].format(neighbor=tmp_path / "neighbor.ts"))
        with pytest.raises(InputError, match="cannot be read"):
            probe(path)


BOXES = (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref")


def with_frames_elsewhere(data, path):
    """A QuickTime file whose only track is said to be in another file (an alias of classic Mac OS)."""
    absolute = path.encode().replace(b"/", b":")
    absolute += bytes(len(absolute) % 2)
    entry = b"alis" + bytes(4) + bytes(10) + bytes([1]) + b"v".ljust(27, b"\0") + bytes(12)
    entry += bytes([1]) + b"f".ljust(63, b"\0") + bytes(16) + struct.pack(">hh", 1, 1) + bytes(16)
    entry += struct.pack(">hh", 2, len(absolute)) + absolute + struct.pack(">hh", -1, 0)
    entry = struct.pack(">I", len(entry) + 4) + entry
    at, grown = 0, bytearray(data)
    for name in BOXES:
        at = data.index(name, at) - 4
        grown[at : at + 4] = struct.pack(">I", struct.unpack(">I", data[at : at + 4])[0] + len(entry) - 12)
    first = at + 16  # behind the box's version and its count of entries
    return bytes(grown[:first]) + entry + bytes(grown[first + 12 :])


def test_a_track_in_another_file_is_not_read(tmp_path):
    neighbor = video_files.write_video(tmp_path / "neighbor.mov", 5, (32, 32))
    data = with_frames_elsewhere(neighbor.read_bytes(), str(neighbor))
    (tmp_path / "a.mov").write_bytes(data)
    with av.open(str(tmp_path / "a.mov"), options={"enable_drefs": "1", "use_absolute_path": "1"}) as container:
        assert len(list(container.decode(video=0))) == 5  # as a player that follows it would
    with pytest.raises(InputError, match=r"a\.mov has no \w+ frame"):
        probe(tmp_path / "a.mov")
    with containers.open_input(tmp_path / "a.mov") as container:
        assert [packet for packet in container.demux() if packet.size] == []


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm", ".avi", ".ts", ".m2ts", ".mpg", ".nut", ".flv", ".mxf"])
def test_containers_are_read_whatever_their_name(tmp_path, suffix):
    codec = {".webm": "libvpx-vp9", ".mpg": "mpeg2video", ".mxf": "mpeg2video"}.get(suffix, "libx264")
    path = video_files.write_video(tmp_path / f"a{suffix}", 12, (64, 64), codec)
    path = path.rename(tmp_path / "no suffix")
    assert len(list(FrameReader(probe(path)).frames())) == 12


@pytest.mark.parametrize("format_", ["asf", "h264", "hevc", "3gp"])
def test_more_containers_are_read(tmp_path, format_):
    codec = {"hevc": "libx265", "asf": "mpeg4"}.get(format_, "libx264")
    path = video_files.write_video(tmp_path / "a", 12, (64, 64), codec, container=format_)
    assert len(list(FrameReader(probe(path)).frames())) == 12


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.mp4")
    with pytest.raises(InputError, match=r"a\.mp4 cannot be read: it is not a regular file"):
        probe(tmp_path / "a.mp4")


def test_metadata_that_is_not_unicode_keeps_its_bytes(tmp_path):
    path = video_files.write_video(tmp_path / "a.mkv", 5, (32, 32), metadata={"comment": "Caf__"})
    path.write_bytes(path.read_bytes().replace(b"Caf__", b"Caf\xe9_"))
    film = probe(path)
    encoding = write_segment(film, tmp_path / "segment")
    concatenate([tmp_path / "segment"], FrameReader(film), tmp_path / "b.mkv", encoding)
    assert b"Caf\xe9_" in (tmp_path / "b.mkv").read_bytes()


def test_ffmpegs_log_is_off_where_videos_are_opened(video):
    """With the log on, as older torchvision leaves it, PyAV 14 hangs when it frees a decoder that is at work."""
    av.logging.set_level(av.logging.ERROR)
    with containers.open_input(video):
        assert av.logging.get_level() is None
