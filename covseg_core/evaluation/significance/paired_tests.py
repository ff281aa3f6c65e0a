"""Are paired differences more than chance? Confidence interval, exact test, correction, and the patients it would take.

Everything here is about differences between two models on the same patients, one number a patient.
`docs/explanation/statistics.md` says how well the interval covers and from how many patients on the test can find
anything.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import numpy as np

LEVEL = 0.05
"""Chance of calling a difference real that is none, over all comparisons together; intervals are of 95 %."""
POWER = 0.8
"""Chance of finding a difference that is there, for `patients_needed`."""
RESAMPLES = 9_999
SEED = 0
"""The same data give the same numbers."""
FEWEST_FOR_INTERVAL = 5
"""The bootstrap never leaves the range of the patients' differences, and that of 2, 3 or 4 patients covers the truth in
50, 75 or 88 of 100 studies at best: no interval of 95 %."""
MOST = 1_000
"""Patients beyond which `patients_needed` stops counting."""


def interval(differences: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """95 % confidence interval of mean differences: percentile bootstrap by patient, widened for small samples.

    Parameters
    ----------
    differences : (..., n) float, a number for each of n >= 2 patients

    Returns
    -------
    low, high : (...)

    Source: Hesterberg, "What Teachers Should Know About the Bootstrap", The American Statistician 2015: the expanded
    percentile interval.

    >>> low, high = interval(np.array([0.01, 0.02, 0.03, 0.04, 0.05, 0.06]))
    >>> round(float(low), 3), round(float(high), 3)
    (0.017, 0.053)
    """
    from scipy import stats

    found = stats.bootstrap(
        (differences,),
        np.mean,
        axis=-1,
        n_resamples=RESAMPLES,
        batch=max(1, 10_000_000 // max(1, differences.size)),  # 80 MB at a time
        confidence_level=expanded(differences.shape[-1]),
        method="percentile",
        rng=np.random.default_rng(SEED),
    )
    return found.confidence_interval.low, found.confidence_interval.high


def sign_flip_p(differences: np.ndarray) -> np.ndarray:
    """Two-sided p of every row of differences: how often are random signs as far from 0 as what was found?

    If two models are equally good, a patient's difference is as likely above as below 0 by the same amount. All signs
    are tried up to 13 patients, 9,999 random ones beyond.

    Parameters
    ----------
    differences : (rows, n) float; NaN for a patient that is left out of a row

    Returns
    -------
    p : (rows,), above 0

    Source: Fisher, "The Design of Experiments", 1935, section 21.

    >>> sign_flip_p(np.array([[0.1, 0.2, 0.3], [0.1, -0.1, np.nan]])).tolist()
    [0.25, 1.0]
    """
    from scipy import stats

    if differences.shape[1] == 1:
        return np.ones(len(differences))  # either sign is as far from 0
    found = stats.permutation_test(
        (np.nan_to_num(differences),),  # 0 has no sign: it changes no sum
        np.sum,
        permutation_type="samples",
        n_resamples=RESAMPLES,
        batch=500,
        axis=-1,
        vectorized=True,
        rng=np.random.default_rng(SEED),
    )
    return np.asarray(found.pvalue)


def holm(p: Sequence[float]) -> list[float]:
    """p corrected for their number, so that the chance of any false alarm stays below the level.

    Source: Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 1979.

    >>> holm([0.03, 0.01, 0.02])
    [0.04, 0.03, 0.04]
    """
    corrected, highest = [1.0] * len(p), 0.0
    for rank, index in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        highest = max(highest, min(1.0, (len(p) - rank) * p[index]))
        corrected[index] = highest
    return corrected


def fewest_patients(comparisons: int) -> int:
    """Patients below which the corrected test cannot call any difference real: of n, its lowest p is 2 / 2^n.

    >>> [fewest_patients(comparisons) for comparisons in (1, 2, 3, 6)]
    [6, 7, 7, 8]
    """
    return math.floor(math.log2(2 * comparisons / LEVEL)) + 1


def patients_needed(differences: np.ndarray, comparisons: int, seeds: Sequence[tuple[float, int]] = ()) -> int | None:
    """Patients that would tell a difference of this mean and spread in 4 of 5 studies: power of the paired t test.

    Parameters
    ----------
    differences : (n,) float
    comparisons : that the level is shared by
    seeds : variances of the mean that more patients do not lower, with their degrees of freedom

    Returns
    -------
    patients : not below `fewest_patients`; `MOST` + 1 for more than `MOST`; None if mean or spread is 0 or unknown
    """
    from scipy import stats

    if len(differences) < 2 or not np.std(differences) or not np.mean(differences):
        return None
    n = np.arange(fewest_patients(comparisons), MOST + 1)
    parts = [(np.var(differences, ddof=1) / n, n - 1), *seeds]
    variance = sum(each for each, _ in parts)
    df = variance**2 / sum(each**2 / df for each, df in parts)
    critical = stats.t.isf(LEVEL / comparisons / 2, df)
    effect = abs(np.mean(differences)) / np.sqrt(variance)
    power = stats.nct.sf(critical, df, effect)  # the other tail, a wrong verdict, is no success
    enough = np.flatnonzero(power >= POWER)
    return int(n[enough[0]]) if len(enough) else MOST + 1


def expanded(n: int) -> float:
    """Level of a percentile interval that is as wide as Student's with n - 1 degrees of freedom, on normal data."""
    from scipy import stats

    tail = stats.norm.cdf(math.sqrt(n / (n - 1)) * stats.t.ppf(LEVEL / 2, n - 1))
    return cast(float, 1 - 2 * tail)
