"""Axial planes of a scan as square slices for the network, and the network's output back on the scan's own grid.

Slices are in radiological view: row 0 is anterior, column 0 is the patient's right. Planes are (Y, X) in RAS+, so both
axes are flipped on the way there and on the way back.

Where pixels are along one axis (centres at whole numbers, `n` native, `S` prepared pixels):

* area: `before` + n + `after` pixels are shared out evenly, so slice coordinate u is plane coordinate
  (u + 0.5) * (before + n + after) / S - 0.5 - before, counted in the direction of view; of a box, n are its pixels,
  and plane coordinates count from its edge;
* thesis: of every second pixel, m = ceil(n / 2) are shared out, so u is plane coordinate 2 * ((u + 0.5) * m / S - 0.5).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from os import cpu_count
from typing import cast

import numpy as np

from covseg_core.config import Resize

_THREADS = min(4, cpu_count() or 1)
_ANTERIOR_RIGHT = np.s_[::-1, ::-1]
"""RAS+ plane (y, x) -> radiological view, and back."""


@dataclass(frozen=True)
class Axis:
    """One axis of the mapping between `length` native and `size` prepared pixels, in the direction of view."""

    length: int
    size: int
    before: int = 0
    after: int = 0
    step: int = 1
    first: int = 0
    """Native pixels in front of those that are mapped."""

    @property
    def padded(self) -> int:
        """Pixels that are shared out among the prepared ones."""
        return self.before + -(-self.length // self.step) + self.after

    def sources(self) -> np.ndarray:
        """(size,) int: the native pixel nearest to each prepared one; -1 in the padding."""
        nearest = np.floor((np.arange(self.size) + 0.5) * self.padded / self.size).astype(np.intp) - self.before
        inside = (nearest >= 0) & (nearest * self.step < self.length)
        return np.where(inside, self.first + nearest * self.step, -1)

    def targets(self) -> np.ndarray:
        """(length,) float32: where each mapped native pixel lies among the prepared ones."""
        shared = np.arange(self.length) / self.step + self.before
        return ((shared + 0.5) * self.size / self.padded - 0.5).astype(np.float32)


@dataclass(frozen=True)
class Box:
    """A part of all planes of a scan: rows y and columns x, RAS+, the ends excluded [pixels]."""

    rows: tuple[int, int]
    columns: tuple[int, int]

    @property
    def part(self) -> tuple[slice, slice]:
        """Of a plane."""
        return slice(*self.rows), slice(*self.columns)


@dataclass(frozen=True)
class Grid:
    """How the axial planes of one scan map to S x S slices."""

    shape: tuple[int, int]
    """Native (Y, X) [pixels]."""
    spacing: tuple[float, float]
    """Native (y, x) [mm]."""
    size: int
    """S, side of the slices [pixels]."""
    resize: Resize
    """See `PrepareConfig.resize`."""
    box: Box | None = None
    """What is mapped, if not all of a plane; only for `area`."""

    @cached_property
    def part(self) -> tuple[slice, slice]:
        """Rows and columns of a plane that are mapped."""
        return self.box.part if self.box else (slice(0, self.shape[0]), slice(0, self.shape[1]))

    @cached_property
    def axes(self) -> tuple[Axis, Axis]:
        """Rows and columns. In area mode both are padded evenly to one physical length, to the nearest pixel."""
        if self.resize == "thesis":
            rows, columns = (Axis(length, self.size, step=2) for length in self.shape)
            return rows, columns
        lengths = [part.stop - part.start for part in self.part]
        side = max(length * spacing for length, spacing in zip(lengths, self.spacing, strict=True))
        axes = []
        for whole, part, length, spacing in zip(self.shape, self.part, lengths, self.spacing, strict=True):
            missing = max(0, round(side / spacing) - length)
            first = whole - part.stop  # the direction of view is the other one
            axes.append(Axis(length, self.size, missing // 2, missing - missing // 2, first=first))
        return axes[0], axes[1]


def to_images(planes: np.ndarray, grid: Grid) -> np.ndarray:
    """Grey planes as slices.

    Parameters
    ----------
    planes : (Z, Y, X) uint8, RAS+

    Returns
    -------
    images : (Z, S, S) uint8. Area: padded with 0 to a physical square, averaged over areas (linear if enlarged).
        Thesis: every second pixel, then `skimage.transform.resize` with the value range preserved, cast to uint8
    """
    _check(planes, grid.shape)
    images = np.empty((len(planes), grid.size, grid.size), np.uint8)
    resize = _thesis if grid.resize == "thesis" else _area

    def one(z: int) -> None:
        images[z] = resize(planes[z][_ANTERIOR_RIGHT], grid)

    _each(one, len(planes))
    return images


def to_masks(masks: np.ndarray, grid: Grid) -> np.ndarray:
    """Masks as slices: each prepared pixel is the native pixel at its centre, 0 in the padding.

    Parameters
    ----------
    masks : (Z, Y, X) uint8 0/1, RAS+

    Returns
    -------
    masks : (Z, S, S) uint8 0/1
    """
    _check(masks, grid.shape)
    rows, columns = (axis.sources() for axis in grid.axes)
    prepared = np.zeros((len(masks), grid.size, grid.size), np.uint8)
    inside = np.ix_(rows >= 0, columns >= 0)
    native = np.ix_(rows[rows >= 0], columns[columns >= 0])
    for target, plane in zip(prepared, masks, strict=True):
        if plane.any():
            target[inside] = plane[_ANTERIOR_RIGHT][native]
    return prepared


def to_native(probabilities: np.ndarray, grid: Grid) -> np.ndarray:
    """Slices back on the scan's own planes: linear interpolation, padding and view undone, 0 outside the grid's box.

    Parameters
    ----------
    probabilities : (Z, S, S) float32

    Returns
    -------
    planes : (Z, Y, X) float32, RAS+
    """
    import cv2

    _check(probabilities, (grid.size, grid.size))
    map_x, map_y = _maps(grid)
    planes = (np.zeros if grid.box else np.empty)((len(probabilities), *grid.shape), np.float32)

    def one(z: int) -> None:
        source = np.ascontiguousarray(probabilities[z], np.float32)
        if grid.box is None:
            cv2.remap(source, map_x, map_y, cv2.INTER_LINEAR, planes[z], cv2.BORDER_REPLICATE)
        elif source.any():
            planes[z][grid.part] = cv2.remap(source, map_x, map_y, cv2.INTER_LINEAR, None, cv2.BORDER_REPLICATE)

    _each(one, len(probabilities))
    return planes


def native_reaching(probabilities: np.ndarray, grid: Grid, threshold: float, out: np.ndarray) -> None:
    """Where `to_native` gives a probability of at least the threshold, to the voxel, for less work.

    Interpolation gives no more than the largest of the four pixels around, so only the box of those that reach the
    threshold is resampled, and of a slice without any nothing is.

    Parameters
    ----------
    probabilities : (Z, S, S) float32, 0..1
    threshold : above 0
    out : (Z, Y, X) uint8, RAS+, of zeros; becomes 1 there
    """
    import cv2

    _check(probabilities, (grid.size, grid.size))
    map_x, map_y = _maps(grid)
    targets = [axis.targets() for axis in grid.axes]
    least = np.float32(threshold * (1 - _SLACK))

    def one(z: int) -> None:
        source = np.ascontiguousarray(probabilities[z], np.float32)
        there = source >= least
        if not there.any():
            return
        rows, columns = (_reached(np.asarray(there.any(axis=1 - axis)), targets[axis]) for axis in (0, 1))
        if rows.start == rows.stop or columns.start == columns.stop:  # it lies in the padding
            return
        x, y = (np.ascontiguousarray(values[rows, columns]) for values in (map_x, map_y))
        planes = cv2.remap(source, x, y, cv2.INTER_LINEAR, None, cv2.BORDER_REPLICATE)
        np.greater_equal(planes, threshold, out=out[z][grid.part][rows, columns].view(bool))

    _each(one, len(probabilities))


_SLACK = 1e-5
"""A pixel is looked at from so much below the threshold, as a share of it: weights add up to 1 but for rounding."""
_AROUND = 1.25
"""So far from a pixel [prepared pixels] interpolation can see it: OpenCV rounds coordinates to 1/32."""


@lru_cache(maxsize=4)
def _maps(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Of each native pixel of `grid.part`, RAS+, its column and row among the prepared ones: both float32."""
    rows, columns = (axis.targets() for axis in grid.axes)
    map_x, map_y = (np.ascontiguousarray(coordinate[_ANTERIOR_RIGHT]) for coordinate in np.meshgrid(columns, rows))
    return map_x, map_y


def _reached(there: np.ndarray, targets: np.ndarray) -> slice:
    """Native pixels of one axis, RAS+, that lie near prepared ones that are there, (S,) bool; `Axis.targets` of it."""
    hits = np.flatnonzero(there)
    start, stop = np.searchsorted(targets, (hits[0] - _AROUND, hits[-1] + _AROUND))
    return slice(len(targets) - int(stop), len(targets) - int(start))


def _area(plane: np.ndarray, grid: Grid) -> np.ndarray:
    """One plane in radiological view, padded and averaged to (S, S)."""
    import cv2

    rows, columns = grid.axes
    padded = np.zeros((rows.padded, columns.padded), np.uint8)
    padded[rows.before :, columns.before :][: rows.length, : columns.length] = plane[
        rows.first : rows.first + rows.length, columns.first : columns.first + columns.length
    ]
    shrink = min(padded.shape) >= grid.size
    return cv2.resize(padded, (grid.size, grid.size), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR)


def _thesis(plane: np.ndarray, grid: Grid) -> np.ndarray:
    """One plane in radiological view, resized as the thesis does."""
    from skimage.transform import resize

    return cast(np.ndarray, resize(plane[::2, ::2], (grid.size, grid.size), preserve_range=True)).astype(np.uint8)


def _each(work: Callable[[int], None], count: int) -> None:
    """Do independent slices in a few threads; OpenCV and SciPy let go of the interpreter while they compute."""
    if count == 1:  # a viewer asks for single slices, and threads take longer to start than one slice does
        work(0)
        return
    with ThreadPoolExecutor(_THREADS) as pool:
        for _ in pool.map(work, range(count)):
            pass


def _check(stack: np.ndarray, shape: tuple[int, int]) -> None:
    if stack.shape[1:] != shape:
        raise ValueError(f"planes of {stack.shape[1:]} for a grid of {shape}")
