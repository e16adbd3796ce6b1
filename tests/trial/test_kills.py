"""One kill of each operation, and how kills are told; `make kills` does them all."""

import signal

import pytest

from . import kills
from .kill_operations import OPERATIONS

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL here")


@pytest.mark.slow
@pytest.mark.parametrize("operation", OPERATIONS)
def test_after_a_kill_all_is_whole_and_the_next_run_tidies_up(operation):
    """With a seed whose kills come in the first quarter of the work."""
    row = kills.try_all([operation], 1, seed=10)[operation]
    assert row.tried == row.killed == 1
    assert row.is_well, kills.table({operation: row})


def well():
    row = kills.Row(killed=1, tried=1, ended_well=1, parts=1)
    row.outputs.update(["old", "new"])
    return row


@pytest.mark.parametrize("fault", ["torn", "wrong_records", "left", "ended_well"])
def test_whatever_is_not_well_is_told(fault, monkeypatch, capsys):
    row = well()
    if fault == "torn":
        row.outputs["torn"] += 1
    else:
        setattr(row, fault, 0 if fault == "ended_well" else 1)
    for rows, status in (({"convert": well()}, 0), ({"convert": well(), "download": row}, 1)):
        monkeypatch.setattr(kills, "try_all", lambda *_, rows=rows: rows)
        assert kills.main([]) == status
        assert capsys.readouterr().out.count("| 1 | 1 |") >= 1
