"""The script of ComfyUI's page, run by Node.js with a stand-in for the page."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NODE = shutil.which("node")
PAGE = """
export const shown = []
export const app = {
  registerExtension: (one) => (app.extension = one),
  extensionManager: { toast: { add: (message) => shown.push(message) } },
}
"""
API = "export const api = new EventTarget()"
RUN = """
import { app, shown } from "./scripts/app.js"
import "./extensions/pack/gpen_nodes.js"

class Restore {
  static nodeData = { name: "GPEN_RestoreFaces" }
  title = "My Restore"
  size = [0, 0]
  loader = null
  inputs = [{ name: "image" }, { name: "gpen_model" }]
  widgets = [{ name: "model", value: "auto" }, { name: "strength", value: 1 }]
  computeSize = () => [200, 100]
  setSize = (size) => (this.size = size)
  getInputNode = (slot) => (slot === 1 ? this.loader : null)
}
const node = new Restore()
app.extension.nodeCreated(node)
const [model, strength] = node.widgets
const found = {}
const cases = { alone: null, linked: 0, muted: 2, bypassed: 4 }
for (const [name, mode] of Object.entries(cases)) {
  node.loader = mode === null ? null : { title: "Load GPEN Model", mode }
  shown.length = 0
  model.beforeQueued()
  found[name] = { disabled: model.disabled, warnings: shown.map((one) => one.detail) }
}
node.loader = null
model.disabled = true // the page does so itself, too
console.log(JSON.stringify({ ...found, byPage: model.disabled, others: !!strength.disabled, saved: model.value }))
"""

SUMMARY = """
import { api } from "./scripts/api.js"
import { app } from "./scripts/app.js"
import "./extensions/pack/gpen_nodes.js"

globalThis.document = { createElement: () => ({ style: {} }) }

class Restore {
  static nodeData = { name: "GPEN_RestoreFaces", output_name: ["image", "summary"] }
  size = [340, 200]
  widgets = []
  computeSize = () => [200, 100]
  setSize = (size) => (this.size = size)
  setDirtyCanvas() {}
  addDOMWidget(name) {
    this.widgets.push({ name, value: "" })
    return this.widgets.at(-1)
  }
  removeWidget(widget) {
    this.widgets.splice(this.widgets.indexOf(widget), 1)
  }
}
class Load {
  static nodeData = { name: "LoadImage", output_name: ["IMAGE"] }
  widgets = [{ name: "summary_text", value: "not ours" }]
}
app.extension.beforeRegisterNodeDef(Restore, Restore.nodeData)
app.extension.setup()
const [inner, load] = [new Restore(), new Load()]
const subgraph = { getNodeById: (id) => (id === "5" ? inner : null) }
app.rootGraph = { getNodeById: (id) => ({ 12: { constructor: {}, subgraph }, 3: load })[id] ?? null }
const send = (type, detail) => {
  const event = new Event(type)
  event.detail = detail
  api.dispatchEvent(event)
}
const found = {}
const note = (name) => (found[name] = [inner.size[1], ...inner.widgets.map((one) => one.value)])
const run = () => {
  send("executing", "12:5")
  inner.widgets.push({ name: "$$node-text-preview", value: "Restoring faces: 25%" })
  inner.size = [340, 260]
}
run()
inner.onExecuted({ text: ["1 face found"] })
note("done")
run()
note("running")
send("execution_interrupted", { node_id: "12:5" })
note("cancelled")
run()
send("execution_error", { node_id: "12:5", exception_message: "faces is 'nobody'" })
note("failed")
for (const id of ["3", "12", "99", null]) send("executing", id)
console.log(JSON.stringify({ ...found, other: load.widgets[0].value }))
"""


def run_page(folder, script):
    """Run the pack's script and `script` in Node.js and return what it prints."""
    scripts, pack = folder / "scripts", folder / "extensions" / "pack"
    scripts.mkdir()
    pack.mkdir(parents=True)
    (scripts / "app.js").write_text(PAGE)
    (scripts / "api.js").write_text(API)
    shutil.copy(ROOT / "web" / "gpen_nodes.js", pack)
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "run.js").write_text(script)
    ran = subprocess.run([str(NODE), "run.js"], cwd=folder, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@pytest.mark.skipif(NODE is None, reason="needs Node.js")
def test_a_node_shows_no_summary_of_an_earlier_run(tmp_path):
    found = run_page(tmp_path, SUMMARY)
    assert found["done"] == [200, "1 face found"]  # in place of the last step
    assert found["running"] == [260, "", "Restoring faces: 25%"]
    assert found["cancelled"] == [200, ""]
    assert found["failed"] == [200, "faces is 'nobody'"]
    assert found["other"] == "not ours"


@pytest.mark.skipif(NODE is None, reason="needs Node.js")
def test_the_page_tells_which_model_a_node_uses(tmp_path):
    """Its own is gray while another is linked. If that is skipped, a warning says so when the graph is queued."""
    found = run_page(tmp_path, RUN)
    warning = "Load GPEN Model is bypassed or muted. This node uses its own model: auto."
    assert found["alone"] == {"disabled": False, "warnings": []}
    assert found["linked"] == {"disabled": True, "warnings": []}
    assert found["muted"] == found["bypassed"] == {"disabled": False, "warnings": [warning]}
    assert found["byPage"] and not found["others"] and found["saved"] == "auto"
