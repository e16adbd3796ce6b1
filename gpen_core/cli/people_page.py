"""A page of people: an HTML file with a number, faces and places of each person, and the same as JSON for programs.

The faces are in a folder for each person, which is a reference for `like:`."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..errors import OutputError
from ..files.atomic_write import write_bytes
from ..pipeline.people import DetectFaces
from ..pipeline.photo_people import choose_references
from ..progress import Progress, ProgressEvent, no_progress

MAX_PLACES = 8  # places of a person that are always visible; the others unfold
FACE_FILE = "gpen-face-{}.jpg"
FACE_FILES = re.compile(r"gpen-face-\d+\.jpg")
STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
section { border-top: 1px solid #8888; padding: .8rem 0; content-visibility: auto; contain-intrinsic-size: auto 17rem; }
h2 { font-size: 1.2rem; margin: 0 0 .5rem; }
h2 small { font-weight: normal; margin-left: .6rem; }
img { width: 128px; height: 128px; object-fit: contain; background: #8882; margin-right: 8px; border-radius: 4px; }
ul { list-style: none; margin: .3rem 0; padding: 0; overflow-wrap: anywhere; }
ul.short > li { display: inline-block; margin-right: 1.2rem; }
code { background: #8882; padding: .15rem .35rem; border-radius: 4px; overflow-wrap: anywhere; }
"""


@dataclass(frozen=True)
class Place:
    """Where a person is visible: an image, or a time in a video."""

    text: str
    link: str | None = None
    """The path of a file below the page's folder, with `/`."""


@dataclass(frozen=True, eq=False)
class PersonEntry:
    """What the page says about a person."""

    number: int
    title: str
    """Such as `12 images`."""
    thumbnails: Sequence[bytes]
    """JPEG files, the best face first."""
    places: Sequence[Place]
    json_fields: Mapping[str, Any]
    """The person in the JSON file."""
    reason: str | None = None
    """Why the person would be skipped."""


@dataclass(frozen=True, eq=False)
class PeoplePage:
    """A page of people, and what it says about all of them. Texts may have any characters."""

    folder: Path
    name: str
    """The files are NAME.html, NAME.json and the folder NAME."""
    title: str
    people: Sequence[PersonEntry]
    commands: Sequence[tuple[str, str]] = ()
    """What to do next, each with a command."""
    notes: Sequence[str] = ()
    json_fields: Mapping[str, Any] | None = None
    """The JSON file without its people."""

    @property
    def path(self) -> Path:
        """The HTML file."""
        return self.folder / f"{self.name}.html"

    def write(self, detect: DetectFaces, progress: Progress = no_progress) -> list[str]:
        """Write the files, and return notes about them. Raises `OutputError`.

        Faces of an earlier page with this name are deleted. `detect` finds the faces in thumbnails: one that shows no face,
        or two, is no reference. If a person has no other thumbnail, it is written into the folder NAME itself."""
        top = self.folder / self.name
        try:
            others = _delete_faces(top)
        except OSError as error:
            raise OutputError(
                f"The old faces in {top} cannot be deleted: {error.strerror or error}. Choose another -o."
            ) from error
        sections, listed = [], []
        for done, person in enumerate(self.people):
            progress(ProgressEvent("identify", done, len(self.people), "face", "Writing people"))
            references = choose_references(person.thumbnails, detect)
            names = [f"{person.number}/{FACE_FILE.format(n)}" for n in range(len(references))]
            files = list(zip(names, references)) or [(FACE_FILE.format(person.number), one) for one in person.thumbnails[:1]]
            for name, data in files:
                write_bytes(top / name, data)
            faces = [f"{self.name}/{name}" for name, _ in files]
            sections.append(
                _section(person, faces, reference_folder(self.folder, self.name, person.number) if references else None)
            )
            listed.append({"number": person.number, **person.json_fields, "references": faces if references else []})
        content = {**(self.json_fields or {}), "notes": list(self.notes), "people": listed}
        write_bytes(self.folder / f"{self.name}.json", json.dumps(content, indent=1).encode())
        write_bytes(self.path, self._html(sections).encode("utf-8", "replace"))
        numbers = {str(person.number) for person in self.people}
        return [
            f"{top / other} has files that gpen detect did not write. They count as photos of this person"
            for other in others
            if other in numbers
        ]

    def _html(self, sections: Sequence[str]) -> str:
        commands = [f"<p>{escape(text)}<br><code>{escape(line)}</code></p>" for text, line in self.commands]
        notes = [f"<p>{escape(note)}</p>" for note in self.notes]
        head = f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{escape(self.title)}</title>'
        parts = [head, f"<style>{STYLE}</style>", f"<h1>{escape(self.title)}</h1>", *notes]
        return "\n".join([*parts, *commands, *sections, "</html>\n"])


def reference_folder(folder: Path, name: str, number: int) -> Path:
    """Return the folder with the faces of a person of a `PeoplePage`: a reference for `like:`."""
    return folder / name / str(number)


def _section(person: PersonEntry, faces: Sequence[str], reference: Path | None) -> str:
    """Return the HTML of a person. `faces` are paths below the page's folder."""
    pictures = "".join(f'<img src="{_url(face)}" alt="Person {person.number}" loading="lazy">' for face in faces)
    places = [f"<li>{_linked(place)}</li>" for place in person.places]
    rest = places[MAX_PLACES:]
    more = f"<details><summary>{len(rest):,} more</summary><ul>{''.join(rest)}</ul></details>" if rest else ""
    usable = "No face is clear enough for a reference."
    if reference is not None:
        usable = f"<code>--faces {escape(shlex.quote(f'like:{reference}'))}</code>"
    reason = "" if person.reason is None else f"<p>{escape(person.reason)}</p>"
    return (
        f'<section id="person-{person.number}"><h2>Person {person.number}<small>{escape(person.title)}</small></h2>\n'
        f'{pictures}\n<ul class="short">{"".join(places[:MAX_PLACES])}</ul>{more}{reason}\n<p>{usable}</p></section>'
    )


def _linked(place: Place) -> str:
    text = escape(place.text)
    return text if place.link is None else f'<a href="{_url(place.link)}">{text}</a>'


def _url(path: str) -> str:
    return quote(os.fsencode(path))


def old_faces(folder: Path, name: str) -> list[Path]:
    """Return the faces of an earlier page, which a new `PeoplePage` deletes. Empty if a folder cannot be read."""
    try:
        folders = _face_folders(folder / name)
        return [file for one in folders for file in _children(one) if FACE_FILES.fullmatch(file.name)]
    except OSError:  # deleting them raises it
        return []


def _face_folders(top: Path) -> list[Path]:
    return [*(one for one in _children(top) if one.name.isdecimal() and one.is_dir()), top]


def _delete_faces(top: Path) -> list[str]:
    """Delete the faces of an earlier page, and return the names of the folders of people that have other files."""
    others = []
    for folder in _face_folders(top):
        files = _children(folder)
        for file in files:
            if FACE_FILES.fullmatch(file.name):
                file.unlink(missing_ok=True)
        if folder != top and any(FACE_FILES.fullmatch(file.name) is None for file in files):
            others.append(folder.name)
        with contextlib.suppress(OSError):  # it has other files, or is not there
            folder.rmdir()
    return others


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
