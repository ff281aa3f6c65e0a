"""Where probabilities become a mask."""

from __future__ import annotations

import numpy as np

from covseg_core.prediction.probabilities import Probabilities


def reaching(answer: Probabilities, threshold: float) -> np.ndarray:
    """(Z, Y, X) uint8 0/1 on the scan's own grid: where a model's probability is at least the threshold."""
    mask = np.empty((len(answer.values), *answer.grid.shape), np.uint8)
    for part, probabilities in answer.planes():
        np.greater_equal(probabilities, threshold, out=mask[part].view(bool))
    return mask
