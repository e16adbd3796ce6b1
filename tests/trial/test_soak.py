"""A short soak, and how growth is told; `make soak` does thousands."""

import os
import sys

import pytest

from . import soak, soak_images


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells what a process holds")
def test_a_hundred_and_twenty_images_leave_nothing():
    samples, statuses = soak.soak(120, different=30, seed=1)
    assert soak.growth(soak.at(samples, 60, 30), soak.at(samples, 120, 30)) == []
    assert set(statuses) == {"restored", "unchanged", "failed"} and sum(statuses.values()) == 120


@pytest.mark.parametrize(
    ("last", "told"),
    [
        (soak.Sample(102, 9, 5), []),
        (soak.Sample(90, 8, 4), []),
        (soak.Sample(104, 9, 5), ["memory grew by 4.0%"]),
        (soak.Sample(100, 10, 5), ["1 descriptors more"]),
        (soak.Sample(100, 9, 7), ["2 threads more"]),
    ],
)
def test_growth(last, told):
    assert soak.growth(soak.Sample(100, 9, 5), last) == told


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells what a process holds")
def test_what_a_process_holds_is_seen(tmp_path):
    before = soak.sample()
    held = [os.open(tmp_path, os.O_RDONLY) for _ in range(3)]
    filled = bytearray(os.urandom(1 << 20)) * 64
    after = soak.sample()
    for one in held:
        os.close(one)
    assert after.descriptors == before.descriptors + 3 and after.memory > before.memory + (len(filled) >> 1)


def test_images_are_the_same_each_time_and_of_every_kind():
    made = [soak_images.make(number, 1) for number in range(40)]
    assert {suffix for suffix, _ in made} == {".png", ".jpg", ".webp", ".tiff", ".bmp"}
    assert made[:5] == [soak_images.make(number, 1) for number in range(5)]
