"""Runs that go on where another ended, reports that are written as they go, and what they come to together."""

import json
import os
from pathlib import Path

import helpers
import numpy as np
import pytest
from PIL import Image

from gpen_core.batch import local, report_files, summary
from gpen_core.batch.job import ImageJob, is_done
from gpen_core.cli.report_text import summary_lines
from gpen_core.errors import InputError, OutOfMemory, OutputError
from gpen_core.options import RestoreOptions, VideoOptions
from gpen_core.pipeline.report import ImageOutcome, OutcomeCounts
from gpen_core.video import video_report

NAMES = {"model": "red-256", "detector": "fake"}
SIDE = 96


@pytest.fixture
def todo(tmp_path):
    made = []
    for n in range(4):
        source = tmp_path / f"{n}.png"
        Image.fromarray(np.rint(helpers.texture(SIDE, SIDE, sigma=1.5) * 255).astype(np.uint8)).save(source)
        made.append(ImageJob(source, tmp_path / "out" / f"{n}.png"))
    return made


def outcome(name, status="restored", error=None, **seconds):
    return ImageOutcome(ImageJob(Path(name), Path("out") / name), status, error, seconds=seconds)


def written(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


# What is there is skipped


@pytest.mark.parametrize("there", [(0, 1), (1,), (3,), (0, 1, 2, 3), (0, 2)])
@pytest.mark.slow
def test_what_is_there_is_skipped_in_its_turn_and_nothing_of_it_is_read(red, todo, monkeypatch, there):
    for n in there:
        todo[n].target.parent.mkdir(exist_ok=True)
        todo[n].target.write_bytes(b"as it was")
        todo[n].source.unlink()
    heard = []
    local.process(red, iter(todo), RestoreOptions(), heard.append, is_done=is_done)
    assert [one.files for one in heard] == todo
    assert [one.status for one in heard] == ["skipped" if n in there else "restored" for n in range(4)]
    assert all((todo[n].target.read_bytes() == b"as it was") == (n in there) for n in range(4))
    told = heard[there[0]].to_json()
    assert (told["status"], told["output"], told["seconds"]) == ("skipped", str(todo[there[0]].target), {})


def test_a_folder_of_the_outputs_name_is_not_the_output(red, todo):
    todo[0].target.mkdir(parents=True)
    assert not is_done(todo[0])
    heard = []
    local.process(red, todo[:1], RestoreOptions(), heard.append, is_done=is_done)
    assert isinstance(heard[0].error, OutputError)


def test_outcomes_are_counted_by_status_and_by_type_of_error():
    counts = OutcomeCounts()
    for error in (None, InputError("x"), OutOfMemory("y"), InputError("z"), None):
        counts.add(outcome("a.png", "failed" if error else "skipped", error))
    assert counts.statuses == {"skipped": 2, "failed": 3} and counts.total == 5
    assert counts.errors == {InputError: 2, OutOfMemory: 1}


def test_no_outcome_is_kept_by_a_stream_of_jobs(red, todo):
    """One job is asked for ahead, whatever their number."""
    ahead, most = [], 0

    def jobs():
        for n in range(20):
            ahead.append(n)
            yield todo[n % 4]

    def finished(outcome):
        nonlocal most
        ahead.pop(0)
        most = max(most, len(ahead))

    local.process(red, jobs(), RestoreOptions(), finished, is_done=lambda job: True)
    assert most <= 2 and not ahead


# Lines, as they end


def test_each_image_is_a_whole_line_as_soon_as_it_ends(red, todo, tmp_path):
    path = tmp_path / "new" / "report.jsonl"
    report = report_files.open_report(path, NAMES, RestoreOptions(strength=0.5), append=False)
    report.begin(red)
    seen = []

    def finished(one):
        report.add(one)
        seen.append(len(written(path)))

    (tmp_path / "1.png").write_bytes(b"broken")
    local.process(red, todo, RestoreOptions(), finished)
    report.end(None)
    assert seen == [2, 3, 4, 5]
    first, *pictures, last = written(path)
    assert {"row": "start", "model": "red-256", "device": "cpu", "size": 256}.items() <= first.items()
    assert first["options"]["strength"] == 0.5
    assert [one["row"] for one in pictures] == ["image"] * 4
    assert [one["status"] for one in pictures] == ["restored", "failed", "restored", "restored"]
    assert "1.png" in pictures[1]["error"] and pictures[0]["faces"][0]["restored"]
    assert [one["at"] for one in pictures] == sorted(one["at"] for one in pictures)
    assert last["counts"] == {"restored": 3, "failed": 1} and last["seconds"] >= pictures[-1]["at"] and "error" not in last


def test_what_ends_a_run_before_its_start_is_in_the_report(tmp_path):
    path = tmp_path / "report.jsonl"
    report_files.open_report(path, NAMES, RestoreOptions(), append=False).end("no weights")
    first, last = written(path)
    assert first["model"] == "red-256" and "device" not in first
    assert (last["error"], last["counts"]) == ("no weights", {})


def run(path, *outcomes, appends=False, ends=True, options=RestoreOptions(), names=NAMES):  # noqa: B008  frozen
    report = report_files.open_report(path, names, options, appends)
    report.begin(None) if path.suffix == ".jsonl" else None
    for one in outcomes:
        report.add(one)
    if ends:
        report.end(None)
    elif path.suffix == ".jsonl":
        report.file.close()


def test_a_run_that_goes_on_adds_to_the_lines_and_one_that_begins_anew_does_not(tmp_path):
    path = tmp_path / "report.jsonl"
    run(path, outcome("a.png"), ends=False)
    with path.open("ab") as file:
        file.write(b'{"row": "image", "inp')  # of a machine that lost its power
    run(path, outcome("a.png", "skipped"), outcome("b.png"), appends=True)
    kinds = [row["row"] for row in report_files.iter_rows(path)]
    assert kinds == ["start", "image", "damaged", "start", "image", "image", "end"]
    run(path, outcome("a.png"))
    assert [row["row"] for row in report_files.iter_rows(path)] == ["start", "image", "end"]


def test_a_report_that_cannot_be_written_stops_no_image_and_is_told_at_the_end(tmp_path, monkeypatch):
    path = tmp_path / "report.jsonl"
    report = report_files.open_report(path, NAMES, RestoreOptions(), append=False)
    report.begin(None)
    whole = report.file

    class Full:
        def write(self, data):
            whole.write(data[:10])
            raise OSError(28, "No space left on device")

        def __enter__(self): ...

        def __exit__(self, *error):
            whole.close()

    report.file = Full()
    report.add(outcome("a.png"))
    report.file = whole
    report.add(outcome("b.png"))
    report.file = Full()
    with pytest.raises(OutputError, match="lacks 2 rows: No space left"):
        report.end(None)
    assert [row["row"] for row in report_files.iter_rows(path)] == ["start", "damaged", "image", "damaged"]


def test_a_folder_that_cannot_be_written_is_told_before_anything_starts(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot be written"):
        report_files.open_report(tmp_path / "file" / "report.jsonl", NAMES, RestoreOptions(), append=False)


# Other options than before


@pytest.mark.parametrize("name", ["report.json", "report.jsonl"])
def test_one_warning_where_what_is_there_was_made_otherwise(tmp_path, caplog, name):
    path = tmp_path / name
    report_files.warn_about_option_changes(path, NAMES, RestoreOptions())
    run(path, outcome("a.png"), options=RestoreOptions(strength=0.5, preserve="eyes"))
    report_files.warn_about_option_changes(path, NAMES, RestoreOptions(strength=0.5, preserve="eyes"))
    assert not caplog.records
    report_files.warn_about_option_changes(path, {**NAMES, "model": "gpen-bfr-512"}, RestoreOptions(preserve="eyes"))
    (record,) = caplog.records
    assert "model: red-256, now gpen-bfr-512; strength: 0.5, now 1.0)" in record.getMessage()


@pytest.mark.parametrize("name", ["report.json", "report.jsonl"])
def test_a_report_of_videos_is_compared_like_one_of_images(tmp_path, caplog, name):
    path = tmp_path / name
    report = report_files.open_report(path, NAMES, RestoreOptions(strength=0.5), append=False, noun="video")
    report.add(outcome("a.mp4"))
    report.end(None)
    report_files.warn_about_option_changes(path, NAMES, RestoreOptions(strength=0.5))
    assert not caplog.records
    report_files.warn_about_option_changes(path, NAMES, RestoreOptions())
    assert "strength: 0.5, now 1.0" in caplog.text


@pytest.mark.parametrize("name", ["report.json", "report.jsonl"])
def test_a_report_of_videos_is_not_summed_up_as_images(tmp_path, name):
    report = report_files.open_report(tmp_path / name, NAMES, RestoreOptions(), append=False, noun="video")
    report.add(outcome("a.mp4"))
    report.end(None)
    with pytest.raises(
        InputError, match=r"report\.json.? is a report of videos\. Only reports of gpen restore are summarized"
    ):
        summary.summarize([tmp_path / name])


@pytest.mark.parametrize(("name", "indent"), [("report.json", 1), ("report.jsonl", None)])
def test_a_report_of_one_video_is_named_as_such(tmp_path, name, indent):
    text = video_report.report(None, NAMES, RestoreOptions(), VideoOptions(), None, "it broke", indent)
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match="is a report of videos"):
        summary.summarize([tmp_path / name])


def test_of_several_runs_in_one_file_each_counts(tmp_path, caplog):
    path = tmp_path / "report.jsonl"
    run(path, options=RestoreOptions(strength=0.5))
    run(path, appends=True)
    report_files.warn_about_option_changes(path, NAMES, RestoreOptions())
    (record,) = caplog.records
    assert "strength: 0.5, now 1.0" in record.getMessage()


def test_what_is_no_report_is_told_but_stops_nothing(tmp_path, caplog):
    (tmp_path / "report.json").write_text("[1]")
    report_files.warn_about_option_changes(tmp_path / "report.json", NAMES, RestoreOptions())
    assert "is not a report" in caplog.text and "It is unknown" in caplog.text


# Together


def test_reports_are_summed_up(red, todo, tmp_path):
    (tmp_path / "2.png").write_bytes(b"broken")
    first, second = tmp_path / "first.json", tmp_path / "second.jsonl"
    for path, jobs, options in ((first, todo[:1], RestoreOptions(min_face_size=41)), (second, todo[1:], RestoreOptions())):
        report = report_files.open_report(path, NAMES, options, append=False)
        report.begin(red)
        local.process(red, jobs, options, report.add)
        report.end(None)
    total = summary.summarize([first, second])
    assert total.statuses == {"restored": 2, "unchanged": 1, "failed": 1}
    assert (total.runs, total.completed_runs, total.faces, total.restored, total.processed) == (2, 2, 3, 2, 4)
    assert total.reasons == {"smaller than the minimum": 1}
    ((error, number),) = total.errors.items()
    assert error.startswith("FILE: ") and number == 1
    assert total.stages["network"] > 0 and total.seconds >= total.stages["network"]


def test_an_image_counts_once_by_what_became_of_it_last(tmp_path):
    path = tmp_path / "report.jsonl"
    run(path, outcome("a.png"), outcome("b.png", "failed", InputError("b.png: 3 x 7 pixels")), ends=False)
    run(path, outcome("a.png", "skipped"), outcome("b.png", network=2.0), outcome("c.png", "skipped"), appends=True)
    total = summary.summarize([path])
    assert total.statuses == {"restored": 2, "skipped": 1} and not total.errors
    assert (total.runs, total.completed_runs, total.processed, total.stages["network"]) == (2, 1, 3, 2.0)
    text = "\n".join(summary_lines(total))
    assert "3 images in 2 runs: 2 restored, 1 skipped" in text and "1 run did not finish" in text


def test_the_time_of_a_run_that_was_killed_is_that_of_its_last_row(tmp_path):
    path = tmp_path / "report.jsonl"
    rows = [{"row": "start"}, *({"row": "image", "input": f"{n}", "status": "restored", "at": n} for n in range(5))]
    rows += [
        {"row": "start"},
        {"row": "image", "input": "x", "status": "restored", "at": 3},
        {"row": "end", "seconds": 4.0},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert summary.summarize([path]).seconds == 8


def test_damaged_lines_are_left_out_with_a_note(tmp_path):
    path = tmp_path / "report.jsonl"
    run(path, outcome("a.png"), ends=False)
    path.write_bytes(path.read_bytes() + b'{"row": "pic')
    total = summary.summarize([path])
    assert total.damaged == [f"{path}, line 3"] and total.statuses == {"restored": 1}
    assert f"note: {path}, line 3 is damaged and was skipped" in list(summary_lines(total))


def test_errors_are_counted_by_kind_and_the_rest_is_not_hidden(tmp_path):
    path = tmp_path / "report.jsonl"
    words = [f"{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(40)]
    kinds = [outcome(f"{w}.png", "failed", InputError(f"{w}.png is {w}, of 1,000.5 px.")) for w in words]
    run(path, *kinds, *(outcome(f"{n}.png", "failed", InputError(f"{n}.png: {n} pixels")) for n in range(9)))
    text = list(summary_lines(summary.summarize([path])))
    assert "  failed: 9 x FILE: N pixels" in text and "  failed: 21 for other reasons" in text
    assert any(line.endswith(" of N px.") for line in text)


def test_an_error_is_counted_once_whatever_the_output_is_called_and_names_its_first_images(tmp_path):
    """A text keeps the digits of its words, such as mp4."""
    path, names = tmp_path / "report.jsonl", ["in/Anna.jpg", "in/b/Bob 2.jpg", "in/c.jpg", "in/d.jpg"]
    full = [f"{n}: out/{n.removeprefix('in/')} cannot be written: No space left on device." for n in names]
    rows = [outcome(name, "failed", OutputError(text)) for name, text in zip(names, full)]
    moving = "in/e.gif: the GIF is animated. Run `gpen video IN -o OUT.mp4`."
    run(path, *rows, outcome("in/e.gif", "failed", InputError(moving)))
    text = list(summary_lines(summary.summarize([path])))
    at = text.index("  failed: 4 x FILE: FILE cannot be written: No space left on device.")
    assert text[at + 1] == "    in/Anna.jpg, in/b/Bob 2.jpg, in/c.jpg, ..."
    at = text.index("  failed: 1 x FILE: the GIF is animated. Run `gpen video IN -o OUT.mp4`.")
    assert text[at + 1] == "    in/e.gif"


@pytest.mark.parametrize("content", ["", "x", "[]", "{}", '{"inputs": 3}'])
def test_what_is_no_report_is_an_input_error(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"a\.json is not a report"):
        summary.summarize([path])
    with pytest.raises(InputError, match="cannot be read"):
        summary.summarize([tmp_path / "missing.json"])


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_names_that_are_no_text_are_summed_up_too(tmp_path):
    path = tmp_path / "report.jsonl"
    run(path, outcome("\udcff.png"), outcome("größe.png"))
    assert summary.summarize([path]).statuses == {"restored": 2}


HOSTILE = {
    "nested": "[" * 100_000,
    "nested within": '{"row": "image", "input": "a", "faces": ' + "[" * 100_000,
    "a number as stages": '{"row": "image", "input": "a", "status": "restored", "seconds": 3}',
    "text as seconds": '{"row": "image", "input": "a", "seconds": {"read": "long"}}',
    "text as time": '{"row": "image", "input": "a", "at": "noon"}',
    "faces of text": '{"row": "image", "input": "a", "faces": ["x"]}',
    "a face's number": '{"row": "image", "input": "a", "faces": 3}',
    "a huge number": '{"row": "end", "seconds": 1' + "0" * 400 + "}",
    "digits": '{"row": "end", "seconds": ' + "9" * 5000 + "}",
    "a list as end": '{"row": "end", "seconds": [1]}',
    "options of text": '{"row": "start", "options": "none"}',
    "a list": "[1, 2]",
}


@pytest.mark.parametrize("line", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_a_hostile_report_is_damaged_rows_or_an_input_error(tmp_path, caplog, line, name):
    path = tmp_path / name
    row = '{"row": "image", "input": "b", "status": "restored", "seconds": {"read": 1.5}}'
    text = f"{row}\n{line}\n" if name == "a.jsonl" else f'{{"inputs": [{row}, {line}]}}'
    path.write_text(text, encoding="utf-8")
    try:
        total = summary.summarize([path])
    except InputError:
        assert name == "a.json"
    else:
        assert total.statuses["restored"] == 1 and total.stages == {"read": 1.5}
        assert len(total.damaged) == 1 or name == "a.json"
    assert list(summary_lines(summary.Summary()))
    report_files.warn_about_option_changes(path, {"model": "m", "detector": "d"}, RestoreOptions())


def test_what_a_row_calls_itself_is_not_believed_in_a_report_of_one_piece(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"inputs": [{"row": "damaged", "input": "b", "status": "restored"}]}', encoding="utf-8")
    total = summary.summarize([path])
    assert (total.statuses, total.runs, total.completed_runs) == ({"restored": 1}, 1, 1)
