"""Cross-validation: the patients (or slices) dealt into parts of nearly equal size, each of which is tested once.

With few patients a single test part is a matter of luck: which two people are in it decides the score. Every part is
the test of one fold, so that together the folds test everybody, each by a model that has not seen them.
"""

from __future__ import annotations

import numpy as np

from covseg_core.config import SplitConfig
from covseg_core.errors import DatasetError

DEALS = 200
TOLERANCE = 0.05
"""Sum of differences in shares by which a deal may be worse than the best, so that seeds differ on small datasets."""


def assign_fold(slices: np.ndarray, positives: np.ndarray, config: SplitConfig, name: str) -> np.ndarray:
    """Part of each unit in fold `config.fold`: 0 training, 1 validation, 2 test.

    The test is a part of `deal`. Of the rest, validation takes whole units that come closest to its share, which is
    that of `config.fractions` without the test.

    Parameters
    ----------
    slices, positives : (n,) int, slices and positive slices of each patient (or slice)
    config : with `folds` and `fold`
    name : of the dataset, for errors

    Raises
    ------
    DatasetError : there are too few units for this many folds
    """
    if len(slices) < config.folds + 1:
        found, expected = f"{len(slices)} {config.kind}(s)", f"at least {config.folds + 1} for {config.folds} folds"
        raise DatasetError(name, found, expected)
    tested = deal(slices, positives, config.folds, config.seed) == config.fold - 1
    rest = np.flatnonzero(~tested)
    if len(rest) < 2:
        found = f"fold {config.fold} tests all {config.kind}s but one"
        raise DatasetError(name, found, "more folds, so that one is left to validate on")
    part = np.where(tested, 2, 0)
    share = config.fractions[1] / (config.fractions[0] + config.fractions[1])
    part[rest[_validation(slices[rest], positives[rest], share, (config.seed, config.fold))]] = 1
    return part


def deal(slices: np.ndarray, positives: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Deal units into `folds` parts with nearly equal numbers of slices and of positive slices.

    In each of 200 orders, larger units rather first, every unit goes to the part that has least of what it brings. Of
    these deals the first is taken whose shares are as equal as any, but for a little.

    Returns
    -------
    (n,) int, 0 to folds - 1; no part is empty if there are as many units

    >>> deal(np.array([4, 4, 2, 2, 2, 2]), np.zeros(6, int), 2, 0).tolist().count(0)
    3
    """
    random = np.random.default_rng(seed)
    weights = np.stack([slices / slices.sum(), positives / max(positives.sum(), 1)], axis=1)
    order = np.argsort(-slices * random.uniform(0.5, 1, (DEALS, len(slices))), axis=1)
    loads, every = np.zeros((DEALS, folds, 2)), np.arange(DEALS)
    part = np.empty((DEALS, len(slices)), int)
    for unit in order.T:  # all deals at once: a split by slice has thousands of units
        added = weights[unit]
        # the sum of squares of all shares grows least in the part where load x added is smallest
        least = np.einsum("dfk,dk->df", loads, added).argmin(axis=1)
        loads[every, least] += added
        part[every, unit] = least
    distance = np.abs(loads[:, :, 0] - 1 / folds).sum(axis=1)
    if positives.any():
        distance += np.abs(loads[:, :, 1] - 1 / folds).sum(axis=1) + (loads[:, :, 1] == 0).sum(axis=1)
    return part[np.flatnonzero(distance <= distance.min() + TOLERANCE)[0]]


def _validation(slices: np.ndarray, positives: np.ndarray, share: float, seed: tuple[int, int]) -> np.ndarray:
    """Which units validate, (n,) bool: some and not all of them."""
    random = np.random.default_rng(seed)
    deals: list[tuple[float, np.ndarray]] = []
    for _ in range(DEALS):
        order = random.permutation(len(slices))
        reached = np.cumsum(slices[order])[:-1] / slices.sum()
        chosen = np.zeros(len(order), bool)
        chosen[order[: 1 + int(np.argmin(np.abs(reached - share)))]] = True
        distance = abs(slices[chosen].sum() / slices.sum() - share)
        if positives.any():
            has = positives[chosen].sum() / positives.sum()
            distance += abs(has - share) + (has == 0) + (has == 1)
        deals.append((float(distance), chosen))
    closest = min(distance for distance, _ in deals)
    return next(chosen for distance, chosen in deals if distance <= closest + TOLERANCE)
