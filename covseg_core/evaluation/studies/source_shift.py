"""Source shift: how models do on data of other sources than the one they have learned from.

A matrix of models and datasets. In its own dataset a model is scored on its test part, in any other on everything;
where a patient was seen in training, the score is marked. Results are kept in the run's folder: those of its own test
part are its evaluation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from covseg_core.data.library.datasets import Dataset, list_datasets, load_dataset
from covseg_core.errors import CovsegError, RunError
from covseg_core.evaluation.evaluate import evaluate_runs
from covseg_core.evaluation.grouping import finished_models
from covseg_core.evaluation.results import VERSION
from covseg_core.evaluation.stored_scores import stored_scores
from covseg_core.evaluation.studies.source_matrix import Cell, Shift, cell_of
from covseg_core.files import cached_sha256, read_json, write_json
from covseg_core.progress import Progress, part_of
from covseg_core.runs import Run

FOLDER = "evaluations"
"""In a run's folder: `<dataset>.json` for each other dataset that it was scored on."""


def measure_shift(runs: Sequence[Run], names: Sequence[str] = (), progress: Progress | None = None) -> Shift:
    """Score every run on the datasets that the runs were made from, and on those named; what is known is not repeated.

    Raises
    ------
    RunError : the runs have different targets; or as `evaluate_runs`
    DatasetError : no dataset is there, or one that is named is not; or as `evaluate_runs`
    """
    runs = list(dict.fromkeys(runs))
    targets = dict.fromkeys(run.config.target for run in runs)
    if len(targets) != 1:
        found = f"different targets ({' and '.join(targets)})" if targets else "no runs"
        raise RunError(", ".join(run.id for run in runs) or "shift", found, "runs of one target")
    datasets = _datasets(runs, names)
    todo = []
    for dataset in datasets:
        missing = [run for run in runs if stored_cell(run, dataset) is None]
        todo += [(dataset, [run], "") for run in missing if _is_own(run, dataset)]
        others = [run for run in missing if not _is_own(run, dataset)]
        todo += [(dataset, others, dataset.name)] if others else []
    sizes = [sum(case.slices for case in dataset.cases) for dataset, _, _ in todo]
    for number, (dataset, group, name) in enumerate(todo):
        advance = part_of(progress, sum(sizes[:number]), sizes[number], sum(sizes))
        comparison = evaluate_runs(group, name or None, progress=advance)
        if name:  # else it is in the run's folder already
            for run, evaluation in zip(group, comparison.evaluations, strict=True):
                write_json(_path(run, dataset), cell_of(evaluation))
    return _shift(runs, datasets)


def runs_by_model(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """What counts as one model, by its name: a run, or the finished folds and seeds of one metric."""
    return {
        (model.id if len(model.runs) > 1 else model.runs[0].id): list(model.runs) for model in finished_models(runs)
    }


def stored_shift(runs: Sequence[Run], names: Sequence[str] = ()) -> Shift:
    """As far as it is known, without scoring anything; raises `DatasetError` as `measure_shift`."""
    return _shift(runs, _datasets(runs, names))


def stored_cell(run: Run, dataset: Dataset) -> Cell | None:
    """What is known of a run's present model on a dataset as it is now; its own test part from its evaluation."""
    cell = _own_cell(run) if _is_own(run, dataset) else _kept_cell(run, dataset)
    if cell is None or cell.fingerprint != dataset.fingerprint:
        return None
    return dataclasses.replace(cell, run=run.id)  # the folder may have been renamed


def _datasets(runs: Sequence[Run], names: Sequence[str]) -> list[Dataset]:
    """Those that the runs were made from, unless they are not here, as with shipped models; then those named."""
    there = set(list_datasets())
    own: dict[str, str] = {}
    for run in runs:
        own.setdefault(run.config.dataset, run.config.fingerprint)
    wanted = dict.fromkeys([*(name for name in own if name in there), *names])
    return [load_dataset(name, own.get(name, "")) for name in wanted or own]


def _shift(runs: Sequence[Run], datasets: Sequence[Dataset]) -> Shift:
    cells = [stored_cell(run, dataset) for dataset in datasets for run in runs]
    return Shift(
        tuple(run.id for run in runs),
        tuple(dataset.name for dataset in datasets),
        tuple(cell for cell in cells if cell is not None),
    )


def _is_own(run: Run, dataset: Dataset) -> bool:
    """Whether the run was made from this very dataset."""
    config = run.config
    return (config.dataset, config.fingerprint) == (dataset.name, dataset.fingerprint)


def _own_cell(run: Run) -> Cell | None:
    try:
        return cell_of(stored_scores(run))
    except RunError:
        return None


def _kept_cell(run: Run, dataset: Dataset) -> Cell | None:
    try:
        cell = read_json(_path(run, dataset), Cell)
    except CovsegError:
        return None
    return cell if (cell.version, cell.model_sha256) == (VERSION, cached_sha256(run.onnx)) else None


def _path(run: Run, dataset: Dataset) -> Path:
    return run.folder / FOLDER / f"{dataset.name}.json"
