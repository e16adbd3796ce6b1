"""Images named by URLs: found, read with bounded retries, written whole, and told apart."""

import io
import sys
from pathlib import Path

import helpers
import numpy as np
import pytest
from PIL import Image

from gpen_core.batch import image_io as access
from gpen_core.batch import local, remote
from gpen_core.batch.file_keys import same_file_key
from gpen_core.batch.job import ImageJob, is_done
from gpen_core.batch.job_plan import JobPlan
from gpen_core.batch.locations import Url, parse_location
from gpen_core.batch.output_names import OutputSpec
from gpen_core.batch.sources import InputItem, Sources
from gpen_core.errors import InputError, MissingDependency, OptionsError, OutOfMemory, OutputError
from gpen_core.options import RestoreOptions

fsspec = pytest.importorskip("fsspec")
SIDE = 96


@pytest.fixture(scope="module")
def photo():
    out = io.BytesIO()
    exif = Image.Exif()
    exif[0x010E] = "kept"
    pixels = np.rint(helpers.texture(SIDE, SIDE, sigma=1.5) * 255).astype(np.uint8)
    Image.fromarray(pixels).save(out, "PNG", exif=exif)
    return out.getvalue()


@pytest.fixture
def memory():
    """fsspec's store in memory, empty."""
    store = fsspec.filesystem("memory")
    store.store.clear()
    store.pseudo_dirs[:] = [""]
    return store


@pytest.fixture
def shaky(monkeypatch):
    """A store that fails as `shaky.faults` say; pauses are noted, not made."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("flaky_store", Path(__file__).with_name("flaky_store.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    store = module.register()
    store.pauses = []
    monkeypatch.setattr(remote.time, "sleep", store.pauses.append)
    return store


# Names


@pytest.mark.parametrize(
    ("text", "name", "suffix", "path"),
    [
        ("s3://bucket/a/b.PNG", "b.PNG", ".PNG", "bucket/a/b.PNG"),
        ("s3://bucket/a/", "", "", "bucket/a/"),
        ("s3://my.bucket", "", "", "my.bucket"),
        ("memory://a/b.png", "b.png", ".png", "a/b.png"),
        ("memory:///b.png", "", "", "/b.png"),
        ("https://host/x/a.jpg?sig=a/b.c", "a.jpg", ".jpg", "host/x/a.jpg"),
    ],
)
def test_a_url_has_a_name(text, name, suffix, path):
    url = parse_location(text)
    assert (url.name, url.suffix, url.path, str(url)) == (name, suffix, path, text)


@pytest.mark.parametrize("text", ["a/b.png", "C:/a.png", "c://a.png", "s3:/a.png", "a b://c", "://x"])
def test_what_is_no_url_is_a_path(text):
    assert isinstance(parse_location(text), Path)


def test_file_urls_are_paths(tmp_path):
    assert parse_location((tmp_path / "a b.png").as_uri()) == tmp_path / "a b.png"


def test_below_a_folder_is_one_slash():
    assert str(Url("s3://b/c/") / "d/e.png") == str(Url("s3://b/c") / "d/e.png") == "s3://b/c/d/e.png"
    assert str(Url("s3://b") / "e.png") == "s3://b/e.png"


def test_two_names_of_one_object_are_one(memory):
    keys = {same_file_key(parse_location(text)) for text in ("memory://a/b.png", "memory:///a/b.png", "MEMORY://a/b.png")}
    assert len(keys) == 1 and keys != {same_file_key(Path("a/b.png"))}


def test_without_fsspec_or_its_backend_it_is_said_what_to_install(monkeypatch):
    with pytest.raises(MissingDependency, match=r"nosuch:// cannot be used .*s3fs"):
        same_file_key(Url("nosuch://b/a.png"))
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(MissingDependency, match=r"pip install fsspec"):
        same_file_key(Url("memory://b/a.png"))


# What is found


@pytest.fixture
def tree(memory, photo):
    for name in ["b.png", "a.JPG", "c.txt", ".hidden.png", "deep/d.png", "deep/er/e.webp", ".secret/x.png", "out/b.png"]:
        memory.pipe_file(f"/in/{name}", photo)
    return memory


def found(argument, recursive=False, out="memory://results"):
    with JobPlan(
        Sources((argument,), recursive=recursive, excluded=parse_location(out)), OutputSpec(parse_location(out))
    ) as planned:
        return [(str(job.source), str(job.target)) for job in planned]


@pytest.mark.parametrize("argument", ["memory://in", "memory://in/", "memory:///in"])
def test_a_folder(tree, argument):
    folder = argument.rstrip("/")
    assert found(argument) == [(f"{folder}/{name}", f"memory://results/{name}") for name in ("a.JPG", "b.png")]


def test_a_folder_with_what_lies_deeper_but_not_out(tree):
    names = ["a.JPG", "b.png", "deep/d.png", "deep/er/e.webp"]
    expected = [(f"memory://in/{name}", f"memory://in/out/{name}") for name in names]
    assert found("memory://in", recursive=True, out="memory://in/out") == expected


@pytest.mark.parametrize(("recursive", "below"), [(False, "e.webp"), (True, "er/e.webp")])
def test_a_pattern(tree, recursive, below):
    assert found("memory://in/deep/**/*.webp", recursive) == [("memory:///in/deep/er/e.webp", f"memory://results/{below}")]
    assert found("memory://in/none*.png") == [("memory://in/none*.png", "memory://results/none*.png")]


def test_a_pattern_does_not_find_the_results_of_an_earlier_run(tree):
    expected = [("memory:///in/b.png", "memory://in/out/b.png"), ("memory:///in/deep/d.png", "memory://in/out/deep/d.png")]
    assert found("memory://in/**/*.png", recursive=True, out="memory://in/out") == expected
    assert found("memory://in/deep/*.png", out="memory://in/") == [("memory:///in/deep/d.png", "memory://in/d.png")]


def test_a_pattern_finds_hidden_files_only_if_it_names_them(tree):
    assert [source for source, _ in found("memory://in/*.png")] == ["memory:///in/b.png"]
    assert [source for source, _ in found("memory://in/.h*.png")] == ["memory:///in/.hidden.png"]
    assert [source for source, _ in found("memory://in/.secret/*.png")] == ["memory:///in/.secret/x.png"]


def test_an_image_is_not_asked_for_and_what_is_missing_is_told_by_reading(tree):
    assert found("memory://in/missing.png") == [("memory://in/missing.png", "memory://results/missing.png")]
    assert found("memory://in/nothing") == [("memory://in/nothing", "memory://results/nothing")]


def test_a_local_folder_into_a_store_and_back(tree, tmp_path, photo):
    (tmp_path / "x.png").write_bytes(photo)
    assert found(str(tmp_path)) == [(str(tmp_path / "x.png"), "memory://results/x.png")]
    assert found("memory://in/b.png", out=str(tmp_path)) == [("memory://in/b.png", str(tmp_path / "b.png"))]


def test_a_lists_urls_keep_their_bucket(tree, tmp_path):
    (tmp_path / "list.txt").write_text("memory://in/b.png\nmemory://in/deep/../../../x/d.png\n")
    with JobPlan(Sources(listing=tmp_path / "list.txt"), OutputSpec(tmp_path / "out")) as planned:
        assert [job.target for job in planned] == [tmp_path / "out/in/b.png", tmp_path / "out/x/d.png"]


@pytest.mark.parametrize(
    ("sources", "out", "why"),
    [
        (["memory://in/b.png"], "memory:///in", "is an input"),
        (["memory://in/b.png", "memory://in/deep/b.png"], "memory://results", "would both become memory://results/b.png"),
        (["memory://in/b.png", "memory://in/a.JPG"], "memory://results.png", None),
        (["memory://in/b.png", "memory://in/a.JPG"], "memory://results/x.png", "is one file, but there are 2 images"),
        (["memory://in/b.png"], "memory://results/x.gif", r"\.gif cannot be written"),
    ],
)
def test_clashes_are_refused(tree, sources, out, why):
    todo = [InputItem.from_location(parse_location(text)) for text in sources]
    if why is None:
        JobPlan(todo, OutputSpec(parse_location(out))).close()
        return
    with pytest.raises(OptionsError, match=why):
        JobPlan(todo, OutputSpec(parse_location(out)))


def test_a_store_that_cannot_be_listed_is_an_input_error(shaky):
    shaky.faults += [("find", "forbidden")]
    with pytest.raises(InputError, match=r"shaky://in/ cannot be listed: Forbidden"):
        found("shaky://in/")


# Read and written


def run(red, *jobs, **more):
    heard = []
    todo = [ImageJob(parse_location(str(source)), parse_location(str(target))) for source, target in jobs]
    local.process(red, todo, RestoreOptions(), heard.append, **more)
    return heard


def test_images_are_restored_as_files_are(red, memory, photo, tmp_path):
    (tmp_path / "a.png").write_bytes(photo)
    memory.pipe_file("/in/a.png", photo)
    run(red, (tmp_path / "a.png", tmp_path / "out.png"))
    (one, missing, two) = run(
        red,
        ("memory://in/a.png", "memory://out/deep/a.png"),
        ("memory://in/no.png", "memory://out/no.png"),
        (tmp_path / "a.png", "memory://out/b.png"),
    )
    assert [one.status, missing.status, two.status] == ["restored", "failed", "restored"]
    assert "memory://in/no.png cannot be read: it does not exist" in str(missing.error)
    assert memory.cat_file("/out/deep/a.png") == memory.cat_file("/out/b.png") == (tmp_path / "out.png").read_bytes()
    assert one.to_json()["output"] == "memory://out/deep/a.png"
    assert Image.open(io.BytesIO(memory.cat_file("/out/b.png"))).getexif()[0x010E] == "kept"
    assert access.decode_memory(Url("memory://in/a.png")) == access.decode_memory(tmp_path / "a.png")


def test_what_is_there_is_skipped(red, memory, photo):
    memory.pipe_file("/in/a.png", photo)
    jobs = ("memory://in/a.png", "memory://out/a.png"), ("memory://in/a.png", "memory://out/b.png")
    memory.pipe_file("/out/a.png", b"as it was")
    assert [one.status for one in run(red, *jobs, is_done=is_done)] == ["skipped", "restored"]
    assert [one.status for one in run(red, *jobs, is_done=is_done)] == ["skipped", "skipped"]
    assert memory.cat_file("/out/a.png") == b"as it was"


def test_what_is_too_large_or_broken_is_this_images_alone(red, memory, photo):
    memory.pipe_file("/in/a.png", photo[:300])
    with pytest.raises(InputError, match=r"memory://in/a\.png: .*damaged"):
        access.read(Url("memory://in/a.png"))
    memory.pipe_file("/in/b.png", photo)
    with pytest.raises(OutOfMemory, match=r"memory://in/b\.png: 96 x 96"):
        access.read(Url("memory://in/b.png"), max_memory=1000)


@pytest.mark.parametrize("size", [None, "known"])
def test_a_file_that_is_too_long_is_not_read(memory, photo, monkeypatch, size):
    memory.pipe_file("/in/a.png", photo)
    monkeypatch.setattr(remote, "MAX_IMAGE_BYTES", 100)
    if size is None:
        monkeypatch.setattr(type(memory.open("/in/a.png")), "size", None, raising=False)
    with pytest.raises(InputError, match="the limit is 100"):
        remote.read(Url("memory://in/a.png"))


# Retries


@pytest.mark.parametrize("fault", ["503", "busy", "timeout", "reset"])
@pytest.mark.parametrize("times", [1, 2, 3])
def test_what_may_pass_is_tried_three_times(shaky, photo, fault, times):
    shaky.store.clear()
    fsspec.filesystem("shaky").pipe_file("/in/a.png", photo)
    shaky.faults += [("open", fault)] * times
    if times < 3:
        assert access.read(Url("shaky://in/a.png")).image.size == (SIDE, SIDE)
    else:
        with pytest.raises(InputError, match=r"shaky://in/a\.png cannot be read, tried 3 times: "):
            access.read(Url("shaky://in/a.png"))
    assert shaky.pauses == list(remote.RETRY_DELAYS[:times]) and not shaky.faults


@pytest.mark.parametrize(("fault", "said"), [("forbidden", "Forbidden"), ("strange", "no such thing")])
def test_what_will_not_pass_is_tried_once(shaky, fault, said):
    shaky.faults += [("put", fault)]
    with pytest.raises(OutputError, match=rf"shakyobjects://out/a\.png cannot be written: {said}\."):
        access.write_bytes(Url("shakyobjects://out/a.png"), b"x")
    assert shaky.pauses == [] and not shaky.store


def test_a_store_that_answers_503_costs_one_image_and_its_reason_is_told(red, shaky, photo):
    store = fsspec.filesystem("shaky")
    for n in range(3):
        store.pipe_file(f"/in/{n}.png", photo)
    jobs = [(f"shaky://in/{n}.png", f"shakyobjects://out/{n}.png") for n in range(3)]
    shaky.faults += [("put", "503")] * 3
    outcomes = run(red, *jobs)
    assert [one.status for one in outcomes] == ["failed", "restored", "restored"]
    assert "out/0.png cannot be written, tried 3 times: Please reduce your request rate" in str(outcomes[0].error)
    assert str(jobs[0][0]) in str(outcomes[0].error)
    assert sorted(path for path in shaky.store if path.startswith("/out")) == ["/out/1.png", "/out/2.png"]


def test_a_store_that_does_not_say_what_is_there_costs_one_image(red, shaky, photo):
    fsspec.filesystem("shaky").pipe_file("/in/a.png", photo)
    shaky.faults += [("info", "503")] * 3
    jobs = [("shaky://in/a.png", f"shaky://out/{n}.png") for n in range(2)]
    outcomes = run(red, *jobs, is_done=is_done)
    assert [one.status for one in outcomes] == ["failed", "restored"]
    assert "cannot be checked, tried 3 times" in str(outcomes[0].error)


# Whole or not at all


def test_what_grows_is_written_beside_and_moved(shaky, monkeypatch):
    access.write_bytes(Url("shaky://out/deep/a.png"), b"old")
    calls = [(name, path) for name, path in shaky.log if name in ("put", "move")]
    (put, beside), moved = calls
    assert put == "put" and beside.startswith(".a.png.") and beside.endswith(".part") and moved == ("move", "a.png")
    for fault in ("put", "move"):
        shaky.faults += [(fault, "strange")]
        with pytest.raises(OutputError):
            access.write_bytes(Url("shaky://out/deep/a.png"), b"new")
        assert {path: bytes(file.getvalue()) for path, file in shaky.store.items()} == {"/out/deep/a.png": b"old"}
    access.write_bytes(Url("shaky://out/deep/a.png"), b"new")
    assert shaky.store["/out/deep/a.png"].getvalue() == b"new" and len(shaky.store) == 1
    monkeypatch.setattr(remote, "OBJECT_STORES", {*remote.OBJECT_STORES, "shakyobjects"})
    shaky.log.clear()
    access.write_bytes(Url("shakyobjects://out/b.png"), b"x")
    assert [name for name, _ in shaky.log if name in ("put", "move")] == ["put"]


# Servers that send what they like


class Trickle(io.BytesIO):
    """As a file over HTTP: a read returns what has arrived, and perhaps nobody says how long it is."""

    def __init__(self, data, size):
        super().__init__(data)
        self.size = size

    def read(self, most=-1):
        return super().read(min(most, 300) if most >= 0 else 300)


@pytest.fixture
def trickling(memory, photo, monkeypatch):
    memory.pipe_file("/in/a.png", photo)
    said = {"size": None, "data": photo}
    monkeypatch.setattr(type(memory), "open", lambda *_, **__: Trickle(said["data"], said["size"]))
    monkeypatch.setattr(remote.time, "sleep", lambda seconds: None)
    return said


def test_an_input_that_arrives_in_pieces_is_read_to_its_end(trickling, photo):
    assert access.read(Url("memory://in/a.png")).data == photo


def test_an_input_that_ends_before_its_length_is_told(trickling, photo):
    trickling["size"] = len(photo) + 1
    with pytest.raises(InputError, match=rf"a\.png cannot be read, tried 3 times: it ended after {len(photo):,} of"):
        access.read(Url("memory://in/a.png"))


def test_an_input_without_end_is_read_to_the_bound(trickling, monkeypatch):
    trickling["data"] = bytes(10_000)
    monkeypatch.setattr(remote, "MAX_IMAGE_BYTES", 1000)
    with pytest.raises(InputError, match="has 1,001 bytes, and the limit is 1,000"):
        access.read(Url("memory://in/a.png"))


@pytest.mark.parametrize("length", [True, False])
def test_over_http_an_input_is_read_whole(photo, length, monkeypatch):
    pytest.importorskip("aiohttp")
    import weights_server as ws

    def without_length(handler, body, start):
        handler.start(200, Connection="close")
        handler.send(body, pause=0.002)  # not all of it arrives at once
        handler.hang_up()

    data = photo + bytes(300_000)
    with ws.running(data, ws.serve if length else without_length) as server:
        server.head = None if length else ws.status(405)
        assert remote.read(Url(server.url)) == data
        assert access.decode_memory(Url(server.url)) > SIDE * SIDE * 18


# Archives


@pytest.fixture
def archive(photo, tmp_path):
    import zipfile

    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        for name in ("b.png", "deep/a.png", "c.txt"):
            file.writestr(name, photo)
    return f"::{tmp_path / 'x.zip'}"


@pytest.mark.parametrize(
    ("argument", "names"),
    [("zip://b.png", ["b.png"]), ("zip://*.png", ["b.png"]), ("zip://", ["b.png"]), ("zip://deep", ["deep/a.png"])],
)
def test_images_in_an_archive_are_found_and_read(archive, photo, tmp_path, argument, names):
    jobs = found(argument + archive, out=str(tmp_path / "out"))
    assert jobs == [(f"zip://{name}{archive}", str(tmp_path / "out" / Path(name).name)) for name in names]
    assert [remote.read(Url(source)) for source, _ in jobs] == [photo for _ in names]


def test_a_pattern_in_an_archive_keeps_the_folders_in_it(archive, tmp_path):
    jobs = found(f"zip://**/*.png{archive}", recursive=True, out=str(tmp_path / "out"))
    assert [target for _, target in jobs] == [str(tmp_path / "out" / name) for name in ("b.png", "deep/a.png")]


# Odd names


@pytest.mark.parametrize("name", ["nul\0.png", "half\udc00\ud800.png", "x::memory:__in_a.png", "~", "con.png"])
@pytest.mark.parametrize("out", ["memory://out", None])
@pytest.mark.slow
def test_an_odd_name_costs_no_other_image_and_names_one_object(red, memory, photo, tmp_path, name, out):
    """One that no file here can have fails by itself."""
    memory.pipe_file(f"/in/{name}.png", photo)
    memory.pipe_file("/in/z.png", photo)
    memory.pipe_file("/in/x", photo)  # which fsspec would open in place of the one with ::, and only of that
    with JobPlan(Sources(("memory://in",)), OutputSpec(parse_location(out or str(tmp_path)))) as planned:
        outcomes = {str(one.files.source): one for one in run(red, *((job.source, job.target) for job in planned))}
    good, odd = outcomes["memory://in/z.png"], outcomes[f"memory://in/{name}.png"]
    no_file = out is None and ("\0" in name or "\ud800" in name)
    why = "no file can have such a name" if no_file else "it does not exist" if "::" in name else None
    assert (good.error, odd.status) == (None, "failed" if why else "restored")
    assert not why or why in str(odd.error)


def test_a_local_name_that_no_file_can_have_is_an_input_error():
    with pytest.raises(InputError, match="cannot be read: no file can have such a name"):
        access.read(Path("a\0.png"))
