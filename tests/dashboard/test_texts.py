"""Texts on pages. What a user loses otherwise: a sentence that says `{count}` where a number should stand."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

DASHBOARD = Path(__file__).resolve().parents[2] / "dashboard"
PLACEHOLDER = re.compile(r"(?<!%)\{[A-Za-z_][\w.\[\]()' ]*(:[^{}]*)?\}")


@pytest.mark.parametrize("path", sorted(DASHBOARD.rglob("*.py")), ids=lambda path: path.stem)
def test_no_text_shows_the_name_of_a_variable(path: Path) -> None:
    """A literal that lost its `f` in an edit is no error to Python."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    texts = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    assert not [(node.lineno, node.value) for node in texts if PLACEHOLDER.search(node.value)]
