"""The page of people: HTML, JSON and a folder of faces for each person."""

import json
from html.parser import HTMLParser
from urllib.parse import unquote

import helpers
import numpy as np
import pytest

from gpen_core.cli.people_page import PeoplePage, PersonEntry, Place
from gpen_core.errors import OutputError
from gpen_core.pipeline.photo_people import encode_thumbnail

FACE = encode_thumbnail(np.full((160, 160, 3), 128, np.uint8))
BLANK = encode_thumbnail(np.zeros((160, 160, 3), np.uint8))


def detect(image):
    """No face in a black thumbnail."""
    return [helpers.make_face((80, 80), 60)] if image.pixels.max() > 0 else []


def entry(number, *thumbnails, places=(), reason=None):
    return PersonEntry(number, f"{len(places)} images", thumbnails, places, {"faces": [number]}, reason)


class Links(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.hrefs, self.sources, self.texts = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = {"a": (self.hrefs, "href"), "img": (self.sources, "src")}.get(tag)
        if found:
            found[0].append(unquote(dict(attributes)[found[1]], errors="surrogateescape"))

    def handle_data(self, data):
        self.texts.append(data.strip())


def test_the_page_names_faces_and_places(tmp_path):
    name = "a <b> & #1 \U0001f600 \udc80.jpg"  # the last one is no text
    places = [Place(f"{name} (face 2)", f"sub/{name}"), *(Place(f"{n}.jpg (face 0)", f"{n}.jpg") for n in range(20))]
    people = [entry(0, FACE, FACE, places=places), entry(1, BLANK, places=places[1:2], reason="too small")]
    page = PeoplePage(tmp_path, "people", "2 people", people, [("Next:", "gpen <x>")], ["a note"], {"joined": True})
    assert page.write(detect) == []
    links = Links(page.path.read_text("utf-8"))
    assert links.hrefs[:2] == [f"sub/{name}", "0.jpg"] and len(links.hrefs) == 22
    assert links.sources == ["people/0/gpen-face-0.jpg", "people/0/gpen-face-1.jpg", "people/gpen-face-1.jpg"]
    assert all((tmp_path / source).read_bytes() in (FACE, BLANK) for source in links.sources)
    assert {"2 people", "gpen <x>", "a note", "too small", "13 more"} <= set(links.texts)
    assert f"--faces like:{tmp_path / 'people' / '0'}" in links.texts
    assert "No face is clear enough for a reference." in links.texts and not (tmp_path / "people" / "1").exists()
    listed = json.loads((tmp_path / "people.json").read_text())
    assert listed["joined"] and listed["notes"] == ["a note"]
    assert listed["people"] == [
        {"number": 0, "faces": [0], "references": links.sources[:2]},
        {"number": 1, "faces": [1], "references": []},
    ]


def test_another_page_replaces_the_faces_of_the_one_before_and_nothing_else(tmp_path):
    for folder in ("people/0", "people/1", "people/album"):
        (tmp_path / folder).mkdir(parents=True)
    own = [tmp_path / "people" / place for place in ("1/anna.jpg", "album/gpen-face-0.jpg", "2020.jpg")]
    for path in own:
        path.write_bytes(b"mine")
    PeoplePage(tmp_path, "people", "", [entry(n, FACE, FACE) for n in range(3)]).write(detect)
    notes = PeoplePage(tmp_path, "people", "", [entry(0, FACE), entry(1, FACE)]).write(detect)
    assert notes == [
        f"{tmp_path / 'people' / '1'} has files that gpen detect did not write. They count as photos of this person"
    ]
    left = sorted(str(path.relative_to(tmp_path / "people")) for path in (tmp_path / "people").rglob("*.jpg"))
    assert left == ["0/gpen-face-0.jpg", "1/anna.jpg", "1/gpen-face-0.jpg", "2020.jpg", "album/gpen-face-0.jpg"]
    assert all(path.read_bytes() == b"mine" for path in own) and not (tmp_path / "people" / "2").exists()


def test_a_page_without_people_is_written_too(tmp_path):
    PeoplePage(tmp_path, "people", "0 people", []).write(detect)
    assert json.loads((tmp_path / "people.json").read_text())["people"] == [] and "0 people" in (
        tmp_path / "people.html"
    ).read_text("utf-8")


def test_old_faces_that_cannot_be_deleted_are_one_error(tmp_path, monkeypatch):
    page = PeoplePage(tmp_path, "people", "", [entry(0, FACE)])
    page.write(detect)

    def refuse(self, missing_ok=False):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.unlink", refuse)
    with pytest.raises(OutputError, match=r"The old faces in .*people cannot be deleted: Permission denied. Choose"):
        page.write(detect)
