"""docs/reference/: pages made from the code. `python make.py reference` writes them; tests/test_docs.py holds them to it."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "docs" / "reference"
MADE = "<!-- Made from the code by `make reference`: change it there. -->\n"
LANGUAGES = {"en": ("Nodes", "Input", "Output", "Type", "Default"), "zh": ("节点", "输入", "输出", "类型", "默认值")}


def cell(text):
    """Within a table of Markdown."""
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")


def row(*cells):
    return "| " + " | ".join(map(cell, cells)) + " |\n"


def head(*cells):
    return row(*cells) + "|" + " --- |" * len(cells) + "\n"


def code(text):
    return f"`{text}`" if str(text) else ""


def commands_of(parser):
    """(name, help, parser) of each command."""
    (group,) = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    helps = {choice.dest: choice.help for choice in group._choices_actions}
    return [(name, helps[name], command) for name, command in group.choices.items()]


def flags_of(command):
    return {flag for action in command._actions for flag in action.option_strings}


def value_of(action):
    """A word for an argument's value; empty for an option without one."""
    if action.nargs == 0:
        return ""
    return "|".join(map(str, action.choices or ())) or str(action.metavar or action.dest.upper())


def command_line():
    """From the parser."""
    from gpen_core.cli.main import make_parser

    parser = make_parser()
    commands = commands_of(parser)
    out = MADE + "\n# Command line\n\n`gpen COMMAND --help` says the same.\n\n" + head("Command", "")
    out += "".join(row(f"[`gpen {name}`](#gpen-{name})", text) for name, text, _ in commands)
    ending = " ".join((parser.epilog or "").split())
    out += f"\n{ending[:1].upper()}{ending[1:]}.\n"
    for name, text, command in commands:
        out += f"\n## gpen {name}\n\n{text[:1].upper()}{text[1:]}.\n\n" + head("Argument", "Value", "")
        for action in command._actions:
            flags, value = ", ".join(map(code, action.option_strings)), code(value_of(action))
            text = command._get_formatter()._expand_help(action) if action.help else ""
            out += row(flags or value, value if flags else "", text)
    return out


def options(schemas, api_fields):
    """One table of every option: default, meaning, and what it is called behind each door."""
    from gpen_core.cli.main import make_parser
    from gpen_core.options import RestoreOptions, VideoOptions, declared_options

    flags = {name: flags_of(command) for name, _, command in commands_of(make_parser())}
    out = MADE + "\n# Options\n\nOf a restoration, as each front end calls them. A1111's controls have the same words.\n"
    doors = (
        ("Images", RestoreOptions, "restore", "GPEN_RestoreFaces"),
        ("Videos, beside those", VideoOptions, "video", "GPEN_RestoreVideo"),
    )
    for title, kind, command, node in doors:
        inputs = {one.id for one in schemas[node].inputs}
        out += f"\n## {title}\n\n" + head("Python", "Default", "Meaning", "Values", f"gpen {command}", "ComfyUI", "API")
        for one in declared_options(kind):
            flag = "--" + one.name.replace("_", "-")
            out += row(
                code(one.name),
                code(one.default if one.default != "" else '""'),
                one.spec.help,
                ", ".join(map(code, one.spec.choices)) or one.spec.range_text,
                code(flag) if flag in flags[command] else "",
                code(one.name) if one.name in inputs else "",
                code(one.name) if one.name in api_fields else "",
            )
    return out


def nodes(schemas, language):
    """From the schemas, with the words of the locale."""
    words = json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text("utf-8"))
    title, input_, output, type_, default = LANGUAGES[language]
    out = MADE + f"\n# {title} (ComfyUI)\n"
    for node_id, schema in sorted(schemas.items(), key=lambda one: one[1].display_name):
        said = words[node_id]
        out += f"\n## {said['display_name']}\n\n`{node_id}`\n\n{said['description']}\n\n"
        if schema.inputs:
            out += head(input_, type_, default, "")
        for one in schema.inputs:
            word = said["inputs"][one.id]
            tooltip = word.get("tooltip", getattr(one, "tooltip", "") or "") if one.id not in CHANGING else ""
            out += row(code(one.id), kind_of(one), code(default_of(one)), tooltip)
        out += "\n" + head(output, type_, "")
        for number, one in enumerate(schema.outputs):
            word = said.get("outputs", {}).get(str(number), {})
            out += row(code(one.display_name), one.kind, word.get("tooltip", ""))
    return out


CHANGING = ("model", "model_name", "detector")
"""Inputs whose tooltip or choices name what is on a machine."""


def kind_of(one):
    if one.kind == "COMBO":
        return "COMBO" if one.id in CHANGING else " / ".join(map(code, one.options))
    if one.kind in ("FLOAT", "INT"):
        return f"{one.kind}, {one.min:g} … {one.max:g}"
    return one.kind


def default_of(one):
    return "" if one.id in CHANGING else getattr(one, "default", "")


def http(schema):
    """From the OpenAPI schema that the host serves."""
    out = MADE + "\n# HTTP API\n\nOf A1111 and Forge, as their `/openapi.json` has it; [how to call it](../api.md).\n"
    for path, methods in schema["paths"].items():
        for method, one in methods.items():
            out += f"\n## {method.upper()} {path}\n\n{one['description'].strip()}\n\n" + head("Status", "", "Body")
            for status, answer in sorted(one["responses"].items()):
                bodies = [body.get("schema", {}) for body in answer.get("content", {}).values()]
                out += row(status, answer["description"], ", ".join(filter(None, map(type_of, bodies))))
    for name, one in sorted(schema["components"]["schemas"].items()):
        if name in ("HTTPValidationError", "ValidationError"):  # FastAPI's own
            continue
        out += f"\n## {name}\n\n{' '.join(one.get('description', '').split())}\n\n" + head("Field", "Type", "Default", "")
        for field, what in one.get("properties", {}).items():
            default = json.dumps(what["default"]) if "default" in what else ""
            out += row(code(field), type_of(what), code(default), what.get("description", ""))
    return out


def type_of(schema):
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})" if "ValidationError" not in name else name
    if "allOf" in schema:
        return type_of(schema["allOf"][0])
    if "anyOf" in schema:
        return " or ".join(map(type_of, schema["anyOf"]))
    if schema.get("type") == "array":
        return f"array of {type_of(schema.get('items', {})) or 'anything'}"
    return schema.get("type", "")


PYTHON = """
# Python

```python
from gpen_core import FaceRestorer, RestoreOptions

restorer = FaceRestorer.load("gpen-bfr-512", "retinaface_mobile0.25")
```

::: gpen_core.pipeline.restorer.FaceRestorer

::: gpen_core.pipeline.restorer.RestoreResult

::: gpen_core.options.RestoreOptions

::: gpen_core.faces.face.Face

::: gpen_core.pipeline.inputs.RestoreInput

::: gpen_core.pipeline.crops.crop_faces

::: gpen_core.pipeline.crops.paste_faces

::: gpen_core.video.restore_video.restore_video

::: gpen_core.options.VideoOptions

::: gpen_core.weights.download_options.DownloadOptions

::: gpen_core.progress.ProgressEvent

::: gpen_core.progress.Progress

::: gpen_core.errors
"""


def pages(models, monkeypatch):
    """File name -> text. The hosts are the tests' stand-ins."""
    import fake_comfyui
    import fake_webui
    import fastapi

    nodes_of = fake_comfyui.Host(models, monkeypatch).nodes
    schemas = {name: node.define_schema() for name, node in nodes_of.items()}
    app = fastapi.FastAPI()
    fake_webui.Host(models, monkeypatch).fire("on_app_started", None, app)
    described = app.openapi()
    request = described["paths"]["/gpen/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    described["components"]["schemas"][request["title"]] = request
    asked = request["properties"]
    return {
        "command-line.md": command_line(),
        "options.md": options(schemas, asked),
        "nodes.md": nodes(schemas, "en"),
        "nodes-zh.md": nodes(schemas, "zh"),
        "http.md": http(described),
        "python.md": MADE + PYTHON,
    }


def main():
    """Writes them all."""
    import tempfile

    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    PAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as monkeypatch:
        for name, text in pages(Path(folder), monkeypatch).items():
            (PAGES / name).write_text(text, "utf-8", newline="\n")


if __name__ == "__main__":
    main()
