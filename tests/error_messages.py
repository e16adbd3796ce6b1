"""The texts of all errors that the package raises on purpose, as they stand in the sources."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROGRAMMERS = {
    "ValueError",
    "TypeError",
    "AssertionError",
    "KeyError",
    "AttributeError",
    "NotImplementedError",
    "RuntimeError",
}
"""Errors of Python: they are raised for mistakes in code, or handled before anybody reads them."""
INNER = {"UnsafeCheckpoint", "SourceError", "RetryableError", "HTTPException", "UnidentifiedImageError"}
"""Errors whose texts are parts of another message."""


def template(node: ast.expr) -> str:
    """The text of an f-string or constant, with `{}` for each value."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
    if isinstance(node, ast.BinOp):
        return template(node.left) + template(node.right)
    return "{}"


def messages() -> Iterator[str]:
    """The template of each message that is more than values. `{}` stands for a value."""
    for folder in ("gpen_core", "nodes", "scripts"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if not (isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)):
                    continue
                function = node.exc.func
                name = function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
                text = " ".join(template(argument) for argument in node.exc.args)
                if name not in PROGRAMMERS | INNER and text.replace("{}", "").strip(" :.|\n"):
                    yield " ".join(text.split())
