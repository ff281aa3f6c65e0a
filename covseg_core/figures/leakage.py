"""How similar test slices are to the nearest training slice, by either split."""

from __future__ import annotations

import plotly.graph_objects as go

from covseg_core.evaluation.studies.leakage import ALIKE, Leakage
from covseg_core.figures.learning_curves import COLOURS, NEUTRAL

BIN = 0.01
"""Of similarity."""


def figure(found: Leakage) -> go.Figure:
    """How many test slices are how similar to the nearest training slice, for both splits."""
    chart = go.Figure()
    for side, name, colour in (
        (found.by_patient, "Split by patient", COLOURS[0]),
        (found.by_slice, "Split by slice", COLOURS[1]),
    ):
        chart.add_trace(
            go.Histogram(
                x=list(side.similarity),
                xbins={"start": -1, "end": 1.01, "size": BIN},
                histnorm="percent",
                name=name,
                marker={"color": colour},
                opacity=0.7,
                hovertemplate="%{x}: %{y:.1f} %<extra>" + name + "</extra>",
            )
        )
    lowest = min(min(side.similarity) for side in (found.by_patient, found.by_slice))
    chart.add_vline(ALIKE, line={"color": NEUTRAL, "dash": "dot"})
    chart.update_layout(
        barmode="overlay",
        height=300,
        margin={"l": 8, "r": 8, "t": 32, "b": 48},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1, "x": 0},
        modebar={"orientation": "v"},  # else it lies over the legend
        xaxis={"title": "Correlation with the nearest training slice", "range": [lowest - 2 * BIN, 1 + BIN]},
        yaxis={"title": "Test slices [%]"},
    )
    return chart
