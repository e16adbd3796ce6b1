"""Mirrors that the user names, and https."""

import ssl
import threading

import pytest
import trustme
import weights_server as ws
from weights_fixtures import BODY, FILE, OTHER, hugging_face, modelscope, sha

from gpen_core.weights import digest
from gpen_core.weights.catalog import Source
from gpen_core.weights.digest import PUBLISHED
from gpen_core.weights.download import DownloadFailed
from gpen_core.weights.download_options import DownloadOptions

pytest_plugins = ["weights_fixtures"]


# A mirror


def test_a_mirrors_file_must_be_one_that_a_source_publishes(publish, load, serve, tmp_path):
    mirror, source = serve(), serve(ws.status(404))
    publish(modelscope(source, sha(BODY)))
    mirror.pages[f"/{FILE}"] = lambda handler, body, start: ws.serve(handler, OTHER, start)
    options = DownloadOptions(mirror=mirror.root, require_digest=True)
    with pytest.raises(DownloadFailed, match=f"expected {sha(BODY)}"):
        load(options=options)
    mirror.pages[f"/{FILE}"] = lambda handler, body, start: ws.serve(handler, BODY, start)
    assert load(options=options) == 1
    assert digest.load_record(tmp_path / "models" / FILE).checked_by == PUBLISHED


def test_a_mirror_may_have_either_of_two_published_files(publish, load, serve):
    mirror, first, second = serve(), serve(ws.status(404)), serve(ws.status(404))
    publish(modelscope(first, sha(BODY)), hugging_face(second, sha(OTHER)))
    mirror.pages[f"/{FILE}"] = lambda handler, body, start: ws.serve(handler, OTHER, start)
    assert load(options=DownloadOptions(mirror=mirror.root, require_digest=True)) == 2


def test_a_mirror_without_any_digest_is_checked_by_structure(publish, load, serve, caplog):
    mirror = serve()
    publish(serve(ws.status(404)).source)
    mirror.pages[f"/{FILE}"] = lambda handler, body, start: ws.serve(handler, BODY, start)
    assert load(options=DownloadOptions(mirror=mirror.root)) == 1
    assert "only its structure was checked" in caplog.text


def test_a_length_of_zero_that_a_server_gives_for_a_head_request_is_not_believed(publish, load, serve):
    server = serve()
    server.head = ws.status(200)
    publish(server.source)
    assert load() == 1


# https


@pytest.fixture
def https(monkeypatch, tmp_path):
    """A server with a certificate that this process trusts."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server = ws.Server(BODY)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def secure(server, path=ws.FILE):
    return f"https://127.0.0.1:{server.server_port}{path}"


def test_https_is_followed_to_https(publish, load, https):
    https.pages["/start"] = ws.redirect(ws.FILE)
    https.pages["/far"] = ws.redirect(secure(https, "/start"))
    publish(Source(secure(https, "/far")), sha256=sha(BODY), bytes=len(BODY))
    assert load() == 1


def test_https_is_not_followed_to_http(publish, load, https, serve):
    plain = serve()
    https.pages["/start"] = ws.redirect(plain.url)
    publish(Source(secure(https, "/start")), sha256=sha(BODY))
    with pytest.raises(DownloadFailed, match=f"redirects to {plain.url}, which is not https"):
        load()
    assert plain.requests == []


def test_a_circle_ends(publish, load, https):
    https.pages["/start"] = ws.redirect(secure(https, "/start"))
    publish(Source(secure(https, "/start")), sha256=sha(BODY))
    with pytest.raises(DownloadFailed, match="redirects more than 8 times"):
        load()


def test_a_certificate_that_nobody_signed_is_refused_without_a_second_try(publish, load, https, monkeypatch):
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    publish(Source(secure(https)), sha256=sha(BODY))
    with pytest.raises(DownloadFailed, match=r"cannot be reached .*(?i:certificate)"):
        load()


def test_certificates_that_are_not_there_are_no_fault_of_the_folder(publish, load, serve, https, monkeypatch, tmp_path):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "gone.pem"))
    publish(Source(secure(https)), serve(ws.status(404)).source, sha256=sha(BODY))
    with pytest.raises(DownloadFailed, match=r"cannot be reached \(.*gone\.pem\)\n.* answered 404") as failed:
        load()
    assert "Check the folder" not in str(failed.value)
