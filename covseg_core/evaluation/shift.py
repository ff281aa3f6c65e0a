"""Source shift: how models do on data of other sources than the one they have learned from.

A matrix of models and datasets. In its own dataset a model is scored on its test part, in any other on everything;
where a patient was seen in training, the score is marked. Results are kept in the run's folder.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from covseg_core.data.datasets import Dataset, list_datasets, load_dataset
from covseg_core.errors import CovsegError, RunError
from covseg_core.evaluation.candidate import SAME_NAME
from covseg_core.evaluation.evaluate import Progress, evaluate_runs
from covseg_core.evaluation.folding import finished_folds, stored_comparison
from covseg_core.evaluation.measures import Counts, overlap
from covseg_core.evaluation.result import VERSION, Evaluation
from covseg_core.evaluation.scores import Summary
from covseg_core.files import read_json, sha256_file, write_json
from covseg_core.runs import Run

FOLDER = "evaluations"
"""In a run's folder: `<dataset>.json` for each dataset that it was scored on."""


@dataclass(frozen=True)
class Cell:
    """A model on a dataset."""

    version: int
    run: str
    model_sha256: str
    dataset: str
    fingerprint: str
    part: str
    """`test`: the model's own test part. `all`: everything in another dataset."""
    leaky: bool
    """A patient was seen in training or validation."""
    doubts: tuple[str, ...]
    """Where that cannot be known, a sentence on who may have been seen."""
    slices: int
    patients: int
    dice: Summary | None
    """Over scans, and over the slices of stacks of unrelated slices; None if it is undefined everywhere."""
    pooled_dice: float | None
    """Over all voxels."""
    values: dict[str, float]
    """Dice of each scan, or slice of a stack, where it is defined."""
    counts: Counts
    """Of all voxels."""

    @property
    def marks(self) -> list[str]:
        """What has to stand beside the number."""
        leaky = "LEAKY" if self.leaky else "LEAKY?" if self.doubts else ""
        return [mark for mark in ("own" if self.part == "test" else "", leaky) if mark]


@dataclass(frozen=True)
class Shift:
    """Models by datasets."""

    runs: tuple[str, ...]
    datasets: tuple[str, ...]
    cells: tuple[Cell, ...]
    """Those there are, by dataset and run."""

    @property
    def doubts(self) -> list[str]:
        """Sentences on patients that may have been seen in training, each once."""
        return list(dict.fromkeys(f"{cell.dataset}: {doubt}" for cell in self.cells for doubt in cell.doubts))

    def cell(self, run: str, dataset: str) -> Cell | None:
        """Of a model on a dataset; None if it was not scored there."""
        return next((cell for cell in self.cells if (cell.run, cell.dataset) == (run, dataset)), None)


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
        advance = _share(progress, sum(sizes[:number]), sizes[number], sum(sizes))
        known = None if name else stored_comparison(group)
        comparison = known or evaluate_runs(group, name or None, progress=advance)
        for run, evaluation in zip(group, comparison.evaluations, strict=True):
            write_json(_path(run, dataset), _cell(evaluation))
    return _shift(runs, datasets)


def models_of(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """What counts as one model, by its name: a run, or the finished folds of one metric."""
    single = [run for run in runs if not run.config.split.folds]
    folds = finished_folds(runs)
    return {run.id: [run] for run in single} | {
        (model.id if len(model.runs) > 1 else model.runs[0].id): list(model.runs) for model in folds
    }


def by_model(found: Shift, models: Mapping[str, Sequence[Run]]) -> Shift:
    """The same with the folds of a model taken together, where all of them were scored.

    On their own tests every scan counts once. Elsewhere all folds have predicted every scan, and it counts with the
    mean of their Dice.
    """
    cells = []
    for dataset in found.datasets:
        for name, runs in models.items():
            parts = [cell for run in runs if (cell := found.cell(run.id, dataset)) is not None]
            if len(parts) == len(runs):
                cells.append(parts[0] if len(parts) == 1 else _together(name, parts))
    return Shift(tuple(models), found.datasets, tuple(cells))


def stored_shift(runs: Sequence[Run], names: Sequence[str] = ()) -> Shift:
    """As far as it is known, without scoring anything; raises `DatasetError` as `measure_shift`."""
    return _shift(runs, _datasets(runs, names))


def stored_cell(run: Run, dataset: Dataset) -> Cell | None:
    """What is known of a run's present model on a dataset as it is now."""
    try:
        sha256 = sha256_file(run.onnx)
        cell = read_json(_path(run, dataset), Cell)
    except (CovsegError, OSError):
        return None
    current = (VERSION, sha256, dataset.fingerprint)
    return cell if (cell.version, cell.model_sha256, cell.fingerprint) == current else None


def _datasets(runs: Sequence[Run], names: Sequence[str]) -> list[Dataset]:
    """Those that the runs were made from, unless they are not here, as with shipped models; then those named."""
    there = set(list_datasets())
    own = [run.config.dataset for run in runs]
    wanted = dict.fromkeys([*(name for name in own if name in there), *names])
    return [load_dataset(name) for name in wanted or dict.fromkeys(own)]


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


def _cell(evaluation: Evaluation) -> Cell:
    counts: dict[tuple[str, str], Counts] = {}
    for score in evaluation.model.slices:  # a scan, or of a stack, where every slice is another patient, a slice
        key = score.case, score.patient
        counts[key] = counts.get(key, Counts()) + score.counts
    dice = {f"{case} {patient}": overlap(one)["dice"] for (case, patient), one in counts.items()}
    values = {key: value for key, value in dice.items() if not math.isnan(value)}
    return Cell(
        VERSION,
        evaluation.run,
        evaluation.model_sha256,
        evaluation.dataset,
        evaluation.fingerprint,
        evaluation.part,
        evaluation.leaky,
        tuple(note for note in evaluation.notes if SAME_NAME in note),
        evaluation.slices,
        evaluation.patients,
        _summary(list(values.values())),
        evaluation.model.pooled["dice"],
        values,
        sum(counts.values(), Counts()),
    )


def _together(name: str, parts: Sequence[Cell]) -> Cell:
    gathered: dict[str, list[float]] = {}
    for cell in parts:
        for key, value in cell.values.items():
            gathered.setdefault(key, []).append(value)
    means = {key: float(np.mean(values)) for key, values in gathered.items()}
    counts = sum((cell.counts for cell in parts), Counts())
    pooled = overlap(counts)["dice"]
    own = parts[0].part == "test"
    return dataclasses.replace(
        parts[0],
        run=name,
        model_sha256="",
        leaky=any(cell.leaky for cell in parts),
        doubts=tuple(dict.fromkeys(doubt for cell in parts for doubt in cell.doubts)),
        slices=sum(cell.slices for cell in parts) if own else parts[0].slices,
        patients=sum(cell.patients for cell in parts) if own else parts[0].patients,
        dice=_summary(list(means.values())),
        pooled_dice=None if math.isnan(pooled) else pooled,
        values=means,
        counts=counts,
    )


def _summary(known: Sequence[float]) -> Summary | None:
    if not known:
        return None
    values = np.array(known)
    std = float(values.std(ddof=1)) if len(values) > 1 else None
    low, high = float(values.min()), float(values.max())
    return Summary(float(values.mean()), std, float(np.median(values)), low, high, len(values))


def _path(run: Run, dataset: Dataset) -> Path:
    return run.folder / FOLDER / f"{dataset.name}.json"


def _share(progress: Progress | None, before: int, size: int, total: int) -> Progress | None:
    """Progress of one dataset as its part of the whole."""
    if progress is None:
        return None
    return lambda done, of: progress(before + round(size * done / max(of, 1)), total)
