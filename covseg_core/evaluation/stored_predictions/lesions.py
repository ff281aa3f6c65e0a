"""Lesion by lesion: which were found, which were missed, what was marked where there is nothing, and the worst of each.

Lesions are connected parts of the true mask on the network's grid, in 3D: voxels belong together if they touch at a
face, an edge or a corner. Of slices without neighbours in the test, such as stacked ones, they are parts of the slice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from covseg_core.data.slices.boxes import bounding_box
from covseg_core.evaluation.stored_predictions.scans import StoredScan
from covseg_core.runs.operating_point import Unit

Kind = Literal["missed", "false", "boundary", "small"]

FOUND_FROM = 0.1
"""Share of a lesion's voxels that must be marked for it to count as found."""
POOR_BELOW = 0.5
"""A small lesion of which less is marked is worth a look, found or not."""
BORDER = 2
"""Pixels from the true border within which an error is one of the boundary."""
MOSTLY = 0.5
"""Share of a slice's wrong pixels that makes it a boundary error."""
BINS: dict[Unit, tuple[float, ...]] = {"mm3": (0, 100, 1000, 10000), "voxels": (0, 50, 500, 5000)}
"""Lower ends of the size classes; lesions below the second are small."""


@dataclass(frozen=True)
class Item:
    """A lesion, a false alarm, or a slice with a wrong boundary."""

    case: str
    z: int
    """The slice with most of it."""
    size: float
    """In the unit of `Lesions`: of a lesion, of what was marked, or of all wrong pixels of the slice."""
    covered: float | None
    """Share of a lesion that is marked; None for what is no lesion."""
    box: tuple[int, int, int, int]
    """First row, last row, first column, last column on that slice, of a `StoredScan`'s pixels."""


@dataclass(frozen=True)
class SizeClass:
    """Lesions of similar size."""

    low: float
    high: float | None
    lesions: int
    found: int
    false: int
    """Marked parts of this size that cover no true voxel."""

    @property
    def missed(self) -> int:
        return self.lesions - self.found


@dataclass(frozen=True)
class Lesions:
    """One model's lesions, at one threshold."""

    unit: Unit
    """mm3, or voxels of the scan where any scan's spacing is unknown."""
    scans: int
    true: tuple[Item, ...]
    false: tuple[Item, ...]
    boundary: tuple[Item, ...]
    """Slices on which a lesion was hit, and most wrong pixels lie within `BORDER` of its true border."""

    def classes(self) -> list[SizeClass]:
        """By size, the smallest first, and all together last."""
        lows = BINS[self.unit]
        found = [self._class(low, high) for low, high in zip(lows, (*lows[1:], None), strict=True)]
        return [*found, self._class(0, None)]

    def worst(self, kind: Kind) -> list[Item]:
        """Items of a kind, the worst first: the largest, and of small lesions those least covered."""
        small = BINS[self.unit][1]
        if kind == "missed":
            items = [item for item in self.true if not is_found(item) and item.size >= small]
        elif kind == "small":
            items = [item for item in self.true if item.size < small and (item.covered or 0) < POOR_BELOW]
            return sorted(items, key=lambda item: (item.covered or 0, -item.size))
        else:
            items = list(self.false if kind == "false" else self.boundary)
        return sorted(items, key=lambda item: -item.size)

    def _class(self, low: float, high: float | None) -> SizeClass:
        def inside(item: Item) -> bool:
            return item.size >= low and (high is None or item.size < high)

        lesions = [item for item in self.true if inside(item)]
        return SizeClass(low, high, len(lesions), sum(map(is_found, lesions)), sum(map(inside, self.false)))


def is_found(item: Item) -> bool:
    """Whether enough of a lesion is marked."""
    return item.covered is not None and item.covered >= FOUND_FROM


def find_lesions(scans: Sequence[StoredScan], threshold: float = 0.5) -> Lesions:
    """Compare what a model marks with the true lesions.

    Parameters
    ----------
    scans : what it has predicted, as `scans.scans_of_test` reads it
    threshold : a pixel is marked if its probability is at least that
    """
    unit: Unit = "mm3" if all(scan.case.spacing_known for scan in scans) else "voxels"
    true: list[Item] = []
    false: list[Item] = []
    boundary: list[Item] = []
    for scan in scans:
        voxel = scan.mm3 if unit == "mm3" else scan.pixels
        marked = scan.probabilities.astype(np.float32) >= np.float32(threshold)
        true += _parts(scan, scan.truth, marked, voxel)
        false += [item for item in _parts(scan, marked, scan.truth, voxel) if item.covered is None]
        boundary += _boundaries(scan, marked, voxel)
    return Lesions(unit, len(scans), tuple(true), tuple(false), tuple(boundary))


def _parts(scan: StoredScan, mask: np.ndarray, other: np.ndarray, voxel: float) -> list[Item]:
    """Connected parts of a mask, each with the share that is in the other one too; None if nothing is."""
    from scipy import ndimage

    if not mask.any():
        return []
    _, rows, columns = bounding_box(mask)
    stack = np.zeros((scan.places[-1] + 1, *mask[0, rows, columns].shape), bool)
    stack[scan.places] = mask[:, rows, columns]
    labels, number = ndimage.label(stack, np.ones((3, 3, 3), bool))
    labels = labels[scan.places]
    sizes = np.bincount(labels.ravel(), minlength=number + 1)
    hits = np.bincount(labels[other[:, rows, columns]], minlength=number + 1)
    items = []
    for part, box in enumerate(ndimage.find_objects(labels), start=1):
        within = labels[box] == part
        plane = int(np.argmax(within.sum(axis=(1, 2))))
        high, wide = bounding_box(within[plane])
        top, left = rows.start + box[1].start, columns.start + box[2].start
        place = (top + high.start, top + high.stop - 1, left + wide.start, left + wide.stop - 1)
        covered = hits[part] / sizes[part] if mask is scan.truth or hits[part] else None
        size = float(sizes[part] * voxel)
        z = scan.zs[box[0].start + plane]
        items.append(Item(scan.case.id, z, size, None if covered is None else float(covered), place))
    return items


def _boundaries(scan: StoredScan, marked: np.ndarray, voxel: float) -> list[Item]:
    """Slices on which most of what is wrong lies along the true border."""
    import cv2

    steps = np.arange(-BORDER, BORDER + 1)
    disc = (np.add.outer(steps**2, steps**2) <= BORDER**2).astype(np.uint8)
    items = []
    for z, true, mask in zip(scan.zs, scan.truth, marked, strict=True):
        wrong = true ^ mask
        if not (true & mask).any() or not wrong.any():
            continue
        plane = true.astype(np.uint8)
        near = (cv2.dilate(plane, disc) > cv2.erode(plane, disc)) & wrong
        if near.sum() < MOSTLY * wrong.sum():
            continue
        high, wide = bounding_box(near)
        box = (high.start, high.stop - 1, wide.start, wide.stop - 1)
        items.append(Item(scan.case.id, z, float(wrong.sum() * voxel), None, box))
    return items
