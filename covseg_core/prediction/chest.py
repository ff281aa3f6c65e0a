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
        inside = _chest(lungs[max(0, z - reach) : z + reach + 1], rim)
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


def _chest(lungs: np.ndarray, rim: tuple[int, int]) -> np.ndarray:
    """(Y, X) uint8: hull of the lungs in some slices, with its rim; empty where they show none."""
    there = np.asarray((lungs > 0).any(axis=0), np.uint8)
    chest = np.zeros_like(there)
    if not there.any():
        return chest
    points = cv2.findNonZero(there)
    cv2.fillConvexPoly(chest, cv2.convexHull(points), 1)
    element = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * rim[0] + 1, 2 * rim[1] + 1))
    return np.asarray(cv2.dilate(chest, element), np.uint8)
