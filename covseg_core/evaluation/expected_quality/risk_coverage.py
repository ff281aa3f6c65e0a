"""What a review by expected Dice is worth: how good the masks are that nobody looks at, by how many are looked at.

Scans go to a person in the order of their expected Dice, the lowest first. The more go, the higher the mean Dice of
those that are kept as the models made them, if the order is any good; in random order it stays the same.

Source: Geifman and El-Yaniv, "Selective classification for deep neural networks", NeurIPS 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from covseg_core.prediction.expected_dice import KnownScan

SHARES = (0.0, 0.1, 0.2, 0.3, 0.5)
"""Reviewed, of the rows of a table."""


@dataclass(frozen=True)
class RiskCoverage:
    """Mean true Dice of the kept scans, by how many went to review."""

    reviewed: tuple[float, ...]
    """Share of the scans, from 0: none, one, two, ... of them."""
    expected: tuple[float, ...]
    """In the order of expected Dice."""
    ideal: tuple[float, ...]
    """In the order of true Dice, which nobody knows."""
    random: float
    """In random order, on average: the mean of all, however many go."""

    @property
    def gain(self) -> float:
        """Dice by which the kept scans are better than in random order, on average over all shares reviewed."""
        return float(np.mean(self.expected)) - self.random

    @property
    def share_of_ideal(self) -> float | None:
        """The same as a share of what the ideal order gains; None where all scans have the same Dice."""
        most = float(np.mean(self.ideal)) - self.random
        return self.gain / most if most > 1e-9 else None

    def rows(self) -> list[tuple[float, float, float]]:
        """Share reviewed, and mean Dice of the kept by expected and by ideal order, at the nearest smaller numbers."""
        places = [int(share * len(self.reviewed) + 1e-9) for share in SHARES]
        return [(self.reviewed[place], self.expected[place], self.ideal[place]) for place in dict.fromkeys(places)]


def risk_coverage(scans: Sequence[KnownScan]) -> RiskCoverage | None:
    """Of scans by what was expected of each without its patient; None where nothing was.

    Scans of which the same is expected go in random order, so that each counts with the mean of all of them.

    >>> scans = [KnownScan("", "", "test", 0, dice, dice) for dice in (0.9, 0.1, 0.5)]
    >>> found = risk_coverage(scans)
    >>> found.expected == found.ideal, [round(dice, 3) for dice in found.expected], found.random, found.share_of_ideal
    (True, [0.5, 0.7, 0.9], 0.5, 1.0)
    """
    known = [(scan.expected, scan.dice) for scan in scans if scan.expected is not None]
    if not known:
        return None
    expected, dice = np.array(known).T
    count = len(dice)
    _, place = np.unique(expected, return_inverse=True)
    level = (np.bincount(place, dice) / np.bincount(place))[place]
    return RiskCoverage(
        tuple((np.arange(count) / count).tolist()),
        tuple(_kept(level[np.argsort(expected, kind="stable")]).tolist()),
        tuple(_kept(np.sort(dice)).tolist()),
        float(dice.mean()),
    )


def _kept(dice: np.ndarray) -> np.ndarray:
    """(n,) mean of all, of all but the first, and so on."""
    return np.cumsum(dice[::-1])[::-1] / np.arange(len(dice), 0, -1)
