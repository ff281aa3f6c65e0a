"""Which runs are folds of one cross-validation, and which models they make."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from covseg_core.errors import RunError
from covseg_core.evaluation.grouping import finished_models
from covseg_core.evaluation.model import Model
from covseg_core.evaluation.seeds.seeded_model import members
from covseg_core.runs import Run


def of_several_folds(runs: Sequence[Run]) -> bool:
    """Whether runs test different parts of a cross-validation, so that `evaluate_folds` is the way to compare them."""
    splits = [run.config.split for run in runs]
    return all(split.folds for split in splits) and len({split.fold for split in splits}) > 1


def folds_of(runs: Sequence[Run]) -> list[Model]:
    """The models of a cross-validation, of one seed each.

    Raises
    ------
    RunError : not all are folds of one deal, or no fold is finished for all metrics
    """
    check_deal(runs)
    models = finished_models(runs)
    check_folds(models, runs)
    return [members(model)[0] for model in models]


def by_fold(models: Sequence[Model]) -> list[list[Run]]:
    """The runs of each fold, in the order of the models, which are of the same folds; none for single runs."""
    if not any(model.folds for model in models):
        return []
    return [list(fold) for fold in zip(*(model.runs for model in models), strict=True)]


def check_folds(models: Sequence[Model], runs: Sequence[Run]) -> None:
    """Raise `RunError` unless there are models, all of the same folds."""
    if not models or len({model.folds for model in models}) > 1:
        raise RunError(_names(runs), "no fold is finished for all models", "at least one: `covseg runs list`")


def check_deal(runs: Sequence[Run]) -> None:
    """Raise `RunError` unless all runs are folds of one deal of one dataset."""
    configs = [run.config for run in runs]
    deals = [
        (one.dataset, one.fingerprint, one.target, dataclasses.replace(one.split, fold=1))
        for one in configs
        if one.split.folds
    ]
    if not runs or len(deals) < len(runs) or any(deal != deals[0] for deal in deals):
        raise RunError(_names(runs), "not folds of one cross-validation", "runs of one experiment with folds")


def _names(runs: Sequence[Run]) -> str:
    return ", ".join(dict.fromkeys(run.config.experiment for run in runs)) or "evaluate"
