"""A model with soft answers that are known: how alike a pixel's grey value is to a lesion's."""

from __future__ import annotations

from pathlib import Path

from known import node, save_known

LESION = 130.0


def save_likeness(path: Path, size: int, width: float = 100.0) -> None:
    """Probability 1 at the grey of a lesion, and 0 from `width` grey values away: the best threshold is not 0.5."""
    nodes = [
        node("Sub", "grey lesion", "above"),
        node("Abs", "above", "away"),
        node("Div", "away width", "unlike"),
        node("Sub", "one unlike", "like"),
        node("Relu", "like", "masks"),
    ]
    save_known(path, size, nodes, {"lesion": LESION, "width": width, "one": 1.0})
