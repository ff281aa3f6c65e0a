"""How large the masks are at every threshold, from one look at the probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from covseg_core.prediction.inference import Cancel, stop_if
from covseg_core.prediction.probabilities import Probabilities, consensus, ranked

THRESHOLDS = tuple(step / 100 for step in range(1, 100))


@dataclass(frozen=True, eq=False)
class Sizes:
    """Voxels of each slice at each of the `THRESHOLDS`; a voxel counts from the threshold on, as in a mask."""

    vote: np.ndarray
    """(T, Z) int64: in the mask of more than half of the models."""
    tied: np.ndarray
    """(T, Z) int64: in the masks of exactly half of them; not in the vote's."""
    models: tuple[np.ndarray, ...]
    """(T, Z) int64 each, in the order of the models."""


def measure(answers: Sequence[Probabilities], cancel: Cancel | None = None) -> Sizes:
    """Count voxels on the scan's own grid, exactly as masks at these thresholds would have them."""
    slices, number = len(answers[0].values), len(answers)
    vote, half, *models = (np.zeros((len(THRESHOLDS), slices), np.int64) for _ in range(2 + number))
    for blocks in zip(*(answer.planes() for answer in answers), strict=True):
        stop_if(cancel)
        start = blocks[0][0].start
        for offset, planes in enumerate(zip(*(block for _, block in blocks), strict=True)):
            z = start + offset
            # below the lowest threshold for all of them lies nearly everything
            seen = np.max(planes, axis=0) >= np.float32(THRESHOLDS[0]) if number > 1 else planes[0] >= THRESHOLDS[0]
            values = [plane[seen] for plane in planes]
            for counts, one in zip(models, values, strict=True):
                counts[:, z] = _count(one)
            vote[:, z] = _count(consensus(values))
            half[:, z] = _count(ranked(values, number // 2 - 1)) if number % 2 == 0 else vote[:, z]
    return Sizes(vote, half - vote, tuple(models))


def _count(values: np.ndarray) -> np.ndarray:
    """(T,) int64: how many values reach each threshold."""
    reached = np.searchsorted(np.array(THRESHOLDS, np.float32), values, side="right")
    counts = np.bincount(reached, minlength=len(THRESHOLDS) + 1)
    return counts[::-1].cumsum()[::-1][1:]
