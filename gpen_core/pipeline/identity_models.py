"""The face embedder of a restorer, and the people of its options."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import MissingWeights
from ..faces.detection.retinaface import Detector
from ..faces.identity import FaceEmbedder, SFace
from ..options import AUTO, FACE_EMBEDDER, RestoreOptions, required_weights
from ..progress import Progress
from ..weights.catalog import Entry
from ..weights.folders import find_file
from ..weights.store import Store
from .lazy import Lazy
from .needed_weights import EMBEDDER_NAME
from .people import People, ReferenceCache


class IdentityModels:
    """The embedder, which is downloaded and loaded on first use, and the people of the last options."""

    def __init__(
        self,
        detector: Detector,
        load: Callable[[Progress], FaceEmbedder] | None = None,
        is_present: Callable[[], bool] = lambda: False,
    ) -> None:
        """`load` raises `MissingWeights` if the embedder's file is missing and cannot be downloaded. `is_present` returns
        whether it is downloaded."""
        self._detector = detector
        self._embedder = Lazy(load or _missing_embedder)
        self._is_present = is_present
        self._references = ReferenceCache()

    @classmethod
    def from_store(cls, detector: Detector, store: Store) -> IdentityModels:
        """Load SFace from a models folder."""

        def load(progress: Progress) -> FaceEmbedder:
            return store.load(EMBEDDER_NAME, build_embedder, progress)

        return cls(detector, load, lambda: find_file(EMBEDDER_NAME, store.folders) is not None)

    @property
    def is_present(self) -> bool:
        """Whether the embedder can be used without a download."""
        return self._embedder.loaded_value is not None or self._is_present()

    def joins_people(self, join_people: str) -> bool:
        """Whether `VideoOptions.join_people` lets faces be compared: `auto` does if the embedder is downloaded."""
        return join_people == "on" or (join_people == AUTO and self.is_present)

    def embedder(self, progress: Progress) -> FaceEmbedder:
        """Return the embedder. Raises `MissingWeights` and `WeightsError`."""
        return self._embedder.get(progress)

    def people(self, options: RestoreOptions, progress: Progress) -> People | None:
        """Return the people that the options choose or leave out by references, or None if there are none.

        Raises `MissingWeights` and `WeightsError` for the embedder, and `InputError` for a bad reference."""
        if FACE_EMBEDDER not in required_weights(options):
            return None
        embedder = self.embedder(progress)
        return self._references.get(options, embedder, lambda image: self._detector.detect([image], options)[0])


def build_embedder(content: object, entry: Entry | None) -> FaceEmbedder:
    """Build the embedder from the verified bytes of its file. Raises `WeightsError`."""
    assert isinstance(content, bytes)
    return SFace(content)


def _missing_embedder(progress: Progress) -> FaceEmbedder:
    raise MissingWeights("Telling people apart needs a face embedder, but no models folder was given.")
