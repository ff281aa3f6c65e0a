"""Learning curves as Plotly figures. No Streamlit here: a notebook can draw the same.

One figure with a panel for each loss and one for the score, which share the x axis: what is zoomed in one is zoomed in
the others. A run has one colour in all of them; training is dashed, validation solid, and a star marks the epoch whose
weights are kept.
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
GAP = 0.05
"""Between two panels, as a share of the figure's width."""
LOSSES = {row.loss for row in METRICS.values()}
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
    """What is shown of an axis: `epoch`, `time` [s], each loss and each score by its name; absent: all of it."""


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


def alike(curves: Sequence[Curve]) -> list[list[str]]:
    """Names of the runs whose curves lie exactly on each other, as far as the shorter one goes, in groups."""
    groups: list[list[Curve]] = []
    for curve in curves:
        for group in groups:
            if _same(curve, group[0]):
                group.append(curve)
                break
        else:
            groups.append([curve])
    return [[curve.name for curve in group] for group in groups if len(group) > 1]


def _same(one: Curve, other: Curve) -> bool:
    ours, theirs = (each.history.get("val_loss", np.empty(0)) for each in (one, other))
    common = min(len(ours), len(theirs))
    return bool(common) and np.array_equal(ours[:common], theirs[:common])


def losses(curves: Sequence[Curve]) -> list[str]:
    """The losses that the runs minimise, each once: their values cannot be compared with each other."""
    found = {METRICS[curve.metric].loss for curve in curves}
    return [loss for loss in dict.fromkeys(row.loss for row in METRICS.values()) if loss in found]


def draw(curves: Sequence[Curve], view: View) -> go.Figure:
    """The losses and the score of the runs, side by side."""
    unit, seconds = _time_unit(curves)
    scale = seconds if view.axis == "time" else 1.0
    traces: list[dict[str, Any]] = _key()
    kinds = losses(curves)
    names = [*kinds, view.score]
    for curve in curves:
        traces += _panel(curve, view, scale, "loss", "loss", _axes(kinds.index(METRICS[curve.metric].loss)))
        column = _column(curve, view)
        traces += _panel(curve, view, scale, column, SHORT[column], _axes(len(kinds)), legend=True)
    x = {
        "title": {"text": "Epoch" if view.axis == "epoch" else f"Training time [{unit}]"},
        **_shown(view.zoom.get(view.axis), scale, log=False),
    }
    if view.axis == "epoch":
        x |= {"tickformat": "d"} | ({"dtick": 1} if _few_epochs(curves, view) else {})
    legend = _legend_height(curves)
    height = TOP + PLOT + TICKS + legend
    layout: dict[str, Any] = {
        "height": height,
        "margin": {"l": 8, "r": 8, "t": TOP, "b": TICKS + legend},
        "annotations": [],
        "modebar": {"orientation": "v"},  # else it lies over titles
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
    share = (1 - GAP * len(kinds)) / len(names)
    for number, name in enumerate(names):
        begin = number * (share + GAP)
        across, up = _axes(number)
        log = view.log and name in kinds
        layout[f"xaxis{across[1:]}"] = x | {"domain": [begin, begin + share], "anchor": up}
        layout[f"xaxis{across[1:]}"] |= {"matches": "x"} if number else {}
        layout[f"yaxis{up[1:]}"] = {"anchor": across, **_shown(view.zoom.get(name), 1.0, log)} | _log(log)
        layout["annotations"].append(_title(_name(name, view, len(kinds)), begin))
    return go.Figure(traces, layout)


@dataclass(frozen=True)
class Frame:
    """What a figure shows, as far as a later box needs it; small, since it outlives the figure."""

    view: View
    scale: float
    """Of the x axis: seconds, or epochs, in its unit."""
    shown: Mapping[str, Range]
    """Ends of each axis: of x first, then of the panels from left to right."""


def frame(curves: Sequence[Curve], view: View) -> Frame:
    """What `draw` shows."""
    names = (view.axis, *losses(curves), view.score)
    shown = {name: view.zoom.get(name) or _extent(curves, view, name) for name in names}
    return Frame(view, _time_unit(curves)[1] if view.axis == "time" else 1.0, shown)


def zoomed(frame: Frame, box: Mapping[str, Any]) -> dict[str, Range]:
    """The zoom after a box was drawn, as Plotly reports it: `xref`, `yref` and the corners in data units.

    A flat or narrow box zooms along one axis only, as Plotly's own zoom does.
    """
    view = frame.view
    drawn: dict[str, list[float]] = {view.axis: [end * frame.scale for end in box["x"]]}
    drawn[list(frame.shown)[int(box["yref"][1:] or 1)]] = box["y"]
    wanted = {name: (float(min(ends)), float(max(ends))) for name, ends in drawn.items()}
    shares = {name: _share(ends, frame.shown[name], log=view.log and name in LOSSES) for name, ends in wanted.items()}
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
        elif name in LOSSES:
            columns = ["loss", "val_loss"] if METRICS[curve.metric].loss == name else []
        else:
            column = _column(curve, view)
            columns = [column, f"val_{column}"]
        parts += [curve.history[column] for column in columns if column in curve.history]
    values = np.concatenate(parts)
    values = values[np.isfinite(values)]
    if not len(values) or values.min() == values.max():
        return 0.0, 1.0
    return float(values.min()), float(values.max())


def _axes(number: int) -> tuple[str, str]:
    """Names of a panel's axes, from the left, as traces call them."""
    return (f"x{number + 1}", f"y{number + 1}") if number else ("x", "y")


def _name(name: str, view: View, losses: int) -> str:
    """Above a panel."""
    if name == view.score:
        return SCORE_LABELS[view.score]
    label = next((row.loss_label for row in METRICS.values() if row.loss == name), "") if losses > 1 else ""
    return f"Loss{f': {label}' if label else ''}{' (logarithmic)' if view.log else ''}"


def _few_epochs(curves: Sequence[Curve], view: View) -> bool:
    """Whether Plotly by itself would put ticks between epochs, all with the same number."""
    first, last = view.zoom.get("epoch") or _extent(curves, view, "epoch")
    return last - first < 10


def _column(curve: Curve, view: View) -> str:
    """Of `history.csv`, for the score that is looked at."""
    return METRICS[curve.metric if view.score == "own" else view.score].score


def _panel(
    curve: Curve,
    view: View,
    scale: float,
    column: str,
    shown: str,
    axes: tuple[str, str],
    legend: bool = False,
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
            "showlegend": solid and legend,
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
