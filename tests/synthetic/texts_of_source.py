"""Texts that the dashboard's source holds for people to read: how they are written tells them from keys."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

DASHBOARD = Path(__file__).resolve().parents[2] / "dashboard"
ELSEWHERE = (
    "export_files.py",
    "gate.py",
    "upload_receiver.py",
    "formatting.py",
    "url_state.py",
    "volume_server.py",
    "mask_receiver.py",
)
"""What these write stands in files, or answers what is no browser of a user."""
NO_TEXT = ("key", "icon", "type", "mime", "format", "name", "shortcut")
"""Arguments that nobody reads."""
MARKUP = re.compile(r":material/\w+:|:\w+-badge\[|\]\([^)]*\)|https?://\S+|[*`\[\]{}<>\\\n“”…|]|^\s*[-#]+ | {2,}|\s- ")
"""Of Markdown and of HTML: what stands between it is text."""
WORD = re.compile(r"[^\W\d_]{3,}")


def texts(folder: Path = DASHBOARD) -> dict[str, str]:
    """Each text in lower case -> the file that it is in. Of an f-string each part counts for itself.

    Errors that are raised are left out: a test of its own asks for each.
    """
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*.py")):
        if path.name in ELSEWHERE:
            continue
        for literal in _literals(ast.parse(path.read_text(encoding="utf-8"))):
            for part in MARKUP.split(literal):
                if WORD.search(part):
                    found.setdefault(flat(part).strip(" .,:;()"), path.relative_to(folder).as_posix())
    return found


def flat(text: str) -> str:
    """As texts are compared: in lower case, on one line."""
    return " ".join(text.lower().split())


def _literals(node: ast.AST) -> Iterator[str]:
    """Strings that read like a label or a sentence: with a capital at the start, or of several words."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
            continue  # a docstring
        if isinstance(child, ast.Raise):
            continue
        if isinstance(child, ast.keyword) and child.arg in NO_TEXT:
            continue
        if isinstance(child, ast.AnnAssign | ast.arg) and child.annotation is not None:
            value = getattr(child, "value", None)
            yield from _literals(ast.Expression(value)) if value is not None else ()
            continue
        if isinstance(child, ast.Constant) and isinstance(child.value, str) and _reads(child.value):
            yield child.value
        yield from _literals(child)


def _reads(text: str) -> bool:
    code = re.search(r"[;{}]\n|%[a-zA-Z]|^[\w./%-]+/[\w./%-]+$|\\[dwsb]|[a-z]_[a-z]", text)
    return not code and bool(re.match(r"[A-Z][a-z]", text.strip()) or re.search(r"[a-z]{2,}[ ,]+[a-z]{2,}", text))
