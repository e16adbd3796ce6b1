"""How far a weights file is trusted: the catalog's digest, its source's digest, or its structure only."""

import datetime
import io
import json
import logging

import pytest
import torch
import weights_server as ws
from safetensors.torch import save_file
from weights_fixtures import BODY, FILE, ONLINE, OTHER, PUBLISHERS, build, checkpoint_bytes, hugging_face, modelscope, sha

from gpen_core.errors import MissingWeights, WeightsError
from gpen_core.weights import checkpoint, digest
from gpen_core.weights.catalog import Source
from gpen_core.weights.digest import PIN, PUBLISHED, STRUCTURE, DigestRecord
from gpen_core.weights.download import DownloadFailed
from gpen_core.weights.download_options import DownloadOptions
from gpen_core.weights.store import Store

pytest_plugins = ["weights_fixtures"]


# Pinned


def test_a_pinned_file_is_compared_before_it_is_read(publish, load, place, monkeypatch):
    publish(sha256=sha(BODY))
    path = place(BODY)
    assert load() == 1
    path.write_bytes(OTHER)
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: pytest.fail("it was read"))
    with pytest.raises(WeightsError, match=f"refused and not used.*{sha(OTHER)}.*{sha(BODY)}.*Delete or rename"):
        load()
    assert path.read_bytes() == OTHER  # the user's file is left alone


def test_a_pinned_file_is_read_by_torch_and_needs_no_record(publish, load, place, monkeypatch):
    monkeypatch.setattr(checkpoint, "TORCH_READS_SAFELY", True)  # as torch 2.10 and newer
    publish(sha256=sha(BODY))
    place(BODY)
    asked = []
    monkeypatch.setattr(torch, "load", lambda path, **kwargs: asked.append(kwargs) or {"weight": torch.ones(1)})
    assert load() == 1
    assert asked == [{"map_location": "cpu", "weights_only": True}]
    assert not list(place(BODY).parent.glob(".*"))


def test_a_pin_holds_for_every_name_of_the_file_but_not_for_safetensors(publish, load, place, tmp_path):
    publish(sha256=sha(BODY), aliases=("other-name.pt",))
    place(OTHER, "OTHER-NAME.PT")
    with pytest.raises(WeightsError, match="refused and not used"):
        load("other-name")
    save_file({"weight": torch.full((3,), 7.0)}, tmp_path / "models" / "gpen-test.safetensors")
    assert load() == 7


# Published by the source


@pytest.mark.parametrize("publisher", PUBLISHERS)
def test_a_published_digest_is_compared_and_remembered(publish, load, serve, tmp_path, publisher, caplog):
    server = serve()
    publish(PUBLISHERS[publisher](server, sha(BODY)))
    assert load(options=DownloadOptions(require_digest=True)) == 1
    record = digest.load_record(tmp_path / "models" / FILE)
    assert record == DigestRecord(sha(BODY), PUBLISHED, server.url, datetime.date.today().isoformat())
    assert "structure" not in caplog.text
    assert load(options=DownloadOptions(offline=True, require_digest=True)) == 1  # its digest is known here now


@pytest.mark.parametrize("publisher", PUBLISHERS)
def test_a_file_that_is_not_the_published_one_is_deleted(publish, load, serve, tmp_path, publisher):
    server = serve(body=OTHER)
    publish(PUBLISHERS[publisher](server, sha(BODY)))
    with pytest.raises(DownloadFailed, match=f"{sha(OTHER)}, expected {sha(BODY)}. The file was deleted"):
        load()
    assert [p.name for p in (tmp_path / "models").iterdir()] == [f".{FILE}.lock"]


def test_a_published_length_that_is_not_kept_is_noticed_at_once(publish, load, serve):
    server = serve()
    publish(modelscope(server, sha(BODY), size=12345))
    with pytest.raises(DownloadFailed, match=f"serves a file of {len(BODY):,} bytes, expected 12,345"):
        load()


def test_each_source_has_its_own_digest(publish, load, serve, tmp_path):
    first, second = serve(ws.status(404)), serve(body=OTHER)
    publish(modelscope(first, sha(BODY)), hugging_face(second, sha(OTHER)))
    assert load() == 2
    assert digest.load_record(tmp_path / "models" / FILE).source == second.url


def test_one_sources_digest_does_not_vouch_for_another_source(publish, load, serve, tmp_path):
    """The first publishes a digest and does not serve; the second serves that very file and publishes none."""
    first, second = serve(ws.status(404)), serve()
    publish(modelscope(first, sha(BODY)), second.source)
    with pytest.raises(DownloadFailed, match="no source publishes a digest of its file"):
        load(options=DownloadOptions(require_digest=True))
    assert load() == 1
    assert digest.load_record(tmp_path / "models" / FILE).checked_by == STRUCTURE


def test_sources_that_publish_come_before_those_that_do_not(publish, load, serve):
    silent, telling = serve(), serve(body=OTHER)
    publish(silent.source, modelscope(telling, sha(OTHER)))
    assert load() == 2
    assert silent.gets == []


LISTINGS = {
    "not there": ws.status(404),
    "a web page": ws.page(),
    "no JSON": ws.text(b"{"),
    "a list": ws.text(b"[]"),
    "no data": ws.text(b'{"Data": null}'),
    "no files": ws.text(b'{"Data": {"Files": null}}'),
    "not listed": ws.text(b'{"Data": {"Files": [{"Path": "other", "Sha256": "x"}, 5]}}'),
    "no digest": ws.text(b'{"Data": {"Files": [{"Path": "dir/weights.pth", "Sha256": "", "Size": null}]}}'),
    "another digest": ws.text(
        b'{"Data": {"Files": [{"Path": "dir/weights.pth", "Sha256": "d41d8cd98f00b204e9800998ecf8427e"}]}}'
    ),
    "nested deeply": ws.text(b"[" * 300_000),
    "endless": ws.text(b" " * (5 << 20)),
    "elsewhere": ws.redirect("http://127.0.0.1:1/"),
}


@pytest.mark.parametrize("listing", LISTINGS)
def test_without_a_digest_the_structure_is_checked_and_that_is_said(publish, load, serve, tmp_path, caplog, listing):
    server = serve()
    source = modelscope(server, sha(BODY))
    server.pages["/listing"] = LISTINGS[listing]
    publish(source)
    with pytest.raises(DownloadFailed, match="no source publishes a digest of its file, but one is required"):
        load(options=DownloadOptions(require_digest=True))
    with caplog.at_level(logging.WARNING):
        assert load() == 1
    assert f"only its structure was checked (tensors, names, shapes). Its SHA-256 is {sha(BODY)}" in caplog.text
    assert digest.load_record(tmp_path / "models" / FILE).checked_by == STRUCTURE
    with pytest.raises(WeightsError, match="a digest is required, but no source publishes one"):
        load(options=DownloadOptions(offline=True, require_digest=True))


@pytest.mark.parametrize("body", [b"rubbish" * 100, BODY[:-40], b"", checkpoint_bytes(1)[:50] + BODY[50:-1]])
def test_what_fails_the_structure_check_never_gets_its_name(publish, load, serve, tmp_path, body):
    publish(serve(body=body).source)
    with pytest.raises(DownloadFailed, match="was refused"):
        load()
    assert [p.name for p in (tmp_path / "models").iterdir()] == [f".{FILE}.lock"]


def test_another_network_fails_the_structure_check(publish, load, serve, tmp_path):
    out = io.BytesIO()
    torch.save({"bias": torch.ones(3)}, out)
    bad, good = serve(body=out.getvalue()), serve()
    publish(bad.source, good.source)
    assert load() == 1


def test_a_file_that_changed_at_the_source_is_not_mixed_with_its_beginning(publish, load, serve, tmp_path):
    """Same length, no digest: only the entity tag tells."""
    body, other = checkpoint_bytes(1), checkpoint_bytes(2)
    assert len(body) == len(other)
    server = serve(ws.drop_after(1000), ws.status(403), body=body)
    publish(server.source)
    with pytest.raises(DownloadFailed):
        load()
    server.body, server.etag, server.answers = other, '"2"', [ws.serve]
    assert load() == 2
    assert server.gets[-1].start == 0
    assert sorted(p.name for p in (tmp_path / "models").glob("*.pth")) == [FILE]


def test_a_file_of_unknown_length_that_is_whole_is_recognized(publish, load, serve):
    """The line breaks where the file ends; asked for the rest, the server says that there is none."""
    server = serve(ws.truncated_chunks, ws.serve)
    publish(server.source)
    server.head = ws.status(405)
    assert load() == 1
    assert [request.start for request in server.gets] == [0, len(BODY)]


def test_a_change_within_one_download_is_noticed(publish, load, serve):
    def change(handler, body, start):
        handler.server.etag = '"2"'
        ws.serve(handler, OTHER, start)

    server = serve(ws.drop_after(1000), change, ws.serve)
    publish(server.source)
    with pytest.raises(DownloadFailed, match="changed the file during the download"):
        load()
    assert load() == 1


def test_what_cannot_be_told_apart_is_not_continued(publish, load, serve, tmp_path):
    """No digest, no entity tag, no date."""

    def untagged(handler, body, start):
        handler.start(200, Content_Length=len(body))

    server = serve(ws.drop_after(1000), ws.status(403))
    server.head = untagged
    publish(server.source)
    with pytest.raises(DownloadFailed):
        load()
    assert [p.name for p in (tmp_path / "models").iterdir()] == [f".{FILE}.lock"]


# Placed by hand


def test_a_file_placed_by_hand_is_remembered_and_a_change_refused(publish, load, place, tmp_path):
    publish()
    path = place(BODY)
    assert load(options=DownloadOptions(offline=True)) == 1
    note = tmp_path / "models" / f".{FILE}.gpen.json"
    assert json.loads(note.read_text())["sha256"] == sha(BODY)
    path.write_bytes(OTHER)
    with pytest.raises(WeightsError, match="it has changed since it was first used here") as changed:
        load()
    for part in (
        sha(BODY),
        sha(OTHER),
        "If you replaced it yourself, accept the new file",
        datetime.date.today().isoformat(),
    ):
        assert part in str(changed.value)
    store = Store([tmp_path / "models"], DownloadOptions(offline=True))
    assert store.accept_changed("gpen-test", build) == (path, DigestRecord(sha(OTHER), STRUCTURE))
    assert load() == 2 and json.loads(note.read_text())["sha256"] == sha(OTHER)


def test_what_is_not_as_it_must_be_cannot_be_trusted_by_saying_so(publish, place, tmp_path):
    store = Store([tmp_path / "models"], DownloadOptions(offline=True))
    publish(Source("https://127.0.0.1/x.pth"), sha256=sha(BODY))
    with pytest.raises(MissingWeights, match="there is no file to accept"):
        store.accept_changed("gpen-test", build)
    path = place(OTHER)
    with pytest.raises(WeightsError, match="expected " + sha(BODY)):  # the catalog's digest is not the user's to change
        store.accept_changed("gpen-test", build)
    publish()
    path.write_bytes(BODY)
    store.accept_changed("gpen-test", build)
    path.write_bytes(b"rubbish")
    with pytest.raises(WeightsError, match="was refused"):
        store.accept_changed("gpen-test", build)
    assert digest.load_record(path).sha256 == sha(BODY)


def test_a_file_named_by_path_is_remembered_too(load, place):
    path = place(BODY, "my-own.pth")
    assert load(str(path)) == 1
    path.write_bytes(OTHER)
    with pytest.raises(WeightsError, match="has changed"):
        load(str(path))


@pytest.mark.parametrize("stem", ["g" * 251, "g" * 242, "\N{GRINNING FACE}" * 62, "g" * 234])
def test_a_file_with_a_name_as_long_as_can_be_is_remembered_too(load, place, stem):
    path, other = place(BODY, f"{stem}.pth"), place(OTHER, f"{stem[:-1]}.pth")
    assert load(path.name) == 1 and load(other.name) == 2
    assert digest.load_record(path).sha256 == sha(BODY) and digest.load_record(other).sha256 == sha(OTHER)
    path.write_bytes(OTHER)
    with pytest.raises(WeightsError, match="has changed"):
        load(path.name)


def test_a_file_that_could_not_be_used_is_not_remembered(load, place):
    path = place(b"rubbish", "my-own.pth")
    with pytest.raises(WeightsError):
        load(str(path))
    assert digest.load_record(path) is None
    path.write_bytes(BODY)
    assert load(str(path)) == 1


def test_a_link_is_remembered_where_it_leads(load, place, tmp_path):
    real = place(BODY, "real.pth")
    (tmp_path / "link.pth").symlink_to(real)
    assert load(str(tmp_path / "link.pth")) == 1
    assert digest.load_record(real).sha256 == sha(BODY) and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "{}", '{"sha256": "x", "checked_by": "pin"}', '{"sha256": "%s"}' % ("0" * 64)),
        json.dumps({"sha256": sha(BODY), "checked_by": "structure", "source": 5}),
    ],
)
def test_a_damaged_record_is_not_taken_for_none(load, place, text):
    path = place(BODY, "my-own.pth")
    digest.record_path(path).write_text(text)
    with pytest.raises(WeightsError, match=r"cannot be read.*accept it"):
        load(str(path))
    Store([], DownloadOptions(offline=True)).accept_changed(str(path), build)
    assert load(str(path)) == 1


def test_a_folder_that_cannot_be_written_remembers_nothing_and_loads(load, place, monkeypatch, caplog):
    path = place(BODY, "my-own.pth")

    def refuse(*args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(digest, "acquire", refuse)
    with caplog.at_level(logging.INFO):
        assert load(str(path)) == 1
    assert "could not be saved" in caplog.text and digest.load_record(path) is None


def test_require_digest_asks_the_sources_about_a_file_placed_by_hand(publish, load, place, serve):
    server = serve()
    publish(hugging_face(server, sha(BODY)))
    path = place(BODY)
    assert load(options=DownloadOptions(require_digest=True)) == 1
    assert digest.load_record(path).checked_by == PUBLISHED and digest.load_record(path).source == server.url
    assert server.gets == []


def test_require_digest_refuses_what_nobody_knows(publish, load, place, serve):
    publish(hugging_face(serve(), sha(BODY)))
    place(OTHER)
    with pytest.raises(WeightsError, match=f"no source publishes one of this file .SHA-256 {sha(OTHER)}"):
        load(options=DownloadOptions(require_digest=True))


def test_a_source_that_publishes_another_file_than_before_is_refused(publish, load, serve, tmp_path):
    server = serve()
    publish(modelscope(server, sha(BODY)))
    load()
    (tmp_path / "models" / FILE).unlink()
    server.body = OTHER
    publish(modelscope(server, sha(OTHER)))
    with pytest.raises(DownloadFailed, match=r"serves another file than on 20.*To accept it, delete"):
        load()
    digest.record_path(tmp_path / "models" / FILE).unlink()
    assert load() == 2


@pytest.mark.parametrize("publisher", [modelscope, lambda server, sha256: server.source])
def test_a_damaged_record_without_its_file_is_replaced(publish, load, serve, tmp_path, caplog, publisher):
    publish(publisher(serve(), sha(BODY)))
    note = digest.record_path(tmp_path / "models" / FILE)
    note.parent.mkdir()
    note.write_text("{")
    assert load() == 1 and digest.load_record(tmp_path / "models" / FILE).sha256 == sha(BODY)
    assert caplog.text.count(f"{note} is damaged and will be replaced.") == 1


def test_a_record_nested_deeply_is_refused(tmp_path):
    digest.record_path(tmp_path / "a.pth").write_text("[" * 200_000)
    with pytest.raises(WeightsError):
        digest.load_record(tmp_path / "a.pth")


# Missing


def test_offline_nothing_is_asked_and_the_message_helps(publish, load, serve, tmp_path):
    server = serve()
    publish(server.source)
    with pytest.raises(MissingWeights) as missing:
        load(options=DownloadOptions(offline=True))
    for part in (
        FILE,
        str(tmp_path / "models"),
        "downloads are switched off",
        server.url,
        "for tests only",
        "models folder",
    ):
        assert part in str(missing.value)
    assert server.requests == []


def test_a_file_in_any_folder_is_used_where_it_lies_and_a_missing_one_goes_into_the_first(publish, serve, tmp_path):
    server = serve()
    publish(server.source)
    folders = [tmp_path / "first", tmp_path / "second"]
    folders[1].mkdir()
    (folders[1] / "gpen-TEST.PTH").write_bytes(OTHER)
    assert Store(folders, ONLINE).load("gpen-test", build) == 2
    assert server.requests == [] and not folders[0].exists()
    (folders[1] / "gpen-TEST.PTH").unlink()
    digest.delete_record(folders[1] / "gpen-TEST.PTH")
    assert Store(folders, ONLINE).load("gpen-test", build) == 1
    assert (folders[0] / FILE).exists()


def test_records_say_whether_somebody_vouches():
    assert [DigestRecord("0" * 64, kind).has_digest for kind in (PIN, PUBLISHED, STRUCTURE)] == [True, True, False]
