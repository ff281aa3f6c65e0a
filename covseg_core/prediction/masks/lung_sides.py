"""Right and left lung from one lung mask, and how much of each is infected.

A lung mask knows no sides. Connected parts that lie on one side of the body belong there as a whole. A part on both
sides is two lungs that touch: in every slice it is cut from front to back, where the cut passes the fewest lung voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from covseg_core.data.slices.boxes import bounding_box
from covseg_core.data.slices.intensity import Scale, to_uint8
from covseg_core.prediction.masks.components import Components, only_parts

RIGHT, LEFT = 1, 2
"""Values of the sides."""

TOLERANCE_MM = 5.0
"""Infection up to so far from the lungs is not flagged: two models never agree on an edge."""
TOLERANCE_VOXELS = 3
"""The same where the spacing is unknown: within a slice."""
FLAGGED = 0.05
"""Share of the infection outside the lungs from which there is a warning."""

_SPECK = 0.01
"""Share of the whole lung mask below which a separate part is taken for an error: gas in the bowel, the trachea."""
_ONE_SIDED = 0.8
"""Share of a part on one side of the body from which it is one lung. Hearts push, hearts shift: not 1."""
_BAND = 0.4
"""The cut stays within this share of half the part's width from the body's middle."""
_STRAY = 0.5
"""What a cut costs, in lung voxels a row, at half the part's width from the middle; less in the square of it."""
_SOLID = 0.5
"""Share of a part's rows that a cut passes lung in, from which there was nothing to cut: one lung across the middle."""
_TISSUE = 150
"""Grey value above which a voxel is body: -368 HU."""
_TOGETHER = 32
"""Slices that are cut at a time."""
_LOOKED_AT = 32
"""Slices from which the body's middle is taken."""


@dataclass(frozen=True)
class LungPart:
    """One lung, or both."""

    voxels: int
    volume_ml: float | None
    """None where the voxel size is not known."""
    infection_voxels: int
    infection_ml: float | None
    share: float | None
    """Of the lung that is infected, 0..1; None where there is no lung."""


@dataclass(frozen=True)
class LungReport:
    """Lungs, and the infection in them and beside them."""

    file: str | None
    run: str
    """The lung model."""
    sha256: str
    """Of its `model.onnx`."""
    right: LungPart
    """The patient's right."""
    left: LungPart
    both: LungPart
    outside_voxels: int
    """Infection farther from the lungs than the tolerance."""
    outside_ml: float | None
    outside_share: float | None
    """Of the infection; None where there is none."""
    tolerance_mm: float | None
    """None where the spacing is not known; it is `TOLERANCE_VOXELS` then."""
    beyond_voxels: int = 0
    """Answer of the models that lay beyond the chest and was left out; in no other figure."""
    beyond_ml: float | None = None
    infection_voxels: int = 0
    """Of the whole mask, in the lungs or not."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is odd about it, one line each."""
        if not self.both.voxels:
            return (f"the model {self.run} found no lungs: no shares of infection",)
        found = self.beyond_voxels + self.infection_voxels
        if found and self.beyond_voxels >= FLAGGED * found:
            size = f"{self.beyond_voxels:,} voxels" if self.beyond_ml is None else f"{self.beyond_ml:.1f} mL"
            share = self.beyond_voxels / found
            return (
                f"{size}, {share:.0%} of what the models marked, lay beyond the chest and were left out",
                *self._outside,
            )
        return self._outside

    @property
    def _outside(self) -> tuple[str, ...]:
        if self.outside_share is not None and self.outside_share >= FLAGGED:
            return (f"{self.outside_share:.0%} of the infection lies outside the lungs: one of the two masks is wrong",)
        return ()


def clean_lungs(mask: np.ndarray) -> np.ndarray:
    """A lung mask (Z, Y, X) uint8 0/1 without parts of less than 1 % of it."""
    parts = Components(mask)
    kept = parts.sizes >= _SPECK * parts.sizes.sum()
    return mask if kept.all() else only_parts(parts, kept)


def body_middle(voxels: np.ndarray, scale: Scale, lungs: np.ndarray) -> float:
    """Where the body's middle is from side to side, as an index x: half of the body is on either side.

    Parameters
    ----------
    voxels : (Z, Y, X) of the scan, HU or 0..255
    lungs : (Z, Y, X) uint8 0/1
    """
    there = np.flatnonzero(lungs.any(axis=(1, 2)))
    columns = np.zeros(voxels.shape[2])
    for z in there[:: max(1, len(there) // _LOOKED_AT)]:
        columns += _body(to_uint8(voxels[z : z + 1], scale)[0], lungs[z]).sum(axis=0)
    if not columns.any():
        return (voxels.shape[2] - 1) / 2
    return float(np.searchsorted(columns.cumsum(), columns.sum() / 2))


def split_lungs(mask: np.ndarray, middle: float) -> np.ndarray:
    """Which lung each voxel is in.

    Parameters
    ----------
    mask : (Z, Y, X) uint8 0/1, RAS+: x grows to the patient's right
    middle : index x of the body's middle

    Returns
    -------
    sides : (Z, Y, X) uint8: 0 no lung, `RIGHT`, `LEFT`
    """
    parts = Components(mask)
    columns = parts.columns()
    right = columns[:, np.arange(mask.shape[2]) > middle].sum(axis=1) / columns.sum(axis=1)
    sides = parts.painted(np.where(right >= 0.5, RIGHT, LEFT).astype(np.uint8))
    for part in np.flatnonzero((right > 1 - _ONE_SIDED) & (right < _ONE_SIDED)):
        _cut(sides, parts, int(part) + 1, columns[part], middle)
    return sides


def measure_lungs(
    sides: np.ndarray,
    infection: np.ndarray,
    spacing: tuple[float, float, float] | None,
    voxel_ml: float | None,
    model: tuple[str, str],
    file: str | None,
    beyond: int = 0,
) -> LungReport:
    """Sizes of the lungs and shares of infection.

    Parameters
    ----------
    sides : (Z, Y, X) uint8, as from `split_lungs`
    infection : (Z, Y, X) uint8 0/1
    spacing : (z, y, x) [mm]; None where it is not known
    model : id of the lung model, and its SHA-256
    beyond : voxels that were left out before, since they lay beyond the chest
    """
    lung = np.zeros(3, np.int64)
    infected = np.zeros(3, np.int64)
    outside = 0
    for z, plane in enumerate(infection):
        lung[RIGHT] += np.count_nonzero(sides[z] == RIGHT)
        lung[LEFT] += np.count_nonzero(sides[z] == LEFT)
        if plane.any():
            infected += np.bincount(sides[z][plane > 0], minlength=3)
            outside += _outside(sides, plane, z, spacing)
    total = int(infected.sum())

    def part(voxels: np.int64, infection: np.int64) -> LungPart:
        n, i = int(voxels), int(infection)
        return LungPart(n, _ml(n, voxel_ml), i, _ml(i, voxel_ml), i / n if n else None)

    return LungReport(
        file,
        *model,
        right=part(lung[RIGHT], infected[RIGHT]),
        left=part(lung[LEFT], infected[LEFT]),
        both=part(lung[1:].sum(), infected[1:].sum()),
        outside_voxels=outside,
        outside_ml=_ml(outside, voxel_ml),
        outside_share=outside / total if total else None,
        tolerance_mm=None if spacing is None else TOLERANCE_MM,
        beyond_voxels=beyond,
        beyond_ml=_ml(beyond, voxel_ml),
        infection_voxels=total,
    )


def _body(grey: np.ndarray, lungs: np.ndarray) -> np.ndarray:
    """(Y, X) uint8: tissue without the thin table, and all that it surrounds, be it found as lung or not."""
    tissue = cv2.morphologyEx((grey > _TISSUE).astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    body = tissue | lungs
    contours, _ = cv2.findContours(body, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return np.asarray(cv2.drawContours(body, contours, -1, 1, cv2.FILLED), np.uint8)


def _ml(voxels: int, voxel_ml: float | None) -> float | None:
    return None if voxel_ml is None else voxels * voxel_ml


def _outside(sides: np.ndarray, infection: np.ndarray, z: int, spacing: tuple[float, float, float] | None) -> int:
    """Infected voxels of slice z with no lung within the tolerance: that far up and down, and around in the slice."""
    beside = infection > sides[z]
    if not beside.any():
        return 0
    up, *radii = (0.0, TOLERANCE_VOXELS, TOLERANCE_VOXELS) if spacing is None else (TOLERANCE_MM / mm for mm in spacing)
    # lungs farther away than that from all of it are not looked at
    rows, columns = bounding_box(beside, [int(radius) for radius in radii])
    near = np.asarray(sides[max(0, z - int(up)) : z + int(up) + 1, rows, columns].any(axis=0), np.uint8)
    y, x = (np.arange(-int(radius), int(radius) + 1) / radius for radius in radii)
    disk = (y[:, None] ** 2 + x**2 <= 1).astype(np.uint8)
    return int(np.count_nonzero(beside[rows, columns] > cv2.dilate(near, disk)))


def _cut(sides: np.ndarray, parts: Components, part: int, columns: np.ndarray, middle: float) -> None:
    """Give what lies on either side of the cut to its lung, in place; one lung across the middle stays whole."""
    there = np.flatnonzero(columns)
    half = max(1.0, (there[-1] - there[0] + 1) / 2)
    low = max(int(there[0]), round(middle - _BAND * half))
    high = min(int(there[-1]), round(middle + _BAND * half))
    if low >= high:
        return
    x = np.arange(low, high + 1)
    away = _STRAY * ((x - middle) / half) ** 2
    lungs = {}
    for z in range(len(sides)):
        if sides[z].any() and (lung := parts.plane(z) == part).any():
            rows = np.flatnonzero(lung.any(axis=1))
            lungs[z] = int(rows[0]), lung[rows[0] : rows[-1] + 1]
    cuts, passed, height = {}, 0, 0
    seams = _seams([lung[:, low : high + 1] + away for _, lung in lungs.values()])
    for (z, (_, lung)), found in zip(lungs.items(), seams, strict=True):
        cuts[z] = low + found
        passed += int(lung[np.arange(len(lung)), cuts[z]].sum())
        height += len(lung)
    if passed > _SOLID * height:
        return
    for z, (top, lung) in lungs.items():
        block = sides[z, top : top + len(lung)]
        block[lung] = np.where(np.arange(block.shape[1]) > cuts[z][:, None], RIGHT, LEFT)[lung]


def _seams(costs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The column of each row, (n,) int, on the cheapest way through (n, m) costs, at most 2 columns aside a row.

    All of one width m; a few slices at a time, row by row together.
    """
    seams: list[np.ndarray] = []
    for start in range(0, len(costs), _TOGETHER):
        some = costs[start : start + _TOGETHER]
        rows = np.array([len(cost) for cost in some])
        stacked = np.zeros((rows.max(), len(some), some[0].shape[1]))
        for k, cost in enumerate(some):
            stacked[: len(cost), k] = cost
        seams += _ways(stacked, rows)
    return seams


def _ways(cost: np.ndarray, rows: np.ndarray) -> list[np.ndarray]:
    """As `_seams`, of costs (n, k, m) and the rows (k,) that each of the k slices has."""
    _, number, width = cost.shape
    aside = np.array([0, -1, 1, -2, 2], np.int8)  # straight on comes first, so that it wins among equals
    steps = np.zeros(cost.shape, np.int8)
    totals = np.empty_like(cost)
    totals[0] = cost[0]
    for row in range(1, len(cost)):
        padded = np.pad(totals[row - 1], ((0, 0), (2, 2)), constant_values=np.inf)
        ways = np.stack([padded[:, 2 + step : 2 + step + width] for step in aside])
        best = ways.argmin(axis=0)
        steps[row] = aside[best]
        totals[row] = np.take_along_axis(ways, best[np.newaxis], axis=0)[0] + cost[row]
    seams = []
    for k in range(number):
        seam = np.empty(rows[k], np.int64)
        seam[-1] = totals[rows[k] - 1, k].argmin()
        for row in range(rows[k] - 1, 0, -1):
            seam[row - 1] = seam[row] + steps[row, k, seam[row]]
        seams.append(seam)
    return seams
