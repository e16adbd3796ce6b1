"""A small part of the trial in every run of the tests: seeded, so that it always tries the same."""

import hashlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import weights_server as ws

from gpen_core.images import codecs as picture_files
from gpen_core.weights.download import DownloadFailed

from . import api, checkpoint_bases, entry, image_bases, images, onnx_bases, run, servers
from .answers import ARRIVES, BODY, FAILS, HEADS, LISTINGS, MODES
from .cases import KINDS, make
from .watch import audited
from .worker import peak

SEED = 1
NUMBERS = {"picture": 250, "checkpoint": 40}  # of each format
FILES = [kind for kind in KINDS if kind.startswith(("picture/", "checkpoint/"))]
REMOTES = [kind for kind in KINDS if kind.startswith("remote/")]
MOST_MEMORY = 2 << 30  # bytes: a header may claim 179 million pixels, which take as much as they would in earnest
LONG = 120.0  # seconds: what comes to it hangs


@pytest.fixture
def quiet(caplog):
    """Broken files make for thousands of warnings."""
    caplog.set_level("CRITICAL")


@pytest.fixture
def own_folder(tmp_path, monkeypatch):
    """Where temporary files go, and nothing else may."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


# Files


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.slow
def test_a_broken_file_is_accepted_or_refused_and_nothing_is_written(kind, own_folder, quiet):
    outcomes = []
    KINDS[kind].attempt(make(kind, SEED, 0))  # loads what is loaded once, which may write where it is cached
    there, memory = set(own_folder.iterdir()), peak()
    for number in range(NUMBERS[kind.partition("/")[0]]):
        with audited(own_folder):
            outcomes.append(KINDS[kind].attempt(make(kind, SEED, number)))
        assert set(own_folder.iterdir()) == there, number
    assert peak() - memory < MOST_MEMORY
    assert set(outcomes) == {entry.ACCEPTED, entry.REFUSED}
    assert outcomes.count(entry.REFUSED) > len(outcomes) / 4


@pytest.mark.parametrize("kind", KINDS)
def test_a_case_is_the_same_each_time_and_another_one_differs(kind):
    cases = {make(kind, seed, number) for seed, number in itertools.product((SEED, SEED + 1), range(20))}
    assert len(cases) > 25 and make(kind, SEED, 7) == make(kind, SEED, 7)


def test_cases_are_the_same_in_another_process():
    """Whose strings have other hashes, and sets another order."""
    code = (
        "import hashlib, sys; from tests.trial.images import case\n"
        "print(*(hashlib.sha256(case(name, 5, 5)).hexdigest() for name in sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, *images.FORMATS]
    told = subprocess.run(command, cwd=run.ROOT, capture_output=True, text=True, timeout=LONG, check=True)
    assert told.stdout.split() == [hashlib.sha256(images.case(name, 5, 5)).hexdigest() for name in images.FORMATS]


def test_what_is_broken_is_whole_before(quiet):
    """Else the mutators would only break what is broken. Of the images, those of several pages alone are refused."""
    for format_name, files in image_bases.bases().items():
        refused = [n for n, data in enumerate(files) if entry.picture(data) == entry.REFUSED]
        assert refused in ([], [len(files) - 1]), format_name
    for name in checkpoint_bases.networks():
        opcodes, storages = checkpoint_bases.torch_zip(name)
        zipped = checkpoint_bases.zipped(checkpoint_bases.members_of(b"".join(opcodes), storages))
        assert entry.checkpoint(zipped) == entry.ACCEPTED
        assert entry.checkpoint(checkpoint_bases.safetensors_file(*checkpoint_bases.safetensors(name))) == entry.ACCEPTED
    assert entry.kind(onnx_bases.assembled(onnx_bases.pieces())) == entry.ACCEPTED


def test_a_fault_goes_through_the_door(monkeypatch):
    """What is no refusal must not count as one."""

    def broken(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr("gpen_core.images.codecs.open_header", broken)
    monkeypatch.setattr("gpen_core.weights.archive.read", broken)
    for door in (entry.picture, entry.checkpoint):
        with pytest.raises(ZeroDivisionError):
            door(b"PK\3\4")


@pytest.mark.parametrize("deed", ["write", "delete", "run", "call"])
def test_what_a_reader_may_not_do_is_noticed(deed, own_folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "a"
    elsewhere.touch()
    deeds = {
        "write": lambda: elsewhere.write_text("b"),
        "delete": elsewhere.unlink,
        "run": lambda: subprocess.run([sys.executable, "-c", ""], check=True),
        "call": lambda: __import__("socket").getaddrinfo("localhost", 80),
    }
    with pytest.raises(AssertionError, match="did more than read"), audited(own_folder):
        deeds[deed]()
    with audited(own_folder):
        (own_folder / "mine").write_text("a")


# Servers


def tried(mode, pinned=True, **ways):
    """With a good server behind: whether the file came from the first one or not at all. Then with the first one alone."""
    with tempfile.TemporaryDirectory() as folder, ws.running(BODY) as good:
        with servers.misbehaving([mode], **ways) as (_, source):
            servers.download(Path(folder), [source, good.source], pinned)
        servers.check_folder(Path(folder), arrived=True)
        outcome = FAILS if good.gets else ARRIVES
    if outcome == FAILS:
        with tempfile.TemporaryDirectory() as folder, servers.misbehaving([mode], **ways) as (_, source):
            with pytest.raises(DownloadFailed):
                servers.download(Path(folder), [source], pinned)
            servers.check_folder(Path(folder), arrived=False)
    return outcome


@pytest.mark.slow
def test_whatever_a_server_does_the_file_is_the_right_one_or_none(own_folder, quiet):
    with ThreadPoolExecutor(12) as pool:
        gets = {mode: pool.submit(tried, mode) for mode in MODES}
        heads = {head: pool.submit(tried, "all is well", False, head=head) for head in HEADS}
        listings = [pool.submit(tried, "all is well", False, listing=listing) for listing in LISTINGS]
        assert {mode: got.result(LONG) for mode, got in gets.items()} == {mode: told for mode, (told, _) in MODES.items()}
        assert {head: got.result(LONG) for head, got in heads.items()} == {head: told for head, (told, _) in HEADS.items()}
        assert {got.result(LONG) for got in listings} == {ARRIVES, FAILS}


# The API


@pytest.fixture
def web(own_folder):
    pytest.importorskip("fastapi")
    pytest.importorskip("httpx")
    yield api.start()
    api.stop()


@pytest.mark.parametrize("kind", ["api/restore", "api/jobs", "api/waiting"])
@pytest.mark.slow
def test_every_body_is_answered_and_what_waits_takes_little_memory(kind, web, own_folder, quiet):
    KINDS[kind].attempt(make(kind, SEED, 0))  # loads what is loaded once
    there, memory, outcomes = set(own_folder.iterdir()), peak(), []
    for number in range(60):
        with audited(own_folder):
            outcomes.append(KINDS[kind].attempt(make(kind, SEED, number)))
        assert set(own_folder.iterdir()) == there, number
    assert peak() - memory < MOST_MEMORY and set(outcomes) == {entry.ACCEPTED, entry.REFUSED}


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system does not tell how much memory is in use")
def test_requests_that_decode_before_their_turn_are_noticed(web, monkeypatch, quiet):
    kept = []
    monkeypatch.setattr(picture_files, "check_size", lambda data, *_: kept.append(picture_files.decode(data)))
    asked = [{"path": path, "side": 1500, "twice": False} for path in ("restore", "restore", "jobs", "jobs", "jobs", "jobs")]
    with pytest.raises(AssertionError, match="6 waiting requests took"):
        api.waiting(json.dumps(asked).encode())
    assert len(kept) == len(asked)


def test_an_answer_that_no_client_may_get_is_noticed():
    def answer(status, **content):
        return types.SimpleNamespace(status_code=status, text=json.dumps(content), json=lambda: content)

    assert api.outcome(answer(202), 202) == entry.ACCEPTED
    assert api.outcome(answer(422, detail="Expected JSON."), 202) == entry.REFUSED
    for bad in (answer(500, detail="Internal error."), answer(422, detail=""), answer(422, detail=[{"msg": "wrong"}])):
        with pytest.raises(AssertionError):
            api.outcome(bad, 202)


# Remote inputs


@pytest.mark.parametrize("kind", REMOTES)
@pytest.mark.slow
def test_a_remote_input_is_whole_or_an_error_of_its_own(kind, own_folder, quiet):
    if kind == "remote/http":
        pytest.importorskip("aiohttp")
    outcomes = []
    for number in range(25):
        with audited(own_folder, KINDS[kind].calls):
            outcomes.append(KINDS[kind].attempt(make(kind, SEED, number)))
        assert not list(own_folder.iterdir()), number
    assert set(outcomes) == {entry.ACCEPTED, entry.REFUSED}


# The runner


class Worker:
    """Stands for the process: crashes at 2, dies at 4, hangs at 6 (the runner's patience is set to nothing)."""

    CODE = """
import json, os, sys, time
first, end = map(int, sys.argv[1:])
for number in range(first, end):
    print(json.dumps({"number": number}), flush=True)
    if number == 4: os._exit(9)
    if number == 6: time.sleep(600)
    print(json.dumps({"outcome": "crashed", "why": "KeyError: 1"} if number == 2 else {"outcome": "refused"}), flush=True)
print(json.dumps({"memory": 5000000}), flush=True)
"""


def test_a_process_that_dies_or_hangs_is_told_with_its_case_and_the_next_one_goes_on(tmp_path, monkeypatch, capsys):
    popen = subprocess.Popen

    def start(command, **kwargs):
        assert command[1:4] == ["-m", "tests.trial.worker", "picture/bmp"]
        return popen([sys.executable, "-c", Worker.CODE, *command[5:]], **kwargs)

    monkeypatch.setattr(run.subprocess, "Popen", start)
    monkeypatch.setattr(run, "HUNG", 1.0)
    status = run.main(["--kind", "picture/bmp", "--count", "9", "--seed", "3", "--jobs", "1", "--keep", str(tmp_path)])
    told = capsys.readouterr().out
    assert status == 1 and "| picture/bmp | 9 | 6 | 0 | 2 | 1 | 5 MB |" in told
    assert "`--only picture/bmp/3/2` crashed: KeyError: 1" in told and "`--only picture/bmp/3/6` hung" in told
    assert sorted(path.stem for path in tmp_path.iterdir()) == sorted(2 * [f"picture-bmp-3-{n}" for n in (2, 4, 6)])
    assert (tmp_path / "picture-bmp-3-4.bin").read_bytes() == make("picture/bmp", 3, 4)


def test_a_process_that_cannot_begin_is_one_fault_and_not_one_a_case(tmp_path, monkeypatch, capsys):
    popen = subprocess.Popen
    fails = [sys.executable, "-c", "raise SystemExit('no such module')"]
    monkeypatch.setattr(run.subprocess, "Popen", lambda command, **kwargs: popen(fails, **kwargs))
    assert run.main(["--kind", "picture/bmp", "--count", "9", "--seed", "3", "--jobs", "1", "--keep", str(tmp_path)]) == 1
    assert "| picture/bmp | 1 | 0 | 0 | 1 | 0 |" in capsys.readouterr().out
    assert "no such module" in (tmp_path / "picture-bmp-3-0.txt").read_text("utf-8")


@pytest.mark.skipif(os.name != "posix", reason="the limit on memory is POSIX's")
@pytest.mark.slow
def test_a_worker_tries_what_it_is_told(tmp_path, capsys):
    arguments = ["--only", "picture/bmp/3/8", "--keep", str(tmp_path)]
    assert run.main(arguments) == 0
    assert "| picture/bmp | 1 |" in capsys.readouterr().out and not list(tmp_path.iterdir())
