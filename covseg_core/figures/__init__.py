"""Plotly figures, for the dashboard, for notebooks and for the evidence bundle."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import plotly.graph_objects as go


def page(figure: go.Figure) -> bytes:
    """A figure as an HTML page on white that needs nothing else: the library that draws it is inside, 4.5 MB."""
    return figure.update_layout(template="plotly_white").to_html(include_plotlyjs=True).encode()


def pages(figures: Mapping[str, go.Figure]) -> bytes:
    """Several figures, each under its heading, as one such page: the library is inside only once."""
    parts = ['<!DOCTYPE html>\n<html><head><meta charset="utf-8"></head><body>']
    for number, (heading, figure) in enumerate(figures.items()):
        figure.update_layout(template="plotly_white")
        parts.append(f"<h3>{escape(heading)}</h3>")
        parts.append(figure.to_html(full_html=False, include_plotlyjs=number == 0))
    return "\n".join([*parts, "</body></html>"]).encode()
