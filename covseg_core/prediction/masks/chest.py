"""The inside of the chest, from a lung mask: what lies beyond cannot be an infection of the lungs.

In each slice it is the convex hull of both lungs with a rim, so that a consolidated lobe that the lung model leaves out
still lies inside, as do heart and vessels; the table, arms, clothes and most of the chest wall do not.
"""

from __future__ import annotations

import cv2
import numpy as np

from covseg_core.data.slices.boxes import bounding_box

RIM_MM, REACH_MM = 10.0, 20.0
"""Beyond the hull within a slice; and how far up and down lungs count, where a slice shows none or only a part."""
RIM, REACH = 0.03, 2
"""The same where the spacing is unknown: a share of the slice's width, and slices."""


def leave_out_beyond(
    mask: np.ndarray, lungs: np.ndarray, spacing: tuple[float, float, float] | None
) -> tuple[np.ndarray, int]:
    """A mask without what lies beyond the chest.

    Parameters
    ----------
    mask : (Z, Y, X) uint8 0/1
    lungs : (Z, Y, X) uint8, above 0 in the lungs
    spacing : (z, y, x) [mm]; None where it is not known

    Returns
    -------
    mask : a new array, or the given one if nothing is left out: nothing lies beyond, or there are no lungs
    voxels : how many were left out
    """
    there = np.array([plane.any() for plane in lungs])
    if not there.any():
        return mask, 0
    reach, rim = _sizes(mask.shape, spacing)
    ends = _RowEnds(lungs)
    kept, out = mask, 0
    for z, plane in enumerate(mask):
        if not plane.any():
            continue
        hull = ends.hull(max(0, z - reach), z + reach + 1)
        outside = plane > hull
        if not outside.any():  # as most: the rim, which takes the longest, changes nothing
            continue
        # the rim is only wanted around what lies outside
        part, around = bounding_box(outside), bounding_box(outside, rim[::-1])
        beyond = outside[part] & (_widened(hull[around], rim)[_within(part, around)] == 0)
        count = int(np.count_nonzero(beyond))
        if count:
            if kept is mask:
                kept = mask.copy()
            kept[z][part][beyond] = 0
            out += count
    return kept, out


def _sizes(shape: tuple[int, ...], spacing: tuple[float, float, float] | None) -> tuple[int, tuple[int, int]]:
    """Slices up and down, and the rim's radii (x, y) [voxels]."""
    if spacing is None:
        rim = max(1, round(RIM * shape[2]))
        return REACH, (rim, rim)
    z, y, x = spacing
    return int(REACH_MM / z), (max(1, round(RIM_MM / x)), max(1, round(RIM_MM / y)))


class _RowEnds:
    """First and last column of the lungs in each row, of planes (Z, Y, X) that are asked for.

    A hull is that of the ends of all rows, and the ends of several planes are the outermost of each plane's: no voxel
    is looked at twice.
    """

    def __init__(self, lungs: np.ndarray) -> None:
        self._lungs = lungs
        self._known: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def hull(self, start: int, stop: int) -> np.ndarray:
        """(Y, X) uint8: hull of the lungs in some slices; empty where they show none."""
        planes = [self._plane(z) for z in range(start, min(stop, len(self._lungs)))]
        first = np.min([begin for begin, _ in planes], axis=0)
        last = np.max([end for _, end in planes], axis=0)
        hull = np.zeros(self._lungs.shape[1:], np.uint8)
        rows = np.flatnonzero(first <= last)
        if rows.size:
            columns = np.concatenate([first[rows], last[rows]])
            ends = np.stack([columns, np.concatenate([rows, rows])], axis=1).astype(np.int32)
            cv2.fillConvexPoly(hull, cv2.convexHull(ends), 1)
        return hull

    def _plane(self, z: int) -> tuple[np.ndarray, np.ndarray]:
        """Both (Y,) int64; of a row without lung, the end comes before the beginning."""
        if z not in self._known:
            there = self._lungs[z] > 0
            width, rows = there.shape[1], there.any(axis=1)
            first = np.where(rows, there.argmax(axis=1), width)
            self._known[z] = first, np.where(rows, width - 1 - there[:, ::-1].argmax(axis=1), -1)
        return self._known[z]


def _within(part: tuple[slice, ...], around: tuple[slice, ...]) -> tuple[slice, ...]:
    """A box as it lies in the box around it."""
    return tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(part, around, strict=True))


def _widened(hull: np.ndarray, rim: tuple[int, int]) -> np.ndarray:
    element = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * rim[0] + 1, 2 * rim[1] + 1))
    return np.asarray(cv2.dilate(hull, element), np.uint8)
