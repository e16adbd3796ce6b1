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


@pytest.mark.skipif(NODE is None, reason="needs Node.js")
def test_the_page_tells_which_model_a_node_uses(tmp_path):
    """Its own is gray while another is linked. If that is skipped, a warning says so when the graph is queued."""
    scripts, pack = tmp_path / "scripts", tmp_path / "extensions" / "pack"
    scripts.mkdir()
    pack.mkdir(parents=True)
    (scripts / "app.js").write_text(PAGE)
    shutil.copy(ROOT / "web" / "gpen_nodes.js", pack)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "run.js").write_text(RUN)
    ran = subprocess.run([str(NODE), "run.js"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    warning = "Load GPEN Model is bypassed or muted. This node uses its own model: auto."
    assert found["alone"] == {"disabled": False, "warnings": []}
    assert found["linked"] == {"disabled": True, "warnings": []}
    assert found["muted"] == found["bypassed"] == {"disabled": False, "warnings": [warning]}
    assert found["byPage"] and not found["others"] and found["saved"] == "auto"
