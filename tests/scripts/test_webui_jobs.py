"""The API's jobs, in a fake A1111."""

import base64
import io
import sys
import threading
import time

import fake_webui
import pytest
from PIL import Image
from webui_pictures import RED, red

fastapi = pytest.importorskip("fastapi")
pytest.importorskip("httpx")
from fastapi.testclient import TestClient  # noqa: E402

pytest_plugins = ["webui_pictures"]
PATIENCE = 120  # seconds until a test that hangs is given up


@pytest.fixture
def body(astronaut):
    buffer = io.BytesIO()
    Image.fromarray(astronaut).save(buffer, "PNG")
    return {"image": base64.b64encode(buffer.getvalue()).decode()}


class Api:
    """The routes, with a line whose results are forgotten when the test says so, and a gate before each job's end."""

    def __init__(self, models, monkeypatch):
        self.host = fake_webui.Host(models, monkeypatch)
        self.host.opts.gpen_model = RED
        app = fastapi.FastAPI()
        self.host.fire("on_app_started", None, app)
        self.client = TestClient(app)
        self.jobs = sys.modules["gpen_webui.jobs"]
        self.forget, self.ended = [], threading.Semaphore(0)
        monkeypatch.setattr(sys.modules["gpen_webui.api"], "line", self.jobs.Line(self._later))
        self.open, self.begun = threading.Event(), threading.Semaphore(0)
        self.open.set()
        progress = self.jobs.Job.progress

        def gated(job, *told):
            self.begun.release()
            assert self.open.wait(PATIENCE)
            progress(job, *told)

        monkeypatch.setattr(self.jobs.Job, "progress", gated)

    def _later(self, seconds, then):
        assert seconds == self.jobs.KEPT_SECONDS
        self.forget.append(then)
        self.ended.release()

    def wait(self):
        assert self.ended.acquire(timeout=PATIENCE)

    def post(self, body):
        return self.client.post("/gpen/v1/jobs", json=body)

    def get(self, name, what=""):
        return self.client.get(f"/gpen/v1/jobs/{name}{what}")


@pytest.fixture
def api(webui_models, monkeypatch):
    made = Api(webui_models, monkeypatch)
    yield made
    made.open.set()  # so that no thread is left waiting


def test_a_job_is_done_and_forgotten_after_a_while(api, body):
    posted = api.post(body)
    assert posted.status_code == 202 and posted.json()["status"] in ("waiting", "working", "done")
    name = posted.json()["id"]
    api.wait()
    told = api.get(name).json()
    assert (told["status"], told["done"], told["total"], told["error"]) == ("done", 1, 1, None)
    result = api.get(name, "/result")
    assert result.status_code == 200 and result.json()["model"] == RED
    assert red(Image.open(io.BytesIO(base64.b64decode(result.json()["image"])))).any()
    for then in api.forget:
        then()
    assert api.get(name).status_code == api.get(name, "/result").status_code == 404


@pytest.mark.slow
def test_a_full_line_answers_429(api, body, monkeypatch):
    monkeypatch.setattr(api.jobs, "MOST_WAITING", 2)
    api.open.clear()
    first = api.post(body).json()["id"]
    assert api.begun.acquire(timeout=PATIENCE)  # the first is being worked on, and waits no more
    names = [api.post(body).json()["id"] for _ in range(2)]
    refused = api.post(body)
    assert refused.status_code == 429 and int(refused.headers["Retry-After"]) > 0
    assert [api.get(name).json()["ahead"] for name in (first, *names)] == [0, 1, 2]
    assert api.get(names[0], "/result").status_code == 409
    api.open.set()
    for _ in range(3):
        api.wait()
    assert {api.get(name).json()["status"] for name in (first, *names)} == {"done"}
    assert api.post(body).status_code == 202
    api.wait()


@pytest.mark.slow
def test_a_line_holds_so_many_bytes(api, body, monkeypatch):
    monkeypatch.setattr(api.jobs, "MOST_BYTES", 10)
    api.open.clear()
    api.post(body)
    assert api.begun.acquire(timeout=PATIENCE)
    assert [api.post(body).status_code for _ in range(2)] == [202, 429]  # one may always wait
    api.open.set()
    for _ in range(2):
        api.wait()


def test_deleting_stops_the_work(api, body):
    api.open.clear()
    working, waiting = api.post(body).json()["id"], api.post(body).json()["id"]
    assert api.begun.acquire(timeout=PATIENCE)
    job = sys.modules["gpen_webui.api"].line.find(working)
    for name in (waiting, working):
        assert api.client.delete(f"/gpen/v1/jobs/{name}").status_code == 204
        assert api.get(name).status_code == api.client.delete(f"/gpen/v1/jobs/{name}").status_code == 404
    api.open.set()
    api.wait()
    assert job.status == "stopped" and job.result is None and api.host.jobs == ["gpen", "end"]  # the other never began


def test_a_job_that_fails_answers_as_restore_does(api, body):
    cases = [({"image": base64.b64encode(b"nothing").decode()}, 400), ({**body, "model": "gpen-broken.pth"}, 503)]
    for given, status in cases:
        name = api.post(given).json()["id"]
        api.wait()
        told = api.get(name).json()
        result = api.get(name, "/result")
        assert told["status"] == "failed" and result.status_code == status and result.json()["detail"] == told["error"]


def test_interrupting_in_the_host_stops_a_job(api, body):
    api.host.state.interrupted = True
    name = api.post(body).json()["id"]
    api.wait()
    assert api.get(name).json()["status"] == "stopped" and api.get(name, "/result").status_code == 409


def test_what_cannot_be_is_refused_before_it_waits(api, body):
    for more, status in (({"order": "random"}, 422), ({"model": "none"}, 404), ({"image": "?"}, 400)):
        assert api.post({**body, **more}).status_code == status


def test_what_nobody_foresaw_is_logged_and_the_line_goes_on(api, body, monkeypatch, caplog):
    engine = sys.modules["gpen_webui.engine"]
    with monkeypatch.context() as patched:
        patched.setattr(engine, "restore", lambda *args, **more: 1 / 0)
        name = api.post(body).json()["id"]
        api.wait()
    assert api.get(name).json()["status"] == "failed" and api.get(name, "/result").status_code == 500
    assert "ZeroDivisionError" in caplog.text
    name = api.post(body).json()["id"]
    api.wait()
    assert api.get(name).json()["status"] == "done"


def test_results_are_forgotten_by_a_timer(api, monkeypatch):
    monkeypatch.setattr(api.jobs, "KEPT_SECONDS", 0.0)
    line, job = api.jobs.Line(), api.jobs.Job(lambda progress: 1)
    line.add(job)
    end = time.monotonic() + PATIENCE
    while line.find(job.id) is not None:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert job.status == api.jobs.DONE
