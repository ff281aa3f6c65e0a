"""How far several models disagree, voxel by voxel: one figure from 0 to 1 that no threshold changes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_STEPS = 1 << 16


def _entropy_table() -> np.ndarray:
    """Entropy of a yes-or-no question, in bits, at `_STEPS` + 1 probabilities from 0 to 1."""
    p = np.arange(1, _STEPS) / _STEPS
    inner = -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
    return np.concatenate([[0.0], inner, [0.0]]).astype(np.float32)


_ENTROPY = _entropy_table()


def disagreement(answers: Sequence[np.ndarray]) -> np.ndarray:
    """The Jensen-Shannon divergence of the models' answers, in bits: entropy of the mean less the mean entropy.

    0 where all models give the same probability, be it 0.5, and 1 where half of them are sure of yes and half of no.
    One sure model against two makes 0.92.

    Parameters
    ----------
    answers : probabilities of each model, all of one shape, float32 0..1

    Returns
    -------
    float32 0..1 of the same shape

    Source: Lin, Divergence measures based on the Shannon entropy, IEEE Transactions on Information Theory 37, 1991.

    >>> disagreement([np.float32([0, 1, 0.5]), np.float32([0, 0, 0.5])])
    array([0., 1., 0.], dtype=float32)
    """
    total = np.zeros(answers[0].shape, np.float32)
    entropy = np.zeros_like(total)
    for answer in answers:
        total += answer
        entropy += _entropy(answer)
    return np.clip(_entropy(total / len(answers)) - entropy / len(answers), 0, 1)


def as_levels(values: np.ndarray) -> np.ndarray:
    """Values 0..1 as uint8 0..255, as `disagreement.nii.gz` holds them."""
    return np.rint(values * 255).astype(np.uint8)


def _entropy(probabilities: np.ndarray) -> np.ndarray:
    return _ENTROPY[np.rint(np.clip(probabilities, 0, 1) * _STEPS).astype(np.int32)]
