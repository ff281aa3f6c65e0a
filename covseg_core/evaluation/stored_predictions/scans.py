"""What a run has predicted on its test or validation part, beside the truth, scan by scan, on the network's own grid.

Nothing is resampled, so that a threshold can be moved over all of it at once. Padding is cut off: it is no part of a
scan. What is measured here differs from an evaluation by the grid only.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from covseg_core.config import PrepareConfig, Target
from covseg_core.data.library.datasets import Case, Dataset, load_dataset
from covseg_core.data.slices.cache import case_grid, prepared
from covseg_core.data.slices.slices import Axis
from covseg_core.errors import CovsegError, RunError
from covseg_core.evaluation.results import Evaluation
from covseg_core.evaluation.stored_predictions.predictions import load_values
from covseg_core.evaluation.stored_scores import check_current
from covseg_core.prediction.case_lungs import find_lungs
from covseg_core.runs import Run


@dataclass(frozen=True, eq=False)
class StoredScan:
    """The predicted slices of one scan."""

    case: Case
    zs: tuple[int, ...]
    """Ascending."""
    probabilities: np.ndarray
    """(n, H, W) float16 0..1, radiological view, without padding."""
    truth: np.ndarray
    """(n, H, W) bool."""
    inside: tuple[slice, slice]
    """Rows and columns of a prepared slice that are not padding."""
    steps: tuple[float, float]
    """(y, x): pixels of the scan from one pixel here to the next."""

    @property
    def pixels(self) -> float:
        """Voxels of the scan that a voxel here stands for."""
        return math.prod(self.steps)

    @property
    def mm3(self) -> float:
        """Volume of a voxel [mm3]; means nothing where the case's spacing is not known."""
        return self.pixels * math.prod(self.case.spacing)

    @property
    def places(self) -> np.ndarray:
        """(n,) int: planes of a stack in which only slices that are neighbours in one body are neighbours.

        Between others there is an empty plane: connected parts of stacked, unrelated slices are those of each slice.
        """
        gaps = [0, *(1 if after == before + 1 and not self.case.stacked else 2 for before, after in self._pairs())]
        return np.cumsum(gaps)

    def _pairs(self) -> Iterator[tuple[int, int]]:
        return zip(self.zs, self.zs[1:], strict=False)


def scans_of_test(run: Run, evaluation: Evaluation) -> list[StoredScan]:
    """What a run predicts on the slices of its evaluation.

    Raises
    ------
    RunError : `test_predictions.npy` is missing or does not fit the evaluation, or belongs to an earlier model
    DatasetError : the dataset is gone or has changed, or lungs have to be found again and there is no lung model
    """
    check_current(run, evaluation)
    dataset = load_dataset(evaluation.dataset, evaluation.fingerprint)
    if dataset.fingerprint != evaluation.fingerprint:
        raise RunError(run.id, f"dataset {dataset.name} has changed since it was scored", "the same scans and masks")
    slices = [(score.case, score.z) for score in evaluation.model.slices]
    values = load_values(run, len(slices))
    # known when it was scored, but what is known lies in the cache, which forgets
    find_lungs(dataset, run.config.prepare, list(dict.fromkeys(case for case, _ in slices)))
    return stored_scans(dataset, slices, values, run.config.prepare, evaluation.target)


def stored_scans(
    dataset: Dataset, slices: Sequence[tuple[str, int]], values: np.ndarray, prepare: PrepareConfig, target: Target
) -> list[StoredScan]:
    """Stored probabilities beside the truth.

    Parameters
    ----------
    slices : case and z of each row
    values : (N, S, S) float16

    Raises
    ------
    DatasetError : a case or its mask is not there
    """
    if values.shape[1:] != (prepare.size, prepare.size):
        found = f"stored slices are {values.shape[1:]}"
        raise CovsegError(dataset.name, found, f"({prepare.size}, {prepare.size}), the size of the run's network")
    found_rows: dict[str, list[tuple[int, int]]] = {}
    for row, (id, z) in enumerate(slices):
        found_rows.setdefault(id, []).append((z, row))
    scans = []
    for id, pairs in found_rows.items():
        pairs.sort()
        zs, rows = [z for z, _ in pairs], np.array([row for _, row in pairs])
        masks = prepared(dataset, dataset.case(id), prepare, target)[zs]
        axes = case_grid(dataset, dataset.case(id), prepare).axes
        scans.append(_scan(dataset.case(id), tuple(zs), _rows(values, rows), masks, axes))
    return scans


def joined_scans(scans: Sequence[StoredScan]) -> list[StoredScan]:
    """One for each case, by its id, where several models have predicted parts of it, as in a split by slice."""
    parts: dict[str, list[StoredScan]] = {}
    for scan in scans:
        parts.setdefault(scan.case.id, []).append(scan)
    found = []
    for _, each in sorted(parts.items()):
        if len(each) == 1:
            found.append(each[0])
            continue
        order = np.argsort([z for scan in each for z in scan.zs])
        joined = dataclasses.replace(
            each[0],
            zs=tuple(sorted(z for scan in each for z in scan.zs)),
            probabilities=np.concatenate([scan.probabilities for scan in each])[order],
            truth=np.concatenate([scan.truth for scan in each])[order],
        )
        found.append(joined)
    return found


def _scan(
    case: Case, zs: tuple[int, ...], values: np.ndarray, masks: np.ndarray, axes: tuple[Axis, Axis]
) -> StoredScan:
    """From (n, S, S) probabilities and masks."""
    rows, columns = (_span(np.flatnonzero(axis.sources() >= 0)) for axis in axes)
    y, x = (axis.step * axis.padded / axis.size for axis in axes)
    return StoredScan(case, zs, values[:, rows, columns], masks[:, rows, columns] > 0, (rows, columns), (y, x))


def _rows(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Without a copy where they follow each other, as they do in what `evaluate` writes."""
    return values[_span(rows)] if (np.diff(rows) == 1).all() else values[rows]


def _span(indices: np.ndarray) -> slice:
    return slice(int(indices[0]), int(indices[-1]) + 1)
