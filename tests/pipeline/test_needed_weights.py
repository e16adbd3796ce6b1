"""Which files a piece of work lacks, and fetching them before it begins."""

from pathlib import Path

import pytest
from weights_fixtures import BODY, FILE, ONLINE, sha

from gpen_core import (
    DownloadOptions,
    Interrupted,
    MissingWeights,
    OptionsError,
    RestoreOptions,
    download_weights,
    missing_weights,
)
from gpen_core.pipeline.needed_weights import needed_networks

pytest_plugins = ["weights_fixtures"]

DETECTOR = "retinaface_mobile0.25"


@pytest.mark.parametrize(
    ("present", "model", "expected"),
    [
        ((), "auto", ("gpen-bfr-2048",)),
        (("GPEN-BFR-512.pth",), "auto", ()),
        (("GPEN-BFR-256.pth",), "auto", ("gpen-bfr-2048",)),  # which auto does not take
        (("GPEN-BFR-256.pth",), "auto:256", ()),
        (("GPEN-BFR-512.pth",), "gpen-bfr-1024", ("gpen-bfr-1024",)),
    ],
)
def test_which_network_must_be_there(tmp_path, present, model, expected):
    for name in present:
        (tmp_path / name).write_bytes(b"")
    assert needed_networks(model, tmp_path) == expected


@pytest.mark.parametrize(
    ("options", "device", "has_parser"),
    [
        ({}, "cpu", False),
        ({}, "cuda", True),  # where auto parses masks
        ({"mask_type": "feather"}, "cuda", False),
        ({"mask_type": "parse"}, "cpu", True),
        ({"preserve": ("eyes",)}, "cpu", True),
        ({"preserve": ("occluders",)}, "cpu", False),
    ],
)
def test_what_the_options_need_is_missing_too(tmp_path, options, device, has_parser):
    found = missing_weights("GPEN-BFR-512.pth", RestoreOptions(**options), DETECTOR, tmp_path, device)
    expected = ["gpen-bfr-512", DETECTOR, *(["parsenet"] if has_parser else [])]
    assert [entry.name for entry in found] == expected
    for entry in found:
        (tmp_path / entry.file).write_bytes(b"")
    assert missing_weights("GPEN-BFR-512.pth", RestoreOptions(**options), DETECTOR, tmp_path, device) == ()


def test_what_the_catalog_does_not_have_cannot_be_fetched(tmp_path):
    assert [entry.name for entry in missing_weights("my-own.pth", None, DETECTOR, tmp_path)] == [DETECTOR]
    with pytest.raises(OptionsError):
        missing_weights("auto:300", models_dir=tmp_path)


def test_files_are_fetched_and_what_vouches_for_them_is_said(tmp_path, publish, serve):
    server, seen = serve(), []
    publish(server.source, sha256=sha(BODY), bytes=len(BODY))
    ((path, record),) = download_weights(["gpen-test"], tmp_path, seen.append, ONLINE).items()
    assert path == tmp_path / FILE and path.read_bytes() == BODY and record.has_digest
    assert seen[-1].done == seen[-1].total == len(BODY)
    for names in (["gpen-test"], "gpen-test", Path("gpen-test")):
        assert list(download_weights(names, tmp_path, seen.append, ONLINE)) == [path] and len(server.gets) == 1


def test_without_a_digest_only_the_structure_is_known(tmp_path, publish, serve):
    publish(serve().source)
    assert [one.has_digest for one in download_weights(["gpen-test"], tmp_path, downloads=ONLINE).values()] == [False]


def test_it_can_be_stopped_and_what_is_not_to_be_had_is_named(tmp_path, publish, serve):
    def stop(event):
        raise Interrupted("enough")

    publish(serve().source, sha256=sha(BODY), bytes=len(BODY))
    with pytest.raises(Interrupted):
        download_weights(["gpen-test"], tmp_path, stop, ONLINE)
    with pytest.raises(MissingWeights, match=FILE):
        download_weights(["gpen-test"], tmp_path, downloads=DownloadOptions(offline=True))
    assert not (tmp_path / FILE).exists()


def test_missing_weights_takes_what_load_takes(tmp_path):
    for model in (tmp_path / "mine.pth", str(tmp_path / "mine.pth")):
        assert missing_weights(model, detector=Path("mine.pth"), models_dir=tmp_path) == ()
