"""The evidence behind a comparison in one zip: what was trained on what, with what, and how it was scored.

`manifest.json` names every file with its SHA-256, the dataset with the SHA-256 of each of its scans and masks, and the
software. No image and no mask of a patient is in it, and no name: cases are `case-001` and so on throughout, which
`covseg_core.evidence.verify` recognises by the hashes. So who has the same data can repeat the evaluation, and nobody
else learns more than the numbers. Of a cross-validation it holds the runs of all folds, and their comparison as one
model for each metric.
"""

from __future__ import annotations

import dataclasses
import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from covseg_core.data.library.datasets import Dataset, load_dataset
from covseg_core.data.library.pseudonyms import Pseudonyms
from covseg_core.data.splitting.split import PARTS
from covseg_core.errors import CovsegError, DatasetError, RunError
from covseg_core.evaluation.cross_validation.folds import by_fold
from covseg_core.evaluation.empty_policy import with_policy
from covseg_core.evaluation.model import Model
from covseg_core.evaluation.pseudonymous import pseudonymous, pseudonymous_evaluation, pseudonymous_verdict
from covseg_core.evaluation.results import Comparison, Evaluation
from covseg_core.evaluation.significance.verdict import verdict
from covseg_core.evaluation.stored_scores import check_mergeable, stored_comparison
from covseg_core.evaluation.wording import plural
from covseg_core.evidence.contents import exhibits
from covseg_core.files import atomic_path, read_json, to_json
from covseg_core.runs import Run
from covseg_core.runs.jobs import versions

VERSION, FOLDS_VERSION = 3, 4
"""Of a bundle of runs, and of one of folds, which a covseg that knows only runs must not take for one."""
NAMED_VERSIONS = 1, 2
"""The same of earlier bundles, with the names of the cases in them."""
MANIFEST, COMPARISON, EVALUATION = "manifest.json", "comparison.json", "evaluation.json"
NEEDED = ("config.json", "split.json", "status.json", "history.csv", "model.onnx")
"""Files of a run without which nothing can be repeated."""
OPTIONAL = ("standardise.json", "pace.json", "best.weights.h5", "training_data.json", "operating_point.json")
"""Files that are taken as they are, if they are there. None of them can hold a name, nor say on which computer it was
made; what could is written anew, see `_files`."""


@dataclass(frozen=True)
class Data:
    """The dataset that the runs were scored on."""

    name: str
    fingerprint: str
    cases: dict[str, dict[str, str]]
    """Case -> `scan`, `infection`, `lung` -> SHA-256 of the file."""
    patients: dict[str, str] = field(default_factory=dict)
    """Case -> patient; empty in earlier bundles."""


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
    dataset = load_dataset(comparison.dataset, comparison.evaluations[0].fingerprint)
    if dataset.fingerprint != comparison.evaluations[0].fingerprint:
        raise DatasetError(dataset.name, "has changed since the evaluation", "the same scans and masks")
    names = Pseudonyms.of(dataset)
    runs = [run for model in models for run in model.runs]
    for run in runs:
        _check_whole(run)
    folds = _fold_comparisons(models, comparison)
    _check_scored(models, comparison)
    outside = pseudonymous(comparison, names)
    found = pseudonymous_verdict(verdict(comparison), names)
    folds = [pseudonymous(fold, names) for fold in folds]
    files = {COMPARISON: to_json(outside), **exhibits(models, outside, found, folds)}
    manifest = Manifest(
        FOLDS_VERSION if folds else VERSION, datetime.now(UTC).isoformat(timespec="seconds"),
        tuple(run.id for run in runs), _data(dataset, names), versions(),
        {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    )  # fmt: skip
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for run in runs:
            for name, content in _files(run, names).items():
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


def _files(run: Run, names: Pseudonyms) -> dict[str, bytes]:
    """What goes into the bundle of a run's folder, by file name."""
    split, status = run.split, run.written_status
    train, validation, test = (names.selection(split.part(name)) for name in PARTS)
    files = {
        "config.json": to_json(dataclasses.replace(run.config, fingerprint=names.fingerprint)),
        "split.json": to_json(dataclasses.replace(split, train=train, validation=validation, test=test)),
        "status.json": to_json(dataclasses.replace(status, reason="", host="", pid=0, process="")),
    }
    for name in (*NEEDED, *OPTIONAL):
        if name not in files and (run.folder / name).is_file():
            files[name] = (run.folder / name).read_bytes()
    if scores := _scores(run, names):
        files[EVALUATION] = to_json(scores)
    return files


def _scores(run: Run, names: Pseudonyms) -> Evaluation | None:
    """The run's own; None if there are none, or none of the dataset as it is now."""
    try:
        found = read_json(run.evaluation, Evaluation)
    except CovsegError:
        return None
    return pseudonymous_evaluation(found, names) if found.fingerprint == names.true_fingerprint else None


def _data(dataset: Dataset, names: Pseudonyms) -> Data:
    by_name = {names.cases[case.id]: case for case in dataset.cases}
    cases = {name: by_name[name] for name in sorted(by_name)}
    return Data(
        dataset.name, names.fingerprint,
        {name: dict(case.sha256) for name, case in cases.items()},
        {name: names.patients[case.patient] for name, case in cases.items()},
    )  # fmt: skip
