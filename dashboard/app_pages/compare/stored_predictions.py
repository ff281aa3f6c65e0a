"""What the panels below the slices look at: stored probabilities, in memory within bounds, and tables of them."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd
import streamlit as st

from covseg_core.errors import RunError
from covseg_core.evaluation import wording
from covseg_core.evaluation.cross_validation.folded_run import FoldedRun
from covseg_core.evaluation.results import Comparison, Evaluation
from covseg_core.evaluation.scores import Scores
from covseg_core.evaluation.stored_predictions import thresholds
from covseg_core.evaluation.stored_predictions.scans import StoredScan, joined_scans, scans_of_test
from covseg_core.evaluation.stored_predictions.thresholds import WhatIf
from covseg_core.runs import Run
from dashboard.services import cache, operating_points

MODELS = 6
"""Models in memory: 200 slices of 256 px are 40 MB each."""


class Part(NamedTuple):
    """A run with its scores: one of those compared, or a fold of one."""

    name: str
    run: Run
    evaluation: Evaluation


def parts(comparison: Comparison, chosen: Sequence[Run]) -> list[Part]:
    """The runs behind the models, by the names that the tables have, folds one by one.

    Raises
    ------
    RunError : a fold has no scores
    """
    found = []
    names = wording.model_names(comparison)
    for name, run, evaluation in zip(names, chosen, comparison.evaluations, strict=True):
        found += _parts(name, run, evaluation)
    return found


def scans(run: Run, evaluation: Evaluation) -> list[StoredScan]:
    """What a model predicts on its test part; raises as `stored.scans_of_test`."""
    return _scans(run.id, _stamp(evaluation), run, evaluation)


def model(run: Run, evaluation: Evaluation) -> WhatIf:
    """Its answers at any threshold, all of which are got ready in the background; raises as `scans`."""
    return _model(run.id, _stamp(evaluation), run, evaluation)


def models(comparison: Comparison, chosen: Sequence[Run]) -> list[WhatIf]:
    """Of all that are compared; raises as `scans`."""
    return [model(run, evaluation) for run, evaluation in zip(chosen, comparison.evaluations, strict=True)]


def moved(comparison: Comparison, asked: Sequence[WhatIf], threshold: float, minimum: float) -> Comparison:
    """The comparison at another threshold and smallest size, on the networks' grids, without baselines."""
    scores = thresholds.at(asked, threshold, minimum, comparison.evaluations[0].policy)
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
        | {name: [_mean_dice(evaluation.model) for evaluation in each.evaluations] for name, each in columns.items()}
    )


def points_table(these: Sequence[Part]) -> pd.DataFrame:
    """A row a run that has an operating point: its scores on validation, where it was picked, and on test."""
    rows = []
    for name, run, evaluation in these:
        point = operating_points.point(run)
        if point is None:
            continue
        asked = model(run, evaluation)
        same = point.unit == asked.unit
        threshold, minimum = (point.threshold, point.minimum) if same else (point.alone, 0.0)
        rows.append(
            {
                "Model": name,
                "Threshold": threshold,
                f"Smallest lesion [{unit_label(asked)}]": minimum,
                "Validation at 0.5": point.score_at_half,
                "Validation at the point": point.score if same else point.score_alone,
                "Test at 0.5": _mean_dice(asked.at(0.5)),
                "Test at the point": _mean_dice(asked.at(threshold, minimum)),
            }
        )
    return pd.DataFrame(rows)


def unit_label(model: WhatIf) -> str:
    """Of sizes, for people."""
    return "mm³" if model.unit == "mm3" else "voxels"


def _mean_dice(scores: Scores) -> float | None:
    return scores.over_scans["dice"].mean if "dice" in scores.over_scans else None


def _parts(name: str, run: Run, evaluation: Evaluation) -> list[Part]:
    if not isinstance(run, FoldedRun):
        return [Part(name, run, evaluation)]
    found = []
    for fold, number in zip(run.folds.runs, run.folds.numbers, strict=True):
        own = cache.evaluation(fold.id)
        if own is None:
            raise RunError(fold.id, "has not been scored yet", f"`covseg evaluate {fold.id}` first")
        found.append(Part(f"{name}, fold {number}", fold, own))
    return found


def _stamp(evaluation: Evaluation) -> str:
    """Changes with every evaluation, and not with its policy."""
    return evaluation.created + evaluation.model_sha256


@st.cache_resource(max_entries=MODELS, show_spinner="Reading what the models predicted")
def _scans(run_id: str, stamp: str, _run: Run, _evaluation: Evaluation) -> list[StoredScan]:
    read = [scan for _, run, own in _parts("", _run, _evaluation) for scan in scans_of_test(run, own)]
    return joined_scans(read)


@st.cache_resource(max_entries=MODELS, show_spinner="Getting ready to move the threshold")
def _model(run_id: str, stamp: str, _run: Run, _evaluation: Evaluation) -> WhatIf:
    model = WhatIf(scans(_run, _evaluation))
    threading.Thread(target=model.prepare, name=f"covseg-whatif-{run_id}", daemon=True).start()
    return model
