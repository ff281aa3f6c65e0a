"""Connected parts of a mask: how many lesions there are, and which are too small to count.

Voxels belong together if they touch at a face, an edge or a corner (26 neighbours). Only the box around the mask
is numbered, one plane at a time, so a scan of 600 slices costs a few MB rather than four bytes a voxel.
"""

from __future__ import annotations

import cv2
import numpy as np

_AROUND = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]


class Components:
    """The connected parts of a mask, numbered from 1 in the order in which they are met from below.

    Parameters
    ----------
    mask : (Z, Y, X) uint8 0/1; must not change as long as `plane` is used

    >>> mask = np.zeros((2, 3, 4), np.uint8)
    >>> mask[0, 0, 0] = mask[1, 1, 1] = mask[0, 2, 3] = 1
    >>> Components(mask).sizes
    array([2, 1])
    """

    def __init__(self, mask: np.ndarray) -> None:
        self._shape = mask.shape
        hits = (np.flatnonzero(mask.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1)))
        self._box = tuple(slice(int(hit[0]), int(hit[-1]) + 1) if hit.size else slice(0, 0) for hit in hits)
        self._mask = mask[self._box]
        self._offsets = np.zeros(len(self._mask), np.int64)
        """Pieces on the planes below each plane of the box."""
        areas, pairs, pieces = [], [], 0
        below: np.ndarray | None = None
        for z in range(len(self._mask)):
            self._offsets[z] = pieces
            number, plane, stats, _ = cv2.connectedComponentsWithStats(self._pixels(z), connectivity=8)
            areas.append(stats[1:, cv2.CC_STAT_AREA])
            if number > 1 and below is not None:
                pairs.append(_touching(plane, below) + np.array([pieces, self._offsets[z - 1]]))
            below = plane if number > 1 else None
            pieces += number - 1
        self._part_of = joined(np.concatenate(pairs) if pairs else np.empty((0, 2), np.int64), pieces)
        sizes = np.bincount(self._part_of, np.concatenate(areas)) if pieces else np.empty(0)
        self.sizes = sizes.astype(np.int64)
        """(n,) int64: voxels of each part."""

    def plane(self, z: int | np.integer) -> np.ndarray:
        """(Y, X) int32: the number of the part that each voxel is in; 0 is background."""
        plane, (planes, rows, columns) = np.zeros(self._shape[1:], np.int32), self._box
        if planes.start <= z < planes.stop:
            z = z - planes.start
            number, pieces = cv2.connectedComponents(self._pixels(z), connectivity=8)
            start = self._offsets[z]
            table = np.zeros(number, np.int32)
            table[1:] = self._part_of[start : start + number - 1] + 1
            plane[rows, columns] = table[pieces]
        return plane

    def _pixels(self, z: int | np.integer) -> np.ndarray:
        return np.ascontiguousarray(self._mask[z], np.uint8)


def lesions(mask: np.ndarray) -> np.ndarray:
    """Voxels of each connected part of a mask (Z, Y, X) uint8 0/1, the largest first: (n,) int64."""
    return np.sort(Components(mask).sizes)[::-1]


def smallest_voxels(minimum_mm3: float, voxel_mm3: float) -> int:
    """Voxels that a part needs in order to have `minimum_mm3`.

    >>> smallest_voxels(10, 3.2), smallest_voxels(9.6, 3.2), smallest_voxels(0, 3.2)
    (4, 3, 1)
    """
    # not one more because of the last binary digit
    return max(1, int(np.ceil(minimum_mm3 / voxel_mm3 * (1 - 1e-9))))


def large_parts(mask: np.ndarray, least: int) -> tuple[np.ndarray, np.ndarray]:
    """A mask without the connected parts of less than `least` voxels, and the sizes of the others, the largest first.

    The mask itself if no part is smaller.
    """
    parts = Components(mask)
    kept = parts.sizes >= least
    sizes = np.sort(parts.sizes[kept])[::-1]
    return (mask if kept.all() else only_parts(mask, parts, kept)), sizes


def only_parts(mask: np.ndarray, parts: Components, kept: np.ndarray) -> np.ndarray:
    """The parts of a mask that are kept, (n,) bool, as a new mask."""
    keep = np.concatenate([[False], kept])
    chosen = np.zeros_like(mask)
    for z, plane in enumerate(mask):
        if plane.any():
            chosen[z] = keep[parts.plane(z)]
    return chosen


def _touching(plane: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Pairs (n, 2) int64 of pieces, from 0, on a plane and on the one below it that touch; none twice."""
    there, under = plane > 0, below > 0
    both = there & under
    keys = plane[both].astype(np.int64) << 32 | below[both]
    found = [keys[np.diff(keys, prepend=-1) != 0]]  # along a row the same pair follows itself
    # with a piece right below a voxel, no other can be near it, since pieces of one plane do not touch
    rows, columns = np.nonzero(there & ~under)
    here, padded = plane[rows, columns].astype(np.int64) << 32, np.pad(below, 1)
    for dy, dx in _AROUND:
        near = padded[rows + 1 + dy, columns + 1 + dx]
        found.append((here | near)[near > 0])
    keys = np.unique(np.concatenate(found))
    return np.stack([keys >> 32, keys & 0xFFFFFFFF], axis=1) - 1


def joined(pairs: np.ndarray, pieces: int) -> np.ndarray:
    """(pieces,) int: which connected part each piece is in, from 0, given the pairs (n, 2) that touch."""
    if not pieces:
        return np.empty(0, np.int32)
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(pieces, pieces))
    return np.asarray(connected_components(graph, directed=False)[1], np.int32)
