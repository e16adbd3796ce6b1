"""The files that gpen_core knows by name."""

from __future__ import annotations

from dataclasses import dataclass

ALIBABA = "https://public-vigen-video.oss-cn-shanghai.aliyuncs.com/robin/models/"
MODELSCOPE = "https://www.modelscope.cn/models/iic/cv_gpen_image-portrait-enhancement-hires/resolve/master/"
FACEXLIB = "https://github.com/xinntao/facexlib/releases/download/"
GPEN_LICENCE = "GPEN weights (c) Alibaba 2021: for academic and non-commercial use only"
FACEXLIB_LICENCE = "facexlib weights: MIT"


@dataclass(frozen=True)
class Entry:
    """A weights file as it was released."""

    name: str
    file: str
    url: str
    """Where its publisher put it."""
    purpose: str
    licence: str
    aliases: tuple[str, ...] = ()
    """Other names of the same file, on disk or on the command line."""


CATALOG = (
    Entry(
        "gpen-bfr-2048",
        "GPEN-BFR-2048.pth",
        MODELSCOPE + "pytorch_model-2048.pt",
        "face restoration at 2048 x 2048",
        GPEN_LICENCE,
        ("pytorch_model-2048.pt", "GPEN-BFR-2048.pt"),
    ),
    Entry(
        "gpen-bfr-1024",
        "GPEN-BFR-1024.pth",
        MODELSCOPE + "pytorch_model.pt",
        "face restoration at 1024 x 1024",
        GPEN_LICENCE,
        ("GPEN-BFR-1024.pt",),
    ),
    Entry("gpen-bfr-512", "GPEN-BFR-512.pth", ALIBABA + "GPEN-BFR-512.pth", "face restoration at 512 x 512", GPEN_LICENCE),
    Entry("gpen-bfr-256", "GPEN-BFR-256.pth", ALIBABA + "GPEN-BFR-256.pth", "face restoration at 256 x 256", GPEN_LICENCE),
    Entry(
        "retinaface_resnet50",
        "detection_Resnet50_Final.pth",
        FACEXLIB + "v0.1.0/detection_Resnet50_Final.pth",
        "finds faces",
        FACEXLIB_LICENCE,
        ("RetinaFace-R50.pth",),
    ),
    Entry(
        "retinaface_mobile0.25",
        "detection_mobilenet0.25_Final.pth",
        FACEXLIB + "v0.1.0/detection_mobilenet0.25_Final.pth",
        "finds faces, fast",
        FACEXLIB_LICENCE,
    ),
    Entry(
        "parsenet",
        "parsing_parsenet.pth",
        FACEXLIB + "v0.2.2/parsing_parsenet.pth",
        "tells face, hair, hat and clothes apart",
        FACEXLIB_LICENCE,
        ("ParseNet-latest.pth",),
    ),
)


def find_entry(name: str) -> Entry | None:
    """The entry of that name, file name or alias, without regard to case."""
    wanted = name.lower()
    return next((e for e in CATALOG if wanted in (n.lower() for n in (e.name, e.file, *e.aliases))), None)
