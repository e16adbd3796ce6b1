"""The outcomes of images, and reports in JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..errors import GpenError
from ..faces.face import Face
from ..options import RestoreOptions
from ..version import __version__
from .restore_result import RestoreResult


class FilePair(Protocol):
    """The input and the output of an image: paths or URLs, which `str` converts to their names."""

    @property
    def source(self) -> object: ...

    @property
    def target(self) -> object: ...


class ModelInfo(Protocol):
    """Sizes, device, precision and files of the networks. A `FaceRestorer` is one."""

    @property
    def sizes(self) -> tuple[int, ...]: ...

    @property
    def device(self) -> object: ...

    @property
    def dtype(self) -> object: ...

    @property
    def weights(self) -> Sequence[dict[str, str]]: ...


@dataclass(frozen=True)
class RuntimeInfo:
    """The `ModelInfo` of another process."""

    sizes: tuple[int, ...]
    device: str
    dtype: str
    weights: tuple[dict[str, str], ...] = ()

    @classmethod
    def of(cls, restorer: ModelInfo) -> RuntimeInfo:
        return cls(restorer.sizes, str(restorer.device), str(restorer.dtype), tuple(restorer.weights))

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> RuntimeInfo:
        """Read the `astuple` of another one. Its tuples may have become lists, as in JSON."""
        sizes, device, dtype, weights = row
        return cls(tuple(sizes), device, dtype, tuple(weights))


class Outcome(Protocol):
    """The outcome of one input of a run. An `ImageOutcome` is one."""

    @property
    def status(self) -> str: ...

    @property
    def error(self) -> GpenError | None: ...

    def to_json(self) -> dict[str, Any]: ...


@dataclass
class ImageOutcome:
    """The outcome of one image."""

    files: FilePair
    status: str = "failed"
    """`restored`, `enlarged` or `unchanged` (no face was restored), `skipped` (the output exists), or `failed`."""
    error: GpenError | None = None
    size: tuple[int, int] | None = None
    """Width and height of the output, or of the input if it failed."""
    faces: tuple[Face, ...] = ()
    detectable_sizes: tuple[float, float] | None = None
    """Sizes of the smallest and largest detectable face in pixels. None if the image failed."""
    notes: tuple[str, ...] = ()
    result: RestoreResult | None = None
    """The result with its pixels. Removed after `on_finished`, because a whole folder would not fit into memory."""
    seconds: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {"input": str(self.files.source), "output": None, "status": self.status}
        if self.status != "failed":
            out["output"] = str(self.files.target)
        if self.error is not None:
            out["error"] = str(self.error)
        if self.size is not None:
            out["width"], out["height"] = self.size
        if self.detectable_sizes is not None:
            out["smallest_face_px"], out["largest_face_px"] = (round(size, 2) for size in self.detectable_sizes)
            out["faces"] = [{"number": n, **face.to_json()} for n, face in enumerate(self.faces)]
        if self.notes:
            out["notes"] = list(self.notes)
        out["seconds"] = {stage: round(value, 4) for stage, value in self.seconds.items()}
        return out


class OutcomeCounts:
    """Counts of inputs by status and error."""

    def __init__(self) -> None:
        self.statuses: Counter[str] = Counter()
        """Inputs by `ImageOutcome.status`."""
        self.errors: Counter[type[BaseException]] = Counter()
        """Failed inputs by the type of the error."""

    def add(self, outcome: Outcome) -> None:
        self.statuses[outcome.status] += 1
        if outcome.error is not None:
            self.errors[type(outcome.error)] += 1

    @property
    def total(self) -> int:
        return self.statuses.total()


def report_header(restorer: ModelInfo | None, names: dict[str, Any], options: RestoreOptions) -> dict[str, Any]:
    """Return the fields of a report that describe the run, see `format_report`."""
    content: dict[str, Any] = {"version": __version__, **names}
    if restorer is not None:
        content["size"] = restorer.sizes[0] if len(restorer.sizes) == 1 else None
        content["device"] = str(restorer.device)
        content["dtype"] = str(restorer.dtype).removeprefix("torch.")
        content["weights"] = list(restorer.weights)
    content["options"] = options_json(options)
    return content


def options_json(options: RestoreOptions) -> dict[str, Any]:
    """Return the fields of the options with texts for the references of `faces`, whose photos may be large."""
    faces = options.faces
    texts = faces if isinstance(faces, str) else [part if isinstance(part, int) else str(part) for part in faces]
    return {**vars(options), "faces": texts}


def to_json(content: dict[str, Any], indent: int | None = None) -> str:
    """Format as JSON. Non-finite numbers become null, and bytes in names that are not valid text become escapes."""
    content = json.loads(json.dumps(content), parse_constant=lambda constant: None)
    text = json.dumps(content, indent=indent, ensure_ascii=False) + "\n"
    return text.encode(errors="backslashreplace").decode()


def format_report(
    restorer: ModelInfo | None,
    names: dict[str, Any],
    options: RestoreOptions,
    outcomes: Iterable[Outcome],
    error: str | None = None,
    seconds: float | None = None,
    key: str = "inputs",
) -> str:
    """Format a run as JSON.

    `error` is the error that ended the run early. `restorer` is None if no network was loaded. The fields are:

    - `version`, `model` and `detector` (as requested), `size` (null with the model `auto`), `device`, `dtype`
    - `weights`: for each loaded network the `file`, its `sha256`, and the `engine`: torch or a provider of ONNX Runtime
    - `options`: all fields of `RestoreOptions`
    - `references` if the options have any: the SHA-256 of the photos of each
    - `error` if there is one, and `seconds`, the duration of the run
    - `inputs`, or another `key`: a list of images

    Each image has the fields:

    - `input`, `output` (null if it failed), `status` (`restored`, `enlarged`, `unchanged`, `skipped` or `failed`)
    - `error` if it failed
    - `width` and `height` of the output in pixels
    - `smallest_face_px` and `largest_face_px`: the detectable sizes
    - `faces`: the `number` and the fields of `Face.to_json`
    - `notes` if there are any, and `seconds` by stage

    Non-finite numbers are null."""
    content = report_header(restorer, names, options)
    if error is not None:
        content["error"] = error
    if seconds is not None:
        content["seconds"] = round(seconds, 3)
    content[key] = [outcome.to_json() for outcome in outcomes]
    return to_json(content, indent=2)
