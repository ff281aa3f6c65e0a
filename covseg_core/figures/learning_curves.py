"""Learning curves as Plotly figures. No Streamlit here: a notebook can draw the same.

One figure with two panels, loss and score, that share the x axis: what is zoomed in one is zoomed in the other. A run
has one colour in both; training is dashed, validation solid, and a star marks the epoch whose weights are kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go

from covseg_core.config import METRICS, THESIS, Metric
from covseg_core.runs.history import best_epoch

Axis = Literal["epoch", "time"]
Score = Literal["own", "accuracy", "iou", "dice"]
Range = tuple[float, float]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's, without yellow and black, which vanish on white and on black."""
SYMBOLS = ("", "circle", "square", "diamond", "triangle-up", "x")
"""On the lines of the runs after the first six, whose colours come again."""
NEUTRAL = "#8a8f98"
TOP, PLOT, TICKS, NARROW = 34, 300, 56, 480
"""Heights of the titles, of the curves, of the x axis, and width of a narrow page [pixels]."""
FLAT = 0.04
"""Share of an axis below which a box counts as a line along the other axis."""
SHORT = {"pixel_accuracy": "accuracy", "iou_foreground": "IoU", "dice_foreground": "Dice"}
SCORE_LABELS: dict[Score, str] = {
    "own": "Score in each run's own metric",
    **{name: METRICS[name].score_label for name in THESIS},
}


@dataclass(frozen=True)
class Curve:
    """One run's curves."""

    name: str
    metric: Metric
    history: Mapping[str, np.ndarray]
    """Columns of `history.csv`: (epochs,) float64."""
    slot: int
    """Which of the colours and symbols."""


@dataclass(frozen=True)
class View:
    """How the curves are looked at."""

    score: Score = "own"
    axis: Axis = "epoch"
    smoothing: float = 0.0
    """Weight of the past, 0 to below 1."""
    log: bool = False
    """Loss on a logarithmic scale."""
    zoom: Mapping[str, Range] = field(default_factory=dict)
    """What is shown of an axis: `epoch`, `time` [s], `loss`, and each score by its name; absent: all of it."""


def slots(selected: Sequence[str], before: Mapping[str, int]) -> dict[str, int]:
    """A colour for each run: the one it had, or the first that is free, so that no curve changes its colour.

    >>> slots(["b", "c"], {"a": 0, "b": 1})
    {'b': 1, 'c': 0}
    """
    kept = {id: before[id] for id in selected if id in before}
    free = (slot for slot in range(len(selected) + len(kept)) if slot not in kept.values())
    return {id: kept[id] if id in kept else next(free) for id in selected}


def smooth(values: np.ndarray, weight: float) -> np.ndarray:
    """Exponential moving average without the pull towards zero at its start; NaN stays where it is.

    Source: Kingma and Ba 2015, section 3, for the correction.

    >>> smooth(np.array([1.0, 1.0, 4.0]), 0.5).round(2).tolist()
    [1.0, 1.0, 2.71]
    """
    if not weight:
        return values
    smoothed, mean, total = np.empty(len(values)), 0.0, 0.0
    for index, value in enumerate(values):
        if np.isnan(value):
            smoothed[index] = np.nan
            continue
        mean = weight * mean + (1 - weight) * value
        total = weight * total + (1 - weight)
        smoothed[index] = mean / total
    return smoothed


def columns(rows: Sequence[Mapping[str, float]]) -> dict[str, np.ndarray]:
    """Rows of `history.csv` as a `Curve` has them; raises `KeyError` if not all have the same."""
    return {name: np.array([row[name] for row in rows]) for name in rows[0]} if rows else {}


def kept_epoch(curve: Curve) -> int:
    """Epoch, from 1, with the run's best validation score in its own metric: its weights are the model. 0: none yet."""
    return best_epoch(curve.history.get(f"val_{METRICS[curve.metric].score}", np.empty(0)).tolist())


def alike(curves: Sequence[Curve]) -> list[str]:
    """Names of the runs whose curve lies exactly on that of a run before it, or under it."""
    found: list[str] = []
    for index, curve in enumerate(curves):
        for other in curves[:index]:
            ours, theirs = (one.history.get("val_loss", np.empty(0)) for one in (curve, other))
            common = min(len(ours), len(theirs))
            if common and np.array_equal(ours[:common], theirs[:common]):
                found += [name for name in (other.name, curve.name) if name not in found]
    return found


def draw(curves: Sequence[Curve], view: View) -> go.Figure:
    """Loss and score of the runs, side by side."""
    unit, seconds = _time_unit(curves)
    scale = seconds if view.axis == "time" else 1.0
    traces: list[dict[str, Any]] = _key()
    for curve in curves:
        traces += _panel(curve, view, scale, "loss", "loss", ("x", "y"))
        column = _column(curve, view)
        traces += _panel(curve, view, scale, column, SHORT[column], ("x2", "y2"))
    x = {
        "title": {"text": "Epoch" if view.axis == "epoch" else f"Training time [{unit}]"},
        **_shown(view.zoom.get(view.axis), scale, log=False),
    }
    if view.axis == "epoch":
        x |= {"tickformat": "d"}
    legend = _legend_height(curves)
    height = TOP + PLOT + TICKS + legend
    layout = {
        "height": height,
        "margin": {"l": 8, "r": 8, "t": TOP, "b": TICKS + legend},
        "xaxis": x | {"domain": [0, 0.47], "anchor": "y"},
        "xaxis2": x | {"domain": [0.53, 1], "anchor": "y2", "matches": "x"},
        "yaxis": {"anchor": "x", **_shown(view.zoom.get("loss"), 1.0, view.log)} | _log(view.log),
        "yaxis2": {"anchor": "x2", **_shown(view.zoom.get(view.score), 1.0, log=False)},
        "annotations": [
            _title("Loss (logarithmic)" if view.log else "Loss", 0.0),
            _title(SCORE_LABELS[view.score], 0.53),
        ],
        "legend": {
            "orientation": "h",
            "x": 0,
            "y": -0.2,
            "yanchor": "top",
            "itemclick": False,
            "itemdoubleclick": False,
        },
        "hovermode": "x unified" if len(curves) <= 4 else "closest",
        # a box that is drawn zooms: the page hears of it and asks for the figure again, so that no refresh undoes it
        "dragmode": "select",
    }
    return go.Figure(traces, layout)


@dataclass(frozen=True)
class Frame:
    """What a figure shows, as far as a later box needs it; small, since it outlives the figure."""

    view: View
    scale: float
    """Of the x axis: seconds, or epochs, in its unit."""
    shown: Mapping[str, Range]
    """Ends of each axis."""


def frame(curves: Sequence[Curve], view: View) -> Frame:
    """What `draw` shows."""
    names = (view.axis, "loss", view.score)
    shown = {name: view.zoom.get(name) or _extent(curves, view, name) for name in names}
    return Frame(view, _time_unit(curves)[1] if view.axis == "time" else 1.0, shown)


def zoomed(frame: Frame, box: Mapping[str, Any]) -> dict[str, Range]:
    """The zoom after a box was drawn, as Plotly reports it: `xref`, `yref` and the corners in data units.

    A flat or narrow box zooms along one axis only, as Plotly's own zoom does.
    """
    view = frame.view
    drawn: dict[str, list[float]] = {view.axis: [end * frame.scale for end in box["x"]]}
    drawn["loss" if box["yref"] == "y" else view.score] = box["y"]
    wanted = {name: (float(min(ends)), float(max(ends))) for name, ends in drawn.items()}
    shares = {name: _share(ends, frame.shown[name], log=view.log and name == "loss") for name, ends in wanted.items()}
    longest = max(shares.values())
    return dict(view.zoom) | {
        name: ends for name, ends in wanted.items() if shares[name] > 0 and shares[name] >= min(FLAT, longest)
    }


def _share(ends: Range, shown: Range, log: bool) -> float:
    """How much of what an axis shows lies between two values."""
    if log:
        if min(*ends, *shown) <= 0:
            return 1.0
        ends, shown = (np.log(ends[0]), np.log(ends[1])), (np.log(shown[0]), np.log(shown[1]))
    return (ends[1] - ends[0]) / (shown[1] - shown[0])


def _extent(curves: Sequence[Curve], view: View, name: str) -> Range:
    """Smallest and largest value along an axis."""
    parts = [np.empty(0)]
    for curve in curves:
        if name in ("epoch", "time"):
            columns = ["epoch" if name == "epoch" else "total_seconds"]
        elif name == "loss":
            columns = ["loss", "val_loss"]
        else:
            column = _column(curve, view)
            columns = [column, f"val_{column}"]
        parts += [curve.history[column] for column in columns if column in curve.history]
    values = np.concatenate(parts)
    values = values[np.isfinite(values)]
    if not len(values) or values.min() == values.max():
        return 0.0, 1.0
    return float(values.min()), float(values.max())


def _column(curve: Curve, view: View) -> str:
    """Of `history.csv`, for the score that is looked at."""
    return METRICS[curve.metric if view.score == "own" else view.score].score


def _panel(
    curve: Curve, view: View, scale: float, column: str, shown: str, axes: tuple[str, str]
) -> list[dict[str, Any]]:
    """Training, validation and kept epoch of one run in one panel."""
    history = curve.history
    if not len(history.get("epoch", ())):
        return []
    colour, symbol = COLOURS[curve.slot % len(COLOURS)], SYMBOLS[curve.slot // len(COLOURS) % len(SYMBOLS)]
    x = history["epoch"] if view.axis == "epoch" else history["total_seconds"] / scale
    base: dict[str, Any] = {"type": "scatter", "x": x, "xaxis": axes[0], "yaxis": axes[1], "legendgroup": curve.name}
    lines: list[dict[str, Any]] = []
    for name, where in ((f"val_{column}", "validation"), (column, "training")):
        solid = where == "validation"
        line: dict[str, Any] = base | {
            "y": smooth(history[name], view.smoothing),
            "mode": "lines+markers" if symbol and solid else "lines",
            "line": {"color": colour, "width": 2 if solid else 1.25, "dash": "solid" if solid else "dash"},
            "name": curve.name,
            "showlegend": solid and axes[0] == "x",
            "hovertemplate": f"%{{y:.4f}} {shown}, {where}<extra>{curve.name}</extra>",
        }
        if symbol and solid:
            line["marker"] = {"symbol": symbol, "size": 7, "maxdisplayed": 8}
        lines.append(line)
    if kept := kept_epoch(curve):
        value = history[f"val_{column}"][kept - 1]
        star = {
            "x": x[kept - 1 : kept],
            "y": lines[0]["y"][kept - 1 : kept],
            "mode": "markers",
            "marker": {"symbol": "star", "size": 13, "color": colour, "line": {"color": "white", "width": 1}},
            "showlegend": False,
            "name": curve.name,
            "hovertemplate": f"kept: epoch {kept}, {value:.4f} {shown}<extra>{curve.name}</extra>",
        }
        lines.append(base | star)
    return lines


def _key() -> list[dict[str, Any]]:
    """What dashes and stars mean, at the head of the legend."""
    line = {"type": "scatter", "x": [None], "y": [None], "hoverinfo": "skip"}
    marker = {"symbol": "star", "size": 11, "color": NEUTRAL}
    return [
        line | {"mode": "lines", "line": {"color": NEUTRAL, "width": 2}, "name": "validation"},
        line | {"mode": "lines", "line": {"color": NEUTRAL, "width": 1.25, "dash": "dash"}, "name": "training"},
        line | {"mode": "markers", "marker": marker, "name": "best epoch"},
    ]


def _legend_height(curves: Sequence[Curve]) -> int:
    """Pixels that the legend takes on a narrow page."""
    entries = ["validation", "training", "best epoch", *(curve.name for curve in curves)]
    widths = [45 + 6.5 * len(name) for name in entries]
    return 20 * math.ceil(sum(widths) / NARROW) + 20


def _title(text: str, x: float) -> dict[str, Any]:
    place = {"xref": "paper", "yref": "paper", "x": x, "y": 1.02, "xanchor": "left", "yanchor": "bottom"}
    return {"text": f"<b>{text}</b>", "showarrow": False, **place}


def _shown(zoom: Range | None, scale: float, log: bool) -> dict[str, Any]:
    """Range of an axis, if it is zoomed; on a logarithmic axis Plotly wants exponents."""
    if not zoom:
        return {}
    ends = [end / scale for end in zoom]
    if log:
        if ends[0] <= 0:
            return {}
        ends = [float(np.log10(end)) for end in ends]
    return {"range": ends}


def _log(log: bool) -> dict[str, Any]:
    """Ticks at 1, 2 and 5, all written out: by itself Plotly would write 0.02 as 2."""
    if not log:
        return {}
    ticks = [float(f"{digit}e{power}") for power in range(-7, 3) for digit in (1, 2, 5)]
    return {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}


def _time_unit(curves: Sequence[Curve]) -> tuple[str, float]:
    """Unit of the time axis, and its seconds."""
    longest = max((curve.history["total_seconds"][-1] for curve in curves if curve.history), default=0.0)
    if longest < 180:
        return "s", 1.0
    return ("min", 60.0) if longest < 3 * 3600 else ("h", 3600.0)
