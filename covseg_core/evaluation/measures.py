"""How well a predicted mask agrees with the truth: the NumPy reference of `docs/reference/metrics.md`.

Everything about overlap follows from four counts, so that slices can be added up to scans and scans to a data set.
Surface measures need the masks themselves and the voxel spacing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from covseg_core.data.slices.boxes import bounding_box
from covseg_core.errors import SettingError

EmptyPolicy = Literal["nan", "one"]
"""What a measure is worth where truth and prediction are both empty: undefined (left out of means), or perfect."""

TOLERANCE = 3.0
"""Of the normalised surface distance, in mm: about the slice thickness within which radiologists disagree."""


@dataclass(frozen=True)
class Measure:
    """How to read a measure in a table."""

    label: str
    kind: Literal["share", "distance", "volume"]
    """`share`: without unit; `distance`: mm, or px where spacing is unknown; `volume`: mL, or voxels."""
    better: Literal["higher", "lower", "zero"]


MEASURES: dict[str, Measure] = {
    "accuracy": Measure("Pixel accuracy", "share", "higher"),
    "iou": Measure("IoU (foreground)", "share", "higher"),
    "dice": Measure("Dice (foreground)", "share", "higher"),
    "mean_iou": Measure("Mean IoU (two classes)", "share", "higher"),
    "sensitivity": Measure("Sensitivity", "share", "higher"),
    "specificity": Measure("Specificity", "share", "higher"),
    "precision": Measure("Precision", "share", "higher"),
    "hd95": Measure("HD95", "distance", "lower"),
    "nsd": Measure("NSD (tolerance 3)", "share", "higher"),
    "volume_difference": Measure("Volume difference", "volume", "zero"),
    "false_positive_volume": Measure("False positives on empty slices", "volume", "lower"),
}
"""Every measure of an evaluation, in the order of its tables; each has a heading in docs/reference/metrics.md."""


@dataclass(frozen=True)
class Counts:
    """Pixels or voxels of a confusion matrix; add them to pool slices or scans.

    >>> Counts(1, 1, 0, 2) + Counts(0, 0, 1, 3)
    Counts(tp=1, fp=1, fn=1, tn=5)
    """

    tp: int = 0
    fp: int = 0
    fn: int = 0
    tn: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.tn + other.tn)

    @property
    def truth(self) -> int:
        """Voxels of the true mask."""
        return self.tp + self.fn

    @property
    def predicted(self) -> int:
        """Voxels of the predicted mask."""
        return self.tp + self.fp


def count(truth: np.ndarray, prediction: np.ndarray) -> Counts:
    """Compare two masks of one shape, voxel by voxel; anything but zero is foreground.

    >>> count(np.array([[1, 1], [0, 0]]), np.array([[1, 0], [1, 0]]))
    Counts(tp=1, fp=1, fn=1, tn=1)
    """
    true, predicted = _masks(truth, prediction)
    tp = int(np.count_nonzero(true & predicted))
    fn, fp = int(np.count_nonzero(true)) - tp, int(np.count_nonzero(predicted)) - tp
    return Counts(tp, fp, fn, true.size - tp - fn - fp)


def overlap(counts: Counts, policy: EmptyPolicy = "nan") -> dict[str, float]:
    """The measures that follow from counts: accuracy, iou, dice, mean_iou, sensitivity, specificity, precision.

    Parameters
    ----------
    counts : of a slice, a scan, or pooled
    policy : the value of 0/0: `nan`, or 1 for `one`. Precision of an empty prediction of a non-empty truth is 0

    Returns
    -------
    measures : name -> share, 0..1 or NaN

    Source: Maier-Hein et al., "Metrics reloaded", Nature Methods 2024.

    >>> overlap(Counts(tp=1, fp=1, fn=0, tn=2))["dice"]
    0.6666666666666666
    """
    tp, fp, fn, tn = counts.tp, counts.fp, counts.fn, counts.tn
    empty = _policy_value(policy)

    def share(part: int, whole: int) -> float:
        return part / whole if whole else empty

    iou = share(tp, tp + fp + fn)
    return {
        "accuracy": share(tp + tn, tp + fp + fn + tn),
        "iou": iou,
        "dice": share(2 * tp, 2 * tp + fp + fn),
        "mean_iou": (iou + share(tn, tn + fp + fn)) / 2,
        "sensitivity": share(tp, tp + fn),
        "specificity": share(tn, tn + fp),
        "precision": 0.0 if fn and not tp + fp else share(tp, tp + fp),
    }


def surface_measures(
    truth: np.ndarray,
    prediction: np.ndarray,
    spacing: Sequence[float],
    tolerance: float = TOLERANCE,
    policy: EmptyPolicy = "nan",
) -> dict[str, float]:
    """`hd95` and `nsd` of two masks.

    Parameters
    ----------
    truth, prediction : (Z, Y, X) or (Y, X), foreground is not zero
    spacing : (z, y, x) or (y, x) [mm]
    tolerance : distance up to which a surface voxel counts as right [mm]
    policy : for two empty masks: NaN, or (`one`) hd95 0 and nsd 1. One empty mask: hd95 the grid's diagonal, nsd 0

    Returns
    -------
    measures : hd95 [mm], 0 or more; nsd 0..1

    Source: Nikolov et al., "Clinically applicable segmentation of head and neck anatomy", 2021 (NSD), here counting
    surface voxels instead of areas; MONAI's and Metrics reloaded's HD95, the larger of the two directed percentiles.
    """
    true, predicted = _masks(truth, prediction)
    if not true.any() and not predicted.any():
        empty = _policy_value(policy)
        return {"hd95": 1 - empty, "nsd": empty}
    if not true.any() or not predicted.any():
        return {"hd95": diagonal(true.shape, spacing), "nsd": 0.0}
    to_predicted, to_true = surface_distances(true, predicted, spacing)
    limit = tolerance * (1 + 1e-9)  # 0.1 mm thirty times is a little more than 3 mm
    near = np.count_nonzero(to_predicted <= limit) + np.count_nonzero(to_true <= limit)
    return {
        "hd95": float(max(np.percentile(to_predicted, 95), np.percentile(to_true, 95))),
        "nsd": float(near / (len(to_predicted) + len(to_true))),
    }


def surface_distances(
    truth: np.ndarray, prediction: np.ndarray, spacing: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Distance of every surface voxel of one mask to the nearest surface voxel of the other, both ways.

    A surface voxel is a foreground voxel with a background neighbour across one of its faces; beyond the edge of the
    grid all is background. A k-d tree of the surface is as exact as a distance transform of the volume, and several
    times faster.

    Parameters
    ----------
    truth, prediction : (Z, Y, X) or (Y, X), neither empty
    spacing : as many numbers as there are axes [mm]

    Returns
    -------
    truth_to_prediction, prediction_to_truth : (n,), (m,) float64 [mm]
    """
    true, predicted = (_surface_points(mask, spacing) for mask in _masks(truth, prediction))
    return _nearest(true, predicted), _nearest(predicted, true)


def _nearest(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Distance of each point to the nearest of the others. An unbalanced tree: surfaces are regular lattices, on which
    a balanced one takes up to ten times as long."""
    from scipy.spatial import cKDTree

    workers = -1 if len(points) > 10_000 else 1  # threads take longer to start than a slice takes
    distances, _ = cKDTree(others, balanced_tree=False, compact_nodes=False).query(points, workers=workers)
    return distances


def diagonal(shape: Sequence[int], spacing: Sequence[float]) -> float:
    """From corner to corner of the grid, voxels included: more than any two of its voxels can be apart [mm]."""
    return float(np.linalg.norm(np.multiply(shape, spacing)))


def surface(mask: np.ndarray) -> np.ndarray:
    """The foreground voxels of a bool mask that have a background neighbour across a face, or lie at the grid's edge.

    >>> surface(np.ones((3, 3), bool)).astype(int)
    array([[1, 1, 1],
           [1, 0, 1],
           [1, 1, 1]])
    """
    inside = mask.copy()
    for axis in range(mask.ndim):
        along, of = np.moveaxis(inside, axis, 0), np.moveaxis(mask, axis, 0)
        along[1:] &= of[:-1]
        along[:-1] &= of[1:]
        along[0] = along[-1] = False
    return mask & ~inside


def _surface_points(mask: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """(n, axes) float64 [mm]; only the mask's bounding box is searched."""
    box = bounding_box(mask)
    start = [side.start for side in box]
    return (np.argwhere(surface(mask[box])) + start) * np.asarray(spacing, float)


def _masks(truth: np.ndarray, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if truth.shape != prediction.shape:
        raise ValueError(f"masks of different shapes {truth.shape} and {prediction.shape}")
    return truth.astype(bool, copy=False), prediction.astype(bool, copy=False)


def _policy_value(policy: EmptyPolicy) -> float:
    if policy not in ("nan", "one"):
        raise SettingError("policy", repr(policy), "nan or one")
    return 1.0 if policy == "one" else float("nan")
