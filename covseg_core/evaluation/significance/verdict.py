"""Which of the models is better, if that can be said: one plain sentence a pair, with the numbers behind it.

A patient counts once, with the measure of all his evaluated slices together, however many scans he has. A difference is
called real only if the corrected p of the exact test is below 0.05 and the interval excludes 0. `statistics` computes.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from covseg_core.config import METRICS, Metric
from covseg_core.errors import SettingError
from covseg_core.evaluation import wording
from covseg_core.evaluation.measures import MEASURES, Counts, EmptyPolicy, overlap
from covseg_core.evaluation.results import Comparison, Evaluation
from covseg_core.evaluation.significance import paired_tests

COMPARED = ("dice", "iou", "mean_iou", "accuracy", "sensitivity", "specificity", "precision")
"""Measures that follow from counts, and so have a value for a patient; in all of them higher is better."""


@dataclass(frozen=True)
class Pair:
    """Two models on the same patients; differences are those of the first minus those of the second."""

    first: str
    """Letter of the model in the tables."""
    second: str
    same: bool
    """Both predict the same on every slice, so that there is nothing to test."""
    differences: tuple[float | None, ...]
    """Of each patient of the verdict; None where the measure of either model is undefined."""
    patients: int
    """Differences that are not undefined."""
    difference: float | None
    """Their mean."""
    low: float | None = None
    """Of the 95 % confidence interval; None for fewer patients than `statistics.FEWEST_FOR_INTERVAL`."""
    high: float | None = None
    p: float | None = None
    corrected_p: float | None = None
    """By Holm, for the number of pairs that are tested."""
    needed: int | None = None
    """Patients that would tell such a difference, see `statistics.patients_needed`."""
    better: str = ""
    """Letter of the model that is better; empty if they cannot be told apart."""
    sentence: str = ""

    @property
    def needed_words(self) -> str:
        """`43`, `more than 1,000`, or nothing."""
        if self.needed is None:
            return ""
        return f"more than {paired_tests.MOST:,}" if self.needed > paired_tests.MOST else f"{self.needed:,}"


@dataclass(frozen=True)
class Verdict:
    """All pairs of a comparison by one measure, in the order of the tables."""

    measure: str
    comparisons: int
    """Pairs that are tested: p is corrected for their number."""
    fewest: int
    """Patients below which such a test can never call a difference real."""
    patients: tuple[str, ...]
    pairs: tuple[Pair, ...]
    notes: tuple[str, ...]
    """How to read it, a sentence each."""


def verdict(comparison: Comparison, measure: str = "dice") -> Verdict:
    """Compare every two models of a comparison, patient by patient.

    Parameters
    ----------
    measure : one of `COMPARED`; where it is 0/0 for a patient, the evaluations' policy decides

    Raises
    ------
    SettingError : another measure
    """
    if measure not in COMPARED:
        raise SettingError("measure", repr(measure), ", ".join(COMPARED))
    models = dict(zip(wording.letters(), comparison.evaluations, strict=False))
    patients = tuple(dict.fromkeys(score.patient for score in comparison.evaluations[0].model.slices))
    values = {letter: _values(one, patients, measure) for letter, one in models.items()}
    counts = {letter: [score.counts for score in one.model.slices] for letter, one in models.items()}

    pairs = [
        _pair(first, second, counts[first] == counts[second], values[first] - values[second])
        for first, second in itertools.combinations(models, 2)
    ]
    tested = _judge([pair for pair in pairs if not pair.same and pair.patients])
    fewest = paired_tests.fewest_patients(max(1, len(tested)))
    judged = {(pair.first, pair.second): pair for pair in tested}
    pairs = [judged.get((pair.first, pair.second), pair) for pair in pairs]
    worded = tuple(dataclasses.replace(pair, sentence=_sentence(pair, models, fewest, measure)) for pair in pairs)
    return Verdict(measure, len(tested), fewest, patients, worded, tuple(_notes(tested, measure, fewest, comparison)))


def cells(pair: Pair) -> tuple[str, str, str, str, str, str]:
    """Difference, interval, n, p, corrected p and patients needed as text; empty where there is none."""
    difference = "" if pair.difference is None else f"{pair.difference:+z.4f}"
    edges = "" if pair.low is None or pair.high is None else f"{pair.low:+z.4f} to {pair.high:+z.4f}"
    return difference, edges, f"{pair.patients:,}", _chance(pair.p), _chance(pair.corrected_p), pair.needed_words


def spoken(letter: str, metrics: Mapping[str, Metric]) -> str:
    """A model in a sentence: `Dice model`, with its letter if there are several of its metric.

    >>> spoken("B", {"A": "iou", "B": "dice"}), spoken("B", {"A": "dice", "B": "dice"})
    ('Dice model', 'Dice model B')
    """
    several = list(metrics.values()).count(metrics[letter]) > 1
    return f"{METRICS[metrics[letter]].word} model" + (f" {letter}" if several else "")


def _values(evaluation: Evaluation, patients: Sequence[str], measure: str) -> np.ndarray:
    """(patients,) float, NaN where undefined."""
    pooled = dict.fromkeys(patients, Counts())
    for score in evaluation.model.slices:
        pooled[score.patient] += score.counts
    policy: EmptyPolicy = evaluation.policy
    return np.array([overlap(counts, policy)[measure] for counts in pooled.values()])


def _pair(first: str, second: str, same: bool, differences: np.ndarray) -> Pair:
    defined = differences[~np.isnan(differences)]
    plain = tuple(None if math.isnan(value) else value for value in differences.tolist())
    return Pair(first, second, same, plain, len(defined), float(defined.mean()) if len(defined) else None)


def _judge(tested: Sequence[Pair]) -> list[Pair]:
    """The pairs with intervals, p, and who is better."""
    if not tested:
        return []
    p = paired_tests.sign_flip_p(np.array([pair.differences for pair in tested], float)).tolist()
    judged = []
    for pair, chance, corrected in zip(tested, p, paired_tests.holm(p), strict=True):
        found = np.array([value for value in pair.differences if value is not None])
        needed = paired_tests.patients_needed(found, len(tested))
        low = high = None
        better = ""
        if len(found) >= paired_tests.FEWEST_FOR_INTERVAL:
            low, high = (float(edge) for edge in paired_tests.interval(found))
            if corrected < paired_tests.LEVEL:
                better = pair.first if low > 0 else pair.second if high < 0 else ""
        judged.append(
            dataclasses.replace(pair, low=low, high=high, p=chance, corrected_p=corrected, needed=needed, better=better)
        )
    return judged


def _sentence(pair: Pair, models: dict[str, Evaluation], fewest: int, measure: str) -> str:
    """The pair in words; the model with the higher mean comes first."""
    ahead, behind = pair.first, pair.second
    if (pair.difference or 0) < 0:
        ahead, behind = behind, ahead
    both = _both(ahead, behind, models)
    people = "test patient" if models[ahead].part == "test" else "patient"
    left_out = len(pair.differences) - pair.patients
    aside = f" ({left_out} left out: {_short(measure)} undefined)" if left_out else ""
    aside += ", partly seen in training" if models[ahead].leaky or models[behind].leaky else ""
    if pair.same:
        text = f"{both}: the same predictions."
    elif not pair.patients:
        text = f"{both} cannot be told apart: no {people} with a defined {_short(measure)}{aside}."
    elif pair.better:
        text = f"{_model(ahead, models)} better than {_model(behind, models)} by {_size(pair)}, {_n(pair)}{aside}."
    elif pair.patients < fewest:
        text = f"{both} cannot be told apart: {wording.plural(pair.patients, people)}{aside}."
    else:
        text = f"{both} cannot be told apart: difference {_size(pair)}, {_n(pair)}{aside}."
    if pair.needed is not None and not pair.better and pair.needed > pair.patients:
        about = "" if pair.needed > paired_tests.MOST else "about "
        text += f" To tell a difference of this size would take {about}{pair.needed_words} patients."
    return text[0].upper() + text[1:]


def _n(pair: Pair) -> str:
    return f"n = {wording.plural(pair.patients, 'patient')}"


def _size(pair: Pair) -> str:
    """`0.04 (0.01 to 0.07)`, of the model that is ahead, with as many digits as the interval is worth."""
    if pair.difference is None or pair.low is None or pair.high is None:
        return ""
    return wording.size(pair.difference, pair.low, pair.high, bool(pair.better))


def _model(letter: str, models: dict[str, Evaluation]) -> str:
    return spoken(letter, {letter: evaluation.metric for letter, evaluation in models.items()})


def _both(first: str, second: str, models: dict[str, Evaluation]) -> str:
    """`Dice and accuracy model`, or `Dice model A and Dice model B`."""
    one, other = _model(first, models), _model(second, models)
    return f"{one.removesuffix(' model')} and {other}"


def _chance(p: float | None) -> str:
    return "" if p is None else f"{p:.4f}"


def _short(measure: str) -> str:
    return MEASURES[measure].label.partition(" (")[0]


def _notes(tested: Sequence[Pair], measure: str, fewest: int, comparison: Comparison) -> list[str]:
    if not tested:
        return []
    several, folds = len(tested) > 1, any(evaluation.folds for evaluation in comparison.evaluations)
    corrected = f", corrected for {len(tested)} comparisons (Holm)" if several else ""
    notes = [
        f"A patient counts once, with the {_short(measure)} of all evaluated slices together. Intervals are of 95 %, "
        f"by bootstrap over patients; p is of a sign-flip test{corrected}."
    ]
    if any(pair.patients < fewest for pair in tested):
        of = f" of {len(tested)} comparisons" if several else ""
        notes.append(f"With fewer than {fewest} patients this test{of} can never call a difference real.")
        if comparison.part == "test" and not folds:
            notes.append("With folds every patient is a test patient: `covseg train --folds 5`, or Folds in the form.")
    notes.append("It is about these trained models: another seed, or other training data, gives other models.")
    if folds:
        notes.append("Patients of one fold share its models, so that intervals are a little too narrow.")
    if any(pair.needed for pair in tested):
        notes.append(
            "Patients needed: for a power of 80 %, if difference and spread are as found; from few patients a guess."
        )
    return notes
