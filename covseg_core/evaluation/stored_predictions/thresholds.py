"""What if the threshold were another one, and some parts were left out: a model's measures in milliseconds.

Probabilities are kept as the number of levels that they reach, one byte a pixel: at every step of the sliders the
mask is exactly that of the stored probabilities, and between steps there is nothing to ask for. The first question at a
threshold finds the connected parts of its mask, with their sizes, peaks and true positives; another smallest size or
peak after that is a sum over parts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from covseg_core.data.slices.boxes import bounding_box
from covseg_core.errors import SettingError
from covseg_core.evaluation.measures import Counts, EmptyPolicy, overlap
from covseg_core.evaluation.scores import ScanScore, Scores, SliceScore, Values, defined, summarise
from covseg_core.evaluation.stored_predictions.scans import StoredScan
from covseg_core.prediction.masks.components import joined, smallest_voxels
from covseg_core.runs.operating_point import PEAKS, Unit, words

STEPS = tuple(round(0.05 * number, 2) for number in range(1, 20))
"""Thresholds that can be asked for: 0.05, 0.1, ..., 0.95."""
_LEVELS = tuple(sorted({*STEPS, *PEAKS} - {0.0}))
"""What probabilities are compared with."""
_AROUND = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]


class WhatIf:
    """One model's answers to part of a data set, at any threshold of `STEPS`, smallest size and peak of `PEAKS`.

    Threads may share it.

    Parameters
    ----------
    scans : what it has predicted, as `scans.scans_of_test` reads it
    """

    def __init__(self, scans: Sequence[StoredScan]) -> None:
        self._scans = list(scans)
        self._layouts = [_Layout(scan) for scan in scans]
        self._truth = [np.count_nonzero(scan.truth, axis=(1, 2)) for scan in scans]
        self._parts: dict[tuple[int, int], _Pieces] = {}
        self.slices, self.scans = sum(len(scan.zs) for scan in scans), len(self._scans)
        self.has_truth = any(truth.any() for truth in self._truth)
        self.unit: Unit = "mm3" if all(scan.case.spacing_known for scan in scans) else "voxels"
        """Of smallest sizes; voxels are those of the scan, all in one plane or not."""
        self._voxels = [scan.mm3 if self.unit == "mm3" else scan.pixels for scan in scans]

    def at(self, threshold: float, minimum: float = 0.0, peak: float = 0.0, policy: EmptyPolicy = "nan") -> Scores:
        """The measures of overlap and volume, of slices, scans and all voxels; surface measures are None.

        Parameters
        ----------
        threshold : of `STEPS`; a pixel is in the mask if its probability is at least that
        minimum : connected parts of the mask that are smaller are left out, in `unit`
        peak : of `PEAKS`; connected parts whose probability nowhere reaches it are left out
        policy : for measures of two empty masks

        Raises
        ------
        SettingError : a threshold or a peak that is none of these, a smallest size below 0
        """
        scans, slices = [], []
        counted = self.counts(threshold, minimum, peak)
        for scan, voxel, truth, (hits, marked) in zip(self._scans, self._voxels, self._truth, counted, strict=True):
            case, pixels = scan.case, scan.truth[0].size
            volume = voxel / 1000 if self.unit == "mm3" else voxel
            own = []
            for z, true, tp, predicted in zip(scan.zs, truth.tolist(), hits.tolist(), marked.tolist(), strict=True):
                counts = Counts(tp, predicted - tp, true - tp, pixels - predicted - true + tp)
                own.append(SliceScore(case.id, z, case.patient_of(z), counts, _values(counts, volume, policy)))
            counts = sum((score.counts for score in own), Counts())
            values = _values(counts, volume, policy)
            false = [value for score in own if (value := score.values["false_positive_volume"]) is not None]
            values["false_positive_volume"] = sum(false) if false else None
            scans.append(ScanScore(case.id, case.patient, len(own), False, counts, values))
            slices += own
        return summarise("model", words(threshold, minimum, peak, self.unit), scans, slices, policy)

    def scan_dice(self, threshold: float, minimum: float = 0.0, peak: float = 0.0) -> list[float]:
        """Dice of each scan, in order; NaN where truth and mask are both empty."""
        found = []
        for truth, (hits, marked) in zip(self._truth, self.counts(threshold, minimum, peak), strict=True):
            tp = int(hits.sum())
            found.append(overlap(Counts(tp, int(marked.sum()) - tp, int(truth.sum()) - tp))["dice"])
        return found

    def counts(self, threshold: float, minimum: float = 0.0, peak: float = 0.0) -> list[tuple[np.ndarray, np.ndarray]]:
        """True positives and predicted voxels of each slice, (n,) int64 each, for each scan; raises as `at`."""
        level = _level(threshold)
        least_level = _level(peak, "peak", PEAKS) + 1 if peak else 0
        if not (math.isfinite(minimum) and minimum >= 0):
            raise SettingError("smallest size", f"{minimum:g} {self.unit}", "0 or more")
        found = []
        for number, scan in enumerate(self._scans):
            pieces = self._pieces(number, level)
            kept = pieces.part_voxels >= smallest_voxels(minimum, self._voxels[number])
            kept &= pieces.part_level >= least_level
            on, length = pieces.slice[kept], len(scan.zs)
            hits = np.bincount(on, pieces.hits[kept], length).astype(np.int64)
            found.append((hits, np.bincount(on, pieces.voxels[kept], length).astype(np.int64)))
        return found

    def prepare(self) -> None:
        """Find the parts at all thresholds, from the middle outwards, so that none has to be waited for."""
        for threshold in sorted(STEPS, key=lambda threshold: abs(threshold - 0.5)):
            for number in range(len(self._scans)):
                self._pieces(number, _level(threshold))

    def pieces(self, threshold: float) -> int:
        """Connected pieces of all planes: what the time of a question grows with."""
        return sum(len(self._pieces(number, _level(threshold)).voxels) for number in range(len(self._scans)))

    def _pieces(self, number: int, level: int) -> _Pieces:
        """Of a scan at a threshold; found once."""
        key = number, level
        if key not in self._parts:
            self._parts[key] = self._layouts[number].pieces(level)
        return self._parts[key]


def at(
    models: Sequence[WhatIf], threshold: float, minimum: float = 0.0, peak: float = 0.0, policy: EmptyPolicy = "nan"
) -> list[Scores]:
    """Several models at one setting, each in a thread of its own."""
    with ThreadPoolExecutor(len(models) or 1) as pool:
        return list(pool.map(lambda model: model.at(threshold, minimum, peak, policy), models))


@dataclass(frozen=True, eq=False)
class _Pieces:
    """Connected pieces of the planes of a mask, (p,) each."""

    slice: np.ndarray
    """On which of the scan's slices."""
    voxels: np.ndarray
    hits: np.ndarray
    """Voxels that are true."""
    part_voxels: np.ndarray
    """Voxels of the part, through all slices, that the piece belongs to."""
    part_level: np.ndarray
    """How many of `_LEVELS` the highest probability of that part reaches."""


class _Layout:
    """A scan's probabilities as levels, within the box of what reaches any, as planes one below the other.

    An empty row and column end each plane, an empty plane lies below the first and between slices that are no
    neighbours: a step to any of the 26 neighbours never ends on a voxel that is none.
    """

    def __init__(self, scan: StoredScan) -> None:
        levels = _REACHED[scan.probabilities.view(np.uint16)]
        self.empty = not levels.any()
        if self.empty:
            return
        _, rows, columns = bounding_box(levels > 0)
        levels, truth, places = levels[:, rows, columns], scan.truth[:, rows, columns], scan.places + 1
        height, width = levels.shape[1] + 1, levels.shape[2] + 1
        self._levels = np.zeros((places[-1] + 1, height, width), np.uint8)
        self._levels[places, :-1, :-1] = levels
        stacked = np.zeros_like(self._levels, bool)
        stacked[places, :-1, :-1] = truth
        self._true = np.flatnonzero(stacked)
        self._any = np.flatnonzero(self._levels > 0)
        self._reached = self._levels.ravel()[self._any]
        self._slice = np.zeros(len(self._levels), np.int64)
        """Of each plane, which slice it is."""
        self._slice[places] = np.arange(len(places))

    def pieces(self, level: int) -> _Pieces:
        """The connected pieces at a threshold, and which part of the whole each belongs to."""
        import cv2

        if self.empty:
            return _Pieces(*(np.empty(0, np.int64) for _ in range(5)))
        _, height, width = self._levels.shape
        mask = (self._levels > level).view(np.uint8)
        number, tall = cv2.connectedComponents(mask.reshape(-1, width), connectivity=8)
        above = self._reached > level
        labels, here = tall.ravel(), self._any[above]
        own = labels[here]
        voxels = np.bincount(own, minlength=number)[1:]
        hits = np.bincount(labels[self._true], minlength=number)[1:]
        first = np.zeros(number, np.int64)
        first[own] = here
        part = joined(_touching(mask, labels, here, own), number - 1)
        sizes = np.bincount(part, voxels).astype(np.int64) if number > 1 else voxels
        levels = np.zeros(len(sizes), np.uint8)
        np.maximum.at(levels, part[own - 1], self._reached[above])
        return _Pieces(self._slice[first[1:] // (height * width)], voxels, hits, sizes[part], levels[part])


def _touching(mask: np.ndarray, labels: np.ndarray, here: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Pairs (n, 2) of pieces, from 0, on neighbouring planes that touch at a face, an edge or a corner.

    Parameters
    ----------
    mask : (planes, height, width) uint8 0/1, laid out as `_Layout` does it
    labels : (mask.size,) int32: the pieces of single planes, from 1
    here, own : where the mask is, and the piece there
    """
    import cv2

    _, height, width = mask.shape
    below = here - height * width
    under = labels[below]
    found = [_pairs(own, under)]
    # with a piece right below a voxel, no other can be near it, since pieces of one plane do not touch
    around = cv2.dilate(mask.reshape(-1, width), np.ones((3, 3), np.uint8)).ravel()
    rim = (under == 0) & (around[below] > 0)
    below, own = below[rim], own[rim]
    found += [_pairs(own, labels[below + dy * width + dx]) for dy, dx in _AROUND]
    return np.concatenate(found) - 1


def _pairs(pieces: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Pairs (n, 2) of a piece and another, where there is one; of equal ones in a row the first."""
    new = others > 0
    new[1:] &= (others[1:] != others[:-1]) | (pieces[1:] != pieces[:-1])
    return np.stack([pieces[new], others[new]], axis=1)


def _values(counts: Counts, volume: float, policy: EmptyPolicy) -> Values:
    """Of a slice or scan whose voxels have this volume."""
    values = overlap(counts, policy)
    values["volume_difference"] = volume * (counts.fp - counts.fn)
    values["false_positive_volume"] = math.nan if counts.truth else volume * counts.fp
    return defined(values)


def _level(value: float, what: str = "threshold", allowed: Sequence[float] = STEPS) -> int:
    """Which of `_LEVELS` it is."""
    for each in allowed:
        if math.isclose(each, value, abs_tol=1e-6):
            return _LEVELS.index(each)
    raise SettingError(what, f"{value:g}", f"one of {allowed[0]:g}, {allowed[1]:g}, ..., {allowed[-1]:g}")


def _level_table() -> np.ndarray:
    """(65536,) uint8: for every float16, by its bits, how many of `_LEVELS` it reaches."""
    values = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16).view(np.float16).astype(np.float32)
    return np.searchsorted(np.array(_LEVELS, np.float32), values, side="right").astype(np.uint8)


_REACHED = _level_table()
