"""The evidence behind a comparison in one zip: what was trained on what, with what, and how it was scored.

`manifest.json` names every file with its SHA-256, the dataset with the SHA-256 of each of its scans and masks, and the
software. No image and no mask of a patient is in it: who has the same data can repeat the evaluation
(`covseg_core.evaluation.verify`), and nobody else learns more than the numbers.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from covseg_core.data.datasets import Dataset, load_dataset
from covseg_core.errors import RunError
from covseg_core.evaluation import frames, tables
from covseg_core.evaluation.measures import MEASURES
from covseg_core.evaluation.result import Comparison
from covseg_core.evaluation.verdict import verdict
from covseg_core.figures import differences, page, scans
from covseg_core.figures.curves import Curve, View, columns, draw
from covseg_core.files import atomic_path, to_json
from covseg_core.jobs import versions
from covseg_core.runs import Run

VERSION = 1
MANIFEST, COMPARISON = "manifest.json", "comparison.json"
NEEDED = ("config.json", "split.json", "status.json", "history.csv", "model.onnx")
"""Files of a run without which nothing can be repeated."""
OPTIONAL = ("standardise.json", "best.weights.h5", "evaluation.json", "training_data.json", "operating_point.json")


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
    data: Data
    software: dict[str, str]
    """Versions in use when the bundle was made; those of each training are in its `config.json`."""
    files: dict[str, str] = field(default_factory=dict)
    """Path in the zip -> SHA-256, of every file but this one."""


def write_bundle(runs: Sequence[Run], comparison: Comparison, path: Path) -> Manifest:
    """Put runs and their comparison into a zip.

    Parameters
    ----------
    runs : those that were compared
    comparison : of `evaluate_runs(runs)` on their own test part
    path : the zip; one that exists is replaced

    Raises
    ------
    RunError : a run lacks a file that is needed, or the comparison is not of these runs
    DatasetError : the dataset has changed since
    OSError : the zip cannot be written
    """
    dataset = load_dataset(comparison.dataset)
    files = {COMPARISON: to_json(comparison), "README.txt": _readme(comparison).encode()}
    files |= {f"tables/{name}": content for name, content in frames.files(comparison).items()}
    files |= {f"figures/{name}": content for name, content in _figures(runs, comparison).items()}
    manifest = Manifest(
        VERSION, datetime.now(UTC).isoformat(timespec="seconds"), tuple(run.id for run in runs), _data(dataset),
        versions(), {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
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


def _files(run: Run) -> dict[str, bytes]:
    found = {name: (run.folder / name).read_bytes() for name in (*NEEDED, *OPTIONAL) if (run.folder / name).is_file()}
    if missing := [name for name in NEEDED if name not in found]:
        raise RunError(run.id, f"has no {' and no '.join(missing)}", "a finished run")
    return found


def _figures(runs: Sequence[Run], comparison: Comparison) -> dict[str, bytes]:
    names = tables.model_names(comparison)
    learned = [
        Curve(name, run.config.metric, columns(run.history()), slot)
        for slot, (name, run) in enumerate(zip(names, runs, strict=True))
    ]
    found = {"dice.html": scans.html(comparison), "curves.html": page(draw(learned, View()))}
    if len(runs) > 1:
        result = verdict(comparison)
        found["differences.html"] = page(differences.figure(result, names, MEASURES["dice"].label))
    return found


def _data(dataset: Dataset) -> Data:
    return Data(dataset.name, dataset.fingerprint, {case.id: dict(case.sha256) for case in dataset.cases})


def _readme(comparison: Comparison) -> str:
    """What the zip is, for who opens it by hand."""
    names = zip(tables.model_names(comparison), comparison.evaluations, strict=True)
    lines = [
        "Evidence for a comparison of models that outline COVID-19 lesions on chest CT, made by covseg.",
        "For research use only: not for diagnosis.",
        "",
        tables.header(comparison),
        *(
            f"{name}: run {one.run}, pooled Dice {tables.number(one.model.pooled['dice'], 'dice', 4) or 'undefined'}"
            for name, one in names
        ),
        "",
        "manifest.json    SHA-256 of every file here and of every scan and mask that was used; software",
        "comparison.json  every number: by slice, by scan, pooled",
        "tables/          the same as CSV",
        "figures/         curves and scores, to be opened in a browser",
        "runs/            settings, split, curves and weights of each model",
        "",
        "With the same data imported, `covseg verify` on this file repeats the evaluation and compares every number.",
    ]
    return "\n".join(lines) + "\n"
