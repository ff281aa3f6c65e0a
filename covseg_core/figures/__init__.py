"""Plotly figures, for the dashboard, for notebooks and for the evidence bundle."""

from __future__ import annotations

import plotly.graph_objects as go


def page(figure: go.Figure) -> bytes:
    """A figure as an HTML page on white that needs nothing else: the library that draws it is inside, 4.5 MB."""
    return figure.update_layout(template="plotly_white").to_html(include_plotlyjs=True).encode()
