"""Which runs make which models: a run by itself, the folds of a metric, the seeds of a metric."""

from __future__ import annotations

from collections.abc import Sequence

from covseg_core.evaluation.cross_validation.folded_run import FoldedRun
from covseg_core.evaluation.model import Model, SingleRun
from covseg_core.evaluation.seeds.seeded_model import SeededModel
from covseg_core.runs import Run, read_status

_Runs = dict[int, dict[int, Run]]
"""Number of the seed -> fold -> run; 0 where there is only one."""


def finished_models(runs: Sequence[Run]) -> list[Model]:
    """The models that runs make, in the order in which these come.

    Of an experiment with folds those folds count that are finished for each of its metrics, of one with seeds those
    seeds; with both, the seeds that have finished the most folds, the same ones. Metrics without any are left out. A
    run that is neither is a model whatever its state.
    """
    parts: dict[str, dict[str, _Runs]] = {}
    for run in runs:
        status, config = read_status(run), run.config
        if _has_parts(run) and status is not None and status.state == "finished":
            seeds = parts.setdefault(config.experiment, {}).setdefault(config.metric, {})
            seeds.setdefault(config.train.seed_number, {})[config.split.fold] = run
    together = {
        (experiment, metric): model
        for experiment, metrics in parts.items()
        for metric, model in _models(metrics).items()
    }
    found: dict[object, Model] = {}
    for run in runs:
        key = (run.config.experiment, run.config.metric)
        if not _has_parts(run):
            found[run] = SingleRun(run)
        elif key in together:
            found[key] = together[key]
    return list(found.values())


def of_several_seeds(runs: Sequence[Run]) -> bool:
    """Whether runs of one metric and experiment differ in their seed, so that they stand for one model."""
    found: dict[tuple[str, str], set[int]] = {}
    for config in (run.config for run in runs):
        found.setdefault((config.experiment, config.metric), set()).add(config.train.seed_number)
    return any(len(numbers) > 1 for numbers in found.values())


def _has_parts(run: Run) -> bool:
    config = run.config
    return bool(config.split.folds or config.train.seeds)


def _models(metrics: dict[str, _Runs]) -> dict[str, Model]:
    """The models of one experiment, by metric; none if nothing is finished for all of them."""
    numbers = sorted({number for seeds in metrics.values() for number in seeds})
    common = {
        number: sorted(set.intersection(*(set(seeds.get(number, {})) for seeds in metrics.values())))
        for number in numbers
    }
    folds = max(common.values(), key=len)  # the first of equal length
    if not folds:
        return {}
    counted = [number for number in numbers if common[number] == folds]
    return {
        metric: _model([[seeds[number][fold] for fold in folds] for number in counted])
        for metric, seeds in metrics.items()
    }


def _model(seeds: Sequence[Sequence[Run]]) -> Model:
    """From the runs of each seed, a run for each fold."""
    config = seeds[0][0].config
    each: list[Model] = [FoldedRun(tuple(folds)) if config.split.folds else SingleRun(folds[0]) for folds in seeds]
    return SeededModel(tuple(each)) if config.train.seeds else each[0]
