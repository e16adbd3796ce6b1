"""Videos made for tests: moving noise, a sine as sound, subtitles, chapters, a font; and what their packets are."""

import hashlib
import io
from fractions import Fraction

import cv2
import numpy as np
import pytest
from video_fakes import SIZE, frames

from gpen_core.video import segments
from gpen_core.video.containers import import_av
from gpen_core.video.probe import probe
from gpen_core.video.reader import FrameReader

av = import_av()
RATE = 25
needs_rotation = pytest.mark.skipif(
    not hasattr(av.VideoStream, "set_display_rotation"), reason="this PyAV cannot write a display matrix"
)


def moving_noise(count, size, seed=0):
    """Smooth noise that moves to the left by a pixel a frame, [H, W, 3] uint8."""
    width, height = size
    small = np.random.default_rng(seed).integers(30, 226, (max(2, height // 12), (width + 60) // 12, 3), np.uint8)
    whole = cv2.resize(small, (width + 60, height), interpolation=cv2.INTER_CUBIC)
    for number in range(count):
        yield np.ascontiguousarray(whole[:, number % 60 : number % 60 + width])


def write_video(
    path,
    count=30,
    size=(96, 64),
    codec="libx264",
    pixels="yuv420p",
    rate=RATE,
    times=None,
    base=None,
    sound=None,
    subtitle=False,
    options=None,
    context=(),
    rotation=None,
    chapters=(),
    font=None,
    metadata=(),
    container=None,
    pictures=None,
    cover=None,
    sound_start=0,
    layout="mono",
):
    """Writes a video. `times` are pts in `base`; `sound` a codec; `context` attributes of the encoder; `cover` a JPEG;
    `sound_start` seconds; `layout` of the sound's channels, which are all the same."""
    with av.open(str(path), "w", format=container) as out:
        out.metadata.update(dict(metadata))
        quiet = {"x265-params": "log-level=error"} if codec == "libx265" else {}
        video = out.add_stream(codec, rate=rate, options={**quiet, **(options or {})})
        video.width, video.height = size
        video.pix_fmt = pixels
        video.time_base = base or 1 / Fraction(rate)
        video.codec_context.time_base = base or 1 / Fraction(rate)
        for name, value in dict(context).items():
            setattr(video.codec_context, name, value)
        if rotation is not None:
            video.set_display_rotation(*rotation)
        if sound:
            heard = out.add_stream(sound, rate=48000)
            heard.layout = layout
            heard.metadata["language"] = "deu"
        texts = av.open(io.BytesIO(subtitles(count)), format="srt") if subtitle else None
        if texts is not None:
            read = out.add_stream_from_template(texts.streams[0], opaque=True)
        if cover:
            art = out.add_stream("mjpeg", rate=1, options={"strict": "unofficial"})
            art.width, art.height, art.pix_fmt = 16, 16, "yuv420p"
            art.disposition = av.stream.Disposition.attached_pic.value
        if font:
            out.add_attachment("a font.ttf", "font/ttf", font)
        if chapters:
            out.set_chapters(
                [
                    {"id": n, "start": a, "end": b, "time_base": Fraction(1, 1000), "metadata": {"title": f"part {n}"}}
                    for n, (a, b) in enumerate(chapters)
                ]
            )
        out.start_encoding()
        if cover:
            packet = av.Packet(cover)
            packet.stream, packet.time_base, packet.pts, packet.dts = art, Fraction(1, 1000), 0, 0
            out.mux(packet)
        for number, picture in enumerate(pictures if pictures is not None else moving_noise(count, size)):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format=pixels)
            frame.pts = number if times is None else times[number]
            frame.time_base = video.codec_context.time_base
            out.mux(video.encode(frame))
        out.mux(video.encode())
        if sound:
            for packet in sine(heard, count / float(rate), sound_start):
                out.mux(packet)
        if texts is not None:
            for packet in texts.demux():
                if packet.size:
                    packet.stream = read
                    out.mux(packet)
            texts.close()
    return path


def subtitles(count):
    """Subtitles: one each half second, from 0.1 to 0.4 s of it."""
    some = (
        f"{n + 1}\n00:00:{n / 2 + 0.1:06.3f} --> 00:00:{n / 2 + 0.4:06.3f}\nline {n}\n" for n in range(count * 2 // RATE)
    )
    return "\n".join(some).replace(".", ",").encode()


def sine(stream, seconds, start=0):
    for number in range(int(seconds * 48000) // 1024):
        wave = np.sin((number * 1024 + np.arange(1024)) * 0.05) * 9000
        waves = wave.astype(np.int16).repeat(stream.layout.nb_channels)[None]
        frame = av.AudioFrame.from_ndarray(waves, format="s16", layout=stream.layout.name)
        frame.sample_rate, frame.pts, frame.time_base = 48000, start * 48000 + number * 1024, Fraction(1, 48000)
        yield from stream.encode(frame)
    yield from stream.encode()


def packets(path):
    """By stream: (digest, seconds) of each packet that is not of the first video stream."""
    found = {}
    with av.open(str(path)) as container:
        for stream in container.streams:
            if stream.type == "attachment":
                found[stream.index] = [(hashlib.sha256(stream.data).hexdigest(), 0.0)]
        first = container.streams.video[0].index
        for packet in container.demux([one for one in container.streams if one.type != "attachment"]):
            if packet.size and packet.stream_index != first:
                digest = hashlib.sha256(bytes(packet)).hexdigest()
                found.setdefault(packet.stream_index, []).append((digest, float(packet.pts * packet.time_base)))
    return found


def digests(path):
    return {index: [digest for digest, _ in some] for index, some in packets(path).items()}


def psnr(one, other, peak=255.0):
    return 10 * np.log10(peak**2 / max(1e-12, float(np.mean((one.astype(np.float64) - other) ** 2))))


def write_lossless_video(path, count):
    """A video of so many of `video_fakes`' frames, without loss, with sound."""
    write_video(path, count, SIZE, "ffv1", pictures=list(frames(count)), sound="aac")
    return path


def use_ten_frame_segments(monkeypatch):
    """Of the frames that `write_lossless_video` writes."""
    monkeypatch.setattr(segments, "MIN_SEGMENT_SECONDS", 0.4)
    monkeypatch.setattr(segments, "MAX_SEGMENT_SECONDS", 0.4)


def read_frames(path):
    """Of a video's frames."""
    return [np.array(frame.image.pixels) for frame in FrameReader(probe(path)).frames()]
