"""The evidence behind a comparison in one zip: what was trained on what, with what, and how it was scored.

`manifest.json` names every file with its SHA-256, the dataset with the SHA-256 of each of its scans and masks, and the
software. No image and no mask of a patient is in it: who has the same data can repeat the evaluation
(`covseg_core.evidence.verify`), and nobody else learns more than the numbers. Of a cross-validation it holds the
runs of all folds, and their comparison as one model for each metric.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from covseg_core.data.library.datasets import Dataset, load_dataset
from covseg_core.errors import DatasetError, RunError
from covseg_core.evaluation.cross_validation.folds import by_fold
from covseg_core.evaluation.empty_policy import with_policy
from covseg_core.evaluation.model import Model
from covseg_core.evaluation.results import Comparison
from covseg_core.evaluation.stored_scores import check_mergeable, stored_comparison
from covseg_core.evaluation.wording import plural
from covseg_core.evidence.contents import exhibits
from covseg_core.files import atomic_path, to_json
from covseg_core.runs import Run
from covseg_core.runs.jobs import versions

VERSION, FOLDS_VERSION = 1, 2
"""Of a bundle of runs, and of one of folds, which a covseg that knows only runs must not take for one."""
MANIFEST, COMPARISON, EVALUATION = "manifest.json", "comparison.json", "evaluation.json"
NEEDED = ("config.json", "split.json", "status.json", "history.csv", "model.onnx")
"""Files of a run without which nothing can be repeated."""
OPTIONAL = (
    "standardise.json",
    "pace.json",
    "best.weights.h5",
    EVALUATION,
    "training_data.json",
    "operating_point.json",
)


@dataclass(frozen=True)
class Data:
    """The dataset that the runs were scored on."""

    name: str
    fingerprint: str
    cases: dict[str, dict[str, str]]
    """Case -> `scan`, `infection`, `lung` -> SHA-256 of the file."""


@dataclass(frozen=True)
class Manifest:
    """What a bundle holds."""

    version: int
    created: str
    """ISO 8601, UTC."""
    runs: tuple[str, ...]
    """Model by model; of folds each fold's, the first fold first."""
    data: Data
    software: dict[str, str]
    """Versions in use when the bundle was made; those of each training are in its `config.json`."""
    files: dict[str, str] = field(default_factory=dict)
    """Path in the zip -> SHA-256, of every file but this one."""


def write_bundle(models: Sequence[Model], comparison: Comparison, path: Path) -> Manifest:
    """Put models and their comparison into a zip.

    Parameters
    ----------
    models : that were compared: single runs, or models of the same folds
    comparison : of `evaluate_runs(runs)` on their own test part, or of `evaluate_folds`, in the order of the models
    path : the zip; one that exists is replaced

    Raises
    ------
    RunError : as `check_seeds`; a run lacks a file that is needed, or the comparison is not of these models as they are
        now
    DatasetError : the dataset has changed since
    OSError : the zip cannot be written
    """
    check_seeds(models)
    dataset = load_dataset(comparison.dataset)
    if dataset.fingerprint != comparison.evaluations[0].fingerprint:
        raise DatasetError(dataset.name, "has changed since the evaluation", "the same scans and masks")
    runs = [run for model in models for run in model.runs]
    for run in runs:
        _check_whole(run)
    folds = _fold_comparisons(models, comparison)
    _check_scored(models, comparison)
    files = {COMPARISON: to_json(comparison), **exhibits(models, comparison, folds)}
    manifest = Manifest(
        FOLDS_VERSION if folds else VERSION, datetime.now(UTC).isoformat(timespec="seconds"),
        tuple(run.id for run in runs), _data(dataset), versions(),
        {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    )  # fmt: skip
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for run in runs:
            for name, content in _files(run).items():
                inside = f"runs/{run.id}/{name}"
                manifest.files[inside] = hashlib.sha256(content).hexdigest()
                archive.writestr(inside, content)
        for name, content in files.items():
            archive.writestr(name, content)
        archive.writestr(MANIFEST, to_json(manifest))
    return manifest


def check_seeds(models: Sequence[Model]) -> None:
    """Raise `RunError` for models of several seeds: a bundle holds runs, or the folds of one seed."""
    for model in models:
        if model.seeds:
            found = f"a model of {plural(len(model.seeds), 'seed')}, and a bundle holds one of each model"
            raise RunError(model.id, found, f"the runs of one seed, such as {model.runs[0].id}")


def _check_whole(run: Run) -> None:
    if missing := [name for name in NEEDED if not (run.folder / name).is_file()]:
        raise RunError(run.id, f"has no {' and no '.join(missing)}", "a finished run")


def _fold_comparisons(models: Sequence[Model], comparison: Comparison) -> list[Comparison]:
    """Of each fold, from the files of its runs; none if the models are runs."""
    found = []
    for fold in by_fold(models):
        stored = stored_comparison(fold)
        check_mergeable(stored)
        found.append(with_policy(stored, comparison.evaluations[0].policy))
    return found


def _check_scored(models: Sequence[Model], comparison: Comparison) -> None:
    """Raise unless the comparison is of these models, in their order, as they are now."""
    if (ours := [model.id for model in models]) != (scored := [one.run for one in comparison.evaluations]):
        raise RunError(", ".join(ours), f"the comparison is of {', '.join(scored)}", "that of these models")
    for model, evaluation in zip(models, comparison.evaluations, strict=True):
        if model.sha256 != evaluation.model_sha256:
            raise RunError(model.id, "has scores of an earlier model", "an evaluation of the present one")


def _files(run: Run) -> dict[str, bytes]:
    return {name: (run.folder / name).read_bytes() for name in (*NEEDED, *OPTIONAL) if (run.folder / name).is_file()}


def _data(dataset: Dataset) -> Data:
    return Data(dataset.name, dataset.fingerprint, {case.id: dict(case.sha256) for case in dataset.cases})
