"""Scores of whatever models there are: runs, the folds of a cross-validation, several seeds."""

from __future__ import annotations

from collections.abc import Sequence

from covseg_core.evaluation.cross_validation.evaluate import evaluate_folds
from covseg_core.evaluation.cross_validation.folds import folds_of, of_several_folds
from covseg_core.evaluation.evaluate import evaluate_runs
from covseg_core.evaluation.grouping import of_several_seeds
from covseg_core.evaluation.measures import EmptyPolicy
from covseg_core.evaluation.model import Model, single_runs
from covseg_core.evaluation.results import Comparison
from covseg_core.evaluation.seeds.evaluate import evaluate_seeds, evaluate_seeds_elsewhere, seeded_models
from covseg_core.progress import Progress
from covseg_core.runs import Run


def evaluate(
    runs: Sequence[Run], dataset: str | None = None, policy: EmptyPolicy = "nan", progress: Progress | None = None
) -> Comparison:
    """Score runs with every measure: on their own test part, over all folds if they are folds, or on another dataset.

    Runs of one metric that differ in their seed are one model, whose scores are means over its seeds.

    Parameters
    ----------
    runs : that share a test part, or are folds of one cross-validation
    dataset : name of another dataset; None for the runs' own test part
    policy : for measures of two empty masks
    progress : called with the slices done and those there are

    Raises
    ------
    RunError, DatasetError : as `evaluate_runs`, `evaluate_folds` and `evaluate_seeds`
    """
    if of_several_seeds(runs):
        if dataset is None:
            return evaluate_seeds(runs, policy, progress)
        if not any(run.config.split.folds for run in runs):
            return evaluate_seeds_elsewhere(runs, dataset, policy, progress)
    if dataset is None and of_several_folds(runs):
        return evaluate_folds(runs, policy, progress)
    return evaluate_runs(runs, dataset, policy, progress)


def models_of(runs: Sequence[Run]) -> Sequence[Model]:
    """The models that `evaluate` compares on their own test part, in its order; raises as it does."""
    if of_several_seeds(runs):
        return seeded_models(runs)
    return folds_of(runs) if of_several_folds(runs) else single_runs(runs)
