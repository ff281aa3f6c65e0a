"""How sure is a difference between models of which each was trained several times? Patients and seeds are both samples.

The mean difference varies with the patients that are tested and with the seeds that the models happen to have. The
interval and the test here count both. `docs/explanation/statistics.md` says how well the interval covers.

Sources: Bouthillier et al., "Accounting for Variance in Machine Learning Benchmarks", MLSys 2021, on why seeds have to
be drawn anew; Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 2007, on resampling rows and columns;
Satterthwaite, "An Approximate Distribution of Estimates of Variance Components", Biometrics Bulletin 1946.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from covseg_core.evaluation.significance.paired_tests import LEVEL, RESAMPLES, SEED


@dataclass(frozen=True)
class Error:
    """Of a mean difference between two models: the variance that patients cause, and the one that seeds add to it."""

    patients: float
    seeds: tuple[tuple[float, int], ...]
    """Of each model with several seeds: variance and degrees of freedom."""
    freedom: float
    """Of Student's distribution that has these variances."""

    @property
    def variance(self) -> float:
        return self.patients + sum(variance for variance, _ in self.seeds)


def error(first: np.ndarray, second: np.ndarray) -> Error:
    """How exact the mean difference is, from the spread of patients' differences and of each model's seeds.

    What a seed does to single patients is in the first already, and is taken out of the second.

    Parameters
    ----------
    first, second : (seeds, n) float, a value of each seed for each of n >= 2 patients

    >>> found = error(np.array([[0.5, 0.7], [0.7, 0.9]]), np.array([[0.5, 0.5]]))
    >>> round(found.patients, 4), [(round(variance, 4), df) for variance, df in found.seeds]
    (0.01, [(0.01, 1)])
    """
    n = first.shape[1]
    patients = float((first.mean(0) - second.mean(0)).var(ddof=1)) / n
    seeds = tuple((_seeds_variance(each), len(each) - 1) for each in (first, second) if len(each) > 1)
    return Error(patients, seeds, freedom(patients, n - 1, seeds))


def freedom(patients: float, df: int, seeds: tuple[tuple[float, int], ...]) -> float:
    """Degrees of freedom of a sum of variances, by Satterthwaite.

    >>> freedom(1.0, 9, ()), freedom(1.0, 9, ((1.0, 1),))  # 4 / (1 / 9 + 1)
    (9.0, 3.5999999999999996)
    """
    parts = [(patients, df), *seeds]
    below = sum(variance**2 / each for variance, each in parts)
    return float(sum(variance for variance, _ in parts) ** 2 / below) if below else float(df)


def interval(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """95 % confidence interval of the mean difference: patients and each model's seeds are drawn anew.

    The percentiles' distance from the mean is stretched, so that the spread of what was drawn becomes that of `error`
    and the tails those of Student's distribution: a bootstrap never leaves the range of the seeds, and that of few
    seeds is too narrow.

    Parameters
    ----------
    first, second : as `error`
    """
    from scipy import stats

    found, mean = error(first, second), float(first.mean() - second.mean())
    drawn = _resampled(first, second)
    if not (spread := drawn.std()):
        return mean, mean
    stretch = np.sqrt(found.variance) / spread * stats.t.isf(LEVEL / 2, found.freedom) / stats.norm.isf(LEVEL / 2)
    low, high = mean + stretch * (np.quantile(drawn, [LEVEL / 2, 1 - LEVEL / 2]) - mean)
    return float(low), float(high)


def t_test_p(first: np.ndarray, second: np.ndarray) -> float:
    """Two-sided p of no mean difference over all patients and seeds there could be; parameters as `error`."""
    from scipy import stats

    found, mean = error(first, second), float(first.mean() - second.mean())
    if not found.variance:
        return float(mean == 0)
    return float(2 * stats.t.sf(abs(mean) / np.sqrt(found.variance), found.freedom))


def _seeds_variance(values: np.ndarray) -> float:
    """(seeds, n): what the seeds add to the variance of the mean; at least 0.

    From a two-way layout without repetition, both random: (mean square of seeds - mean square of the rest) / all.
    """
    number, n = values.shape
    rows, columns = values.mean(1), values.mean(0)
    rest = values - rows[:, None] - columns[None] + values.mean()
    of_rest = float((rest**2).sum()) / ((number - 1) * (n - 1))
    return max(0.0, float(rows.var(ddof=1)) / number - of_rest / (number * n))


def _resampled(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(RESAMPLES,): mean differences over patients drawn with replacement, and seeds of each model likewise."""
    rng, batch = np.random.default_rng(SEED), max(1, 10_000_000 // first.shape[1])  # 80 MB at a time
    drawn = []
    for start in range(0, RESAMPLES, batch):
        times = min(batch, RESAMPLES - start)
        patients = _weights(rng, first.shape[1], times)
        ours, theirs = (((_weights(rng, len(each), times) @ each) * patients).sum(1) for each in (first, second))
        drawn.append(ours - theirs)
    return np.concatenate(drawn)


def _weights(rng: np.random.Generator, number: int, times: int) -> np.ndarray:
    """(times, number): how often each was drawn, as a share."""
    return rng.multinomial(number, np.full(number, 1 / number), times) / number
