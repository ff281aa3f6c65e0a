"""What the leakage meter shows: pairs of models that differ in their split, a table and a figure. No Streamlit here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from covseg_core.evaluation import wording
from covseg_core.evaluation.model import Model
from covseg_core.evaluation.studies.leakage import ALIKE, MEASURES, Interval, Leakage
from covseg_core.runs import Run
from dashboard.services.model_catalog import label

SIDES = ("By patient", "By slice", "Difference")
"""Columns of the table."""


@dataclass(frozen=True)
class Pair:
    """A model that was split by patient, and one that was split by slice."""

    by_patient: Model
    by_slice: Model

    @property
    def id(self) -> str:
        return f"{self.by_patient.id} {self.by_slice.id}"

    @property
    def label(self) -> str:
        return f"{label(self.by_patient)} and {label(self.by_slice)}"

    @property
    def runs(self) -> tuple[tuple[Run, ...], tuple[Run, ...]]:
        """As `measure_leakage` takes them."""
        return self.by_patient.runs, self.by_slice.runs


def pairs(models: Sequence[Model], chosen: Sequence[Model]) -> list[Pair]:
    """For each chosen model, those alike in data, preset, metric, folds and seeds but for the split, newest first."""
    ids, found = {model.id for model in chosen}, {}
    for one in models:
        for other in models:
            if (one.config.split.kind, other.config.split.kind) == ("patient", "slice") and _kin(one) == _kin(other):
                pair = Pair(one, other)
                if {one.id, other.id} & ids:
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


def _kin(one: Model) -> tuple[object, ...]:
    config = one.config
    split = config.split.folds, one.folds, len(one.seeds)
    return config.dataset, config.fingerprint, config.target, config.preset, config.metric, split
