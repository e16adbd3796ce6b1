"""docs/api.md: its commands are run, its statuses and paths are those of the schema."""

import http.server
import json
import re
import shutil
import subprocess
import sys
import threading

import fake_webui
import pytest
from PIL import Image
from webui_fixtures import RED, is_red

fastapi = pytest.importorskip("fastapi")
pytest.importorskip("httpx")
from fastapi.testclient import TestClient  # noqa: E402

pytest_plugins = ["webui_fixtures"]
PAGE = (fake_webui.ROOT / "docs" / "api.md").read_text("utf-8")
COMMANDS = "".join(re.findall(r"```sh\n(.*?)```", PAGE, re.S))


@pytest.fixture
def client(webui_models, monkeypatch):
    host = fake_webui.Host(webui_models, monkeypatch)
    host.opts.gpen_model = RED
    app = fastapi.FastAPI()
    host.fire("on_app_started", None, app)
    return TestClient(app)


@pytest.fixture
def address(client):
    """A server that hands all on to the routes."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {"Content-Type": self.headers.get("Content-Type", "")}
            answer = client.request(self.command, self.path, content=body, headers=headers)
            self.send_response(answer.status_code)
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_GET = do_POST = do_DELETE = do

        def log_message(self, *args):
            return None

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.skipif(
    not all(map(shutil.which, ("sh", "curl", "jq", "base64"))) or sys.platform == "win32",
    reason="needs sh, curl, jq and base64",
)
@pytest.mark.slow
def test_the_commands_work(address, client, tmp_path, astronaut):
    Image.fromarray(astronaut).save(tmp_path / "photo.jpg", quality=95)
    script = f"set -e\nHOST={address}\n{COMMANDS.replace('curl -s ', 'curl -sSf --max-time 300 ')}"
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert RED in done.stdout
    restored = Image.open(tmp_path / "restored.png")
    assert restored.size == (512, 512) and '"restored":true' in (tmp_path / "result.json").read_text()
    assert not is_red(restored).any() and (restored.getpixel((230, 130))[0] > 200)  # strength 0.8
    name = json.loads((tmp_path / "job.json").read_text())["id"]
    assert client.get(f"/gpen/v1/jobs/{name}").status_code == 404  # deleted


def test_the_schema_has_every_path_and_the_page_every_status(client):
    schema = client.get("/openapi.json").json()
    paths = {path: set(methods) for path, methods in schema["paths"].items()}
    assert paths == {
        "/gpen/v1/models": {"get"},
        "/gpen/v1/restore": {"post"},
        "/gpen/v1/jobs": {"post"},
        "/gpen/v1/jobs/{name}": {"get", "delete"},
        "/gpen/v1/jobs/{name}/result": {"get"},
    }
    named = {path.replace("{name}", "$ID") for path in paths}
    assert all(f"$HOST{path}" in COMMANDS for path in named)
    answers = [status for methods in schema["paths"].values() for one in methods.values() for status in one["responses"]]
    listed = set(re.findall(r"^\| (\d+) \|", PAGE, re.M))
    assert listed - {"401"} == {status for status in answers if status >= "400"}
    assert all(one["description"] for methods in schema["paths"].values() for one in methods.values())


def test_the_page_names_every_field(client):
    posted = client.get("/openapi.json").json()["paths"]["/gpen/v1/jobs"]["post"]
    fields = posted["requestBody"]["content"]["application/json"]["schema"]["properties"]
    assert all(f"`{name}`" in PAGE or f'"{name}"' in PAGE for name in set(fields) - {"model"}) and "model" in PAGE
