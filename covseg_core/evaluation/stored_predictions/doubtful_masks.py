"""Masks that models doubt: slices on which models that never saw them are sure of something else than the mask says.

A mask may be wrong there, or the model. Which of both, a person has to see; this says where looking is worth the time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from covseg_core.errors import SettingError
from covseg_core.evaluation.stored_predictions.scans import StoredScan, scans_of_test
from covseg_core.evaluation.stored_scores import stored_scores
from covseg_core.runs import Run

SURE = 0.8
"""Probability from which a model is sure of a pixel, either way."""
SMALL = 30
"""Pixels of the network's grid added to either side of the ratio, so that specks do not come first."""


@dataclass(frozen=True)
class Doubt:
    """A slice, or a whole case, and how far models agree with its mask."""

    case: str
    z: int
    """Of a case, its most doubtful slice."""
    agreement: float
    """0..1, as `agreement`; the mean over models."""
    missing: float
    """Pixels of the scan that the mask lacks, if the models are right; the mean over models."""
    surplus: float
    """Pixels of the mask that are none, if the models are right; the mean over models."""


def agreement(probabilities: np.ndarray, mask: np.ndarray) -> float:
    """Dice of mask and prediction that counts as wrong only what a model is sure of, and no thin rims.

    The border of a lesion is drawn by one pixel more or less by everybody. Pixels count as wrong where the model is at
    least `SURE`, in pieces that are wider than two pixels. With the pixels that both mark, it is
    (2 both + `SMALL`) / (2 both + wrong + `SMALL`).

    Parameters
    ----------
    probabilities : (H, W) 0..1
    mask : (H, W) bool

    >>> mask = np.zeros((40, 40), bool)
    >>> mask[10:20, 10:20] = True
    >>> agreement(mask.astype(np.float32), mask), agreement(np.roll(mask, 1).astype(np.float32), mask)
    (1.0, 1.0)
    >>> round(agreement(np.roll(mask, 10).astype(np.float32), mask), 3)
    0.13
    """
    return _judged(probabilities, mask)[0]


def doubts_of(runs: Sequence[Run]) -> list[Doubt]:
    """As `doubtful_slices`, of what finished runs have predicted on their test parts.

    Raises
    ------
    SettingError : they are of several datasets, or of several targets
    RunError : one was not evaluated
    CovsegError : as `scans_of_test`
    """
    if len(names := sorted({run.config.dataset for run in runs})) > 1:
        raise SettingError("runs", f"of the datasets {' and '.join(names)}", "runs of one dataset")
    if len({run.config.target for run in runs}) > 1:
        raise SettingError("runs", "models of infection and of lungs", "models of one target")
    return doubtful_slices(scan for run in runs for scan in scans_of_test(run, stored_scores(run)))


def doubtful_slices(scans: Iterable[StoredScan]) -> list[Doubt]:
    """Every slice, the most doubtful first.

    Parameters
    ----------
    scans : what models have predicted on scans that they did not learn from, as `scans.scans_of_test` reads it; the
        same scan several times, if several models have
    """
    found: dict[tuple[str, int], list[Doubt]] = {}
    for scan in scans:
        for z, values, mask in zip(scan.zs, scan.probabilities, scan.truth, strict=True):
            doubt = _doubt(scan, z, values.astype(np.float32), mask)
            found.setdefault((doubt.case, z), []).append(doubt)
    return _by_doubt(map(_mean, found.values()))


def doubtful_cases(slices: Iterable[Doubt]) -> list[Doubt]:
    """Every case, the most doubtful first: by the mean over its slices, which a single bad one does not decide."""
    cases: dict[str, list[Doubt]] = {}
    for doubt in slices:
        cases.setdefault(doubt.case, []).append(doubt)
    return _by_doubt(map(_mean, cases.values()))


def recall_among(found: Sequence[Doubt], wrong: set[tuple[str, int]], first: int) -> float:
    """Share of slices with a wrong mask, given by case and z, that is among the first so many."""
    return len({(doubt.case, doubt.z) for doubt in found[:first]} & wrong) / len(wrong)


def _doubt(scan: StoredScan, z: int, probabilities: np.ndarray, mask: np.ndarray) -> Doubt:
    agreed, missing, surplus = _judged(probabilities, mask)
    return Doubt(scan.case.id, z, agreed, missing * scan.pixels, surplus * scan.pixels)


def _judged(probabilities: np.ndarray, mask: np.ndarray) -> tuple[float, int, int]:
    """Agreement, and pixels that the mask lacks and has too many, as far as the model is sure, without thin rims."""
    missing, surplus = _thick((probabilities >= SURE) & ~mask), _thick((probabilities <= 1 - SURE) & mask)
    both = int(np.count_nonzero((probabilities >= 0.5) & mask))
    return (2 * both + SMALL) / (2 * both + missing + surplus + SMALL), missing, surplus


def _thick(wrong: np.ndarray) -> int:
    """How many pixels lie in pieces that are wider than two."""
    import cv2

    if not wrong.any():
        return 0
    return int(np.count_nonzero(cv2.morphologyEx(wrong.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))))


def _mean(doubts: Sequence[Doubt]) -> Doubt:
    """Of one slice by several models, or of the slices of one case, of which the first is the most doubtful."""
    agreed, missing, surplus = (
        float(np.mean([getattr(doubt, name) for doubt in doubts])) for name in ("agreement", "missing", "surplus")
    )
    return Doubt(doubts[0].case, doubts[0].z, agreed, missing, surplus)


def _by_doubt(doubts: Iterable[Doubt]) -> list[Doubt]:
    return sorted(doubts, key=lambda doubt: (doubt.agreement, doubt.case, doubt.z))
