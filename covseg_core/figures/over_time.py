"""How the volumes of patients with scans of several days change. No Streamlit here."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from covseg_core.figures.learning_curves import COLOURS
from covseg_core.prediction.cohort.timeline import Timeline

HEIGHT = 320


def over_time_figure(timelines: Sequence[Timeline]) -> go.Figure:
    """mL by day since the first scan: a point a scan, a line a patient through the means of the days."""
    chart = go.Figure()
    for number, timeline in enumerate(timelines):
        colour = COLOURS[number % len(COLOURS)]
        known = [point for point in timeline.points if point.figures.volume_ml is not None]
        chart.add_trace(
            go.Scatter(
                x=list(timeline.volumes),
                y=list(timeline.volumes.values()),
                mode="lines",
                line={"color": colour, "width": 2},
                name=timeline.patient,
                legendgroup=timeline.patient,
                hoverinfo="skip",
            )
        )
        chart.add_trace(
            go.Scatter(
                x=[point.day for point in known],
                y=[point.figures.volume_ml for point in known],
                text=[point.name for point in known],
                mode="markers",
                marker={"color": colour, "size": 8},
                name=timeline.patient,
                legendgroup=timeline.patient,
                showlegend=False,
                hovertemplate="%{text}: day %{x}, %{y:.1f} mL",
            )
        )
    chart.update_layout(
        height=HEIGHT, margin={"l": 60, "r": 20, "t": 20, "b": 50}, legend={"orientation": "h", "y": 1.1}
    )
    chart.update_xaxes(title="Days since the patient's first scan")
    chart.update_yaxes(title="Volume [mL]", rangemode="tozero")
    return chart
