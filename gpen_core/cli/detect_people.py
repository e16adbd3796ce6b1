"""The part of `gpen detect` that tells who is in which images."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from ..errors import OptionsError
from ..options import AUTO, RestoreOptions, VideoOptions
from ..progress import pluralize
from ..version import __version__
from .progress_display import ProgressReporter
from .terminal import input_error_text

if TYPE_CHECKING:
    from ..batch.job import ImageJob
    from ..batch.job_plan import JobPlan
    from ..batch.locations import Location
    from ..faces.detection.retinaface import Detector
    from ..faces.face import Face
    from ..images.image import ImageData
    from ..pipeline.identity_models import IdentityModels
    from ..pipeline.photo_people import FaceGrouper, GroupedFaces, PhotoFace, PhotoPerson
    from .people_page import PersonEntry

NAME = "people"
"""The name of the page, of its JSON file and of its folder."""
MAX_NAMES = 4  # images of a person that are named in one line


def as_sentence(note: str) -> str:
    """Return a note with a capital letter. On the terminal it follows the name of a file, on the page it is a sentence."""
    return note[:1].upper() + note[1:]


def detect_one(detector: Detector, options: RestoreOptions, image: ImageData) -> Sequence[Face]:
    """Detect the faces of an image."""
    return detector.detect([image], options)[0]


def raise_if_deleted(jobs: JobPlan, folder: Path, name: str) -> None:
    """Raise `OptionsError` if an input is one of the faces that a page with this name would delete."""
    from .people_page import old_faces

    for path in old_faces(folder, name):
        if jobs.has(path):
            raise OptionsError(f"{path} is an input and would be overwritten. Choose another -o.")


@dataclass(eq=False)
class PeopleCollector:
    """Collects the faces of a run, and writes the page of its people. See `PeoplePage`."""

    folder: Path
    inputs: Sequence[str]
    """The arguments that name the images, also for `gpen restore`."""
    detector: Detector
    options: RestoreOptions
    grouper: FaceGrouper
    note: str | None
    """Why faces are not compared."""
    files: list[tuple[str, PurePath]] = field(default_factory=list)
    """Name of each image with faces, and the path of its output below the folder."""
    failed: list[dict[str, str]] = field(default_factory=list)
    image_count: int = 0

    @classmethod
    def begin(
        cls,
        args: argparse.Namespace,
        inputs: Sequence[str],
        folder: Path,
        detector: Detector,
        identity: IdentityModels,
        reporter: ProgressReporter,
    ) -> PeopleCollector:
        """Load the embedder if faces are to be compared. Raises `MissingWeights` and `WeightsError`."""
        from ..pipeline.photo_people import FaceGrouper, not_joined_text

        join, options = VideoOptions.from_mapping(vars(args)).join_people, RestoreOptions.from_mapping(vars(args))
        embedder = identity.embedder(reporter) if identity.joins_people(join) else None
        note = not_joined_text("image") if embedder is None and join == AUTO else None
        return cls(folder, inputs, detector, options, FaceGrouper(embedder, options.template), note)

    def add(self, job: ImageJob, image: ImageData, faces: Sequence[Face]) -> None:
        """Add an image with its faces. Raises `WeightsError`."""
        self.image_count += 1
        if self.grouper.add(len(self.files), image, faces):
            self.files.append((str(job.source), PurePath(str(job.target)).relative_to(self.folder)))

    def add_failed(self, source: Location, error: Exception) -> None:
        self.failed.append({"file": str(source), "error": str(error)})

    def check_outputs(self, jobs: JobPlan) -> None:
        """Raise `OptionsError` if an image would be written among the faces of the people, or is one to be deleted."""
        raise_if_deleted(jobs, self.folder, NAME)
        top = self.folder / NAME
        for job in jobs:
            if top in PurePath(str(job.target)).parents:
                raise OptionsError(
                    f"{job.target} would be among the faces of the people in {top}. Rename the folder {NAME}."
                )

    def write(self, reporter: ProgressReporter) -> None:
        """Print the people, and write their page. Raises `OutputError`."""
        from .people_page import PeoplePage, reference_folder

        found = self.grouper.group()
        notes = [*found.notes, *([self.note] if self.note and len(self.files) > 1 else [])]
        title = f"{pluralize(len(found.people), 'person', 'people')} in {pluralize(self.image_count, 'image')}"
        reference = shlex.quote(f"like:{reference_folder(self.folder, NAME, 0)}")
        command = f"gpen restore {shlex.join(self.inputs)} -o restored/ --faces {reference}"
        page = PeoplePage(
            self.folder,
            NAME,
            title,
            [self._entry(person) for person in found.people],
            [("To restore one person in all images:", command)] if found.people else [],
            [*map(as_sentence, notes), *(input_error_text(one["file"], one["error"]) for one in self.failed)],
            {"version": __version__, "joined": found.is_joined, "failed": self.failed},
        )
        written = page.write(partial(detect_one, self.detector, self.options), reporter)
        self._print(page.path, title, found, reporter)
        for note in (*notes, *written):
            reporter.note(note)

    def _print(self, path: Path, title: str, found: GroupedFaces, reporter: ProgressReporter) -> None:
        reporter.summarize(f"{path}: {title}")
        for person in found.people if found.is_joined else ():
            names = [self._place(face) for face in person.faces[:MAX_NAMES]]
            more = len(person.faces) - MAX_NAMES
            rest = f" and {more:,} more" if more > 0 else ""
            reporter.write(f"{person.number:4}  {', '.join(names)}{rest}", sys.stdout)

    def _place(self, face: PhotoFace) -> str:
        source, below = self.files[face.photo]
        return f"{(below.parent / PurePath(source).name).as_posix()} (face {face.number})"

    def _entry(self, person: PhotoPerson) -> PersonEntry:
        from .people_page import PersonEntry, Place

        places = [Place(self._place(face), self.files[face.photo][1].as_posix()) for face in person.faces]
        thumbnails = [face.thumbnail for face in person.best_faces]
        faces = [self._listed(face) for face in person.faces]
        return PersonEntry(person.number, pluralize(len(places), "image"), thumbnails, places, {"faces": faces})

    def _listed(self, face: PhotoFace) -> dict[str, Any]:
        box, score = [round(v, 2) for v in face.box], round(face.score, 4)
        return {"file": self.files[face.photo][0], "face": face.number, "box": box, "score": score}
