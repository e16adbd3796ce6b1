"""Reading, restoring and writing overlap over a folder, and nothing else is different. Time-outs only end a failing test."""

import io
import os
import signal
import threading
import warnings
import weakref
from pathlib import Path

import helpers
import numpy as np
import pytest
from cli_fixtures import file_names
from PIL import Image

from gpen_core import ProgressEvent
from gpen_core.batch import local as batch
from gpen_core.batch.job import ImageJob
from gpen_core.errors import GpenError, InputError, Interrupted, OutOfMemory, OutputError, WeightsError
from gpen_core.images import codecs
from gpen_core.options import RestoreOptions
from gpen_core.pipeline.restore_result import RestoreResult

PATIENCE = 30
PHASES = ("read", "restore", "write")


class Inverting:
    """A restorer that inverts every image."""

    def restore_batch(self, inputs, options, *, progress=None, max_memory=None, **_):
        return [self.restore(frame.image, progress) for frame in inputs]

    def restore(self, picture, progress):
        if progress is not None:
            progress(ProgressEvent("restore", 1, 1, "face", "Restoring faces"))
        result = picture.writable()
        result.pixels[:] = 255 - result.pixels
        mask = np.ones((picture.height, picture.width), np.float32)
        return RestoreResult(mask, (), 16.0, 430.0, {"network": 0.0}, result)


class Watch:
    """Calls `at(phase, number, "begin" or "end")` around each phase of each image, in whichever thread works on it, and
    notes the same in `log`. The images' numbers are their widths less 10."""

    def __init__(self, monkeypatch):
        self.log = []
        self.at = lambda phase, number, when: None
        self.restorer = Inverting()
        self._around(monkeypatch, codecs, "read", "read", lambda path, *_: int(path.stem))
        self._around_writing(monkeypatch)
        self._around(monkeypatch, self.restorer, "restore", "restore", lambda picture, *_: picture.width - 10)

    def _around(self, monkeypatch, owner, name, phase, number_of):
        whole = getattr(owner, name)

        def watched(*args, **kwargs):
            number = number_of(*args)
            self.note(phase, number, "begin")
            out = whole(*args, **kwargs)
            self.note(phase, number, "end")
            return out

        monkeypatch.setattr(owner, name, watched)

    def _around_writing(self, monkeypatch):
        """Writing an image begins with encoding it."""
        encode, write = codecs.encode, batch.write_bytes

        def encoded(photo, *args):
            self.note("write", photo.image.width - 10, "begin")
            return encode(photo, *args)

        def written(place, data):
            write(place, data)
            self.note("write", Image.open(io.BytesIO(data)).width - 10, "end")

        monkeypatch.setattr(codecs, "encode", encoded)
        monkeypatch.setattr(batch, "write_bytes", written)

    def note(self, phase, number, when):
        self.log.append((phase, number, when))
        self.at(phase, number, when)

    def when(self, *event):
        """The place of an event in the log."""
        return self.log.index(event)


@pytest.fixture
def watch(monkeypatch):
    return Watch(monkeypatch)


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def make(folder, count):
    """Images 0.png, 1.png, ... and the jobs to restore them."""
    for n in range(count):
        Image.new("RGB", (10 + n, 12), (200, 10 * n, 30)).save(folder / f"{n}.png")
    return [ImageJob(folder / f"{n}.png", folder / "out" / f"{n}.png") for n in range(count)]


def run(watch, jobs, finished=lambda outcome: None, progress=None):
    """The numbers that `finished` heard of, and the outcomes."""
    heard = []

    def note(outcome):
        heard.append(int(outcome.files.source.stem))
        watch.note("tell", heard[-1], "")
        finished(outcome)

    try:
        return heard, batch.process_all(watch.restorer, jobs, RestoreOptions(), note, progress)
    except BaseException as error:
        error.heard = heard
        raise


def whole(folder):
    """The numbers of the images in a folder, each inverted and complete, with nothing else there."""
    for path in folder.iterdir():
        assert tuple(codecs.decode(path.read_bytes()).image.pixels[-1, -1]) == (55, 255 - 10 * int(path.stem), 225)
    return [int(Path(name).stem) for name in file_names(folder)]


# What overlaps


def test_one_is_read_and_one_is_written_while_one_is_restored(watch, tmp_path):
    """They meet: no phase goes on before the other two have begun."""
    count = 6
    meet = threading.Barrier(3, timeout=PATIENCE)

    def at(phase, number, when):
        restoring = number + {"read": -1, "restore": 0, "write": 1}[phase] if phase in PHASES else 0
        if when == "begin" and 1 <= restoring < count - 1:
            meet.wait()

    watch.at = at
    heard, outcomes = run(watch, make(tmp_path, count))
    assert [outcome.status for outcome in outcomes] == ["restored"] * count
    assert heard == whole(tmp_path / "out") == list(range(count))


def test_no_more_than_three_images_are_in_memory_and_none_afterwards(watch, tmp_path, monkeypatch):
    count = 6
    photos, results, seen = weakref.WeakSet(), weakref.WeakSet(), []
    meet = threading.Barrier(3, action=lambda: seen.append((len(photos), len(results))), timeout=PATIENCE)
    read, restore = codecs.read, watch.restorer.restore

    def remember(where, thing):
        where.add(thing)
        return thing

    def at(phase, number, when):
        restoring = number + {"read": -1, "restore": 0, "write": 1}[phase] if phase in PHASES else 0
        if when == ("end" if phase == "read" else "begin") and 1 <= restoring < count - 1:
            meet.wait()

    monkeypatch.setattr(codecs, "read", lambda path, *_: remember(photos, read(path)))
    monkeypatch.setattr(watch.restorer, "restore", lambda *args, **kw: remember(results, restore(*args, **kw)))
    watch.at = at
    _, outcomes = run(watch, make(tmp_path, count))
    # The one being read is not in `photos` yet; the restored ones are the one being written and nothing before it.
    assert seen == [(2, 1)] * (count - 2)
    assert (len(outcomes), len(photos), len(results)) == (count, 0, 0)


def test_nothing_is_read_further_ahead(watch, tmp_path):
    count = 5
    run(watch, make(tmp_path, count))
    for n in range(2, count):
        assert watch.when("read", n, "begin") > watch.when("restore", n - 2, "end")
        assert watch.when("read", n, "begin") > watch.when("read", n - 1, "end")
    for n in range(1, count):
        assert watch.when("write", n, "begin") > watch.when("write", n - 1, "end")


def test_callables_are_called_in_the_callers_thread_and_while_nothing_is_written(watch, tmp_path):
    """What `finished` does, it does alone: no result is half written meanwhile."""
    threads, writing = set(), set()

    def at(phase, number, when):
        if phase == "write":
            (writing.add if when == "begin" else writing.remove)(number)

    def finished(outcome):
        assert not writing
        threads.add(threading.get_ident())

    watch.at = at
    run(watch, make(tmp_path, 5), finished, lambda *_: threads.add(threading.get_ident()))
    assert threads == {threading.get_ident()}


def test_one_image_starts_no_thread(watch, tmp_path, monkeypatch):
    monkeypatch.setattr(batch.ThreadPoolExecutor, "submit", lambda *_: pytest.fail("a thread"))
    heard, _ = run(watch, make(tmp_path, 1))
    assert heard == whole(tmp_path / "out") == [0]
    assert run(watch, []) == ([], [])


# What stays as it was, one after the other


def mixed(folder):
    """Images of several kinds, some of which fail."""
    folder.mkdir()
    for n, name in enumerate(("a.png", "b.jpg", "alpha.png", "d.webp", "e.tiff", "f.bmp")):
        pixels = np.rint(helpers.texture(96, 96, seed=n, sigma=1.5) * 255).astype(np.uint8)
        Image.fromarray(pixels).convert("RGBA" if name == "alpha.png" else "RGB").save(folder / name)
    (folder / "broken.png").write_bytes((folder / "a.png").read_bytes()[:300])
    order = ["missing.png", "a.png", "b.jpg", "broken.png", "alpha.png", "d.webp", "e.tiff", "f.bmp"]
    target = {"alpha.png": "alpha.jpg", "e.tiff": "e.png"}
    return [ImageJob(folder / name, folder / "out" / target.get(name, name)) for name in order]


def test_results_and_outcomes_are_those_of_single_runs(tmp_path):
    together, alone, heard = mixed(tmp_path / "1"), mixed(tmp_path / "2"), []
    outcomes = batch.process_all(Inverting(), together, RestoreOptions(), heard.append)
    expected = [batch.process_all(Inverting(), [job], RestoreOptions(), lambda outcome: None)[0] for job in alone]
    assert heard == outcomes
    assert [list(one.seconds) for one in outcomes] == [list(one.seconds) for one in expected]
    assert sum(one.status == "restored" for one in outcomes) == 5
    for one, other in zip(outcomes, expected):
        one.seconds = other.seconds = {}
        assert str(one.to_json()).replace(str(tmp_path / "1"), str(tmp_path / "2")) == str(other.to_json())
    assert file_names(tmp_path / "1" / "out") == file_names(tmp_path / "2" / "out")
    for path in (tmp_path / "1" / "out").iterdir():
        assert path.read_bytes() == (tmp_path / "2" / "out" / path.name).read_bytes()


@pytest.mark.parametrize("between", [0, 1, 2])
@pytest.mark.parametrize("linked", [False, True])
def test_a_source_that_is_an_earlier_target_is_read_after_it_is_written(watch, tmp_path, between, linked):
    """Also through a link to it."""
    jobs = make(tmp_path, 2 + between)
    first, last = jobs[0], jobs[-1]
    target = last.source
    if linked:
        target = tmp_path / "link.png"
        try:
            target.symlink_to(last.source)
        except OSError:
            pytest.skip("links cannot be made here")
    run(watch, [ImageJob(first.source, target), *jobs[1:-1], last])
    assert watch.when("read", 1 + between, "begin") > watch.when("write", 0, "end")
    assert codecs.decode(last.target.read_bytes()) is not None
    assert np.array_equal(np.asarray(Image.open(last.target)), np.asarray(Image.open(first.source)))  # inverted twice


def test_in_place_an_image_named_twice_is_restored_twice(watch, tmp_path):
    source = make(tmp_path, 1)[0].source
    before = np.asarray(Image.open(source))
    heard, _ = run(watch, [ImageJob(source, source)] * 3)
    assert heard == [0, 0, 0]
    assert np.array_equal(np.asarray(Image.open(source)), 255 - before)


# Failures


def failing(watch, error, *where):
    """Raises `error` where the phase of the image begins."""

    def at(*event):
        if event == (*where, "begin"):
            raise error

    watch.at = at


@pytest.mark.parametrize("number", [0, 2, 4])
@pytest.mark.parametrize(
    ("phase", "error", "kind"),
    [
        ("read", InputError("broken"), InputError),
        ("read", MemoryError(), OutOfMemory),
        ("restore", OutOfMemory("too large"), OutOfMemory),
        ("restore", RuntimeError("CUDA out of memory."), OutOfMemory),
        ("write", OutputError("disk full"), OutputError),
        ("write", MemoryError(), OutOfMemory),
        ("read", ValueError("embedded null byte"), GpenError),
        ("restore", ZeroDivisionError("a bug"), GpenError),
        ("write", RuntimeError("a bug"), GpenError),
    ],
)
def test_an_image_that_fails_fails_alone(watch, tmp_path, phase, error, kind, number):
    failing(watch, error, phase, number)
    heard, outcomes = run(watch, make(tmp_path, 5))
    assert heard == [0, 1, 2, 3, 4]
    assert [type(one.error) for one in outcomes] == [kind if n == number else type(None) for n in range(5)]
    assert [one.status for one in outcomes] == ["failed" if n == number else "restored" for n in range(5)]
    assert f"{number}.png" in str(outcomes[number].error)
    assert whole(tmp_path / "out") == [n for n in range(5) if n != number]
    done = {"read": [], "restore": ["read"], "write": ["read", "network"]}
    assert list(outcomes[number].seconds) == done[phase]


@pytest.mark.parametrize("ahead", [True, False])
def test_reading_that_runs_out_of_memory_is_tried_again_alone(watch, tmp_path, caplog, ahead):
    """Read ahead it is beside others; the second time nothing else is in memory. The first image has no others."""
    number, failures = (2, [MemoryError()]) if ahead else (0, [MemoryError()] * 9)
    running = set()

    def at(phase, n, when):
        (running.add if when == "begin" else running.discard)((phase, n))
        if phase == "read" and n == number and when == "begin" and failures:
            running.discard((phase, n))
            raise failures.pop()
        if phase == "read" and n == number and when == "begin":
            assert running == {("read", number)}

    watch.at = at
    heard, outcomes = run(watch, make(tmp_path, 5))
    assert heard == [0, 1, 2, 3, 4]
    if ahead:
        assert [one.status for one in outcomes] == ["restored"] * 5 and [one.error for one in outcomes] == [None] * 5
        assert "reading it again without them" in caplog.text
        assert whole(tmp_path / "out") == [0, 1, 2, 3, 4]
    else:
        assert isinstance(outcomes[0].error, OutOfMemory) and [one.status for one in outcomes][1:] == ["restored"] * 4


def test_an_image_read_beside_one_that_runs_out_of_memory_keeps_nothing_of_it(watch, tmp_path):
    """Its reading is dropped to make room, and with it what went wrong there."""
    failed, tried = set(), threading.Event()

    def at(phase, n, when):
        if when == "begin" and (phase, n) in {("read", 2), ("restore", 1)} - failed:
            failed.add((phase, n))
            if phase == "restore":
                assert tried.wait(20)
            tried.set()
            raise OutOfMemory("too large")

    watch.at = at
    _, outcomes = run(watch, make(tmp_path, 4))
    assert [one.error for one in outcomes] == [None] * 4 and [one.status for one in outcomes] == ["restored"] * 4


@pytest.mark.parametrize("phase", PHASES)
def test_all_may_fail(watch, tmp_path, phase):
    def at(where, number, when):
        if where == phase:
            raise OutOfMemory("too large")

    watch.at = at
    heard, outcomes = run(watch, make(tmp_path, 4))
    assert heard == [0, 1, 2, 3]
    assert all(isinstance(one.error, OutOfMemory) for one in outcomes)


def test_what_failed_holds_no_pixels_once_told(watch, tmp_path, monkeypatch):
    photos, jobs, whole_read = weakref.WeakSet(), make(tmp_path, 3), codecs.read

    def read(path, *_):
        photo = whole_read(path)
        photos.add(photo)
        return photo

    def refuse(photo, *_):
        try:
            raise OSError(28, "No space left on device")
        except OSError as error:
            raise OutputError(", ".join(str(job.source) for job in jobs)) from error  # it names them, so it is kept as it is

    monkeypatch.setattr(codecs, "read", read)
    monkeypatch.setattr(codecs, "encode", refuse)
    traced = []
    _, outcomes = run(watch, jobs, lambda outcome: traced.append(outcome.error.__traceback__ is not None))
    assert traced == [True] * 3
    assert [type(one.error.__cause__) for one in outcomes] == [OSError] * 3
    assert not photos


@pytest.mark.parametrize("number", [0, 2, 4])
@pytest.mark.parametrize(
    ("phase", "error"),
    [("restore", RuntimeError("the device is lost")), *((phase, WeightsError("refused")) for phase in PHASES)],
)
def test_other_errors_end_the_run_after_what_came_before(watch, tmp_path, phase, error, number):
    failing(watch, error, phase, number)
    with pytest.raises(type(error)) as raised:
        run(watch, make(tmp_path, 5))
    assert raised.value.heard == list(range(number))
    assert not number or whole(tmp_path / "out") == list(range(number))


@pytest.mark.parametrize("number", [0, 2, 4])
def test_an_error_of_finished_ends_the_run(watch, tmp_path, number):
    def finished(outcome):
        if outcome.files.source.stem == str(number):
            raise Interrupted("enough")

    with pytest.raises(Interrupted) as raised:
        run(watch, make(tmp_path, 5), finished)
    assert raised.value.heard == whole(tmp_path / "out") == list(range(number + 1))


# Interruptions


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Interrupted("stopped")])
def test_an_interruption_waits_for_the_write_that_has_begun(watch, tmp_path, error):
    """The write of 1 begins, but can only end after the interruption; the read of 3 is dropped."""
    begun, interrupted = threading.Event(), threading.Event()

    def at(*event):
        if event == ("write", 1, "begin"):
            begun.set()
            assert interrupted.wait(PATIENCE)
        if event == ("restore", 2, "begin"):
            assert begun.wait(PATIENCE)
            interrupted.set()
            raise error

    watch.at = at
    with pytest.raises(type(error)) as raised:
        run(watch, make(tmp_path, 6))
    assert raised.value.heard == whole(tmp_path / "out") == [0, 1]
    assert not [event for event in watch.log if event[1] > 3]
    assert ("restore", 3, "begin") not in watch.log


def test_an_error_of_the_write_is_told_before_the_interruption(watch, tmp_path):
    def at(*event):
        if event == ("write", 1, "begin"):
            raise OutputError("disk full")
        if event == ("restore", 2, "begin"):
            raise Interrupted("stopped")

    watch.at = at
    told = []
    with pytest.raises(Interrupted):
        run(watch, make(tmp_path, 6), told.append)
    assert [one.status for one in told] == ["restored", "failed"]
    assert whole(tmp_path / "out") == [0]


@pytest.fixture
def ctrl_c():
    """Presses Ctrl-C while the main thread waits, and returns once it has been heard."""
    if not hasattr(signal, "pthread_kill"):
        pytest.skip("no signal can be sent to a thread here")
    heard = threading.Event()
    heard.set()

    def handler(*_):
        if not heard.is_set():
            heard.set()
            raise KeyboardInterrupt

    def press():
        heard.clear()
        for _ in range(10 * PATIENCE):  # a signal just before the main thread begins to wait does not wake it; the next does
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            if heard.wait(0.1):
                return
        pytest.fail("not heard")

    before = signal.signal(signal.SIGINT, handler)
    yield press
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_while_a_write_is_waited_for(watch, tmp_path, ctrl_c, presses):
    """A second one leaves without telling, but neither a half-written file nor a thread."""
    restored = threading.Event()

    def at(*event):
        if event == ("write", 1, "begin"):
            assert restored.wait(PATIENCE)
            for _ in range(presses):
                ctrl_c()
        if event == ("restore", 2, "end"):
            restored.set()

    watch.at = at
    with pytest.raises(KeyboardInterrupt) as raised:
        run(watch, make(tmp_path, 6))
    assert raised.value.heard == ([0, 1] if presses == 1 else [0])
    assert whole(tmp_path / "out") == [0, 1]


def test_ctrl_c_while_a_read_is_waited_for(watch, tmp_path, ctrl_c):
    """The write of 2 ends only after it, and is told."""
    writing, pressed = threading.Event(), threading.Event()

    def at(*event):
        if event == ("write", 2, "begin"):
            writing.set()
            assert pressed.wait(PATIENCE)
        if event == ("read", 3, "begin"):
            assert writing.wait(PATIENCE)
            ctrl_c()
            pressed.set()

    watch.at = at
    with pytest.raises(KeyboardInterrupt) as raised:
        run(watch, make(tmp_path, 6))
    assert raised.value.heard == whole(tmp_path / "out") == [0, 1, 2]
    assert ("restore", 3, "begin") not in watch.log


@pytest.mark.parametrize("count", [1, 3])
def test_an_interruption_of_the_last_write_leaves_what_was_there(watch, tmp_path, monkeypatch, count):
    jobs = [ImageJob(job.source, job.source) for job in make(tmp_path, count)]
    before, replace = jobs[-1].source.read_bytes(), os.replace

    def interrupt(part, target):
        if Path(target).name == jobs[-1].target.name:
            raise KeyboardInterrupt
        replace(part, target)

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt) as raised:
        run(watch, jobs)
    assert raised.value.heard == list(range(count - 1))
    assert jobs[-1].source.read_bytes() == before
    assert len(file_names(tmp_path)) == count


# The process around it


def test_warnings_are_treated_afterwards_as_before(watch, tmp_path):
    """Two threads that catch warnings leave each other's filters behind, when the first to begin is the first to end."""
    catching, caught, reader_done = threading.Event(), threading.Event(), threading.Event()
    before = warnings.filters, list(warnings.filters), warnings.showwarning
    guard = warnings.catch_warnings(record=True)

    def at(*event):
        if event == ("read", 1, "begin"):
            guard.__enter__()
            catching.set()
            assert caught.wait(PATIENCE)
            guard.__exit__()
            reader_done.set()
        if event == ("restore", 0, "begin"):
            assert catching.wait(PATIENCE)
            with warnings.catch_warnings():
                caught.set()
                assert reader_done.wait(PATIENCE)

    watch.at = at
    run(watch, make(tmp_path, 2))
    assert warnings.filters is before[0]
    assert (list(warnings.filters), warnings.showwarning) == before[1:]
