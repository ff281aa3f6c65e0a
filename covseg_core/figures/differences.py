"""One figure: how far every two models are apart, patient by patient and in the mean. No Streamlit here."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from covseg_core.evaluation.significance.verdict import Pair, Verdict
from covseg_core.figures.learning_curves import COLOURS, NEUTRAL
from covseg_core.figures.scans import SYMBOLS, TIGHT_ROW

LIFT = 0.24
"""Of the patients' points above the mean, in rows."""


def figure(verdict: Verdict, names: Sequence[str], measure: str) -> go.Figure:
    """Pairs from top to bottom; a mean with its interval has the colour of the better model, or none.

    Parameters
    ----------
    names : of the models, in the order of the letters
    measure : what the differences are in, for the axis
    """
    pairs = [pair for pair in verdict.pairs if pair.patients]
    letters = {name.partition(" · ")[0]: number for number, name in enumerate(names)}
    chart = go.Figure()
    for row, pair in enumerate(pairs):
        chart.add_trace(_patients(row, pair, verdict.patients))
        chart.add_trace(_mean(row, pair, letters))
    chart.add_vline(0, line={"color": NEUTRAL, "width": 1.5, "dash": "dash"})
    chart.add_annotation(x=0, y=1, yref="paper", yanchor="bottom", text="no difference", showarrow=False)
    chart.update_layout(
        height=110 + TIGHT_ROW * len(pairs),
        margin={"l": 8, "r": 8, "t": 28, "b": 48},
        showlegend=False,
        xaxis={"title": f"Difference in {measure}, first minus second", "zeroline": False},
        yaxis={
            "tickvals": list(range(len(pairs))),
            "ticktext": [f"{names[letters[pair.first]]} - {names[letters[pair.second]]}" for pair in pairs],
            "range": [len(pairs) - 0.4, -0.6],
            "showgrid": False,
            "zeroline": False,
            "automargin": True,
            "fixedrange": True,
        },
        hovermode="closest",
    )
    return chart


def _patients(row: int, pair: Pair, patients: Sequence[str]) -> go.Scatter:
    """A small ring for each patient, a little above the mean."""
    return go.Scatter(
        x=list(pair.differences),
        y=[row - LIFT] * len(pair.differences),
        text=list(patients),
        mode="markers",
        marker={"color": NEUTRAL, "symbol": "circle-open", "size": 7},
        hovertemplate="%{x:+.4f}<extra>%{text}</extra>",
    )


def _mean(row: int, pair: Pair, letters: dict[str, int]) -> go.Scatter:
    number = letters.get(pair.better)
    difference = pair.difference or 0.0
    error = None
    if pair.low is not None and pair.high is not None:
        error = {
            "type": "data",
            "symmetric": False,
            "array": [pair.high - difference],
            "arrayminus": [difference - pair.low],
            "thickness": 2,
            "width": 5,
        }
    return go.Scatter(
        x=[difference],
        y=[row],
        error_x=error,
        mode="markers",
        marker={
            "color": NEUTRAL if number is None else COLOURS[number % len(COLOURS)],
            "symbol": "line-ns-open" if number is None else SYMBOLS[number % len(SYMBOLS)],
            "size": 12,
        },
        hovertemplate="%{x:+.4f}<extra>mean of " + str(pair.patients) + "</extra>",
    )
