"""Where probabilities become a mask."""

from __future__ import annotations

import numpy as np

from covseg_core.data.slices.slices import native_reaching
from covseg_core.prediction.probabilities import Probabilities

_PLANES = 64
"""Slices read at a time."""


def reaching(answer: Probabilities, threshold: float) -> np.ndarray:
    """(Z, Y, X) uint8 0/1 on the scan's own grid: where a model's probability is at least the threshold."""
    mask = np.zeros((len(answer.values), *answer.grid.shape), np.uint8)
    for start in range(0, len(mask), _PLANES):
        part = slice(start, start + _PLANES)
        native_reaching(answer.values[part], answer.grid, threshold, mask[part])
    return mask
