"""Which runs are folds of one cross-validation, and which models they make."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from covseg_core.errors import RunError
from covseg_core.evaluation.cross_validation.folded_run import FoldedRun
from covseg_core.evaluation.model import Model
from covseg_core.runs import Run, read_status


def of_several_folds(runs: Sequence[Run]) -> bool:
    """Whether runs test different parts of a cross-validation, so that `evaluate_folds` is the way to compare them."""
    splits = [run.config.split for run in runs]
    return all(split.folds for split in splits) and len({split.fold for split in splits}) > 1


def finished_folds(runs: Sequence[Run]) -> list[FoldedRun]:
    """Runs of folds by experiment and metric, in the order in which these come; empty if no fold is there for all.

    Of each experiment those folds that are finished for each of its metrics; metrics without a finished fold are left
    out.
    """
    found: dict[str, dict[str, dict[int, Run]]] = {}
    for run in runs:
        status, config = read_status(run), run.config
        if config.split.folds and status is not None and status.state == "finished":
            found.setdefault(config.experiment, {}).setdefault(config.metric, {})[config.split.fold] = run
    models = []
    for metrics in found.values():
        common = sorted(set.intersection(*(set(folds) for folds in metrics.values())))
        models += [FoldedRun(tuple(folds[fold] for fold in common)) for folds in metrics.values() if common]
    return models


def folds_of(runs: Sequence[Run]) -> list[FoldedRun]:
    """The models of a cross-validation.

    Raises
    ------
    RunError : not all are folds of one deal, or no fold is finished for all metrics
    """
    _check_deal(runs)
    models = finished_folds(runs)
    if not models or len({model.folds for model in models}) > 1:
        names = ", ".join(dict.fromkeys(run.config.experiment for run in runs)) or "evaluate"
        raise RunError(names, "no fold is finished for all models", "at least one: `covseg runs list`")
    return models


def by_fold(models: Sequence[Model]) -> list[list[Run]]:
    """The runs of each fold, in the order of the models, which are of the same folds; none for single runs."""
    if not any(model.folds for model in models):
        return []
    return [list(fold) for fold in zip(*(model.runs for model in models), strict=True)]


def _check_deal(runs: Sequence[Run]) -> None:
    """Raise unless all runs are folds of one deal of one dataset."""
    configs = [run.config for run in runs]
    deals = [
        (one.dataset, one.fingerprint, one.target, dataclasses.replace(one.split, fold=1))
        for one in configs
        if one.split.folds
    ]
    if not runs or len(deals) < len(runs) or any(deal != deals[0] for deal in deals):
        names = ", ".join(dict.fromkeys(one.experiment for one in configs)) or "evaluate"
        raise RunError(names, "not folds of one cross-validation", "runs of one experiment with folds")
