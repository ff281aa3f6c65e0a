"""The inside of the chest, from a lung mask: what lies beyond cannot be an infection of the lungs.

In each slice it is the convex hull of both lungs with a rim, so that a consolidated lobe that the lung model leaves out
still lies inside, as do heart and vessels; the table, arms, clothes and most of the chest wall do not.
"""

from __future__ import annotations

import cv2
import numpy as np

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
    there = lungs.any(axis=(1, 2))
    if not there.any():
        return mask, 0
    reach, rim = _sizes(mask.shape, spacing)
    kept, out = mask, 0
    for z in np.flatnonzero(mask.any(axis=(1, 2))):
        hull = _hull(lungs[max(0, z - reach) : z + reach + 1])
        if not np.any(mask[z] > hull):  # as most: the rim, which takes the longest, changes nothing
            continue
        inside = _widened(hull, rim)
        beyond = int(np.count_nonzero(mask[z] > inside))
        if beyond:
            if kept is mask:
                kept = mask.copy()
            kept[z] &= inside
            out += beyond
    return kept, out


def _sizes(shape: tuple[int, ...], spacing: tuple[float, float, float] | None) -> tuple[int, tuple[int, int]]:
    """Slices up and down, and the rim's radii (x, y) [voxels]."""
    if spacing is None:
        rim = max(1, round(RIM * shape[2]))
        return REACH, (rim, rim)
    z, y, x = spacing
    return int(REACH_MM / z), (max(1, round(RIM_MM / x)), max(1, round(RIM_MM / y)))


def _hull(lungs: np.ndarray) -> np.ndarray:
    """(Y, X) uint8: hull of the lungs in some slices; empty where they show none."""
    there = np.asarray((lungs > 0).any(axis=0))
    hull = np.zeros(there.shape, np.uint8)
    rows = np.flatnonzero(there.any(axis=1))
    if not rows.size:
        return hull
    # a hull is that of the ends of all rows; with every pixel it would take most of the time of a prediction
    first = there[rows].argmax(axis=1)
    last = there.shape[1] - 1 - there[rows, ::-1].argmax(axis=1)
    ends = np.stack([np.concatenate([first, last]), np.concatenate([rows, rows])], axis=1).astype(np.int32)
    cv2.fillConvexPoly(hull, cv2.convexHull(ends), 1)
    return hull


def _widened(hull: np.ndarray, rim: tuple[int, int]) -> np.ndarray:
    element = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * rim[0] + 1, 2 * rim[1] + 1))
    return np.asarray(cv2.dilate(hull, element), np.uint8)
