"""What is left of a mask: first what lies beyond the chest goes, then parts that are too small."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from covseg_core.prediction.masks.chest import leave_out_beyond
from covseg_core.prediction.masks.components import large_parts, smallest_voxels


@dataclass(frozen=True, eq=False)
class Kept:
    """What is left of a mask."""

    mask: np.ndarray
    """(Z, Y, X) uint8 0/1."""
    sizes: np.ndarray
    """(n,) int64: voxels of its connected parts, the largest first."""
    beyond: int
    """Voxels that were left out since they lay beyond the chest."""


@dataclass(frozen=True, eq=False)
class Rules:
    """What is left out of masks of one scan."""

    sides: np.ndarray | None
    """(Z, Y, X) uint8, above 0 in the lungs; None to keep what lies beyond the chest."""
    spacing: tuple[float, float, float] | None
    """(z, y, x) [mm]; None where it is not known."""
    voxel_mm3: float | None
    """Volume of a voxel; None where it is not known, and parts of any size are kept."""

    def keep(self, mask: np.ndarray, minimum_mm3: float) -> Kept:
        """What is left of a mask (Z, Y, X) uint8 0/1, without parts below `minimum_mm3`."""
        inside, beyond = self.inside(mask)
        return Kept(*self.large(inside, minimum_mm3), beyond)

    def inside(self, mask: np.ndarray) -> tuple[np.ndarray, int]:
        """A mask (Z, Y, X) uint8 0/1 without what lies beyond the chest, and how many voxels that was."""
        return (mask, 0) if self.sides is None else leave_out_beyond(mask, self.sides, self.spacing)

    def large(self, mask: np.ndarray, minimum_mm3: float) -> tuple[np.ndarray, np.ndarray]:
        """A mask without parts that are too small, and the voxels of the others, as `components.large_parts`."""
        least = 1 if self.voxel_mm3 is None else smallest_voxels(minimum_mm3, self.voxel_mm3)
        return large_parts(mask, least)
