"""What the panels below the slices look at: stored probabilities, in memory within bounds, and tables of them."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd
import streamlit as st

from covseg_core.evaluation import wording
from covseg_core.evaluation.model import Model
from covseg_core.evaluation.results import Comparison, Evaluation
from covseg_core.evaluation.scores import Scores
from covseg_core.evaluation.stored_predictions import thresholds
from covseg_core.evaluation.stored_predictions.scans import StoredScan, joined_scans, scans_of_test
from covseg_core.evaluation.stored_predictions.thresholds import WhatIf
from covseg_core.evaluation.stored_scores import stored_scores
from covseg_core.runs import Run

MODELS = 6
"""Models in memory: 200 slices of 256 px are 40 MB each."""


class Part(NamedTuple):
    """A run with its scores: one of those compared, or a fold of one."""

    name: str
    run: Run
    evaluation: Evaluation


def parts(comparison: Comparison, models: Sequence[Model]) -> list[Part]:
    """The runs behind the models, by the names that the tables have, folds one by one.

    Raises
    ------
    RunError : a fold has no scores
    """
    found = []
    for name, model, evaluation in zip(wording.model_names(comparison), models, comparison.evaluations, strict=True):
        found += _parts(name, model, evaluation)
    return found


def scans(model: Model, evaluation: Evaluation) -> list[StoredScan]:
    """What a model predicts on its test part; raises as `scans_of_test`."""
    return _scans(evaluation.key, model, evaluation)


def what_if(model: Model, evaluation: Evaluation) -> WhatIf:
    """Its answers at any threshold, all of which are got ready in the background; raises as `scans`."""
    return _what_if(evaluation.key, model, evaluation)


def what_ifs(comparison: Comparison, models: Sequence[Model]) -> list[WhatIf]:
    """Of all that are compared; raises as `scans`."""
    return [what_if(model, evaluation) for model, evaluation in zip(models, comparison.evaluations, strict=True)]


def moved(
    comparison: Comparison, asked: Sequence[WhatIf], threshold: float, minimum: float = 0.0, peak: float = 0.0
) -> Comparison:
    """The comparison at another threshold, smallest size and peak, on the networks' grids, without baselines."""
    scores = thresholds.at(asked, threshold, minimum, peak, comparison.evaluations[0].policy)
    evaluations = tuple(
        dataclasses.replace(evaluation, model=each, threshold=threshold, baselines=())
        for evaluation, each in zip(comparison.evaluations, scores, strict=True)
    )
    return dataclasses.replace(comparison, evaluations=evaluations)


def dice_table(comparison: Comparison, start: Comparison, here: Comparison) -> pd.DataFrame:
    """Mean Dice over scans of each model: as evaluated, at 0.5 on its own grid, and at the sliders."""
    columns = {"As evaluated": comparison, "0.5, network's grid": start, "At the sliders": here}
    return pd.DataFrame(
        {"Model": wording.model_names(comparison)}
        | {name: [mean_dice(evaluation.model) for evaluation in each.evaluations] for name, each in columns.items()}
    )


def unit_label(model: WhatIf) -> str:
    """Of sizes, for people."""
    return "mm³" if model.unit == "mm3" else "voxels"


def mean_dice(scores: Scores) -> float | None:
    """Over scans; None where it is undefined."""
    return scores.over_scans["dice"].mean if "dice" in scores.over_scans else None


def _parts(name: str, model: Model, evaluation: Evaluation) -> list[Part]:
    if not model.folds:
        return [Part(name, model.runs[0], evaluation)]
    numbered = zip(model.folds, model.runs, strict=True)
    return [Part(f"{name}, fold {number}", run, stored_scores(run)) for number, run in numbered]


@st.cache_resource(max_entries=MODELS, show_spinner="Reading what the models predicted")
def _scans(key: object, _model: Model, _evaluation: Evaluation) -> list[StoredScan]:
    read = [scan for _, run, own in _parts("", _model, _evaluation) for scan in scans_of_test(run, own)]
    return joined_scans(read)


@st.cache_resource(max_entries=MODELS, show_spinner="Getting ready to move the threshold")
def _what_if(key: object, _model: Model, _evaluation: Evaluation) -> WhatIf:
    found = WhatIf(scans(_model, _evaluation))
    threading.Thread(target=found.prepare, name=f"covseg-whatif-{_model.id}", daemon=True).start()
    return found
