"""Connected parts of a mask: how many lesions there are, and which are too small to count.

Voxels belong together if they touch at a face, an edge or a corner (26 neighbours). A mask is looked at as runs: voxels
side by side in a row. There are a hundred times fewer of them, and two runs touch if their ends overlap, so that all of
a few planes are compared at once. Nothing is numbered voxel by voxel: a scan of 600 slices costs a few MB.
"""

from __future__ import annotations

import numpy as np

_PLANES = 16
"""Planes whose runs are compared at a time."""


class Components:
    """The connected parts of a mask, numbered from 1 in the order in which they are met from below.

    Parameters
    ----------
    mask : (Z, Y, X) uint8 0/1

    >>> mask = np.zeros((2, 3, 4), np.uint8)
    >>> mask[0, 0, 0] = mask[1, 1, 1] = mask[0, 2, 3] = 1
    >>> Components(mask).sizes
    array([2, 1])
    """

    def __init__(self, mask: np.ndarray) -> None:
        self._shape = mask.shape
        self._box = _box(mask)
        box = mask[self._box]
        self._sides = (box.shape[1] + 1, box.shape[2] + 1)
        """Rows and columns of a plane of the box, with an empty one behind that keeps runs of two rows apart."""
        area = self._sides[0] * self._sides[1]
        below = np.empty((2, 0), np.int32)
        below_pieces = np.empty(0, np.int64)
        runs, pieces, firsts, pairs, total, count = [], [], [np.zeros(1, np.int64)], [], 0, 0
        for start in range(0, len(box), _PLANES):
            found = _runs(box[start : start + _PLANES], self._sides)
            planes = min(_PLANES, len(box) - start)
            # those of the plane below come first, so that all others lie one plane further up
            piece, number = _pieces(np.concatenate([below, found + area], axis=1), self._sides)
            old, new = piece[: below.shape[1]] + total, piece[below.shape[1] :] + total
            pairs.append(np.stack([below_pieces, old], axis=1))
            ends = np.searchsorted(found[0], area * np.arange(1, planes + 1))
            firsts.append(count + ends)
            count += found.shape[1]
            last = slice(int(ends[-2]) if planes > 1 else 0, None)
            below, below_pieces = found[:, last] - np.int32((planes - 1) * area), new[last]
            runs.append(found - np.repeat(area * np.arange(planes), np.diff(ends, prepend=0)).astype(np.int32))
            pieces.append(new.astype(np.int32))
            total += number
        self._first = np.concatenate(firsts)
        """(planes of the box + 1,) int64: the first run of each."""
        self._runs = np.concatenate([np.empty((2, 0), np.int32), *runs], axis=1)
        """(2, n) int32: where runs begin and end, counted along the rows of their plane, with the empty column."""
        part_of = joined(np.concatenate([np.empty((0, 2), np.int64), *pairs]), total)
        self._part = part_of[np.concatenate([np.empty(0, np.int32), *pieces])]
        """(n,) int32: the part of each run, from 0."""
        lengths = self._runs[1] - self._runs[0]
        self.sizes = np.bincount(self._part, lengths, int(self._part.max(initial=-1)) + 1).astype(np.int64)
        """(n,) int64: voxels of each part."""

    def plane(self, z: int | np.integer) -> np.ndarray:
        """(Y, X) int32: the number of the part that each voxel is in; 0 is background."""
        plane = np.zeros(self._shape[1:], np.int32)
        self._paint(plane, z, np.arange(1, len(self.sizes) + 1, dtype=np.int32))
        return plane

    def painted(self, values: np.ndarray) -> np.ndarray:
        """(Z, Y, X) uint8: each part filled with its value, (n,) uint8; 0 elsewhere."""
        painted = np.zeros(self._shape, np.uint8)
        planes = self._box[0]
        for z in range(planes.start, planes.stop):
            self._paint(painted[z], z, values)
        return painted

    def meeting(self, other: np.ndarray) -> np.ndarray:
        """(n,) bool: which parts have a voxel in another mask, (Z, Y, X) uint8 0/1."""
        planes, rows, columns = self._box
        met = np.zeros(len(self.sizes), bool)
        for number, plane in enumerate(other[planes, rows, columns]):
            first, last = self._first[number : number + 2]
            if first == last or not plane.any():
                continue
            padded = np.zeros(self._sides, bool)
            padded[:-1, :-1] = plane
            before = np.concatenate([[0], np.cumsum(padded.ravel())])
            begin, end = self._runs[:, first:last]
            met[self._part[first:last][before[end] > before[begin]]] = True
        return met

    def columns(self) -> np.ndarray:
        """(n, X) int64: voxels of each part in each column."""
        width, shape = self._sides[1], (len(self.sizes), self._sides[1])
        begin, end = (np.bincount(self._part * width + runs % width, minlength=shape[0] * width) for runs in self._runs)
        columns = np.zeros((len(self.sizes), self._shape[2]), np.int64)
        columns[:, self._box[2]] = np.cumsum((begin - end).reshape(shape), axis=1)[:, :-1]
        return columns

    def _paint(self, plane: np.ndarray, z: int | np.integer, values: np.ndarray) -> None:
        """Fill the parts in a plane (Y, X) of zeros with their values."""
        planes, rows, columns = self._box
        if not planes.start <= z < planes.stop:
            return
        first, last = self._first[z - planes.start : z - planes.start + 2]
        if first == last:
            return
        area = self._sides[0] * self._sides[1]
        ends = np.concatenate([[0], self._runs[:, first:last].T.ravel(), [area]])
        filled = np.zeros(len(ends) - 1, values.dtype)
        filled[1::2] = values[self._part[first:last]]
        plane[rows, columns] = np.repeat(filled, np.diff(ends)).reshape(self._sides)[:-1, :-1]


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


def parts_to_keep(mask: np.ndarray, least: int, sure: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """A mask without some of its connected parts, and the sizes of the others, the largest first.

    Parameters
    ----------
    mask : (Z, Y, X) uint8 0/1
    least : voxels that a part needs
    sure : (Z, Y, X) uint8 0/1; a part needs a voxel in it, too, as in a threshold with hysteresis. None: it does not

    Returns
    -------
    (Z, Y, X) uint8, (n,) int64 : the mask itself if all parts are kept
    """
    parts = Components(mask)
    kept = parts.sizes >= least
    if sure is not None:
        kept &= parts.meeting(sure)
    sizes = np.sort(parts.sizes[kept])[::-1]
    return (mask if kept.all() else only_parts(parts, kept)), sizes


def only_parts(parts: Components, kept: np.ndarray) -> np.ndarray:
    """The parts of a mask that are kept, (n,) bool, as a new mask."""
    return parts.painted(kept.astype(np.uint8))


def joined(pairs: np.ndarray, pieces: int) -> np.ndarray:
    """(pieces,) int32: which connected part each piece is in, from 0, given the pairs (n, 2) that touch.

    Each part is known by its lowest piece: of two parts that touch, the higher one is given the name of the lower,
    until no two names touch. SciPy does the same, but takes a quarter of a second to import.
    """
    name = np.arange(pieces)
    one, other = pairs.T
    while True:
        one, other = name[one], name[other]
        apart = one != other
        if not apart.any():
            break
        one, other = one[apart], other[apart]
        np.minimum.at(name, np.maximum(one, other), np.minimum(one, other))
        while not np.array_equal(further := name[name], name):
            name = further
    return (np.cumsum(name == np.arange(pieces)) - 1)[name].astype(np.int32)


def _box(mask: np.ndarray) -> tuple[slice, slice, slice]:
    """Where a mask has voxels."""
    planes = _ends(np.array([plane.any() for plane in mask.view(bool)], bool))
    flat = np.zeros(mask.shape[1:], bool)
    for plane in mask[planes].view(bool):
        flat |= plane
    return planes, _ends(np.asarray(flat.any(axis=1))), _ends(np.asarray(flat.any(axis=0)))


def _ends(there: np.ndarray) -> slice:
    hits = np.flatnonzero(there)
    return slice(int(hits[0]), int(hits[-1]) + 1) if hits.size else slice(0, 0)


def _runs(planes: np.ndarray, sides: tuple[int, int]) -> np.ndarray:
    """(2, n) int32: where the runs of some planes begin and end, counted along the rows of all, of these sides."""
    padded = np.zeros((len(planes), *sides), np.uint8)
    padded[:, :-1, :-1] = planes
    flat = padded.ravel()
    ends = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    if flat[0]:
        ends = np.concatenate([[0], ends])
    return ends.astype(np.int32).reshape(-1, 2).T


def _pieces(runs: np.ndarray, sides: tuple[int, int]) -> tuple[np.ndarray, int]:
    """(n,) int64: which piece each run is in, from 0, by these planes alone; and how many pieces there are."""
    rows, width = sides
    begin, end = runs
    numbers, pairs = np.arange(len(begin)), []
    # the row before on its own plane, and three rows of the plane below
    for back in (width, width * (rows - 1), width * rows, width * (rows + 1)):
        first = np.searchsorted(end, begin - np.int32(back))
        count = np.searchsorted(begin, end - np.int32(back), "right") - first
        here = np.repeat(numbers, count)
        there = np.arange(len(here)) + np.repeat(first - np.cumsum(count) + count, count)
        pairs.append(np.stack([here, there], axis=1))
    piece = joined(np.concatenate(pairs), len(begin)).astype(np.int64)
    return piece, int(piece.max(initial=-1)) + 1
