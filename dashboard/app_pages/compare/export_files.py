"""What the Compare page gives away: tables as CSV, predictions as NumPy and NIfTI files, as bytes."""

from __future__ import annotations

import io
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import numpy as np
import pandas as pd

from covseg_core.data.library.datasets import Dataset
from covseg_core.data.library.pseudonyms import Pseudonyms
from covseg_core.data.reading.volumes import load_geometry, save_mask
from covseg_core.data.slices.cache import case_grid
from covseg_core.errors import DatasetError, RunError
from covseg_core.evaluation import data_frames
from covseg_core.evaluation.model import Model
from covseg_core.evaluation.results import Comparison
from covseg_core.evaluation.scores import SliceScore
from covseg_core.evaluation.stored_predictions.predictions import native
from covseg_core.evidence.bundle import write_bundle
from covseg_core.files import to_json
from covseg_core.temporary import TemporaryFolder

_CHUNK = 32
"""Slices in memory at a time."""


def tables_zip(comparison: Comparison) -> bytes:
    """All tables, a CSV file each, and what they are about as JSON."""
    return _zip(data_frames.files(comparison))


def predictions_zip(comparison: Comparison, models: Sequence[Model], names: Pseudonyms | None = None) -> io.RawIOBase:
    """Probabilities of every model as NumPy files, (N, S, S) float16, and `rows.csv` that names each row's slice.

    With `names` the rows have them, and are in their order. In a cross-validation each row comes from the fold that
    tests the slice. A file without a name, since all together can be larger than memory is meant for.

    Raises
    ------
    RunError : the files of a run do not hold what was scored
    """
    scored = comparison.evaluations[0].model.slices
    called = names.cases if names else {score.case: score.case for score in scored}
    slices = sorted(scored, key=lambda score: (called[score.case], score.z))
    scans = [called[score.case] for score in slices]
    rows = pd.DataFrame({"row": range(len(slices)), "scan": scans, "slice": [score.z for score in slices]})
    with _nameless() as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr("rows.csv", _csv(rows))
        for model in models:
            _write_predictions(archive, model, slices)
    return file


def evidence_zip(comparison: Comparison, models: Sequence[Model]) -> io.RawIOBase:
    """What `covseg verify` takes: runs or all folds, hashes of the data, tables. A file without a name, as above."""
    with _nameless() as file, TemporaryFolder() as folder:
        path = folder / "evidence.zip"
        write_bundle(models, comparison, path)
        with open(path, "rb") as source:
            shutil.copyfileobj(source, file)
    return file


def masks_zip(
    comparison: Comparison, models: Sequence[Model], dataset: Dataset, case_id: str, threshold: float, called: str = ""
) -> bytes:
    """The masks of one scan by every model at a threshold, `mask_<run>.nii.gz` in the scan's own geometry.

    `called` is the name of the scan in it, if that is not its id.

    Only test slices were predicted. If the scan has others, those are empty, and `about.json` lists what counts.

    Raises
    ------
    DatasetError : the dataset has changed since the evaluation
    """
    first = comparison.evaluations[0]
    if dataset.fingerprint != first.fingerprint:
        raise DatasetError(dataset.name, "has changed since the evaluation", "the same scans")
    case = dataset.case(case_id)
    predicted = [score.z for score in first.model.slices if score.case == case_id]
    geometry = load_geometry(dataset.path(case, "scan"))
    about = {
        "dataset": dataset.name,
        "scan": called or case_id,
        "threshold": threshold,
        "threshold_of_the_scores": first.threshold,
        "predicted_slices": predicted,
        "whole_scan": len(predicted) == case.shape[0],
        "slices_are_counted": "from 0, the lowest",
    }
    files = {"about.json": to_json(about)}
    with TemporaryFolder() as folder:
        for model in models:
            stored, grid = model.predictions(), case_grid(dataset, case, model.config.prepare)
            mask = np.zeros(case.shape, np.uint8)
            for z in predicted:
                mask[z] = native(stored, case.id, z, grid) >= threshold
            path = folder / f"mask_{model.id}.nii.gz"
            save_mask(mask, geometry, path)
            files[path.name] = path.read_bytes()
    return _zip(files)


@contextmanager
def _nameless() -> Iterator[io.RawIOBase]:
    """A file without a name, to be filled and given away at its start; closed if that fails."""
    # unbuffered, since download buttons take no file that is open for writing, unless it is a raw one
    file = cast(io.RawIOBase, tempfile.TemporaryFile(prefix="covseg-", buffering=0))  # noqa: SIM115 - who asks closes
    try:
        yield file
    except BaseException:
        file.close()
        raise
    file.seek(0)


def _write_predictions(archive: zipfile.ZipFile, model: Model, slices: Sequence[SliceScore]) -> None:
    """One NumPy file with a row for each slice, a few of them in memory at a time."""
    values, rows = model.predictions()
    try:
        order = [rows[score.case][score.z] for score in slices]
    except KeyError:
        order = []
    if not order or len(values) != len(order):
        found = f"{len(values)} predicted slices, but {len(slices)} scores, or of other slices"
        raise RunError(model.id, found, f"`covseg evaluate {model.runs[0].config.experiment}` once more")
    first = values[order[0]]
    head = {"descr": np.lib.format.dtype_to_descr(first.dtype), "fortran_order": False}
    with archive.open(f"{model.id}.npy", "w", force_zip64=True) as entry:
        np.lib.format.write_array_header_1_0(entry, {**head, "shape": (len(order), *first.shape)})
        for start in range(0, len(order), _CHUNK):
            entry.write(np.stack([values[row] for row in order[start : start + _CHUNK]]).tobytes())


def _csv(table: pd.DataFrame) -> bytes:
    return table.to_csv(index=False).encode()


def _zip(files: dict[str, bytes]) -> bytes:
    """Not compressed again: NIfTI already is, and probabilities hardly shrink."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in files.items():
            small = name.endswith((".csv", ".json"))
            archive.writestr(name, data, zipfile.ZIP_DEFLATED if small else zipfile.ZIP_STORED)
    return content.getvalue()
