"""A small part of the trial of videos in every run of the tests: seeded, so that it always tries the same."""

import logging
import os

import pytest

from . import videos
from .cases import KINDS, make
from .watch import audited

pytest.importorskip("av")
pytestmark = pytest.mark.slow
SEED = 1


def outcomes(kind, count, tmp_path, caplog, monkeypatch):
    """What became of each case. Only temporary files may be written."""
    caplog.set_level(logging.CRITICAL)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    videos.attempt(make("video/files", SEED, 0))  # loads the networks
    with audited(tmp_path):
        return [KINDS[kind].attempt(make(kind, SEED, number)) for number in range(count)]


def test_a_broken_video_is_restored_or_refused(tmp_path, caplog, monkeypatch):
    found = outcomes("video/files", 24, tmp_path, caplog, monkeypatch)
    assert found.count("refused") > 5 and found.count("accepted") > 5


@pytest.mark.skipif(os.name == "nt", reason="Windows allows no colon in a name")
def test_whatever_its_name_is_a_video_is_a_file_and_nobody_is_called(tmp_path, caplog, monkeypatch):
    assert set(outcomes("video/names", 14, tmp_path, caplog, monkeypatch)) == {"accepted"}


def test_a_file_that_names_other_files_is_refused(tmp_path, caplog, monkeypatch):
    assert set(outcomes("video/playlists", 150, tmp_path, caplog, monkeypatch)) == {"refused"}


@pytest.mark.skipif(os.name == "nt", reason="links need rights elsewhere")
def test_what_is_where_frames_go_stays_as_it_was(tmp_path, caplog, monkeypatch):
    found = outcomes("video/outputs", 30, tmp_path, caplog, monkeypatch)
    assert found.count("refused") > 5 and found.count("accepted") > 5


def test_a_connection_is_noticed():
    import socket

    with pytest.raises(AssertionError, match="a connection was made"), videos.listening() as port:
        socket.create_connection(("127.0.0.1", port)).close()


@pytest.mark.parametrize("told", [{"frames": 7}, {"refused": True}])
def test_an_outcome_that_must_not_be_is_a_fault(told):
    import json

    head = {"source": "in.mkv", "target": "out.mkv", **told}
    with pytest.raises(AssertionError):
        videos.attempt(json.dumps(head).encode() + b"\n" + videos.container("mkv"))
