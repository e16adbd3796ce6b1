"""Runs of any length: what recursion and lists stand for, clashes refused before anything starts, and flat memory."""

import logging
import os
import re
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gpen_core.batch import input_list
from gpen_core.batch import job_plan as planning
from gpen_core.batch.file_keys import FileKeyMap, same_file_key
from gpen_core.batch.job_plan import JobPlan
from gpen_core.batch.output_names import OutputSpec
from gpen_core.batch.sources import InputItem, Sources
from gpen_core.errors import InputError, MissingDependency, OptionsError, OutputError


@pytest.fixture
def tree(tmp_path, monkeypatch):
    names = "b.png a.JPG c.txt .hidden.png deep/d.tiff deep/b.png deep/er/e.webp .secret/x.png out/b.png folder.png/f.bmp"
    for name in names.split():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def jobs(sources, out="out", **wishes):
    with JobPlan(sources, OutputSpec(out if out is None else Path(out), **wishes)) as planned:
        made = list(planned)
        assert len(made) == len(planned)
        assert list(planned) == made  # as often as it is asked for
        return made


def targets(sources, out="out", **wishes):
    return [job.target.as_posix() for job in jobs(sources, out, **wishes)]


# What lies deeper


def test_what_lies_deeper_is_taken_and_its_folders_are_kept_but_out_is_not_looked_into(tree):
    found = jobs(Sources((".",), recursive=True, excluded=Path("out")))
    expected = ["a.JPG", "b.png", "deep/b.png", "deep/d.tiff", "deep/er/e.webp", "folder.png/f.bmp"]
    assert [job.source.as_posix() for job in found] == expected
    assert [job.target.as_posix() for job in found] == [f"out/{name}" for name in expected]


def test_without_recursion_only_the_folder_itself(tree):
    assert targets(Sources((".",))) == ["out/a.JPG", "out/b.png"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("deep/**/*.*", ["new/b.png", "new/d.tiff", "new/er/e.webp"]),
        ("*/*.png", ["new/deep/b.png", "new/out/b.png"]),
        ("*.png", ["new/b.png"]),
    ],
)
def test_of_a_pattern_the_folders_below_its_fixed_part_are_kept(tree, pattern, expected):
    assert targets(Sources((pattern,), recursive=True), "new") == expected


@pytest.mark.parametrize("argument", ["deep", "deep/**/*.*", "deep/**"])
def test_links_to_folders_may_lead_in_circles_and_are_not_followed(tree, argument):
    try:
        for name in ("again", "er/again", "er/more"):  # following two links in circles would never end
            (tree / "deep" / name).symlink_to(tree / "deep", target_is_directory=True)
    except OSError:
        pytest.skip("links cannot be made here")
    assert targets(Sources((argument,), recursive=True), "new") == ["new/b.png", "new/d.tiff", "new/er/e.webp"]


def test_a_pattern_does_not_find_the_results_of_an_earlier_run(tree):
    for pattern, expected in {
        "**/*.png": ["out/b.png", "out/deep/b.png"],
        "*/*.png": ["out/deep/b.png"],
        "[do]*/**/*.png": ["out/deep/b.png"],
    }.items():
        assert targets(Sources((pattern,), recursive=True, excluded=Path("out"))) == expected


def test_a_pattern_for_files_in_the_output_finds_them(tree):
    (tree / "out" / "raw").mkdir()
    (tree / "out" / "b.png").rename(tree / "out" / "raw" / "b.png")
    assert targets(Sources(("out/raw/*.png",), excluded=Path("out"))) == ["out/b.png"]
    assert targets(Sources(("ou*/raw/*.png",), excluded=Path("out"))) == ["out/b.png"]
    assert targets(Sources(("deep/*.png",), excluded=Path())) == ["out/b.png"]


def test_companions_lie_in_the_same_folders(tree):
    for name in ("masks/deep/b.png", "masks/b.png"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(b"x")
    found = [InputItem("b.png", "b.png"), InputItem("deep/b.png", "deep/b.png"), InputItem("deep/er/b.png", "deep/er/b.png")]
    limits = [job.region_mask for job in jobs(found, region_mask=Path("masks"))]
    assert limits == [Path("masks/b.png"), Path("masks/deep/b.png"), Path("masks/b.png")]


# Lists


def a_list(folder, text, name="list.txt"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_list_has_one_path_a_line(tree):
    text = "\ufeffb.png\r\n\n# deep/d.tiff\n   \ndeep/er/e.webp\n größe 1.png\nb.png"
    found = jobs(Sources(listing=a_list(tree, text)))
    assert [str(job.source) for job in found] == [str(Path(p)) for p in ("b.png", "deep/er/e.webp", " größe 1.png")]


def test_names_in_a_list_that_are_no_text_are_kept(tree):
    (job,) = jobs(Sources(listing=a_list(tree, b"deep/\xff.png\n")))
    assert os.fsencode(job.source) == b"deep/\xff.png" or os.name == "nt"
    assert job.target == Path("out") / job.source


@pytest.mark.parametrize(
    ("line", "below"),
    [("a/b.png", "a/b.png"), ("./a//b.png", "a/b.png"), ("a/../b.png", "b.png"), ("..a/b.png", "..a/b.png")],
)
def test_a_lists_results_keep_the_whole_path(tree, line, below):
    assert targets(Sources(listing=a_list(tree, line + "\nother/x.png"))) == [f"out/{below}", "out/other/x.png"]


def test_a_lists_absolute_paths_and_those_that_lead_out_are_kept_without_their_root(tree):
    absolute = tree / "deep" / "d.tiff"
    listing = a_list(tree, f"{absolute}\n../elsewhere/x.png\n")
    below = [absolute.relative_to(tree.anchor), (tree.parent / "elsewhere" / "x.png").relative_to(tree.anchor)]
    assert targets(Sources(listing=listing)) == [f"out/{path.as_posix()}" for path in below]


def test_a_link_to_itself_does_not_hide_the_images_beside_it(tree):
    try:
        for name, target in (("loop.png", "loop.png"), ("gone.png", "nowhere.png")):
            (tree / "deep" / name).symlink_to(target)
    except OSError:
        pytest.skip("links cannot be made here")
    assert [Path(one.source).name for one in Sources(("deep",))] == ["b.png", "d.tiff", "gone.png", "loop.png"]


@pytest.mark.parametrize("content", [b"a.png\nb\0.png\n", b"a.png\n" + b"x" * 70000])
def test_what_is_no_list_is_refused(tree, content):
    with pytest.raises(InputError, match=r"Line 2 of .*list\.txt is not a path"):
        jobs(Sources(listing=a_list(tree, content)))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-8-sig"])
def test_a_list_that_powershell_writes_is_read(tree, encoding):
    text = "\ufeff" * (encoding == "utf-16-be") + "in/ä.png\r\n\r\n# mine\r\nin/b.png\r\n"
    assert list(input_list.read(a_list(tree, text.encode(encoding)))) == ["in/ä.png", "in/b.png"]
    assert list(input_list.read(a_list(tree, b"\xff\xfea")))  # cut off: no such file, and no crash


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
@pytest.mark.parametrize("is_parquet", [False, True])
def test_a_list_may_be_a_pipe(tree, is_parquet):
    content = b"in/a.png\nin/b.png"
    if is_parquet:
        pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pyarrow.table({"path": ["in/a.png", "in/b.png"]}), "list.parquet")
        content = Path("list.parquet").read_bytes()
    os.mkfifo("pipe")
    with ThreadPoolExecutor(1) as pool:
        written = pool.submit(Path("pipe").write_bytes, content)
        assert list(input_list.read(Path("pipe"))) == ["in/a.png", "in/b.png"]
        assert written.result() == len(content)


def test_the_standard_input_may_be_the_list(tree):
    code = "from pathlib import Path; from gpen_core.batch.input_list import read; print(*read(Path('-')))"
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    ran = subprocess.run([sys.executable, "-c", code], input=b"in/a.png\nin/b.png\n", env=environ, stdout=subprocess.PIPE)
    assert ran.stdout.split() == [b"in/a.png", b"in/b.png"]


def test_a_list_that_is_missing_is_an_input_error(tree):
    with pytest.raises(InputError, match=r"The list no\.txt cannot be read: No such file"):
        jobs(Sources(listing=Path("no.txt")))


def test_a_parquet_list_without_pyarrow_says_what_to_install(tree, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependency, match=r"pip install pyarrow"):
        jobs(Sources(listing=a_list(tree, b"PAR1...")))


def test_a_parquet_list_has_a_column_path(tree):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    names = [f"deep/{n}.png" for n in range(25_000)]
    parquet.write_table(pyarrow.table({"id": range(25_000), "path": names}), "list.bin")
    assert list(input_list.read(Path("list.bin"))) == names
    parquet.write_table(pyarrow.table({"name": names}), "wrong.parquet")
    with pytest.raises(InputError, match="no column 'path', only name"):
        list(input_list.read(Path("wrong.parquet")))
    parquet.write_table(pyarrow.table({"path": [1, 2]}), "numbers.parquet")
    with pytest.raises(InputError, match="contains 1; expected text"):
        list(input_list.read(Path("numbers.parquet")))
    bad_text = pyarrow.array([b"\xff.png"]).cast("string", safe=False)
    parquet.write_table(pyarrow.table({"path": bad_text}), "latin.parquet")
    with pytest.raises(InputError, match=r"latin\.parquet cannot be read: 'utf-8' codec"):
        list(input_list.read(Path("latin.parquet")))
    Path("broken.parquet").write_bytes(Path("list.bin").read_bytes()[:1000])
    with pytest.raises(InputError, match=r"broken\.parquet cannot be read"):
        list(input_list.read(Path("broken.parquet")))


# Clashes


def many(count, *more):
    return [InputItem(f"a/{n}.png", f"{n}.png") for n in range(count)] + [InputItem(*one) for one in more]


COMPOSED, DECOMPOSED = "caf\u00e9.png", "cafe\u0301.png"


@pytest.mark.parametrize(("system", "count"), [("darwin", 1), ("linux", 2)])
def test_an_accent_of_one_or_two_characters_is_the_same_file_on_macos(tree, monkeypatch, system, count):
    monkeypatch.setattr("sys.platform", system)
    assert len(jobs(many(0, (COMPOSED, COMPOSED), (DECOMPOSED, DECOMPOSED)), None, in_place=True)) == count


def test_a_mask_belongs_to_its_image_however_its_accents_are_written(tree):
    folder = tree / "masks"
    folder.mkdir()
    (folder / DECOMPOSED).write_bytes(b"x")
    (one,) = jobs([InputItem(COMPOSED, COMPOSED)], region_mask=folder)
    assert one.region_mask == folder / DECOMPOSED
    if len(list(folder.iterdir())) == 1 and not (folder / COMPOSED).exists():  # of two, the exact name counts
        (folder / COMPOSED).write_bytes(b"x")
        (one,) = jobs([InputItem(COMPOSED, COMPOSED)], region_mask=folder)
        assert one.region_mask == folder / COMPOSED


@pytest.mark.parametrize("at_once", [3, 10_000])
def test_the_first_clash_of_a_long_run_is_named(tree, monkeypatch, at_once):
    monkeypatch.setattr(planning, "BATCH_ROWS", at_once)
    both = many(500, ("b/400.png", "400.png"), ("b/20.png", "20.png"))
    with pytest.raises(OptionsError, match=r"a.400\.png and b.400\.png would both become out.400\.png\. Restore them"):
        jobs(both)
    with pytest.raises(OptionsError, match=r"out.20\.png is an input and would be overwritten"):
        jobs(many(500, ("out/20.png", "other.png"), ("b/20.png", "20.png")))
    assert len(jobs(many(500, ("b/400.png", "b/400.png")))) == 500 + 1


def test_images_named_twice_in_a_long_run_are_restored_once(tree):
    twice = many(300) + many(300, ("./a/../a/7.png", "x.png"))
    assert [job.source.as_posix() for job in jobs(twice)] == [f"a/{n}.png" for n in range(300)]


def test_a_companion_is_an_input_too(tree):
    with pytest.raises(OptionsError, match="is an input"):
        jobs([InputItem("deep/b.png", "b.png")], ".", region_mask=Path("b.png"))


def test_where_links_lead_is_seen_for_folders_and_files(tree):
    try:
        (tree / "linked").symlink_to(tree / "deep", target_is_directory=True)
        (tree / "link.png").symlink_to(tree / "b.png")
    except OSError:
        pytest.skip("links cannot be made here")
    keys = FileKeyMap()
    for name in ("linked/d.tiff", "deep/d.tiff", "link.png", "b.png", "new/x.png", "deep/..", ".", "linked/../b.png"):
        assert keys.key_for(name) == keys.key_for(name) == same_file_key(Path(name))
    assert keys.key_for("linked/d.tiff") == keys.key_for("deep/d.tiff")
    assert keys.key_for("link.png") == keys.key_for("b.png")


def test_a_full_disk_is_told_with_what_to_do(tree, monkeypatch):
    monkeypatch.setattr(planning, "SCHEMA", planning.SCHEMA + "PRAGMA max_page_count = 20;")
    with pytest.raises(OutputError, match=r"temporary file.*full.*TMPDIR"):
        jobs(many(5000))


# Memory


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_jobs(tmp_path, monkeypatch):
    """Python's own; SQLite's is bounded by its cache."""
    monkeypatch.setattr(planning, "BATCH_ROWS", 500)

    def peak(count):
        listing = a_list(tmp_path, "".join(f"archive/{n % 17}/{n:07d}.jpg\n" for n in range(count)))
        tracemalloc.start()
        try:
            with JobPlan(Sources(listing=listing), OutputSpec(tmp_path / "out")) as planned:
                most = tracemalloc.get_traced_memory()[1]  # before pathlib fills the interpreter's own table of names
                assert sum(1 for _ in planned) == count
            return most
        finally:
            tracemalloc.stop()

    peak(500)
    assert peak(10_000) < 1.2 * peak(2_000)


@pytest.mark.slow
def test_nothing_of_the_plan_is_left_on_disk(tmp_path):
    code = (
        "import os, signal\nfrom gpen_core.batch.job_plan import *\nfrom gpen_core.batch.sources import InputItem\n"
        "from pathlib import Path\n"
        "plan = JobPlan((InputItem(f'a/{n}.png', f'{n}.png') for n in range(30000)), OutputSpec(Path('out')))\n"
        "print(len(plan), flush=True)\nos.kill(os.getpid(), getattr(signal, 'SIGKILL', signal.SIGTERM))"
    )
    ends = tmp_path / "temporary"
    ends.mkdir()
    environ = {**os.environ, "TMPDIR": str(ends), "PYTHONPATH": os.pathsep.join(["."])}
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environ, cwd=Path(__file__).parents[2], capture_output=True, text=True
    )
    assert ran.stdout.strip() == "30000", ran.stderr
    assert os.name == "nt" or not list(ends.iterdir())


def test_what_has_no_images_is_told_when_others_have(tree, caplog):
    (tree / "empty").mkdir()
    with caplog.at_level(logging.WARNING):
        assert len(jobs(Sources(("empty",), listing=a_list(tree, "b.png")))) == 1
    assert re.search(r"No images .* in empty\.", caplog.text)
