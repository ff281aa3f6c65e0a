"""Settings of runs against their score: one setting as points, all of them as parallel lines. No Streamlit here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from covseg_core.figures.learning_curves import COLOURS, NEUTRAL

HEIGHT = 380
LOGARITHMIC = 20.0
"""Numbers above 0 whose largest is more than so many times the smallest lie on a logarithmic axis."""
APART = 0.07
"""Of two texts on an axis at least, as a share of its height."""
SCALE = "Cividis"
"""Of colours, for scores: its brightness rises evenly, and colour-blind readers see it as others do."""

Value = str | int | float


@dataclass(frozen=True)
class Point:
    """A run, by its settings and its score."""

    name: str
    group: str
    """Points of a group share a colour."""
    values: Mapping[str, Value]
    """Label of a setting -> its value."""
    score: float


def scatter(points: Sequence[Point], setting: str, score: str) -> go.Figure:
    """The score over one setting, a colour a group; names of the runs when pointed at."""
    chart = go.Figure()
    for number, group in enumerate(dict.fromkeys(point.group for point in points)):
        own = [point for point in points if point.group == group]
        chart.add_trace(
            go.Scatter(
                x=[point.values[setting] for point in own],
                y=[point.score for point in own],
                text=[point.name for point in own],
                name=group,
                mode="markers",
                marker={"size": 10, "color": COLOURS[number % len(COLOURS)], "opacity": 0.8},
                hovertemplate=f"%{{text}}<br>{setting} %{{x}}, {score} %{{y:.4f}}<extra></extra>",
            )
        )
    values = [point.values[setting] for point in points]
    numbers = _numbers(values)
    kind = "category" if numbers is None else "log" if _spread_widely(numbers) else "linear"
    ticks = {"tickvals": sorted(set(values))} if kind == "log" and len(set(values)) <= 10 else {}
    return chart.update_layout(
        height=HEIGHT,
        margin={"l": 10, "r": 10, "t": 30, "b": 10},
        xaxis={"title": setting, "type": kind, **ticks},
        yaxis={"title": score},
        showlegend=len(chart.data) > 1,
        legend={"orientation": "h", "y": 1.12},
    )


def parallel(points: Sequence[Point], settings: Sequence[str], score: str) -> go.Figure:
    """An axis a setting and a line a run, coloured by the score, which is the last axis.

    Drawn as lines, not by Plotly's `Parcoords`: that one needs WebGL, which not every browser has.
    """
    axes = [_axis([point.values[setting] for point in points]) for setting in settings]
    axes.append(_score_axis([point.score for point in points]))
    labels = [*settings, score]
    chart = go.Figure()
    for number, point in enumerate(points):
        heights = [axis.heights[number] for axis in axes]
        told = [f"{label} {_text(value)}" for label, value in zip(labels, [*_values(point, settings)], strict=True)]
        chart.add_trace(
            go.Scatter(
                x=list(range(len(axes))),
                y=heights,
                text=told,
                name=point.name,
                mode="lines+markers",
                line={"color": sample_colorscale(SCALE, [heights[-1]])[0], "width": 2},
                hovertemplate="%{fullData.name}<br>%{text}<extra></extra>",
            )
        )
    for place, axis in enumerate(axes):
        chart.add_shape(type="line", x0=place, x1=place, y0=0, y1=1, line={"color": NEUTRAL, "width": 1}, layer="below")
        for height, text in axis.ticks.items():
            chart.add_annotation(x=place, y=height, text=text, showarrow=False, xanchor="right", xshift=-8)
    ends = len(axes) - 1
    chart.update_xaxes(tickvals=list(range(len(axes))), ticktext=labels, range=[-0.35, ends + 0.15], showgrid=False)
    chart.update_yaxes(visible=False, range=[-0.06, 1.06])
    return chart.update_layout(
        height=HEIGHT, margin={"l": 10, "r": 10, "t": 20, "b": 30}, showlegend=False, hovermode="closest"
    )


@dataclass(frozen=True)
class _Axis:
    heights: list[float]
    """Of each point, 0 to 1."""
    ticks: dict[float, str]
    """Height -> what is written there."""


def _axis(values: Sequence[Value]) -> _Axis:
    """Numbers in proportion, words one above the other."""
    numbers = _numbers(values)
    if numbers is None:
        words = sorted({str(value) for value in values})
        heights = _scaled([float(words.index(str(value))) for value in values])
        return _Axis(heights, dict(zip(heights, map(str, values), strict=True)))
    heights = _scaled([math.log10(number) for number in numbers] if _spread_widely(numbers) else numbers)
    return _Axis(heights, _thinned(dict(zip(heights, map(_text, numbers), strict=True))))


def _score_axis(scores: Sequence[float]) -> _Axis:
    heights = _scaled(scores)
    return _Axis(heights, _thinned({height: f"{score:.3f}" for height, score in zip(heights, scores, strict=True)}))


def _scaled(places: Sequence[float]) -> list[float]:
    """The lowest at 0, the highest at 1; in the middle where all are one."""
    low, high = min(places), max(places)
    return [(place - low) / (high - low) if high > low else 0.5 for place in places]


def _thinned(ticks: dict[float, str]) -> dict[float, str]:
    """Without those that would be written over one another; the ends stay."""
    kept: dict[float, str] = {}
    for height in sorted(ticks, key=lambda height: (height not in (0, 1), height)):
        if all(abs(height - other) >= APART for other in kept):
            kept[height] = ticks[height]
    return kept


def _values(point: Point, settings: Sequence[str]) -> list[Value]:
    return [*(point.values[setting] for setting in settings), point.score]


def _text(value: Value) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


def _numbers(values: Sequence[Value]) -> list[float] | None:
    """The values if all are numbers."""
    numbers = [float(value) for value in values if isinstance(value, int | float)]
    return numbers if len(numbers) == len(values) else None


def _spread_widely(numbers: Sequence[float]) -> bool:
    return min(numbers) > 0 and max(numbers) > LOGARITHMIC * min(numbers)
