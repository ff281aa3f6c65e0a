"""How far the models of a prediction agree: a hint at where to look again, and nothing more.

It is no expected Dice: models that have learned from the same scans make the same mistakes.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from covseg_core.prediction.decide import COMBINED, Prediction

EXPLAINED = (
    "Agreement: the mean Dice of each two models' masks, 1 where all masks are empty. It says how far the models agree "
    "with each other, not how far they are right: it is no expected Dice."
)


def agreement(prediction: Prediction) -> float | None:
    """Mean Dice of each two models' own masks, 0..1; None for a single model."""
    masks = [packed for run, packed in prediction.packed.items() if run != COMBINED]
    if len(masks) < 2:
        return None
    sizes = [_voxels(mask) for mask in masks]
    scores = []
    for a, b in combinations(range(len(masks)), 2):
        total = sizes[a] + sizes[b]
        scores.append(2 * _voxels(masks[a] & masks[b]) / total if total else 1.0)
    return float(np.mean(scores))


def _voxels(packed: np.ndarray) -> int:
    return int(np.bitwise_count(packed).sum(dtype=np.int64))
