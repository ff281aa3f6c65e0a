"""How far readers agree who have looked at the same masks: their grades, their decisions, and what they have drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from covseg_core.data.library.datasets import Dataset
from covseg_core.data.library.reviews import GRADES, Review, latest
from covseg_core.data.library.revision import Role
from covseg_core.data.library.revisions import stored_mask


@dataclass(frozen=True)
class ReaderAgreement:
    """Two readers. What they have not done both is None."""

    readers: tuple[str, str]
    reviewed: int
    """Masks of which both have said what they think."""
    same_decision: float | None
    """Share of those masks that both accept, both correct or both reject."""
    graded: int
    """Masks that both have graded."""
    kappa: float | None
    """Cohen's kappa of their grades with quadratic weights: 1 as far as agreement goes, 0 what chance would give. None
    with fewer than two masks, or where all grades of both are the same one."""
    drawn: int
    """Cases of which both have drawn a mask."""
    dice: float | None
    """Mean over these cases of the Dice of the two masks, each the reader's last."""


def reader_agreement(dataset: Dataset, role: Role, reviews: Sequence[Review]) -> list[ReaderAgreement]:
    """Every two readers who have something in common.

    Raises
    ------
    DatasetError, ScanError : a mask that somebody has drawn cannot be read
    """
    said: dict[str, dict[object, Review]] = {}
    for review in latest(review for review in reviews if review.role == role):
        said.setdefault(review.reader, {})[review.mask] = review
    drawn = _drawn(dataset, role)
    found = []
    for pair in combinations(sorted({*said, *drawn}), 2):
        both = [said.get(name, {}) for name in pair]
        masks = [mask for mask in both[0] if mask in both[1]]
        reviewed = [(both[0][mask], both[1][mask]) for mask in masks]
        grades = [(a.grade, b.grade) for a, b in reviewed if a.grade is not None and b.grade is not None]
        dices = list(_dices(dataset, role, drawn.get(pair[0], {}), drawn.get(pair[1], {})))
        if reviewed or dices:
            same = float(np.mean([a.decision == b.decision for a, b in reviewed])) if reviewed else None
            mean = float(np.mean(dices)) if dices else None
            found.append(
                ReaderAgreement(pair, len(reviewed), same, len(grades), weighted_kappa(grades), len(dices), mean)
            )
    return found


def weighted_kappa(grades: Sequence[tuple[int, int]]) -> float | None:
    """Cohen's kappa of two readers' grades, with quadratic weights; None where it is not defined.

    1 - sum(w O) / sum(w E), with O how often each pair of grades was given, E how often it would be given if the two
    did not look at the same masks, and w = (a - b)^2.

    Source: J. Cohen, Weighted kappa: nominal scale agreement with provision for scaled disagreement or partial credit,
    Psychological Bulletin 70 (1968), 213-220.

    >>> weighted_kappa([(1, 1), (2, 2), (3, 3)])
    1.0
    >>> weighted_kappa([(1, 2), (2, 1), (1, 1), (2, 2)])
    0.0
    """
    if len(grades) < 2:
        return None
    size = max(GRADES) + 1
    counts = np.zeros((size, size))
    np.add.at(counts, tuple(np.transpose(grades)), 1)
    chance = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / counts.sum()
    place = np.arange(size)
    weights = (place[:, None] - place[None]) ** 2
    expected = float((weights * chance).sum())
    return None if expected == 0 else 1 - float((weights * counts).sum()) / expected


def _drawn(dataset: Dataset, role: Role) -> dict[str, dict[str, int]]:
    """Of each person the cases of which they have drawn a mask, and the number of the last one of each."""
    found: dict[str, dict[str, int]] = {}
    for case in dataset.cases:
        for mask in case.history(role, dataset.created):
            if mask.author:
                found.setdefault(mask.author, {})[case.id] = mask.number
    return found


def _dices(dataset: Dataset, role: Role, first: dict[str, int], second: dict[str, int]) -> Iterator[float]:
    for case in first.keys() & second.keys():
        a, b = (_mask(dataset, case, role, number) for number in (first[case], second[case]))
        total = int(np.count_nonzero(a)) + int(np.count_nonzero(b))
        yield 2 * int(np.count_nonzero(a & b)) / total if total else 1.0


def _mask(dataset: Dataset, case: str, role: Role, number: int) -> np.ndarray:
    then = dataset.as_of(number)
    return stored_mask(then, then.case(case), role)
