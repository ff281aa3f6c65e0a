"""How much the slices of one part look like those of another: what a model could score by remembering."""

from __future__ import annotations

import cv2
import numpy as np

from covseg_core.config import PrepareConfig
from covseg_core.data.library.datasets import Dataset
from covseg_core.data.slices.cache import prepared
from covseg_core.data.splitting.split import Selection

SIDE = 32
"""Of the pictures that are compared [pixels]: anatomy and large lesions remain, noise does not."""
_ROWS = 512
"""Slices that are compared at a time."""


def nearest(dataset: Dataset, test: Selection, train: Selection, prepare: PrepareConfig) -> np.ndarray:
    """Highest Pearson correlation of each test slice with any training slice, as the network sees them.

    Returns
    -------
    (N,) float32, -1..1, in the order of `test`; 0 for a slice of one grey value
    """
    tested, known = (_standardised(dataset, part, prepare) for part in (test, train))
    return np.concatenate([(tested[row : row + _ROWS] @ known.T).max(axis=1) for row in range(0, len(tested), _ROWS)])


def neighbours(dataset: Dataset, test: Selection, train: Selection) -> np.ndarray:
    """Whether the slice above or below each test slice is trained on, (N,) bool; unrelated slices have none."""
    found = []
    for id, chosen in test.items():
        known = set() if dataset.case(id).stacked else set(train.get(id, ()))
        found += [bool(known & {z - 1, z, z + 1}) for z in chosen]
    return np.array(found, bool)


def _standardised(dataset: Dataset, part: Selection, prepare: PrepareConfig) -> np.ndarray:
    """(N, SIDE * SIDE) float32, each row with mean 0 and length 1, so that products are correlations."""
    rows = []
    for id, chosen in part.items():
        images = prepared(dataset, dataset.case(id), prepare, "images")
        small = [cv2.resize(images[z], (SIDE, SIDE), interpolation=cv2.INTER_AREA).ravel() for z in chosen]
        rows.append(np.array(small, np.float32))
    pictures = np.concatenate(rows)
    pictures -= pictures.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(pictures, axis=1, keepdims=True)
    return pictures / np.where(lengths > 0, lengths, 1)
