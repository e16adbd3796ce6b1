"""The weights files that gpen_core knows by name, as frozen data. A value of None was not published."""

from __future__ import annotations

from dataclasses import dataclass, replace
from os import fspath
from pathlib import PurePath

from ..files.path_checks import AnyPath

GPEN_LICENSE = "GPEN weights (c) Alibaba 2021: for academic and non-commercial use only."
FACEXLIB_LICENSE = "facexlib weights: MIT."
SFACE_LICENSE = "SFace weights: Apache 2.0."
SUFFIXES = (".safetensors", ".pth", ".pt", ".onnx")
"""Suffixes of weights files. If a folder has several files of one name, the first suffix is preferred."""

ALIBABA = "https://public-vigen-video.oss-cn-shanghai.aliyuncs.com/robin/models/"
FACEXLIB = "https://github.com/xinntao/facexlib/releases/download/"
HUGGING_FACE = "https://huggingface.co/"
MODELSCOPE = "https://www.modelscope.cn/"
REACTOR = HUGGING_FACE + "datasets/Gourieff/ReActor/resolve/main/models/facerestore_models/"
ROPE = "https://github.com/Alucard24/rope-assets/releases/download/v1.0.8/"
OPENCV_ZOO = "https://media.githubusercontent.com/media/opencv/opencv_zoo/main/models/"
GPEN_ON_MODELSCOPE = "iic/cv_gpen_image-portrait-enhancement-hires"
RESTORE, COLORIZE, INPAINT = "restore", "colorize", "inpaint"
"""What a GPEN does to a face."""


@dataclass(frozen=True)
class Source:
    """One place that serves a file, and how it publishes the file's SHA-256, if it does."""

    url: str
    listing: str | None = None
    """URL of a JSON listing of the repository's files with their `Path`, `Size` and `Sha256` (ModelScope)."""
    path: str | None = None
    """The file's `Path` in that listing."""
    linked_etag: bool = False
    """Whether its response has the header `X-Linked-Etag`, the digest of a large file (Hugging Face)."""
    allows_http: bool = False
    """Whether plain http is allowed, because the user named this source. Redirects still need https."""

    @property
    def publishes_digest(self) -> bool:
        return self.listing is not None or self.linked_etag


def _modelscope(path: str) -> Source:
    listing = f"{MODELSCOPE}api/v1/models/{GPEN_ON_MODELSCOPE}/repo/files?Revision=master&Recursive=true"
    return Source(f"{MODELSCOPE}models/{GPEN_ON_MODELSCOPE}/resolve/master/{path}", listing, path)


def _hugging_face(repository: str, path: str) -> Source:
    return Source(f"{HUGGING_FACE}{repository}/resolve/main/{path}", linked_etag=True)


@dataclass(frozen=True)
class Export:
    """A published ONNX export of a network. Independent projects pin the same size and digest; None if none does."""

    file: str
    sha256: str
    urls: tuple[str, ...]
    bytes: int | None = None
    tensors_sha256: str | None = None
    """The digest of the tensors that are read from it, see `onnx_proof.tensors_sha256`. It is set after both networks
    were compared with the published file. The file is then converted without ONNX Runtime."""


@dataclass(frozen=True)
class Entry:
    """A weights file as it was released."""

    name: str
    file: str
    purpose: str
    license: str
    sources: tuple[Source, ...]
    """Tried in this order."""
    bytes: int | None = None
    sha256: str | None = None
    approximate_bytes: int | None = None
    """Bytes of its tensors, computed from the layout. The file is a little larger."""
    size: int | None = None
    """Resolution of the faces that it restores (px); None for other networks."""
    operation: str = RESTORE
    """What a GPEN does: `restore`, `colorize` or `inpaint`. All have the same layout, so only the name tells."""
    scale: int | None = None
    """Upscaling factor; None for other networks."""
    aliases: tuple[str, ...] = ()
    """Other names of the same file, on disk or on the command line."""
    exports: tuple[Export, ...] = ()
    """ONNX exports of the same network."""
    is_graph: bool = False
    """Whether the file is an ONNX graph that OpenCV runs, not tensors. Its bytes are parsed only if `sha256` matches."""

    @property
    def known_bytes(self) -> int | None:
        """The size of the file, or of its tensors where only that is known. None if neither is."""
        return self.bytes or self.approximate_bytes

    @property
    def max_size(self) -> int:
        """The largest size that the file can have, in bytes."""
        if self.bytes is not None:
            return self.bytes
        return 2 * self.approximate_bytes if self.approximate_bytes is not None else 2**30

    def digest_for(self, file: str) -> str | None:
        """Return the SHA-256 that a file of that name must have, or None.

        None for `.safetensors`, which is a different file with the same tensors, and for the `.onnx` of a network, of
        which several exports exist."""
        names = (self.file, *self.aliases, f"{self.name}.onnx")  # `folders.find_file` finds them all
        released = [name.lower() for name in names if self.is_graph or not name.endswith(".onnx")]
        return self.sha256 if PurePath(file).name.lower() in released else None

    def for_export(self, export: Export) -> Entry:
        """Return an entry with which an ONNX export is downloaded."""
        sources = tuple(Source(url, linked_etag=url.startswith(HUGGING_FACE)) for url in export.urls)
        entry = replace(self, file=export.file, sources=sources, aliases=(), exports=())
        return replace(entry, bytes=export.bytes, sha256=export.sha256)


CATALOG = (
    Entry(
        "gpen-bfr-2048",
        "GPEN-BFR-2048.pth",
        "face restoration at 2048 x 2048",
        GPEN_LICENSE,
        (
            _modelscope("pytorch_model-2048.pt"),
            _hugging_face("shaitanzx/FooocusExtend", "faces/GPEN-BFR-2048.pt"),
            Source(ALIBABA + "GPEN-BFR-2048.pth"),
        ),
        approximate_bytes=285_180_804,
        size=2048,
        exports=(
            Export(
                "GPEN-BFR-2048.onnx",
                "d0229ff43f979c360bd19daa9cd0ce893722d59f41a41822b9223ebbe4f89b3e",
                (REACTOR + "GPEN-BFR-2048.onnx", ROPE + "GPEN-BFR-2048.onnx"),
                285_469_146,
            ),
        ),
        aliases=("pytorch_model-2048.pt", "GPEN-BFR-2048.pt", "gpen_bfr_2048.onnx"),
    ),
    Entry(
        "gpen-bfr-1024",
        "GPEN-BFR-1024.pth",
        "face restoration at 1024 x 1024",
        GPEN_LICENSE,
        (
            _modelscope("pytorch_model.pt"),
            _hugging_face("shaitanzx/FooocusExtend", "faces/GPEN-BFR-1024.pt"),
            Source(ALIBABA + "GPEN-BFR-1024.pth"),
            Source("https://carimage-1253226081.cos.ap-beijing.myqcloud.com/gpen/GPEN-BFR-1024.pth"),
        ),
        approximate_bytes=284_843_696,
        size=1024,
        exports=(
            Export(
                "GPEN-BFR-1024.onnx",
                "cec8892093d7b99828acde97bf231fb0964d3fb11b43f3b0951e36ef1e192a3e",
                (REACTOR + "GPEN-BFR-1024.onnx", ROPE + "GPEN-BFR-1024.onnx"),
                285_101_993,
            ),
        ),
        aliases=("GPEN-BFR-1024.pt", "gpen_bfr_1024.onnx"),
    ),
    Entry(
        "gpen-bfr-512",
        "GPEN-BFR-512.pth",
        "face restoration at 512 x 512",
        GPEN_LICENSE,
        (
            _hugging_face("akhaliq/GPEN-BFR-512", "GPEN-BFR-512.pth"),
            Source("https://github.com/vinthony/video-retalking/releases/download/v0.0.1/GPEN-BFR-512.pth"),
            Source(ALIBABA + "GPEN-BFR-512.pth"),
        ),
        bytes=284_085_738,
        sha256="f1002c41add95b0decad69604d80455576f7187dd99ca16bd611bcfd44c10b51",
        size=512,
        aliases=("gpen_bfr_512.onnx",),
        exports=(
            Export(
                "GPEN-BFR-512.onnx",
                "bf80acb8e91ba8852e3f012505be2c3b6cd6b3eed5ec605e3db87863c4e74d4e",
                (REACTOR + "GPEN-BFR-512.onnx",),
                284_244_491,
            ),
            Export(
                "GPEN-BFR-512.onnx",
                "0960f836488735444d508b588e44fb5dfd19c68fde9163ad7878aa24d1d5115e",
                (ROPE + "GPEN-BFR-512.onnx",),
            ),
        ),
    ),
    Entry(
        "gpen-bfr-256",
        "GPEN-BFR-256.pth",
        "face restoration at 256 x 256",
        GPEN_LICENSE,
        (Source(ALIBABA + "GPEN-BFR-256.pth"),),
        approximate_bytes=75_517_192,
        size=256,
        aliases=("gpen_bfr_256.onnx",),
        exports=(
            Export(
                "GPEN-BFR-256.onnx",
                "aa5bd3ab238640a378c59e4a560f7a7150627944cf2129e6311ae4720e833271",
                (ROPE + "GPEN-BFR-256.onnx",),
                75_715_262,
            ),
        ),
    ),
    Entry(
        "gpen-colorization-1024",
        "GPEN-Colorization-1024.pth",
        "coloring of gray faces at 1024 x 1024",
        GPEN_LICENSE,
        (Source(ALIBABA + "GPEN-Colorization-1024.pth"),),
        approximate_bytes=284_843_696,
        size=1024,
        operation=COLORIZE,
    ),
    Entry(
        "gpen-inpainting-1024",
        "GPEN-Inpainting-1024.pth",
        "filling of a marked region of a face at 1024 x 1024",
        GPEN_LICENSE,
        (Source(ALIBABA + "GPEN-Inpainting-1024.pth"),),
        approximate_bytes=284_843_696,
        size=1024,
        operation=INPAINT,
    ),
    Entry(
        "retinaface_resnet50",
        "detection_Resnet50_Final.pth",
        "face detection",
        FACEXLIB_LICENSE,
        (
            Source(FACEXLIB + "v0.1.0/detection_Resnet50_Final.pth"),
            _hugging_face("akhaliq/RetinaFace-R50", "RetinaFace-R50.pth"),
            Source(ALIBABA + "RetinaFace-R50.pth"),
        ),
        bytes=109_497_761,
        sha256="6d1de9c2944f2ccddca5f5e010ea5ae64a39845a86311af6fdf30841b0a5a16d",
        aliases=("RetinaFace-R50.pth",),
    ),
    Entry(
        "retinaface_mobile0.25",
        "detection_mobilenet0.25_Final.pth",
        "fast face detection",
        FACEXLIB_LICENSE,
        (Source(FACEXLIB + "v0.1.0/detection_mobilenet0.25_Final.pth"),),
        bytes=1_789_735,
        sha256="2979b33ffafda5d74b6948cd7a5b9a7a62f62b949cef24e95fd15d2883a65220",
    ),
    Entry(
        "parsenet",
        "parsing_parsenet.pth",
        "face parsing",
        FACEXLIB_LICENSE,
        (Source(FACEXLIB + "v0.2.2/parsing_parsenet.pth"),),
        bytes=85_331_193,
        sha256="3d558d8d0e42c20224f13cf5a29c79eba2d59913419f945545d8cf7b72920de2",
    ),
    Entry(
        "sface",
        "face_recognition_sface_2021dec.onnx",
        "telling people apart",
        SFACE_LICENSE,
        (
            Source(OPENCV_ZOO + "face_recognition_sface/face_recognition_sface_2021dec.onnx"),
            _hugging_face("opencv/face_recognition_sface", "face_recognition_sface_2021dec.onnx"),
        ),
        bytes=38_696_353,
        sha256="0ba9fbfa01b5270c96627c4ef784da859931e02f04419c829e83484087c34e79",
        is_graph=True,
    ),
    Entry(
        "realesrnet_x2",
        "realesrnet_x2.pth",
        "background upscaling, 2 times",
        GPEN_LICENSE,
        (_hugging_face("akhaliq/realesrnet_x2", "realesrnet_x2.pth"), Source(ALIBABA + "realesrnet_x2.pth")),
        bytes=77_228_423,
        sha256="a8bc646e373d3aa593842d071f2bd876d3db2cc969f8d3efa6cf961cc421c2d1",
        scale=2,
    ),
    Entry(
        "realesrnet_x4",
        "realesrnet_x4.pth",
        "background upscaling, 4 times",
        GPEN_LICENSE,
        (Source(ALIBABA + "realesrnet_x4.pth"),),
        scale=4,
    ),
)


def base_name(name: str) -> str:
    """Return a file name in lower case without a suffix of `SUFFIXES`."""
    lower = name.lower()
    return next((lower[: -len(s)] for s in SUFFIXES if lower.endswith(s)), lower)


def find_entry(name: AnyPath) -> Entry | None:
    """Return the entry of that name, file name or alias. Case and a suffix of `SUFFIXES` are ignored."""
    wanted = base_name(fspath(name))
    return next((e for e in CATALOG if wanted in map(base_name, (e.name, e.file, *e.aliases))), None)


def find_export(sha256: str) -> Export | None:
    """Return the published ONNX export that has this digest."""
    return next((export for entry in CATALOG for export in entry.exports if export.sha256 == sha256), None)


def tensor_digests() -> frozenset[str]:
    """Return the known digests of the tensors of published ONNX exports."""
    return frozenset(one.tensors_sha256 for entry in CATALOG for one in entry.exports if one.tensors_sha256)


def find_operation(name: str) -> str:
    """Return what the network of that name, file name or path does, see `Entry.operation`. Unknown ones restore."""
    entry = find_entry(PurePath(name).name)
    return RESTORE if entry is None else entry.operation


def restoring_networks() -> tuple[Entry, ...]:
    """Return the entries of the networks that restore faces, one for each size."""
    return tuple(entry for entry in CATALOG if entry.size is not None and entry.operation == RESTORE)


def network_name(size: int) -> str:
    """Return the name of the released network that restores faces at `size` x `size` pixels."""
    return next(entry.name for entry in restoring_networks() if entry.size == size)
