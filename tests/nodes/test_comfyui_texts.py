"""ComfyUI's locales and help pages say what the schemas in nodes/ say, which are read as sources: no host is needed."""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass
from pathlib import Path

import fake_comfyui
import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {path.stem: ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "nodes").glob("*.py")}
LANGUAGES = ("en", "zh")
SHARED = ("inputs", "outputs")  # the modules whose functions give several nodes their inputs and outputs
HELPERS = {node.name: node for name in SHARED for node in SOURCES[name].body if isinstance(node, ast.FunctionDef)}
FOLDERS = {
    target.id: node.value.value
    for node in SOURCES["folders"].body
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
    for target in node.targets
    if isinstance(target, ast.Name)
}
MARKED = set("@{}|")  # what vue-i18n, which shows these texts, takes for its own


@dataclass(frozen=True)
class Slot:
    """An input or output; its tooltip is None where it is known only at run time."""

    id: str
    tooltip: str | None


@dataclass(frozen=True)
class Node:
    id: str
    display_name: str | None
    description: str | None
    inputs: dict[str, Slot]
    outputs: list[Slot]


def text(tree):
    """What a string expression is, if constants of nodes/folders.py are all that it depends on."""
    if isinstance(tree, ast.Constant):
        return tree.value
    parts = []
    for part in tree.values:
        if isinstance(part, ast.FormattedValue):
            value = part.value
            known = (
                isinstance(value, ast.Attribute) and getattr(value.value, "id", "") == "folders" and value.attr in FOLDERS
            )
            if not known:
                return None
            parts.append(FOLDERS[value.attr])
        else:
            parts.append(part.value)
    return "".join(parts)


def keywords(call):
    return {keyword.arg: keyword.value for keyword in call.keywords}


def slots(tree, kind):
    """Every `*.Input("id", tooltip=...)` or `*.Output(display_name="id", tooltip=...)` in an expression, through helpers."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", None))
        owner = getattr(getattr(node.func, "value", None), "id", None)
        if name == kind:
            given = keywords(node)
            named = node.args[0] if node.args else given.get("id", given.get("display_name"))
            yield Slot(text(named), text(given["tooltip"]))
        elif name in HELPERS and (isinstance(node.func, ast.Name) or owner in SHARED):
            yield from slots(HELPERS[name], kind)


def nodes():
    for source in SOURCES.values():
        for call in ast.walk(source):
            if isinstance(call, ast.Call) and "node_id" in (given := keywords(call)):
                yield Node(
                    text(given["node_id"]),
                    text(given["display_name"]),
                    text(given["description"]),
                    {slot.id: slot for slot in slots(given["inputs"], "Input")},
                    list(slots(given["outputs"], "Output")),
                )


NODES = {node.id: node for node in nodes()}
each_node = pytest.mark.parametrize("node", NODES.values(), ids=NODES)
each_language = pytest.mark.parametrize("language", LANGUAGES)


def locale(language, file="nodeDefs"):
    return json.loads((ROOT / "locales" / language / f"{file}.json").read_bytes().decode("utf-8"))


def help_page(node_id, language):
    return (ROOT / "web" / "docs" / node_id / f"{language}.md").read_bytes().decode("utf-8")


def strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from strings(part)
    else:
        raise AssertionError(f"neither text nor an object: {value!r}")


def test_schemas_were_read():
    """What follows would pass with nothing to compare."""
    assert set(NODES) == fake_comfyui.NODES
    restore = NODES["GPEN_RestoreFaces"]
    assert {"model", "image", "strength", "faces", "order", "confidence", "color", "region_mask", "bboxes"} <= set(
        restore.inputs
    )
    assert [slot.id for slot in restore.outputs] == ["image", "face_mask", "crops", "summary"]
    detector = NODES["GPEN_LoadModel"].inputs["detector"]
    assert detector.tooltip and "models/facedetection" in detector.tooltip


def test_every_language_has_every_file():
    assert {path.name for path in (ROOT / "locales").iterdir()} == set(LANGUAGES)
    for language in LANGUAGES:
        found = {path.name for path in (ROOT / "locales" / language).iterdir()}
        assert found == {"main.json", "nodeDefs.json"}


@each_language
@pytest.mark.parametrize("file", ["main", "nodeDefs"])
def test_locale_holds_texts_that_can_be_shown(language, file):
    content = locale(language, file)
    assert isinstance(content, dict)
    for string in strings(content):
        assert string.strip()
        assert not MARKED & set(string), string


@each_language
def test_locale_has_the_nodes_and_no_others(language):
    assert set(locale(language)) == set(NODES)


@each_language
@each_node
def test_locale_names_inputs_and_outputs(node, language):
    told = locale(language)[node.id]
    assert set(told) == {"display_name", "description", "inputs", "outputs"}
    assert set(told["inputs"]) == set(node.inputs)
    assert list(told["outputs"]) == [str(number) for number in range(len(node.outputs))]
    for slot in [*told["inputs"].values(), *told["outputs"].values()]:
        assert {"name"} <= set(slot) <= {"name", "tooltip"}
    assert len({slot["name"] for slot in told["inputs"].values()}) == len(node.inputs)


@each_language
@each_node
def test_locale_has_a_tooltip_for_all_that_is_constant(node, language):
    told = locale(language)[node.id]
    missing = [
        slot.id
        for slot, its in [
            *((slot, told["inputs"][slot.id]) for slot in node.inputs.values()),
            *((slot, told["outputs"][str(number)]) for number, slot in enumerate(node.outputs)),
        ]
        if slot.tooltip is not None and "tooltip" not in its
    ]
    assert not missing


@each_node
def test_english_locale_repeats_the_schema(node):
    """It is shown in the schema's place. A tooltip made at run time would be hidden by one here."""
    told = locale("en")[node.id]
    assert (told["display_name"], told["description"]) == (node.display_name, node.description)
    assert {name: its.get("tooltip") for name, its in told["inputs"].items()} == {
        slot.id: slot.tooltip for slot in node.inputs.values()
    }
    assert [its.get("tooltip") for its in told["outputs"].values()] == [slot.tooltip for slot in node.outputs]


@each_node
def test_schema_has_no_empty_tooltip(node):
    assert not [slot.id for slot in [*node.inputs.values(), *node.outputs] if slot.tooltip is not None and not slot.tooltip]


@each_language
@each_node
def test_help_page_names_inputs_and_outputs(node, language):
    """The browser asks for docs/NODE/LANGUAGE.md in the pack's web directory."""
    page = help_page(node.id, language)
    rows = [line.split("|")[1].strip() for line in page.splitlines() if line.startswith("| `")]
    assert sorted(row.split("`")[1] for row in rows) == sorted([*node.inputs, *(slot.id for slot in node.outputs)])
    if language == "zh":  # both the id, which messages name, and what is written on the node
        told = locale(language)[node.id]
        labels = [*told["inputs"].items(), *((slot.id, told["outputs"][str(n)]) for n, slot in enumerate(node.outputs))]
        assert sorted(rows) == sorted(f"`{id_}`\uff08{its['name']}\uff09" for id_, its in labels)


def test_help_pages_are_of_nodes_that_exist():
    found = {path.relative_to(ROOT / "web" / "docs").as_posix() for path in (ROOT / "web" / "docs").rglob("*.md")}
    assert found == {f"{node_id}/{language}.md" for node_id in NODES for language in LANGUAGES}


WORKFLOWS = sorted((ROOT / "example_workflows").glob("*.json"))
WIDGETS = {"COMBO", "FLOAT", "INT", "STRING", "BOOLEAN"}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_example_workflows_fit_the_nodes(path, tmp_path, monkeypatch):
    known = fake_comfyui.Host(tmp_path, monkeypatch).nodes
    workflow = json.loads(path.read_bytes().decode("utf-8"))
    ours = [part for part in workflow["nodes"] if part["type"].startswith("GPEN_")]
    assert ours
    for part in ours:
        schema = known[part["type"]].define_schema()
        widgets = [one for one in schema.inputs if one.kind in WIDGETS]
        sockets = [one.id for one in schema.inputs if one.kind not in WIDGETS]
        assert [one["name"] for one in part["inputs"]] == sockets
        assert [one["name"] for one in part["outputs"]] == [one.display_name for one in schema.outputs]
        # Inputs that came later have no value in a graph that was saved before, and take their defaults.
        later = [one for one in widgets[len(part["widgets_values"]) :] if getattr(one, "optional", False)]
        assert len(part["widgets_values"]) == len(widgets) - len(later)
        for widget, value in zip(widgets, part["widgets_values"]):
            if widget.kind == "COMBO":
                assert value in widget.options, widget.id
            elif widget.kind in ("FLOAT", "INT"):
                assert widget.min <= value <= widget.max, widget.id


def test_example_workflows_are_there():
    """Else nothing was held against the nodes."""
    assert len(WORKFLOWS) >= 5


BLUEPRINTS = sorted((ROOT / "subgraphs").glob("*.json"))


def test_every_example_has_a_blueprint():
    assert len(BLUEPRINTS) == len(WORKFLOWS)


@pytest.mark.parametrize("path", BLUEPRINTS, ids=lambda path: path.stem)
def test_blueprints_hold_together(path, tmp_path, monkeypatch):
    """One node, of the subgraph that comes with it, whose links lead from and to sockets that there are."""
    known = fake_comfyui.Host(tmp_path, monkeypatch).nodes
    content = json.loads(path.read_bytes().decode("utf-8"))
    ((shell,), (graph,)) = content["nodes"], content["definitions"]["subgraphs"]
    assert shell["type"] == graph["id"] and graph["name"] == shell["title"] == path.stem
    for side in ("inputs", "outputs"):
        assert [(one["name"], one["type"]) for one in shell[side]] == [(one["name"], one["type"]) for one in graph[side]]
    inside = {part["id"]: part for part in graph["nodes"]}
    for part in inside.values():
        if part["type"].startswith("GPEN_"):
            names = [one.display_name for one in known[part["type"]].define_schema().outputs]
            assert [one["name"] for one in part["outputs"]] == names
    assert any(part["type"].startswith("GPEN_") for part in inside.values()) and graph["links"]
    for link in graph["links"]:
        start, end = link["origin_id"], link["target_id"]
        source = graph["inputs"] if start == -10 else inside[start]["outputs"]
        target = graph["outputs"] if end == -20 else inside[end]["inputs"]
        assert link["id"] in source[link["origin_slot"]]["linkIds" if start == -10 else "links"]
        assert target[link["target_slot"]].get("link") == link["id"] or link["id"] in target[link["target_slot"]]["linkIds"]


@pytest.mark.parametrize(("loader", "name"), [("LoadImage", "gpen_example.jpg"), ("LoadVideo", "gpen_example.mp4")])
def test_the_examples_open_with_what_the_pack_brings(loader, name, tmp_path, monkeypatch):
    (tmp_path / "input").mkdir()
    fake_comfyui.Host(tmp_path, monkeypatch)
    offered = tmp_path / "input" / name
    assert offered.read_bytes() == (ROOT / "example_workflows" / "input" / name).read_bytes()
    assert offered.stat().st_size < 300_000
    offered.write_bytes(b"the user's own")
    fake_comfyui.Host(tmp_path, monkeypatch)
    assert offered.read_bytes() == b"the user's own"
    named = {
        value
        for path in WORKFLOWS
        for part in json.loads(path.read_bytes())["nodes"]
        if part["type"] == loader
        for value in part["widgets_values"][:1]
    }
    assert named == {name}
