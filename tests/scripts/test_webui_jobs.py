"""The API's jobs, in a fake A1111."""

import base64
import gc
import io
import sys
import threading
import time
import weakref

import fake_webui
import pytest
from PIL import Image
from webui_fixtures import RED, is_red

from gpen_core.images import codecs

fastapi = pytest.importorskip("fastapi")
pytest.importorskip("httpx")
from fastapi.testclient import TestClient  # noqa: E402

pytest_plugins = ["webui_fixtures"]
PATIENCE = 120  # seconds until a test that hangs is given up


@pytest.fixture
def body(astronaut):
    buffer = io.BytesIO()
    Image.fromarray(astronaut).save(buffer, "PNG")
    return {"image": base64.b64encode(buffer.getvalue()).decode()}


class Api:
    """The routes, with a line whose time passes when the test says so, and a gate before each job's end."""

    def __init__(self, models, monkeypatch):
        self.host = fake_webui.Host(models, monkeypatch)
        self.host.opts.gpen_model = RED
        app = fastapi.FastAPI()
        self.host.fire("on_app_started", None, app)
        self.client = TestClient(app)
        self.jobs = sys.modules["gpen_webui.job_queue"]
        self.timers, self.now, self.ended = [], 0.0, threading.Semaphore(0)
        self.queue = self.jobs.JobQueue(
            lambda seconds, then: self.timers.append((self.now + seconds, then)), lambda: self.now
        )
        monkeypatch.setattr(sys.modules["gpen_webui.api"], "job_queue", self.queue)
        self.open, self.begun = threading.Event(), threading.Semaphore(0)
        self.open.set()
        progress = self.jobs.Job.progress

        def gated(job, event):
            self.begun.release()
            assert self.open.wait(PATIENCE)
            progress(job, event)

        monkeypatch.setattr(self.jobs.Job, "progress", gated)
        run = self.jobs.Job.run

        def running(job):
            run(job)
            self.ended.release()

        monkeypatch.setattr(self.jobs.Job, "run", running)

    def wait(self):
        assert self.ended.acquire(timeout=PATIENCE)

    def wait_until(self, done):
        """What comes right after a job's end is done by the line's own thread."""
        end = time.monotonic() + PATIENCE
        while not done():
            assert time.monotonic() < end
            time.sleep(0.001)

    def let_pass(self, seconds):
        self.now += seconds
        due = [timer for timer in self.timers if timer[0] <= self.now]
        self.timers[:] = [timer for timer in self.timers if timer[0] > self.now]
        for _, then in due:
            then()

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
    assert (told["status"], told["error"]) == ("done", None)
    progress = {name: told[name] for name in ("stage", "done", "total", "unit", "text")}
    assert progress == {"stage": "restore", "done": 1, "total": 1, "unit": "face", "text": "Restoring faces"}
    result = api.get(name, "/result")
    assert result.status_code == 200 and result.json()["model"] == RED
    assert is_red(Image.open(io.BytesIO(base64.b64decode(result.json()["image"])))).any()
    api.wait_until(lambda: api.timers)
    api.let_pass(api.jobs.RESULT_TTL)
    assert api.get(name).status_code == api.get(name, "/result").status_code == 404 and not api.timers


def test_one_timer_forgets_all_jobs_each_in_its_time(api, body):
    names = []
    for _ in range(2):
        names.append(api.post({**body, "model": "gpen-broken.pth"}).json()["id"])
        api.wait()
        api.wait_until(lambda: api.queue.find(names[-1]).expires_at is not None)
        api.let_pass(60)
    assert len(api.timers) == 1
    api.let_pass(api.jobs.RESULT_TTL - 120)
    assert [api.get(name).status_code for name in names] == [404, 200] and len(api.timers) == 1
    api.let_pass(60)
    assert api.get(names[1]).status_code == 404 and not api.timers


@pytest.mark.slow
def test_the_oldest_results_make_room_and_that_is_said(api, body, monkeypatch):
    size = len(body["image"])
    monkeypatch.setattr(api.jobs, "MAX_RESULT_BYTES", 3 * size)  # of a red face's image, which has fewer
    names = []
    for _ in range(4):
        names.append(api.post(body).json()["id"])
        api.wait()
    api.wait_until(lambda: api.queue.find(names[-1]).expires_at is not None)
    answers = [api.get(name, "/result").status_code for name in names]
    assert answers[0] == 410 and answers[-1] == 200 and answers == sorted(answers, reverse=True)
    told = api.get(names[0]).json()
    assert told["status"] == "done" and "make room" in told["error"]
    assert "make room" in api.get(names[0], "/result").json()["detail"]


def test_so_many_finished_jobs_are_remembered(api, body, monkeypatch):
    monkeypatch.setattr(api.jobs, "MAX_FINISHED", 2)
    names = []
    for _ in range(3):
        names.append(api.post({**body, "model": "gpen-broken.pth"}).json()["id"])
        api.wait()
    api.wait_until(lambda: api.queue.find(names[-1]).expires_at is not None)
    assert [api.get(name).status_code for name in names] == [404, 200, 200]


@pytest.mark.parametrize("more", [{}, {"model": "gpen-broken.pth"}, {"preserve": "eyes"}])
def test_a_finished_job_keeps_neither_its_request_nor_its_images(api, body, more, monkeypatch):
    """Also where it failed: an exception's traceback would keep them."""
    photos, decode = [], codecs.decode

    def watched(*args, **kwargs):
        photo = decode(*args, **kwargs)
        photos.append(weakref.ref(photo))
        return photo

    monkeypatch.setattr(codecs, "decode", watched)
    name = api.post({**body, **more}).json()["id"]
    api.wait()
    api.wait_until(lambda: api.queue.find(name).expires_at is not None)
    job = api.queue.find(name)
    assert job.status == ("failed" if more else "done") and job.work is None
    gc.collect()
    assert len(photos) == 1 and photos[0]() is None


@pytest.mark.slow
def test_a_full_line_answers_429(api, body, monkeypatch):
    monkeypatch.setattr(api.jobs, "MAX_WAITING", 2)
    api.open.clear()
    first = api.post(body).json()["id"]
    assert api.begun.acquire(timeout=PATIENCE)  # the first is being worked on, and waits no more
    names = [api.post(body).json()["id"] for _ in range(2)]
    refused = api.post(body)
    assert refused.status_code == 429 and int(refused.headers["Retry-After"]) > 0
    assert [api.get(name).json()["position"] for name in (first, *names)] == [0, 1, 2]
    assert api.get(names[0], "/result").status_code == 409
    api.open.set()
    for _ in range(3):
        api.wait()
    assert {api.get(name).json()["status"] for name in (first, *names)} == {"done"}
    assert api.post(body).status_code == 202
    api.wait()


@pytest.mark.slow
def test_requests_hold_so_many_bytes_until_they_are_done(api, body, monkeypatch):
    requests = sys.modules["gpen_webui.api"].request_budget
    monkeypatch.setattr(requests, "limit", int(1.5 * len(body["image"])))
    api.open.clear()
    api.post(body)
    assert api.begun.acquire(timeout=PATIENCE)
    refused = [api.post(body), api.client.post("/gpen/v1/restore", json=body)]
    assert [answer.status_code for answer in refused] == [429, 429] and int(refused[0].headers["Retry-After"]) > 0
    api.open.set()
    api.wait()
    monkeypatch.setattr(requests, "limit", 10)
    assert api.client.post("/gpen/v1/restore", json={**body, "strength": 0}).status_code == 200  # one is always served


def test_a_job_that_is_deleted_before_its_turn_holds_no_bytes(api, body, monkeypatch):
    api.open.clear()
    first, second = api.post(body).json()["id"], api.post(body).json()["id"]
    monkeypatch.setattr(sys.modules["gpen_webui.api"].request_budget, "limit", 2 * len(body["image"]))
    assert api.post(body).status_code == 429
    api.client.delete(f"/gpen/v1/jobs/{second}")
    posted = api.post(body)
    assert posted.status_code == 202
    for name in (first, posted.json()["id"]):
        api.client.delete(f"/gpen/v1/jobs/{name}")
    api.open.set()
    api.wait()


def test_deleting_stops_the_work(api, body):
    api.open.clear()
    working, waiting = api.post(body).json()["id"], api.post(body).json()["id"]
    assert api.begun.acquire(timeout=PATIENCE)
    job = sys.modules["gpen_webui.api"].job_queue.find(working)
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
    monkeypatch.setattr(api.jobs, "RESULT_TTL", 0.0)
    line, job = api.jobs.JobQueue(), api.jobs.Job(lambda progress: b"1")
    line.add(job)
    end = time.monotonic() + PATIENCE
    while line.find(job.id) is not None:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert job.status == api.jobs.DONE
