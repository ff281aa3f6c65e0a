"""One figure: a measure of every model in every test scan, with the baselines as reference lines."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from covseg_core.evaluation import wording
from covseg_core.evaluation.measures import MEASURES
from covseg_core.evaluation.results import Comparison
from covseg_core.evaluation.scores import ScanScore, Scores
from covseg_core.figures import page
from covseg_core.figures.learning_curves import COLOURS, NEUTRAL

SYMBOLS = ("circle", "diamond", "square", "triangle-up", "x", "star")
DASHES = ("dot", "dash", "solid", "dashdot")
ROW, TIGHT_ROW, MANY = 56, 44, 4
"""Height of a scan [px], and how many scans it takes to make them tight."""

RADIOLOGISTS = (0.70, 0.08)
"""Dice of COVID-19 lesions between radiologists, low-dose CT, mean and standard deviation. Source: Bartoli et al. 2022,
Research in Diagnostic and Interventional Imaging, 10.1016/j.redii.2022.100003."""
BAND = "rgba(138, 143, 152, 0.15)"


def figure(comparison: Comparison, measure: str = "dice") -> go.Figure:
    """Scans from top to bottom in the order of the evaluation; under several, their mean with standard deviation."""
    first = comparison.evaluations[0]
    cases = [scan.case for scan in first.model.scans]
    rows = [*cases, *([f"Mean of {len(cases)}"] if len(cases) > 1 else [])]
    models = dict(list(wording.predictors(comparison).items())[: len(comparison.evaluations)])
    chart = go.Figure()
    for number, scores in enumerate(comparison.baselines):
        chart.add_trace(_reference(scores, measure, DASHES[number % len(DASHES)]))  # first, so that points lie above
    for number, (name, scores) in enumerate(models.items()):
        offset = 0.5 * ((number + 0.5) / len(models) - 0.5)
        chart.add_trace(_points(name, scores, measure, offset, number))
    chart.update_layout(
        height=110 + (ROW if len(rows) <= MANY else TIGHT_ROW) * len(rows),
        margin={"l": 8, "r": 8, "t": 40, "b": 48},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1, "x": 0},
        modebar={"orientation": "v"},  # else it lies over the legend
        xaxis={"title": wording.label(measure, first.units) + " of the scan", "zeroline": False},
        yaxis={
            "tickvals": list(range(len(rows))),
            "ticktext": rows,
            "range": [len(rows) - 0.5, -0.5],
            "showgrid": False,
            "zeroline": False,
            "automargin": True,
            "fixedrange": True,
        },
        hovermode="closest",
    )
    if MEASURES[measure].kind == "share":
        chart.update_xaxes(range=[-0.02, 1.02], tickformat=".1f")
    if measure == "dice" and first.target == "infection":
        _add_radiologists(chart)
    return chart


def undefined(comparison: Comparison, measure: str = "dice") -> list[str]:
    """Scans in which the measure of some model is undefined, so that a point is missing."""
    models = [evaluation.model for evaluation in comparison.evaluations]
    return [scans[0].case for scans in zip(*(m.scans for m in models), strict=True) if _missing(scans, measure)]


def html(comparison: Comparison, measure: str = "dice") -> bytes:
    """The figure as a page that needs nothing else, with what was compared as its title."""
    chart = figure(comparison, measure)
    chart.update_layout(
        title={"text": wording.header(comparison), "font": {"size": 13}, "x": 0, "xref": "paper", "yref": "container"},
        margin={"t": 90},
        height=chart.layout.height + 50,
    )
    return page(chart)


def _add_radiologists(chart: go.Figure) -> None:
    """How far radiologists agree with each other: more than that no mask can say of another."""
    mean, spread = RADIOLOGISTS
    chart.add_vrect(x0=mean - spread, x1=mean + spread, fillcolor=BAND, line_width=0, layer="below")
    square = {"symbol": "square", "size": 13, "color": BAND}
    key = go.Scatter(x=[None], y=[None], mode="markers", marker=square, name=f"Two radiologists, {mean:.2f} ± {spread}")
    chart.add_trace(key.update(hoverinfo="skip", legendrank=2000))


def _missing(scans: Sequence[ScanScore], measure: str) -> bool:
    return any(scan.values[measure] is None for scan in scans)


def _points(name: str, scores: Scores, measure: str, offset: float, number: int) -> go.Scatter:
    """A model: a point in every scan, the mean over scans with its spread below."""
    x: list[float | None] = [scan.values[measure] for scan in scores.scans]
    errors: list[float | None] = [None] * len(x)
    summary = scores.over_scans.get(measure)
    if len(scores.scans) > 1:
        x.append(None if summary is None else summary.mean)
        errors.append(None if summary is None else summary.std)
    return go.Scatter(
        x=x,
        y=[row + offset for row in range(len(x))],
        error_x={"type": "data", "array": errors, "thickness": 1.5, "width": 4},
        mode="markers",
        name=name,
        legendrank=number,
        marker={
            "color": COLOURS[number % len(COLOURS)],
            "symbol": SYMBOLS[number % len(SYMBOLS)],
            "size": 11,
        },
        hovertemplate="%{x:.4f}<extra>" + name + "</extra>",
    )


def _reference(scores: Scores, measure: str, dash: str) -> go.Scatter:
    """A baseline: a line across each scan's row."""
    values: list[float | None] = [scan.values[measure] for scan in scores.scans]
    if len(values) > 1:
        summary = scores.over_scans.get(measure)
        values.append(None if summary is None else summary.mean)
    x: list[float | None] = []
    y: list[float | None] = []
    for row, value in enumerate(values):
        x += [value, value, None]
        y += [row - 0.42, row + 0.42, None]
    return go.Scatter(
        x=x,
        y=y,
        mode="lines",
        name=wording.baseline_name(scores),
        line={"color": NEUTRAL, "width": 2, "dash": dash},
        hovertemplate="%{x:.4f}<extra>" + f"{wording.baseline_name(scores)}: {scores.description}" + "</extra>",
    )
