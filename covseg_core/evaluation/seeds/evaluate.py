"""Scores over several seeds of each metric: every seed's models are scored as by themselves, then means are taken."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from covseg_core.errors import RunError
from covseg_core.evaluation.cross_validation.evaluate import evaluate_groups
from covseg_core.evaluation.cross_validation.folds import by_fold, check_deal, check_folds
from covseg_core.evaluation.cross_validation.merge import merge
from covseg_core.evaluation.evaluate import evaluate_runs
from covseg_core.evaluation.grouping import finished_models
from covseg_core.evaluation.measures import EmptyPolicy
from covseg_core.evaluation.model import Model
from covseg_core.evaluation.results import Comparison
from covseg_core.evaluation.seeds.merge import merge_seeds
from covseg_core.evaluation.seeds.seeded_model import by_seed
from covseg_core.progress import Progress
from covseg_core.runs import Run


def evaluate_seeds(runs: Sequence[Run], policy: EmptyPolicy = "nan", progress: Progress | None = None) -> Comparison:
    """Compare models of several seeds on their own test part, over all folds if there are some.

    What is scored already is not scored again; else each run's files are written as by `evaluate_run`.

    Raises
    ------
    RunError : as `seeded_models`
    RunError, DatasetError : as `evaluate_run`
    """
    models = seeded_models(runs)
    seeds = by_seed(models)
    groups = [by_fold(members) or [[member.runs[0] for member in members]] for members in seeds]
    scored = iter(evaluate_groups([runs for group in groups for runs in group], policy, progress))
    comparisons = []
    for members, group in zip(seeds, groups, strict=True):
        parts = [next(scored) for _ in group]
        comparisons.append(merge(members, parts) if members[0].folds else parts[0])
    return merge_seeds(models, comparisons)


def evaluate_seeds_elsewhere(
    runs: Sequence[Run], dataset: str, policy: EmptyPolicy = "nan", progress: Progress | None = None
) -> Comparison:
    """The same on all of another dataset, for models without folds; raises as `evaluate_runs`."""
    models = seeded_models(runs)
    seeds = by_seed(models)
    whole = evaluate_runs([member.runs[0] for members in seeds for member in members], dataset, policy, progress)
    scored = iter(whole.evaluations)
    parts = [dataclasses.replace(whole, evaluations=tuple(next(scored) for _ in members)) for members in seeds]
    return merge_seeds(models, parts)


def seeded_models(runs: Sequence[Run]) -> list[Model]:
    """The models of runs of several seeds.

    Raises
    ------
    RunError : no seed is finished for all metrics; or some are folds, and not all are folds of one deal
    """
    models = finished_models(runs)
    if not models or any(run.config.experiment not in _experiments(models) for run in runs):
        names = ", ".join(dict.fromkeys(run.config.experiment for run in runs))
        raise RunError(names, "no seed is finished for all models", "at least one: `covseg runs list`")
    if any(model.folds for model in models):
        check_deal(runs)
        check_folds(models, runs)
    return models


def _experiments(models: Sequence[Model]) -> set[str]:
    return {model.config.experiment for model in models}
