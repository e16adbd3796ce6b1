"""Which processes run, on each system that CI has."""

import os
import subprocess
import sys

import pytest

from gpen_core.files.process_id import current_process, hostname, process_exists


def test_this_process_exists():
    assert process_exists(os.getpid()) and current_process() == f"{hostname()}-{os.getpid()}"


def test_a_process_exists_until_it_ends():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert process_exists(process.pid)
    process.communicate(b"\n")
    assert not process_exists(process.pid)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="this user may signal every process")
def test_a_process_of_another_user_exists():
    assert process_exists(1)


def test_the_host_is_named_by_letters_that_end_no_part_of_a_file_name(monkeypatch):
    monkeypatch.setattr("platform.node", lambda: "my-computer.example.örg")
    assert hostname().startswith("my_computer_example__rg")
