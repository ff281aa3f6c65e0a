"""Which slices are worth a look: the worst, the best, and those on which the models disagree most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

from covseg_core.data.library.datasets import Dataset
from covseg_core.data.slices.cache import case_grid
from covseg_core.evaluation import wording
from covseg_core.evaluation.model import Model
from covseg_core.evaluation.results import Comparison
from covseg_core.evaluation.stored_predictions.predictions import native

Kind = Literal["worst", "best", "disagreed"]

DIFFERING = "Differing [px]"
MEAN = "Mean Dice"
WRONG = "Wrong [px]"


def slice_table(comparison: Comparison) -> pd.DataFrame:
    """A row a test slice: scan, slice, lesion, the Dice of every model and their mean; NaN where undefined.

    The column with the lesion's size has the target's name and its unit, px.
    """
    names, first = wording.model_names(comparison), comparison.evaluations[0]
    rows = []
    for scores in zip(*(evaluation.model.slices for evaluation in comparison.evaluations), strict=True):
        dice = [score.values["dice"] for score in scores]
        defined = [value for value in dice if value is not None]
        rows.append(
            {
                "Scan": scores[0].case,
                "Slice": scores[0].z,
                f"True {first.target} [px]": scores[0].counts.truth,
                **{name: np.nan if value is None else value for name, value in zip(names, dice, strict=True)},
                MEAN: float(np.mean(defined)) if defined else np.nan,
                WRONG: sum(score.counts.fp + score.counts.fn for score in scores),
            }
        )
    return pd.DataFrame(rows)


def disagreement(comparison: Comparison, dataset: Dataset, models: Sequence[Model]) -> np.ndarray:
    """Pixels of each test slice that some models mark and others do not, on the scan's own grid.

    Returns
    -------
    (N,) int64, in the order of the evaluations' slices

    Raises
    ------
    RunError : as `Model.predictions`
    """
    slices = comparison.evaluations[0].model.slices
    stored = [model.predictions() for model in models]
    configs = [model.config.prepare for model in models]
    differing = np.zeros(len(slices), np.int64)
    for row, score in enumerate(slices):
        case = dataset.case(score.case)
        votes = sum(
            (native(planes, case.id, score.z, case_grid(dataset, case, prepare)) >= evaluation.threshold).astype(
                np.uint8
            )
            for planes, prepare, evaluation in zip(stored, configs, comparison.evaluations, strict=True)
        )
        differing[row] = np.count_nonzero((votes > 0) & (votes < len(models)))
    return differing


def ranked(slices: pd.DataFrame, kind: Kind) -> list[tuple[str, int]]:
    """Scan and slice, the most telling first; of equals the one with more wrong pixels (worst) or more lesion (best).

    `worst` and `best` go by the models' mean Dice and leave out slices where it is undefined, `best` also those without
    a true lesion; `disagreed` goes by the column `DIFFERING` and leaves out slices where all agree.
    """
    size = size_column(slices)
    if kind == "worst":
        rows = slices.dropna(subset=[MEAN]).sort_values([MEAN, WRONG], ascending=[True, False], kind="stable")
    elif kind == "best":
        rows = slices[slices[size] > 0].dropna(subset=[MEAN])
        rows = rows.sort_values([MEAN, size], ascending=False, kind="stable")
    else:
        rows = slices[slices[DIFFERING] > 0].sort_values(DIFFERING, ascending=False, kind="stable")
    return [(str(case), int(z)) for case, z in zip(rows["Scan"], rows["Slice"], strict=True)]


def size_column(slices: pd.DataFrame) -> str:
    """The column that says how much of the target is on a slice."""
    return next(name for name in slices.columns if name.startswith("True "))
