"""From the positions of slices to one regular grid: gaps, missing slices, gantry tilt.

The grid has the slices' usual gap. A plane of it is a slice, where one lies there, or is made from its two neighbours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

TOLERANCE = 0.05
"""A slice this near to a plane of the grid, as a share of the gap, lies on it."""
ROUNDING = 0.06
"""Or this near [mm]: positions are written with one decimal by some; at most a quarter of the gap."""
MOST_INTERPOLATED = 0.25
"""Largest share of planes that may be made from their neighbours."""
SAME = 0.01
"""Slices nearer than this lie at one position [mm]."""
MOST_TILT = 45.0
"""Largest angle between the stack and the normal of its slices [degrees]; gantries tilt by 30."""

_LPS = np.diag([-1.0, -1.0, 1.0])


class Plane(NamedTuple):
    """Where the values of a plane come from: `(1 - weight) * slices[below] + weight * slices[above]`."""

    below: int
    above: int
    weight: float
    real: bool
    """Whether it is a slice of the files."""


@dataclass(frozen=True, eq=False)
class Grid:
    """A regular grid of planes through a stack of slices."""

    affine: np.ndarray
    """(4, 4) float64, (column, row, plane) -> RAS+ position [mm]; sheared if the gantry was tilted."""
    planes: tuple[Plane, ...]
    depths: tuple[float, ...]
    """Position of each plane along `normal` [mm]."""
    tilt: float
    """Angle between the stack and the normal of its slices [degrees]."""

    @property
    def made(self) -> tuple[int, ...]:
        """Planes that are not in the files."""
        return tuple(k for k, plane in enumerate(self.planes) if not plane.real)


class BadGrid(ValueError):
    """Slices that fit no regular grid; the text says why."""


def normal(orientation: tuple[float, ...]) -> np.ndarray:
    """(3,) unit vector, LPS+, across the slices: towards the head, the back or the left, whichever is nearest.

    These are the directions of DICOM; `Grid` then has its planes from feet to head, from front to back, or from right
    to left.
    """
    across = np.cross(orientation[:3], orientation[3:])
    return across * (1 if across[np.abs(across).argmax()] > 0 else -1)


def make_grid(
    positions: np.ndarray, orientation: tuple[float, ...], spacing: tuple[float, float], thickness: float
) -> Grid:
    """Lay a grid through slices.

    Parameters
    ----------
    positions : (N, 3) float64, LPS+ [mm], ascending along `normal`
    orientation : directions along a row and along a column
    spacing : of rows and columns [mm]
    thickness : the distance of planes where there is one slice only [mm]

    Raises
    ------
    BadGrid : two slices at one position; unequal gaps; slices displaced sideways
    """
    across = normal(orientation)
    depths = positions @ across
    start, step, count = _axis(depths, thickness)
    planes = _planes(depths, start, step, count)
    made = sum(not plane.real for plane in planes)
    if made > MOST_INTERPOLATED * count:
        raise BadGrid(f"{_gaps(depths)}: {made} of {count} planes would have to be made from their neighbours")
    drift, first = _sideways(positions, depths, across, start, min(spacing))
    tilt = math.degrees(math.atan(float(np.linalg.norm(drift))))
    if tilt > MOST_TILT:
        raise BadGrid(f"each slice is displaced sideways ({tilt:.0f} degrees from the normal)")
    affine = np.eye(4)
    affine[:3, 0] = np.array(orientation[:3]) * spacing[1]
    affine[:3, 1] = np.array(orientation[3:]) * spacing[0]
    affine[:3, 2] = (across + drift) * step
    affine[:3, 3] = first
    affine[:3] = _LPS @ affine[:3]
    return Grid(affine, tuple(planes), tuple(start + step * k for k in range(count)), tilt)


def _axis(depths: np.ndarray, thickness: float) -> tuple[float, float, int]:
    """First plane, distance of planes [mm] and their number."""
    if len(depths) == 1:
        return float(depths[0]), thickness, 1
    gaps = np.diff(depths)
    if gaps.min() < SAME:
        raise BadGrid("two slices at one position")
    usual = float(np.median(gaps))
    for index in (np.arange(len(depths)), np.append(0, np.cumsum(np.maximum(1, np.rint(gaps / usual))))):
        step, start = (round(float(term), 9) for term in np.polyfit(index, depths, 1))
        if np.abs(depths - start - step * index).max() <= near(step):
            return start, step, int(index[-1]) + 1
    # Gaps of no common measure: the grid goes through as many slices as it can.
    offsets = (depths[:, None] - depths[None, :]) / usual
    anchor = float(depths[(np.abs(offsets - np.rint(offsets)) * usual <= near(usual)).sum(axis=0).argmax()])
    first, last = (round((end - anchor) / usual) for end in (depths[0], depths[-1]))
    return anchor + first * usual, usual, last - first + 1


def _planes(depths: np.ndarray, start: float, step: float, count: int) -> list[Plane]:
    if count * (1 - MOST_INTERPOLATED) > len(depths):
        raise BadGrid(f"{_gaps(depths)}: {count - len(depths)} of {count} slices are missing")
    planes = []
    for k in range(count):
        depth = start + step * k
        nearest = int(np.abs(depths - depth).argmin())
        if abs(depths[nearest] - depth) <= near(step):
            planes.append(Plane(nearest, nearest, 0.0, True))
            continue
        above = int(np.clip(np.searchsorted(depths, depth), 1, len(depths) - 1))
        weight = (depth - depths[above - 1]) / (depths[above] - depths[above - 1])
        planes.append(Plane(above - 1, above, float(np.clip(weight, 0, 1)), False))
    return planes


def near(step: float) -> float:
    """How far a slice may lie from a plane of the grid and still be that plane [mm]."""
    return max(TOLERANCE * step, min(ROUNDING, step / 4))


def _gaps(depths: np.ndarray) -> str:
    gaps = np.diff(depths)
    return f"gaps of {gaps.min():.4g} to {gaps.max():.4g} mm between slices"


def _sideways(
    positions: np.ndarray, depths: np.ndarray, across: np.ndarray, start: float, pixel: float
) -> tuple[np.ndarray, np.ndarray]:
    """Displacement within the plane per mm of depth, (3,); and the first pixel of the first plane, (3,) LPS+ [mm]."""
    within = positions - depths[:, None] * across
    drift = (within[-1] - within[0]) / (depths[-1] - depths[0]) if len(depths) > 1 else np.zeros(3)
    expected = within[0] + (depths - depths[0])[:, None] * drift
    off = float(np.linalg.norm(within - expected, axis=1).max())
    if off > pixel / 2:
        raise BadGrid(f"slices are displaced sideways, by up to {off:.3g} mm")
    return drift, within[0] + (start - depths[0]) * drift + start * across
