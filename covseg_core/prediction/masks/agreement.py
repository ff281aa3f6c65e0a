"""How far the models of a prediction agree: a hint at where to look again, and nothing more.

By itself it is no expected Dice: models that have learned from the same scans make the same mistakes. What Dice goes
with it is learned from scans whose true masks are known; see `expected_dice`.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations

import numpy as np

EXPLAINED = (
    "Agreement: the mean Dice of each two models' masks, 1 where all masks are empty. It says how far the models agree "
    "with each other, not how far they are right: it is no expected Dice."
)


def agreement(packed: Iterable[np.ndarray]) -> float | None:
    """Mean Dice of each two masks, 0..1; two empty ones agree with 1. None for fewer than two.

    Parameters
    ----------
    packed : (N / 8,) uint8 each: masks of one scan, one bit a voxel

    >>> agreement(np.packbits(mask) for mask in ([1, 1, 0], [0, 1, 1], [0, 0, 0]))
    0.16666666666666666
    >>> agreement([np.zeros(4, np.uint8)] * 3)
    1.0
    """
    masks = list(packed)
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
