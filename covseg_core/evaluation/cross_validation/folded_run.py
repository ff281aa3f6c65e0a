"""The folds of one metric as one model: what the Compare page shows where it would show a run. No Streamlit here."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from covseg_core.config import RunConfig
from covseg_core.data.splitting.split import Split
from covseg_core.evaluation.cross_validation.folds import Folds, by_fold, evaluate_folds
from covseg_core.evaluation.cross_validation.merge import merge
from covseg_core.evaluation.empty_policy import with_policy
from covseg_core.evaluation.evaluate import evaluate_runs
from covseg_core.evaluation.results import Comparison
from covseg_core.runs import Run

APART = "Models of a cross-validation can be compared with others of the same folds, not with those of another split."


@dataclass(frozen=True)
class FoldedRun(Run):
    """Several runs that pass for one; the folder is that of the first, and what differs between them is not in it."""

    folds: Folds

    @property
    def id(self) -> str:
        return self.folds.id

    @property
    def config(self) -> RunConfig:
        return dataclasses.replace(super().config, id=self.id)

    @property
    def split(self) -> Split:
        """Only the test, which is everybody's: each patient is trained on in other folds."""
        return Split(self.config.split, {}, {}, self.folds.test)

    @property
    def test_predictions(self) -> Path:
        return self.folder / "test_predictions.of-all-folds.npy"  # is not there: `access.predictions_of` has them

    @property
    def evaluation(self) -> Path:
        return self.folder / "evaluation.of-all-folds.json"  # nor is this one


class Planes:
    """Predictions of several folds as if they were one array, (N, S, S) float16.

    Parameters
    ----------
    parts : (n, S, S) of each fold
    places : fold and row of each of the N
    """

    def __init__(self, parts: Sequence[np.ndarray | Planes], places: Sequence[tuple[int, int]]) -> None:
        self._parts, self._places = parts, places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, rows: int | slice) -> np.ndarray:
        if isinstance(rows, slice):
            return np.stack([self._parts[fold][row] for fold, row in self._places[rows]])
        fold, row = self._places[rows]
        return self._parts[fold][row]


def any_in(chosen: Sequence[Run]) -> bool:
    """Whether some of the models are of several folds."""
    return any(isinstance(run, FoldedRun) for run in chosen)


def fold_by_fold(chosen: Sequence[Run]) -> list[list[Run]]:
    """The runs of each fold, in the order of the models; empty if the models are not of the same folds."""
    models = [run.folds for run in chosen if isinstance(run, FoldedRun)]
    if len(models) < len(chosen) or len({model.numbers for model in models}) > 1:
        return []
    return by_fold(models)


def evaluate(chosen: Sequence[Run], dataset: str, progress: object) -> Comparison:
    """Score models, be they runs or folds, on their test part or on another dataset; raises as `evaluate_runs`."""
    if not any_in(chosen):
        return evaluate_runs(chosen, dataset or None, progress=progress)  # type: ignore[arg-type]
    runs = [fold for run in chosen for fold in (run.folds.runs if isinstance(run, FoldedRun) else [run])]
    return evaluate_folds(runs, progress=progress)  # type: ignore[arg-type]


def put_together(chosen: Sequence[Run], comparisons: Sequence[Comparison]) -> Comparison:
    """One comparison over all folds, from those of each; kept, since it takes a while and pages ask often."""
    models = tuple(run.folds for run in chosen if isinstance(run, FoldedRun))
    policy = comparisons[0].evaluations[0].policy
    alike = tuple(with_policy(comparison, policy) for comparison in comparisons)
    key = tuple((one.run, one.created, one.model_sha256) for each in comparisons for one in each.evaluations)
    return _merged(_Parts(key, models, alike))


@dataclass(frozen=True)
class _Parts:
    key: tuple[tuple[str, str, str], ...]
    models: tuple[Folds, ...] = dataclasses.field(compare=False)
    comparisons: tuple[Comparison, ...] = dataclasses.field(compare=False)


@functools.lru_cache(maxsize=4)
def _merged(parts: _Parts) -> Comparison:
    return merge(parts.models, parts.comparisons)
