"""People chosen and left out by reference photos, in Python."""

import os
import re
from dataclasses import replace

import cv2
import numpy as np
import people
import pytest
from people import ANNA, BOB, CARA
from PIL import Image

from gpen_core import FaceReference, RestoreInput, RestoreOptions
from gpen_core.errors import FaceNumberError, InputError, MissingWeights, OptionsError
from gpen_core.faces.select import raise_if_missing
from gpen_core.pipeline.needed_weights import missing_weights
from gpen_core.pipeline.people import references_digest

AMBIGUOUS = people.mixed(ANNA, BOB, 0.62)  # more like Bob, and still like Anna


@pytest.fixture
def write(tmp_path):
    def save(name, pixels):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.rint(pixels * 255).astype(np.uint8)).save(path)
        return str(path)

    return save


@pytest.fixture
def anna(write):
    return write("anna.png", people.portrait_of(ANNA))


@pytest.fixture
def bob(write):
    return write("bob.png", people.portrait_of(BOB))


def restored(result):
    return [n for n, face in enumerate(result.faces) if face.restored]


def run(faces, image=None, **options):
    image = people.group(ANNA, BOB, CARA) if image is None else image
    return people.restorer()(image, faces=faces, **options)


def test_one_person_of_a_group_is_restored_and_the_others_are_unchanged(anna):
    image = people.group(BOB, ANNA, CARA)
    result = run(f"like:{anna}", image)
    assert restored(result) == [1] and result.mask[:, 240:260].any()
    assert (result.image[:, :200] == image[:, :200]).all() and (result.image[:, 420:] == image[:, 420:]).all()
    assert result.faces[1].similarity > 0.95 > 0.363 > result.faces[0].similarity
    assert re.fullmatch(r"another person: -?0\.\d\d like .*anna\.png, 0\.363 counts as the same", result.faces[0].reason)
    assert result.notes == ()


@pytest.mark.parametrize(
    ("choice", "numbers"),
    [
        (["like:{anna}", "like:{bob}"], [0, 1]),
        (["not:{anna}"], [1, 2]),
        (["not:{anna}", "not:{bob}"], [2]),
        (["like:{anna}", 2], [0, 2]),
        (["1-2", "like:{anna}"], [0, 1, 2]),
        (["1,2", "not:{bob}"], [2]),
        (["like:{anna}", "not:{anna}"], []),
    ],
)
def test_people_and_numbers_together(anna, bob, choice, numbers):
    result = run([part.format(anna=anna, bob=bob) if isinstance(part, str) else part for part in choice])
    assert restored(result) == numbers


def test_largest_is_the_largest_of_those_who_are_not_left_out(anna):
    result = run(["largest", f"not:{anna}"])
    assert len(restored(result)) == 1 and 0 not in restored(result)
    assert result.faces[0].reason.startswith("left out: 1.00 like ")


def test_a_face_that_is_more_like_a_person_left_out_is_left_out(anna, bob):
    image = people.photo(people.THREE, [AMBIGUOUS, ANNA, CARA], people.GROUP)
    assert restored(run(f"like:{anna}", image)) == [0, 1]
    assert restored(run([f"like:{anna}", f"not:{bob}"], image)) == [1]


def test_the_note_says_that_the_closest_face_is_more_like_a_person_left_out(anna, bob):
    image = people.photo(people.THREE, [AMBIGUOUS, 4, CARA], people.GROUP)
    result = run([f"like:{anna}", f"not:{bob}"], image)
    assert restored(result) == [] and result.faces[0].similarity > 0.363
    pattern = r"no face is like .*anna\.png: the closest is face 0 with 0\.\d\d, but it is left out: 0\.\d\d like .*bob\.png"
    assert any(re.match(pattern, note) for note in result.notes), result.notes


def test_several_matches_and_uncertain_ones_are_reported_with_their_scores(anna):
    result = run(f"like:{anna}", people.photo(people.THREE, [AMBIGUOUS, ANNA, CARA], people.GROUP))
    (note,) = (note for note in result.notes if "faces are like" in note)
    assert re.search(r"2 faces are like .*anna\.png: face 0 \(0\.\d\d\), face 1 \((1\.00|0\.9\d)\)", note)
    shares = np.linspace(0.6, 0.8, 9)
    noted = [
        run(f"like:{anna}", people.photo(people.THREE, [people.mixed(ANNA, BOB, s), BOB, CARA], people.GROUP))
        for s in shares
    ]
    close = [one for one in noted if abs(one.faces[0].similarity - 0.363) < 0.05]
    assert close and all(any("face 0 is uncertain: " in note for note in one.notes) for one in close)


def test_where_nobody_is_like_the_reference_nothing_changes_and_the_closest_is_named(anna):
    image = people.group(BOB, CARA, 4)
    result = run(f"like:{anna}", image)
    assert restored(result) == [] and (result.image == image).all()
    assert re.fullmatch(
        r"no face is like .*anna\.png: the closest is face \d with -?0\.\d\d, 0\.363 counts as the same person",
        result.notes[0],
    )
    raise_if_missing((5, f"like:{anna}"), 3, require_all=False)
    with pytest.raises(FaceNumberError):
        raise_if_missing((5, f"not:{anna}"), 3, require_all=False)


def test_a_folder_is_one_person_and_its_other_files_are_ignored(tmp_path, write):
    for n, share in enumerate((0.2, 0.3)):
        write(f"anna/{n}.png", people.photo(people.ALONE, [people.mixed(ANNA, 4 + n, share)], people.PORTRAIT))
    (tmp_path / "anna" / "notes.txt").write_text("not a photo")
    (tmp_path / "anna" / ".hidden.png").write_text("nor this")
    result = run(f"like:{tmp_path / 'anna'}")
    assert restored(result) == [0] and result.faces[0].similarity > 0.9


def test_references_in_memory():
    anna = FaceReference((people.portrait_of(ANNA),), name="image 1")
    assert restored(run([anna])) == [0]
    assert restored(run([replace(anna, is_excluded=True)])) == [1, 2]
    assert str(anna) == "like:image 1"


def test_a_reference_in_memory_that_is_changed_in_place_is_read_again():
    pixels = people.portrait_of(ANNA)
    options, image, restorer = RestoreOptions(faces=FaceReference(pixels)), people.group(ANNA, BOB, CARA), people.restorer()
    assert restored(restorer(image, options)) == [0]
    pixels[:] = people.portrait_of(BOB)
    assert restored(restorer(image, options)) == [1]


def test_a_reference_that_is_too_blurry_to_trust_is_named(anna, write, caplog):
    run(f"like:{anna}")
    assert not caplog.records
    blurry = write("blurry.png", cv2.GaussianBlur(people.portrait_of(ANNA), (0, 0), 12))
    run(f"like:{blurry}")
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{blurry}: its face is too small or too blurry")


def test_a_home_folder_may_be_short(anna, monkeypatch):
    home, name = os.path.split(anna)
    monkeypatch.setenv("HOME", home)
    monkeypatch.setenv("USERPROFILE", home)
    assert restored(run(f"like:~/{name}")) == [0]


def test_a_reference_may_be_an_open_file(anna):
    with open(anna, "rb") as file:
        options = RestoreOptions(faces=FaceReference(file))
        expected = references_digest(RestoreOptions(faces=f"like:{anna}"))
        assert [*references_digest(options).values()] == [*expected.values()]  # as a video does, before it is read again
        assert restored(people.restorer()(people.group(ANNA, BOB, CARA), options)) == [0]


def test_already_aligned_crops_are_compared_too(anna):
    options = RestoreOptions(faces=f"like:{anna}")
    image = np.full((256, 256, 3), 0.5, np.float32)
    (result,) = people.restorer().restore_batch([RestoreInput(image, is_aligned=True)], options)
    assert restored(result) == [] and result.faces[0].reason.startswith("another person")


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (
            people.group(ANNA, BOB, CARA),
            "ref.png is not a photo of one person: it has 3 faces. Crop it, or use another photo.",
        ),
        (
            np.zeros((50, 60, 3)),
            "ref.png is not a photo of one person: no face was found in it. Crop it, or use another photo.",
        ),
    ],
)
@pytest.mark.parametrize("kind", ["like", "not"])
def test_a_reference_without_exactly_one_face_is_refused(write, pixels, message, kind):
    with pytest.raises(InputError) as refused:
        run(f"{kind}:{write('ref.png', pixels)}")
    assert str(refused.value).endswith(message)


def test_a_reference_that_is_no_image_is_refused(tmp_path):
    (tmp_path / "text.jpg").write_text("this is text")
    (tmp_path / "empty").mkdir()
    for name, message in (("text.jpg", "text.jpg"), ("missing.jpg", "missing.jpg"), ("empty", "has no images")):
        with pytest.raises(InputError, match=message):
            run(f"like:{tmp_path / name}")
    with pytest.raises(InputError, match="is a URL"):
        run("like:https://example.com/anna.jpg")


def test_a_missing_embedder_stops_the_run(anna):
    def missing(progress):
        raise MissingWeights("it is not there")

    restorer = people.restorer(load=missing, is_present=lambda: False)
    with pytest.raises(MissingWeights, match="it is not there"):
        restorer(people.group(ANNA, BOB, CARA), faces=f"like:{anna}")
    assert not restorer.can_measure_identity
    assert restored(restorer(people.group(ANNA, BOB, CARA))) == [0, 1, 2]  # needed for references only


def test_the_embedder_is_among_the_weights_that_are_needed(tmp_path, anna):
    names = [entry.name for entry in missing_weights("auto", RestoreOptions(faces=f"like:{anna}"), models_dir=tmp_path)]
    assert "sface" in names and "sface" not in [entry.name for entry in missing_weights("auto", models_dir=tmp_path)]


def test_a_reference_is_read_once_for_many_images_and_again_when_it_changes(anna, write):
    restorer = people.restorer()
    asked = []
    detect = restorer.detector.detect
    restorer.detector.detect = lambda images, *args, **kwargs: asked.extend(images) or detect(images, *args, **kwargs)
    for _ in range(3):
        assert restored(restorer(people.group(ANNA, BOB, CARA), faces=f"like:{anna}")) == [0]
    assert [image.size for image in asked].count(people.PORTRAIT) == 1
    Image.fromarray(np.rint(people.portrait_of(BOB) * 255).astype(np.uint8)).save(anna, compress_level=1)
    assert restored(restorer(people.group(ANNA, BOB, CARA), faces=f"like:{anna}")) == [1]


def test_identity_is_measured_before_and_after():
    image = people.group(ANNA, BOB, CARA)
    anna = FaceReference((people.portrait_of(ANNA),))
    unmeasured = people.restorer()(image)
    assert [(face.identity, face.similarity) for face in unmeasured.faces] == [(None, None)] * 3
    same = people.restorer()(image, strength=0.01, measure_identity=True)
    changed = people.restorer()(image, measure_identity=True)
    assert all(face.identity > 0.999 for face in same.faces)
    assert all(0.3 < face.identity < 0.99 and face.similarity_restored is None for face in changed.faces)
    chosen = people.restorer()(image, faces=[anna], measure_identity=True)
    face, other = chosen.faces[:2]
    assert face.identity == pytest.approx(changed.faces[0].identity, abs=1e-6)
    assert face.similarity > 0.95 and face.similarity_restored == pytest.approx(face.identity, abs=0.05)
    assert other.identity is None and other.similarity < 0.363
    assert face.to_json()["identity"] == round(face.identity, 4)
    assert f"identity {face.identity:.2f}" in face.outcome_text()


def keeping(minimum, amount=1.2, **options):
    """A group restored by a network that adds red: the more, the less a face is like its input."""
    restorer = people.restorer(amount)
    image = people.group(ANNA, BOB, CARA)
    return image, restorer(image, min_identity=minimum, measure_identity=True, **options)


def test_the_strength_is_lowered_until_the_identity_holds():
    image, free = keeping(0)
    full = [face.identity for face in free.faces]
    assert len(restored(free)) == 3 and all(face.note is None for face in free.faces)
    _, held = keeping(0.01 + max(full))
    assert restored(held) == [0, 1, 2]
    for face, before in zip(held.faces, full):
        assert re.fullmatch(r"strength lowered to 0\.(75|5|25) for an identity of 0\.\d\d \(before 0\.\d\d\)", face.note)
        assert face.identity > max(full) >= before
    change, free_change = (np.abs(one.image - image).max() for one in (held, free))
    assert 0.2 * free_change < change < 0.8 * free_change


def test_a_face_whose_identity_does_not_hold_is_skipped_with_the_reason():
    image, result = keeping(0.9999)
    assert restored(result) == [] and np.array_equal(result.image, image)
    for face in result.faces:
        assert re.fullmatch(
            r"its identity would not be kept: 0\.\d\d at a quarter of the strength, 0\.\d\d at the whole, minimum 0\.9999",
            face.reason,
        )


def test_a_minimum_that_holds_changes_nothing():
    (image, free), (_, held) = keeping(0), keeping(0.05)
    assert np.array_equal(free.image, held.image) and all(face.note is None for face in held.faces)
    image, half = keeping(0.05, strength=0.5)
    assert np.abs(half.image - image).max() < 0.6 * np.abs(free.image - image).max()


def test_skipped_crops_are_not_kept():
    restorer = people.restorer(1.2)
    options = RestoreOptions(min_identity=0.9999)
    (result,) = restorer.restore_batch([people.group(ANNA, BOB, CARA)], options, keep_crops=True)
    assert result.crops == ()


@pytest.mark.parametrize(
    "value",
    ["like:", "not:", ["like:a.jpg", "bigger"], ["all", "largest"], ["largest", 1], ["like:a.jpg", -1], [FaceReference(())]],
)
def test_values_that_cannot_be_are_refused(value):
    with pytest.raises(OptionsError, match="faces is "):
        RestoreOptions(faces=value)


def test_a_path_may_have_commas_and_spaces():
    assert RestoreOptions(faces="like:my, own photo.jpg").faces == ("like:my, own photo.jpg",)
    assert RestoreOptions(faces=["largest"]).faces == "largest"


@pytest.mark.parametrize("value", ["like:/etc/passwd", "not:a.jpg", ["0", "like:a.jpg"], "0,like:a.jpg", " like:a"])
def test_a_request_cannot_name_a_path(value):
    with pytest.raises(OptionsError):
        RestoreOptions.from_request({"faces": value})
    assert RestoreOptions.from_request({"faces": "0-2"}).faces == (0, 1, 2)
