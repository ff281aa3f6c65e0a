"""What the leakage meter shows: pairs of models that differ in their split, a table and a figure. No Streamlit here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go

from covseg_core.evaluation import wording
from covseg_core.evaluation.cross_validation.folded_run import FoldedRun
from covseg_core.evaluation.studies.leakage import ALIKE, MEASURES, Interval, Leakage
from covseg_core.figures.learning_curves import COLOURS, NEUTRAL
from covseg_core.runs import Run
from dashboard.services.model_catalog import Finished

BIN = 0.01
SIDES = ("By patient", "By slice", "Difference")
"""Columns of the table."""


@dataclass(frozen=True)
class Pair:
    """A model that was split by patient, and one that was split by slice."""

    by_patient: Finished
    by_slice: Finished

    @property
    def id(self) -> str:
        return f"{self.by_patient.run.id} {self.by_slice.run.id}"

    @property
    def label(self) -> str:
        return f"{self.by_patient.label} and {self.by_slice.label}"

    @property
    def runs(self) -> tuple[list[Run], list[Run]]:
        """As `measure_leakage` takes them."""
        return runs_of(self.by_patient.run), runs_of(self.by_slice.run)


def runs_of(run: Run) -> list[Run]:
    """Itself, or its folds."""
    return list(run.folds.runs) if isinstance(run, FoldedRun) else [run]


def pairs(models: Sequence[Finished], chosen: Sequence[Run]) -> list[Pair]:
    """For each chosen model, those of the same data, preset, metric and folds with the other split, newest first."""
    ids, found = {run.id for run in chosen}, {}
    for one in models:
        for other in models:
            if (one.config.split.kind, other.config.split.kind) == ("patient", "slice") and _kin(one) == _kin(other):
                pair = Pair(one, other)
                if {one.run.id, other.run.id} & ids:
                    found[pair.id] = pair
    order = ("dice", "iou", "accuracy")
    return sorted(found.values(), key=lambda pair: order.index(pair.by_patient.config.metric))


def table(found: Leakage) -> pd.DataFrame:
    """Scores, similarity and n of both splits, as text."""
    sides = (found.by_patient, found.by_slice)
    rows = [
        (wording.MEASURES[name].label, *(words(side.scores[name]) for side in sides), words(found.gaps[name], True))
        for name in MEASURES
    ]
    rows += [
        ("Similarity to the nearest training slice, median", *(f"{side.median_similarity:.3f}" for side in sides), ""),
        (f"Test slices with a similarity above {ALIKE}", *(f"{side.share_alike:.0%}" for side in sides), ""),
        ("Test slices next to a training slice", *(f"{side.share_neighbours:.0%}" for side in sides), ""),
        ("Test slices", *(f"{side.slices:,}" for side in sides), ""),
        ("Test patients", *(f"{side.patients:,}" for side in sides), ""),
    ]
    return pd.DataFrame(rows, columns=["", *SIDES])


def words(score: Interval, signed: bool = False) -> str:
    """`+0.110 [+0.020, +0.190]`."""
    if score.value is None:
        return "none"
    digits = "+.3f" if signed else ".3f"
    return f"{score.value:{digits}}" + ("" if score.low is None else f" [{score.low:{digits}}, {score.high:{digits}}]")


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
        xaxis={"title": "Correlation with the nearest training slice", "range": [lowest - 2 * BIN, 1 + BIN]},
        yaxis={"title": "Test slices [%]"},
    )
    return chart


def _kin(one: Finished) -> tuple[object, ...]:
    config = one.config
    folds = one.run.folds.numbers if isinstance(one.run, FoldedRun) else ()
    return config.dataset, config.fingerprint, config.target, config.preset, config.metric, config.split.folds, folds
