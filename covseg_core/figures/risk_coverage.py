"""How good the masks are that nobody reviews, by how many are reviewed in which order. No Streamlit here."""

from __future__ import annotations

import plotly.graph_objects as go

from covseg_core.evaluation.expected_quality.risk_coverage import RiskCoverage
from covseg_core.figures.learning_curves import COLOURS, NEUTRAL

HEIGHT = 340


def risk_coverage_figure(found: RiskCoverage) -> go.Figure:
    """Mean Dice of the kept scans by the share reviewed: by expected Dice, at random, and by true Dice."""
    reviewed = [100 * share for share in found.reviewed]
    chart = go.Figure()
    lines = {
        "by expected Dice": (found.expected, {"color": COLOURS[0], "width": 2.5}),
        "at random": ((found.random,) * len(reviewed), {"color": NEUTRAL, "width": 1.5, "dash": "dash"}),
        "by true Dice": (found.ideal, {"color": NEUTRAL, "width": 1.5, "dash": "dot"}),
    }
    for name, (dice, line) in lines.items():
        chart.add_trace(
            go.Scatter(
                x=reviewed,
                y=dice,
                name=name,
                mode="lines",
                line=line,
                hovertemplate="%{x:.0f} % reviewed, the kept have %{y:.3f}",
            )
        )
    chart.update_layout(
        height=HEIGHT,
        margin={"l": 8, "r": 8, "t": 40, "b": 48},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1, "x": 0},
        modebar={"orientation": "v"},  # else it lies over the legend
        xaxis={"title": "Reviewed, the lowest first [%]", "range": [0, 100]},
        yaxis={"title": "Mean Dice of the scans that are kept"},
        hovermode="closest",
    )
    return chart
