"""Two figures of a model's probabilities: reliability, and precision against recall. No Streamlit here."""

from __future__ import annotations

from collections.abc import Mapping

import plotly.graph_objects as go

from covseg_core.evaluation.stored_predictions.calibration import BINS, PrecisionRecall, Reliability, thinned
from covseg_core.figures.learning_curves import COLOURS, NEUTRAL

HEIGHT = 380


def reliability_figure(models: Mapping[str, Reliability]) -> go.Figure:
    """By bin, the share of voxels that are true over the mean probability; points with few voxels are small."""
    chart = go.Figure()
    chart.add_trace(_reference([0, 1], [0, 1], "perfectly calibrated"))
    for number, (name, trust) in enumerate(models.items()):
        chart.add_trace(
            go.Scatter(
                x=trust.probability,
                y=trust.frequency,
                customdata=100 * trust.share,
                name=name,
                mode="lines+markers",
                line={"color": _colour(number), "width": 2},
                marker={"size": [_size(share) for share in trust.share]},
                hovertemplate="predicted %{x:.2f}, observed %{y:.2f}, %{customdata:.3f} % of voxels",
            )
        )
    return _framed(chart, f"Mean probability of a bin ({BINS} bins)", "Share of its voxels that are positive")


def precision_recall_figure(models: Mapping[str, PrecisionRecall], threshold: float) -> go.Figure:
    """A curve a model over all thresholds, with a star at the one of the evaluation."""
    chart = go.Figure()
    prevalence = next(iter(models.values())).prevalence
    chart.add_trace(_reference([0, 1], [prevalence, prevalence], "chance"))
    for number, (name, curve) in enumerate(models.items()):
        thin = thinned(curve)
        chart.add_trace(
            go.Scatter(
                x=thin.recall,
                y=thin.precision,
                customdata=thin.thresholds,
                name=name,
                mode="lines",
                line={"color": _colour(number), "width": 2},
                hovertemplate="recall %{x:.3f}, precision %{y:.3f} at %{customdata:.3f}",
            )
        )
        reached = int((curve.thresholds >= threshold).sum())
        if reached:
            chart.add_trace(
                go.Scatter(
                    x=[curve.recall[reached - 1]],
                    y=[curve.precision[reached - 1]],
                    name=f"{name} at {threshold:g}",
                    mode="markers",
                    marker={"color": _colour(number), "symbol": "star", "size": 13},
                    showlegend=False,
                    hovertemplate="recall %{x:.3f}, precision %{y:.3f}",
                )
            )
    return _framed(chart, "Recall (sensitivity)", "Precision")


def _reference(x: list[float], y: list[float], name: str) -> go.Scatter:
    line = {"color": NEUTRAL, "width": 1.5, "dash": "dash"}
    return go.Scatter(x=x, y=y, name=name, mode="lines", line=line, hoverinfo="skip")


def _framed(chart: go.Figure, x: str, y: str) -> go.Figure:
    chart.update_layout(
        height=HEIGHT,
        margin={"l": 8, "r": 8, "t": 40, "b": 48},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1, "x": 0},
        modebar={"orientation": "v"},  # else it lies over the legend
        xaxis={"title": x, "range": [-0.02, 1.02], "tickformat": ".1f", "zeroline": False},
        yaxis={"title": y, "range": [-0.02, 1.02], "tickformat": ".1f", "zeroline": False},
        hovermode="closest",
    )
    return chart


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _size(share: float) -> float:
    """Of a bin's point [px]: by the magnitude of its share of voxels."""
    return 5 + (3 if share > 1e-3 else 0) + (3 if share > 1e-2 else 0)
