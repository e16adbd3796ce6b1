"""Stages work ahead of each other, stop together, and tell of what fails."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from gpen_core import ProgressEvent
from gpen_core.errors import Interrupted
from gpen_core.progress import ReplayableProgress, StageTimer
from gpen_core.video.threaded_pipeline import ThreadedPipeline, timed


def counting(made, until=100):
    for number in range(until):
        made.append(number)
        yield number


def test_items_come_in_order_and_no_more_than_the_depth_ahead():
    made = []
    with ThreadedPipeline() as stages:
        taken = stages.prefetch(counting(made), 2)
        assert next(taken) == 0
        time.sleep(0.3)
        assert len(made) <= 1 + 2 + 1  # taken, waiting, and in the making
        assert list(taken) == list(range(1, 100))


def test_stages_follow_each_other():
    with ThreadedPipeline() as stages:
        doubled = (2 * n for n in stages.prefetch(range(5), 1))
        assert list(stages.prefetch(doubled, 1)) == [0, 2, 4, 6, 8]


def test_what_a_stage_raises_is_raised_where_its_items_are_taken():
    def failing():
        yield 1
        raise ValueError("broken")

    with ThreadedPipeline() as stages:
        taken = stages.prefetch((n for n in stages.prefetch(failing(), 1)), 1)
        assert next(taken) == 1
        with pytest.raises(ValueError, match="broken"):
            next(taken)


def test_all_end_where_one_fails_or_no_more_is_taken():
    closed = []

    def endless():
        try:
            while True:
                yield 0
        finally:
            closed.append(threading.current_thread().name)

    before = threading.active_count()
    with pytest.raises(KeyError), ThreadedPipeline() as stages:
        for _ in stages.prefetch((n for n in stages.prefetch(endless(), 1)), 1):
            raise KeyError("the caller")
    assert threading.active_count() == before
    assert closed == ["gpen-video"]  # in the thread that it ran in


def test_a_stage_at_work_is_told_that_the_others_have_ended():
    told = []

    def long():
        yield 0
        try:
            while True:
                time.sleep(0.01)
                stages.raise_if_stopped()
        except Interrupted:
            told.append(True)
            raise

    with ThreadedPipeline() as stages:
        assert next(stages.prefetch(long(), 1)) == 0
    assert told == [True]


def test_the_time_of_a_stage_is_that_in_which_its_items_come():
    watch = StageTimer({})

    def slow():
        for n in range(3):
            time.sleep(0.02)
            yield n

    for _ in timed(slow(), watch, "slow"):
        time.sleep(0.1)
    assert 0.06 <= watch.seconds["slow"] < 0.3


def test_whoever_waits_can_be_ended():
    """Only where the items are taken at last: in stages between, nothing is told."""
    pulses = []

    def pulse():
        pulses.append(threading.current_thread())
        if len(pulses) == 3:
            raise KeyError("enough")

    def slow(stages):
        while True:
            stages.raise_if_stopped()
            time.sleep(0.02)
        yield 0

    start = time.monotonic()
    with pytest.raises(KeyError), ThreadedPipeline(pulse) as stages:
        next(stages.prefetch((n for n in stages.prefetch(slow(stages), 1)), 1))
    assert pulses == [threading.current_thread()] * 3 and time.monotonic() - start < 5


def test_the_last_progress_event_is_sent_again():
    events = []
    progress = ReplayableProgress(events.append)
    progress.replay()
    event = ProgressEvent("restore", 1, 2, "frame", "Restoring frames")
    progress(event)
    progress.replay()
    assert events == [event] * 2


def test_a_pipeline_that_is_left_open_ends_with_the_program():
    """The last lines run at the end, after its threads have ended."""
    code = """
import atexit, threading
from gpen_core.video.threaded_pipeline import ThreadedPipeline
def numbers():
    with ThreadedPipeline() as stages:
        yield from stages.prefetch(iter(int, 1), 1)
atexit.register(lambda: print([one.name for one in threading.enumerate()]))
kept = numbers()
print(next(kept), len(threading.enumerate()))
"""
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    ran = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout.splitlines()) == (0, ["0 2", "['MainThread']"])
