"""The mask of each model at its threshold and smallest size, and the vote of these masks.

A voxel is in the vote's mask when more than half of the models have it in theirs. A tie, which an even number of models
can have, is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from covseg_core.prediction.masks.chest import leave_out_beyond
from covseg_core.prediction.masks.components import large_parts, smallest_voxels
from covseg_core.prediction.probabilities import Probabilities
from covseg_core.prediction.threshold import reaching
from covseg_core.runs.operating_point import Threshold


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
    """What is left out of masks of one scan: first what lies beyond the chest, then parts that are too small."""

    sides: np.ndarray | None
    """(Z, Y, X) uint8, above 0 in the lungs; None to keep what lies beyond the chest."""
    spacing: tuple[float, float, float] | None
    """(z, y, x) [mm]; None where it is not known."""
    voxel_mm3: float | None
    """Volume of a voxel; None where it is not known, and parts of any size are kept."""

    def inside(self, mask: np.ndarray) -> tuple[np.ndarray, int]:
        """A mask (Z, Y, X) uint8 0/1 without what lies beyond the chest, and how many voxels that was."""
        return (mask, 0) if self.sides is None else leave_out_beyond(mask, self.sides, self.spacing)

    def large(self, mask: np.ndarray, minimum_mm3: float) -> tuple[np.ndarray, np.ndarray]:
        """A mask without parts that are too small, and the voxels of the others, as `components.large_parts`."""
        least = 1 if self.voxel_mm3 is None else smallest_voxels(minimum_mm3, self.voxel_mm3)
        return large_parts(mask, least)


class Votes:
    """How many models have each voxel of a scan (Z, Y, X) in their mask."""

    def __init__(self, shape: Sequence[int], rules: Rules) -> None:
        self._votes, self._models = np.zeros(shape, np.uint8), 0
        self._rules = rules

    def add(self, answer: Probabilities, at: Threshold) -> Kept:
        """Count the mask of one more model, and return it."""
        reached = reaching(answer, at.threshold)
        inside, beyond = self._rules.inside(reached)
        mask, sizes = self._rules.large(inside, at.minimum_mm3)
        self._models += 1
        self._votes += mask
        if beyond:  # counts too, to tell how much of it the vote leaves out
            self._votes += np.subtract(reached, inside, out=reached)
        return Kept(mask, sizes, beyond)

    def tied(self) -> int:
        """Voxels with as many models for as against."""
        return sum(int(np.count_nonzero(plane == self._models / 2)) for plane in self._votes)

    def decide(self, minimum_mm3: float) -> Kept:
        """The mask of the vote, without parts below its own smallest size. Nothing can be asked after it."""
        majority = np.greater(self._votes, self._models // 2, out=self._votes.view(bool)).view(np.uint8)
        inside, beyond = self._rules.inside(majority)
        return Kept(*self._rules.large(inside, minimum_mm3), beyond)
