"""What is left of a mask: what lies beyond the chest goes first, then parts that are too small or nowhere sure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from covseg_core.prediction.masks.chest import leave_out_beyond
from covseg_core.prediction.masks.components import parts_to_keep, smallest_voxels


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

    def keep(self, mask: np.ndarray, minimum_mm3: float, sure: np.ndarray | None = None) -> Kept:
        """What is left of a mask (Z, Y, X) uint8 0/1: see `inside` and `parts`."""
        inside, beyond = self.inside(mask)
        return Kept(*self.parts(inside, minimum_mm3, sure), beyond)

    def inside(self, mask: np.ndarray) -> tuple[np.ndarray, int]:
        """A mask (Z, Y, X) uint8 0/1 without what lies beyond the chest, and how many voxels that was."""
        return (mask, 0) if self.sides is None else leave_out_beyond(mask, self.sides, self.spacing)

    def parts(
        self, mask: np.ndarray, minimum_mm3: float, sure: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """A mask without parts below `minimum_mm3` and those nowhere `sure`, as `components.parts_to_keep`."""
        least = 1 if self.voxel_mm3 is None else smallest_voxels(minimum_mm3, self.voxel_mm3)
        return parts_to_keep(mask, least, sure)
