"""The folds of a cross-validation as one model for each metric: every patient tested once, all of them in one table.

Each fold's models are scored on the fold's own test part, as any run's; then the rows of all folds are put together,
and pooled values and means are taken over all of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from covseg_core.data.splitting.split import Selection
from covseg_core.errors import CovsegError, RunError
from covseg_core.evaluation.cross_validation.merge import merge
from covseg_core.evaluation.empty_policy import with_policy
from covseg_core.evaluation.evaluate import evaluate_runs
from covseg_core.evaluation.measures import Counts, EmptyPolicy, overlap
from covseg_core.evaluation.results import VERSION, Comparison, Evaluation
from covseg_core.files import cached_sha256, read_json
from covseg_core.progress import Progress, part_of
from covseg_core.runs import Run, read_status


@dataclass(frozen=True)
class Folds:
    """The folds of one metric of an experiment."""

    runs: tuple[Run, ...]
    """Finished ones, by fold."""

    @property
    def id(self) -> str:
        """`<experiment>-<metric>`."""
        config = self.runs[0].config
        return f"{config.experiment}-{config.metric}"

    @property
    def numbers(self) -> tuple[int, ...]:
        """Which folds they are, from 1."""
        return tuple(run.config.split.fold for run in self.runs)

    @property
    def test(self) -> Selection:
        """What they test together."""
        rows: dict[str, list[int]] = {}
        for run in self.runs:
            for id, chosen in run.split.test.items():
                rows.setdefault(id, []).extend(chosen)
        return {id: tuple(sorted(chosen)) for id, chosen in sorted(rows.items())}


def of_several_folds(runs: Sequence[Run]) -> bool:
    """Whether runs test different parts of a cross-validation, so that `evaluate_folds` is the way to compare them."""
    splits = [run.config.split for run in runs]
    return all(split.folds for split in splits) and len({split.fold for split in splits}) > 1


def finished_folds(runs: Sequence[Run]) -> list[Folds]:
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
        models += [Folds(tuple(folds[fold] for fold in common)) for folds in metrics.values() if common]
    return models


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


def folds_of(runs: Sequence[Run]) -> list[Folds]:
    """The models that `evaluate_folds` compares, in its order; raises `RunError` as it does."""
    _check_deal(runs)
    models = finished_folds(runs)
    if not models or len({model.numbers for model in models}) > 1:
        names = ", ".join(dict.fromkeys(run.config.experiment for run in runs)) or "evaluate"
        raise RunError(names, "no fold is finished for all models", "at least one: `covseg runs list`")
    return models


def evaluate_each(
    models: Sequence[Folds], policy: EmptyPolicy = "nan", progress: Progress | None = None
) -> list[Comparison]:
    """The comparison of each fold, before they are merged; models of the same folds, raises as `evaluate_folds`."""
    overlap(Counts(), policy)  # an unknown policy ends here
    folds = by_fold(models)
    stored = [stored_comparison(fold) for fold in folds]
    sizes = [
        0 if known else sum(map(len, fold[0].split.test.values())) for fold, known in zip(folds, stored, strict=True)
    ]
    comparisons = []
    for number, fold in enumerate(folds):
        advance = part_of(progress, sum(sizes[:number]), sizes[number], sum(sizes))
        known = stored[number]
        comparisons.append(with_policy(known, policy) if known else evaluate_runs(fold, None, policy, advance))
    return comparisons


def by_fold(models: Sequence[Folds]) -> list[list[Run]]:
    """The runs of each fold, in the order of the models, which are of the same folds."""
    return [list(fold) for fold in zip(*(model.runs for model in models), strict=True)]


def stored_comparison(runs: Sequence[Run]) -> Comparison | None:
    """What the folders of runs with one test part hold, if it belongs to their present models; else None."""
    try:
        found = [read_json(run.evaluation, Evaluation) for run in runs]
    except CovsegError:
        return None
    if any(not _current(run, one) for run, one in zip(runs, found, strict=True)):
        return None
    slices = [[(score.case, score.z) for score in one.model.slices] for one in found]
    if any(one.policy != found[0].policy or rows != slices[0] for one, rows in zip(found, slices, strict=True)):
        return None
    return Comparison(found[0].dataset, found[0].part, any(one.leaky for one in found), tuple(found))


def _current(run: Run, evaluation: Evaluation) -> bool:
    known = evaluation.own.test_counts is not None
    return known and (evaluation.version, evaluation.model_sha256) == (VERSION, cached_sha256(run.onnx))


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
