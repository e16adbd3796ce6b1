"""ComfyUI's locales and help pages are made from the schemas; examples and blueprints fit them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import comfyui_texts
import fake_comfyui
import numpy as np
import pytest
from PIL import Image

from gpen_core import find_entry
from gpen_core.options import COMFYUI, RestoreOptions, VideoOptions, declared_options

ROOT = Path(__file__).resolve().parents[2]
LANGUAGES = comfyui_texts.LANGUAGES
MARKED = set("@{}|")  # what vue-i18n, which shows these texts, takes for its own
each_language = pytest.mark.parametrize("language", LANGUAGES)


@pytest.fixture
def schemas(tmp_path, monkeypatch):
    return comfyui_texts.schemas_in(tmp_path, monkeypatch)


def locale(language, file="nodeDefs"):
    return json.loads((ROOT / "locales" / language / f"{file}.json").read_bytes().decode("utf-8"))


def test_all_that_is_made_from_the_schemas_is_as_committed(schemas):
    """`python -m tests.comfyui_texts` makes it anew."""
    words = comfyui_texts.chinese_words()
    assert not sorted(translatable(schemas) - words.keys()), "these have no Chinese in locales/zh.json"
    made = comfyui_texts.files(schemas)
    assert len(made) == 2 + 2 * len(schemas)
    assert [path for path, text in made.items() if path.read_bytes().decode("utf-8") != text] == []


def test_no_chinese_is_kept_for_what_is_gone(schemas):
    kept = json.loads((ROOT / "locales" / "zh.json").read_bytes().decode("utf-8"))
    assert kept.keys() <= translatable(schemas)


def translatable(schemas):
    return {comfyui_texts.split_range(text)[0] for text in comfyui_texts.strings(comfyui_texts.english(schemas))}


def test_tooltips_of_numbers_say_unit_and_range(schemas):
    """The page shows neither."""
    tooltips = {one.id: one.tooltip for schema in schemas.values() for one in schema.inputs if one.kind in ("INT", "FLOAT")}
    assert len(tooltips) >= 8 and all(re.search(r" Range: .+[.]$", text) for text in tooltips.values())
    assert tooltips["detection_size"].endswith(" Range: 64 to 8192 px.")
    assert tooltips["min_duration"].endswith(" Range: 0 s or more.")
    assert tooltips["mask_expand"].endswith(" Range: -0.5 to 0.5.")
    assert locale("zh")["GPEN_FaceOptions"]["inputs"]["detection_size"]["tooltip"].endswith(" 8192 像素\u3002")
    assert locale("zh")["GPEN_FaceOptions"]["inputs"]["min_duration"]["tooltip"].endswith("不小于 0 秒\u3002")


def test_every_declared_option_of_comfyui_is_an_input(host_options, schemas):
    offered = {one.id: one for schema in schemas.values() for one in schema.inputs}
    assert len(host_options) > 15
    for option in host_options:
        assert offered[option.name].tooltip.startswith(option.spec.help)
        if option.spec.maximum is not None:
            assert (offered[option.name].min, offered[option.name].max) == (option.spec.minimum, option.spec.maximum)


def test_no_input_is_of_an_option_that_is_for_others(host_options, schemas):
    offered = {one.id for schema in schemas.values() for one in schema.inputs}
    every = {option.name for kind in (RestoreOptions, VideoOptions) for option in declared_options(kind)}
    assert offered & every == {option.name for option in host_options}


@pytest.fixture(scope="session")
def host_options():
    return [option for kind in (RestoreOptions, VideoOptions) for option in declared_options(kind, COMFYUI)]


def test_every_language_has_every_file():
    assert {path.name for path in (ROOT / "locales").iterdir()} == {*LANGUAGES, "zh.json"}
    for language in LANGUAGES:
        found = {path.name for path in (ROOT / "locales" / language).iterdir()}
        assert found == {"main.json", "nodeDefs.json"}


@each_language
@pytest.mark.parametrize("file", ["main", "nodeDefs"])
def test_locale_holds_texts_that_can_be_shown(language, file):
    content = locale(language, file)
    assert isinstance(content, dict)
    for string in comfyui_texts.strings(content):
        assert string.strip()
        assert not MARKED & set(string), string


@each_language
def test_names_within_a_node_differ(language):
    for node_id, told in locale(language).items():
        assert len({slot["name"] for slot in told["inputs"].values()}) == len(told["inputs"]), node_id


def test_help_pages_are_of_nodes_that_exist():
    found = {path.relative_to(ROOT / "web" / "docs").as_posix() for path in (ROOT / "web" / "docs").rglob("*.md")}
    assert found == {f"{node_id}/{language}.md" for node_id in fake_comfyui.NODES for language in LANGUAGES}


WORKFLOWS = sorted((ROOT / "example_workflows").glob("*.json"))
BLUEPRINTS = sorted((ROOT / "subgraphs").glob("*.json"))
WIDGETS = comfyui_texts.WIDGETS


def all_nodes(path):
    """Of an example, or those inside a blueprint."""
    content = json.loads(path.read_bytes().decode("utf-8"))
    graphs = content.get("definitions", {}).get("subgraphs")
    return graphs[0]["nodes"] if graphs else content["nodes"]


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
        assert len(part["widgets_values"]) == len(widgets)
        for widget, value in zip(widgets, part["widgets_values"]):
            if widget.kind == "COMBO":
                assert value in widget.options, widget.id
            elif widget.kind in ("FLOAT", "INT"):
                assert widget.min <= value <= widget.max, widget.id


TITLE = 30  # pixels, above a node's position
DRAWN = {
    "GPEN_CleanUpFaceSwap": 340,
    "GPEN_LoadModel": 230,
    "GPEN_LookOptions": 264,
    "GPEN_RestoreFaces": 310,
    "GPEN_RestoreVideo": 360,
    "ReActorFaceSwap": 512,
}
"""Pixels that page 1.58.1 was seen to need, classic or new, for a node with its title, the text after a run and its advanced
inputs. It does not move other nodes away."""


def drawn_area(part):
    (x, y), (width, height) = part["pos"], part["size"]
    return (x, y - TITLE), (x + width, y - TITLE + max(height + TITLE, DRAWN.get(part["type"], 0)))


@pytest.mark.parametrize("path", [*WORKFLOWS, *BLUEPRINTS], ids=lambda path: path.stem)
def test_example_workflows_can_be_read_at_a_glance(path):
    """Nodes do not overlap on either canvas; titles tell two nodes of one kind apart."""
    nodes = all_nodes(path)
    areas = [drawn_area(part) for part in nodes]
    for n, (low, high) in enumerate(areas):
        assert not [
            nodes[m]["id"]
            for m, (other_low, other_high) in enumerate(areas[:n])
            if all(low[axis] < other_high[axis] and other_low[axis] < high[axis] for axis in (0, 1))
        ]
    names = [part.get("title", part["type"]) for part in nodes]
    assert len(set(names)) == len(names) and "PreviewAny" not in names  # the summary stands on the node


@pytest.mark.parametrize("path", [*WORKFLOWS, *BLUEPRINTS], ids=lambda path: path.stem)
def test_links_run_to_the_right_and_not_behind_nodes(path):
    """As the page draws them: curves that leave and arrive level, a quarter of their length from either end."""
    areas = {part["id"]: drawn_area(part) for part in all_nodes(path)}
    links = drawn_links(path)
    assert len(links) >= 3
    for start, end in links:
        reach = np.hypot(*np.subtract(end, start)) / 4
        assert start[0] < end[0], (start, end)
        points = np.array([start, (start[0] + reach, start[1]), (end[0] - reach, end[1]), end])
        t = np.linspace(0, 1, 100)[:, None]
        curve = np.hstack([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3]) @ points
        for node_id, (low, high) in areas.items():
            assert not ((low < curve) & (curve < high)).all(1).any(), (start, end, node_id)


SLOT, WIDGET = 20, 24  # pixels from one to the next


def drawn_links(path):
    """Of an example, or of those inside a blueprint: where each starts and ends."""
    content = json.loads(path.read_bytes().decode("utf-8"))
    graph = content.get("definitions", {}).get("subgraphs", [content])[0]
    parts = {part["id"]: part for part in graph["nodes"]}
    links = [one[1:5] if isinstance(one, list) else [one[name] for name in LINK] for one in graph["links"]]
    return [
        (
            graph["inputs"][out]["pos"] if start == -10 else output_place(parts[start], out),
            graph["outputs"][into]["pos"] if end == -20 else input_place(parts[end], into),
        )
        for start, out, end, into in links
    ]


LINK = ("origin_id", "origin_slot", "target_id", "target_slot")


def output_place(part, slot):
    return part["pos"][0] + part["size"][0], part["pos"][1] + 14 + SLOT * slot


def input_place(part, slot):
    """Widgets stand below the sockets."""
    x, y = part["pos"]
    widgets = ["widget" in one for one in part["inputs"]]
    if not widgets[slot]:
        return x, y + 14 + SLOT * slot
    return x, y + SLOT * max(widgets.count(False), len(part["outputs"])) + WIDGET * sum(widgets[:slot]) + 16


@pytest.mark.parametrize("path", [*WORKFLOWS, *BLUEPRINTS], ids=lambda path: path.stem)
def test_examples_and_blueprints_say_where_their_models_are_to_be_had(path):
    """ComfyUI's card Missing Models names those whose file names are among a node's values, with a button for those at
    Hugging Face or Civitai (page 1.58). A browser names the file as its address does."""
    (loader,) = (part for part in all_nodes(path) if part["type"] == "GPEN_LoadModel")
    named = {one["name"]: one for one in loader["properties"]["models"]}
    assert named.keys() == {loader["widgets_values"][0], loader["widgets_values"][2]}
    for name, one in named.items():
        entry = find_entry(name)
        assert entry.file == name and one["url"] in [source.url for source in entry.sources]
        assert one.get("hash") == entry.sha256 and one.get("hash_type") == (entry.sha256 and "SHA256")
        if entry.aliases:  # others have no source there
            assert one["url"].startswith("https://huggingface.co/") and one["url"].rpartition("/")[2] in entry.aliases
    assert [one["directory"] for one in named.values()] == ["GPEN", "facedetection"]


def test_every_example_has_a_thumbnail_that_looks_like_no_other():
    """In the template browser, where they stand side by side."""
    thumbnails = [Image.open(path.with_suffix(".jpg")) for path in WORKFLOWS]
    assert {one.size for one in thumbnails} == {(900, 600)}
    small = [np.asarray(one.convert("L").resize((45, 30)), float) for one in thumbnails]
    differences = [np.abs(a - b).mean() for n, a in enumerate(small) for b in small[:n]]
    assert min(differences) > 10, differences


def test_example_workflows_are_there():
    """Else nothing was held against the nodes."""
    assert len(WORKFLOWS) >= 6


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
    exposed = {one["name"] for one in shell["inputs"] if "widget" in one}
    assert {"model", "strength", "faces"} <= exposed
    inside = {part["id"]: part for part in graph["nodes"]}
    for part in inside.values():
        if part["type"].startswith("GPEN_"):
            schema = known[part["type"]].define_schema()
            assert [one["name"] for one in part["outputs"]] == [one.display_name for one in schema.outputs]
            kinds = {one.id: one.kind for one in schema.inputs}
            assert all(kinds[one["name"]] == one["type"] for one in part["inputs"] if part["type"] != "GPEN_FaceOptions")
            in_page_order = sorted(kinds, key=lambda name: kinds[name] in WIDGETS)  # else an older page links other inputs
            assert [one["name"] for one in part["inputs"]] == in_page_order
            assert all(("widget" in one) == (kinds[one["name"]] in WIDGETS) for one in part["inputs"])
            assert len(part["widgets_values"]) == sum(kind in WIDGETS for kind in kinds.values())
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
