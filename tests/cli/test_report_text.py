"""How the command line writes sizes, times and the summary of several runs."""

from collections import Counter

from gpen_core.batch.summary import Summary
from gpen_core.cli.report_text import bytes_text, pixels_text, stages_text, summary_lines


def test_sizes_and_times_have_their_units():
    assert bytes_text(1234567) == "1,234,567 bytes"
    assert pixels_text(640, 479.6) == "640x480 px"
    assert stages_text({"detect": 0.123, "network": 1234.5}) == "detect 0.12 s, network 1,234.50 s"
    assert stages_text({}) == ""


def test_a_summary_counts_in_words_and_lists_the_most_frequent_reasons():
    summary = Summary(
        runs=2, completed_runs=1, statuses=Counter(restored=1, failed=1200), faces=3, restored=1, processed=1201
    )
    summary.reasons = Counter({"too small": 2})
    summary.errors = Counter({"a": 1000, "b": 150, "c": 50})
    summary.seconds, summary.stages = 2402.0, Counter(detect=1.0)
    assert list(summary_lines(summary, max_lines=2)) == [
        "1,201 images in 2 runs: 1,200 failed, 1 restored",
        "1 run did not finish (killed, or still running)",
        "3 faces found, 1 restored, 2 skipped",
        "  skipped: 2 x too small",
        "  failed: 1,000 x a",
        "  failed: 150 x b",
        "  failed: 50 for other reasons",
        "time by stage: detect 1.00 s",
        "1,201 images processed in 2,402.0 s: 0.5 per second",
    ]


def test_an_empty_summary_says_none():
    assert list(summary_lines(Summary())) == ["0 images in 0 runs: none"]
