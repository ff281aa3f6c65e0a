"""Scores over all folds of a cross-validation: every patient tested once, all of them in one table.

Each fold's models are scored on the fold's own test part, as any run's; then the rows of all folds are put together,
and pooled values and means are taken over all of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from covseg_core.data.library.datasets import Dataset
from covseg_core.errors import RunError
from covseg_core.evaluation.cross_validation.folds import by_fold, folds_of
from covseg_core.evaluation.cross_validation.merge import merge
from covseg_core.evaluation.empty_policy import with_policy
from covseg_core.evaluation.evaluate import evaluate_runs
from covseg_core.evaluation.measures import Counts, EmptyPolicy, overlap
from covseg_core.evaluation.model import Model
from covseg_core.evaluation.results import Comparison
from covseg_core.evaluation.stored_scores import check_mergeable, stored_comparison
from covseg_core.progress import Progress, part_of
from covseg_core.runs import Run


def evaluate_folds(runs: Sequence[Run], policy: EmptyPolicy = "nan", progress: Progress | None = None) -> Comparison:
    """Compare the models of a cross-validation, one evaluation for each metric (and experiment) over all folds.

    Folds that are scored already are not scored again; the others write their files as by `evaluate_run`. If folds are
    not finished, those count that are finished for all metrics, and the notes say so.

    Raises
    ------
    RunError : not all are folds of one deal, or no fold is finished for all metrics
    RunError, DatasetError : as `evaluate_run`
    """
    models = folds_of(runs)
    return merge(models, evaluate_each(models, policy, progress))


def evaluate_each(
    models: Sequence[Model],
    policy: EmptyPolicy = "nan",
    progress: Progress | None = None,
    workers: int | None = None,
    own: Dataset | None = None,
) -> list[Comparison]:
    """The comparison of each fold, before they are merged; models of the same folds, raises as `evaluate_folds`."""
    return evaluate_groups(by_fold(models), policy, progress, workers, own)


def evaluate_groups(
    groups: Sequence[Sequence[Run]],
    policy: EmptyPolicy = "nan",
    progress: Progress | None = None,
    workers: int | None = None,
    own: Dataset | None = None,
) -> list[Comparison]:
    """The comparison of each group of runs that share a test part, such as a fold; what is known is not scored again.

    `own` : as for `evaluate_runs`

    Raises
    ------
    RunError, DatasetError : as `evaluate_runs`
    """
    overlap(Counts(), policy)  # an unknown policy ends here
    stored = [_stored(group) for group in groups]
    sizes = [
        0 if known else sum(map(len, group[0].split.test.values())) for group, known in zip(groups, stored, strict=True)
    ]
    comparisons = []
    for number, group in enumerate(groups):
        advance = part_of(progress, sum(sizes[:number]), sizes[number], sum(sizes))
        known = stored[number]
        found = with_policy(known, policy) if known else evaluate_runs(group, None, policy, advance, workers, own)
        comparisons.append(found)
    return comparisons


def _stored(group: Sequence[Run]) -> Comparison | None:
    try:
        found = stored_comparison(group)
        check_mergeable(found)
    except RunError:
        return None
    return found
