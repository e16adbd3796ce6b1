"""ComfyUI's texts, made from the schemas of the nodes: locales/en/nodeDefs.json, and with the Chinese of locales/zh.json
locales/zh/nodeDefs.json and the tables of the help pages. `python -m tests.comfyui_texts` writes them."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from gpen_core.options import RestoreOptions, VideoOptions, declared_options

ROOT = Path(__file__).resolve().parents[1]
LANGUAGES = ("en", "zh")
CHINESE = (ROOT / "locales" / "zh.json", ROOT / "localizations" / "zh_CN.json")  # a string in both: as in the first
SEARCH_WORDS = " Search words: "  # where the stand-in for ComfyUI, an old one, has them in the description
HEADINGS = {
    "en": ("## Inputs", "## Outputs", ("Input", "Type", "What it does"), ("Output", "Type", "What it is"), ", optional"),
    "zh": ("## 输入", "## 输出", ("输入", "类型", "作用"), ("输出", "类型", "说明"), "\uff0c可选"),
}
LABELS = {
    option.name: option.spec.label_with_unit
    for kind in (RestoreOptions, VideoOptions)
    for option in declared_options(kind, "comfyui")
}
WIDGETS = {"COMBO", "FLOAT", "INT", "STRING", "BOOLEAN"}
CHINESE_UNITS = {None: "", "px": " 像素", "s": " 秒"}
CHANGING = ("model", "detector", "precision")
"""Inputs whose choices name what is on a machine."""


def english(schemas):
    """nodeDefs.json: what the schemas say, and names without underscores."""
    return {
        node_id: {
            "display_name": schema.display_name,
            "description": schema.description.partition(SEARCH_WORDS)[0],
            "inputs": {one.id: {"name": _input_name(one), "tooltip": one.tooltip} for one in schema.inputs},
            "outputs": {
                str(number): {"name": one.display_name.replace("_", " "), "tooltip": one.tooltip}
                for number, one in enumerate(schema.outputs)
            },
        }
        for node_id, schema in sorted(schemas.items())
    }


def _input_name(one):
    """Widgets have names as in the other hosts, sockets as all sockets of ComfyUI."""
    name = one.id.replace("_", " ")
    return LABELS.get(one.id, name.capitalize()) if one.kind in WIDGETS else name


def strings(value):
    """Every text in there."""
    if isinstance(value, str):
        return [value]
    return [text for part in value.values() for text in strings(part)]


def chinese_words():
    first, second = (json.loads(path.read_bytes().decode("utf-8")) for path in CHINESE)
    return {**second, **first}


def translated(value, words):
    """The same in Chinese. Raises `KeyError` for a text that has none."""
    if isinstance(value, str):
        text, low, high, unit = split_range(value)
        if low is None:
            return words[text]
        unit = CHINESE_UNITS[unit]
        return f"{words[text]}范围\uff1a{low} 至 {high}{unit}。" if high else f"{words[text]}范围\uff1a不小于 {low}{unit}。"
    return {key: translated(part, words) for key, part in value.items()}


def split_range(text):
    """A tooltip -> what has a translation, and the range after it: lowest, highest (None: there is none), unit."""
    found = re.fullmatch(r"(.+) Range: (\S+)(?: to (\S+))?(?: (px|s))?(?: or more)?[.]", text)
    return found.groups() if found else (text, None, None, None)


def help_page(page, schema, language, texts):
    """The page with its tables made anew; what stands before and after them stays."""
    into, out_of, input_head, output_head, optional = HEADINGS[language]
    before, _, rest = page.partition(into)
    after = re.split(r"^## ", rest.partition(out_of)[2], maxsplit=1, flags=re.MULTILINE)[1:]
    inputs = [
        (_label(one.id, texts["inputs"][one.id], language), _kind(one, optional), texts["inputs"][one.id]["tooltip"])
        for one in schema.inputs
    ]
    outputs = [
        (_label(one.display_name, texts["outputs"][str(n)], language), one.kind, texts["outputs"][str(n)]["tooltip"])
        for n, one in enumerate(schema.outputs)
    ]
    tables = f"{into}\n\n{_table(input_head, inputs)}\n{out_of}\n\n{_table(output_head, outputs)}"
    return f"{before}{tables}" + "".join(f"\n## {part}" for part in after)


def _label(id_, text, language):
    return f"`{id_}`" if language == "en" else f"`{id_}`\uff08{text['name']}\uff09"


def _kind(one, optional):
    kind = one.kind
    if kind == "COMBO" and one.id not in CHANGING:
        kind = ", ".join(f"`{choice}`" for choice in one.options)
    return kind + (optional if getattr(one, "optional", False) else "")


def _table(head, rows):
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (head, ["---"] * len(head), *rows))


def files(schemas):
    """Path -> text, of all that is made from the schemas."""
    told = {"en": english(schemas)}
    told["zh"] = translated(told["en"], chinese_words())
    made = {
        ROOT / "locales" / language / "nodeDefs.json": json.dumps(told[language], indent=2, ensure_ascii=False) + "\n"
        for language in LANGUAGES
    }
    for node_id, schema in schemas.items():
        for language in LANGUAGES:
            path = ROOT / "web" / "docs" / node_id / f"{language}.md"
            page = path.read_bytes().decode("utf-8")
            made[path] = help_page(page, schema, language, told[language][node_id])
    return made


def schemas_in(folder, monkeypatch):
    """By the node's id, with the stand-in for ComfyUI."""
    import fake_comfyui

    return {name: node.define_schema() for name, node in fake_comfyui.Host(folder, monkeypatch).nodes.items()}


def main():
    """Writes them all, or lists the texts that have no Chinese."""
    import tempfile

    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as monkeypatch:
        schemas = schemas_in(Path(folder), monkeypatch)
    words = chinese_words()
    missing = sorted({split_range(text)[0] for text in strings(english(schemas))} - words.keys())
    if missing:
        sys.exit("locales/zh.json has no Chinese for:\n" + json.dumps(missing, indent=1, ensure_ascii=False))
    for path, text in files(schemas).items():
        path.write_text(text, "utf-8", newline="\n")


if __name__ == "__main__":
    main()
