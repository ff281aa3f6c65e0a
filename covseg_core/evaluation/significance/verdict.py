"""Which of the models is better, if that can be said: one plain sentence a pair, with the numbers behind it.

A patient counts once, with the measure of all his evaluated slices together, however many scans he has. A difference
is called real only if the corrected p of the exact test is below 0.05 and the interval excludes 0. `paired_tests`
computes; for models of several seeds `seeds` does, which counts that other seeds give other models.
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
from covseg_core.evaluation.scores import Scores
from covseg_core.evaluation.significance import paired_tests, seeds

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
    """Of the sign-flip test; with seeds the larger of this and that of `seeds.t_test_p`."""
    corrected_p: float | None = None
    """By Holm, for the number of pairs that are tested."""
    needed: int | None = None
    """Patients that would tell such a difference, see `statistics.patients_needed`."""
    seeds: tuple[int, int] = (1, 1)
    """How often either model was trained; more than once: interval and p count the seeds as well."""
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
    counts = {
        letter: [[score.counts for score in scores.slices] for scores in _seeds(one)] for letter, one in models.items()
    }

    pairs = [
        _pair(first, second, counts[first] == counts[second], values[first], values[second])
        for first, second in itertools.combinations(models, 2)
    ]
    tested = _judge([pair for pair in pairs if not pair.same and pair.patients], values)
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
    """(seeds, patients) float, one row for a model that was trained once; NaN where undefined."""
    policy: EmptyPolicy = evaluation.policy
    rows = []
    for scores in _seeds(evaluation):
        pooled = dict.fromkeys(patients, Counts())
        for score in scores.slices:
            pooled[score.patient] += score.counts
        rows.append([overlap(counts, policy)[measure] for counts in pooled.values()])
    return np.array(rows)


def _seeds(evaluation: Evaluation) -> list[Scores]:
    """Of each seed; of a model that was trained once its own."""
    return [seed.model for seed in evaluation.seeds] or [evaluation.model]


def _pair(first: str, second: str, same: bool, ours: np.ndarray, theirs: np.ndarray) -> Pair:
    differences = ours.mean(0) - theirs.mean(0)
    defined = differences[~np.isnan(differences)]
    plain = tuple(None if math.isnan(value) else value for value in differences.tolist())
    mean = float(defined.mean()) if len(defined) else None
    return Pair(first, second, same, plain, len(defined), mean, seeds=(len(ours), len(theirs)))


def _judge(tested: Sequence[Pair], values: dict[str, np.ndarray]) -> list[Pair]:
    """The pairs with intervals, p, and who is better."""
    if not tested:
        return []
    flips = paired_tests.sign_flip_p(np.array([pair.differences for pair in tested], float)).tolist()
    sides = [_defined(values[pair.first], values[pair.second]) for pair in tested]
    p = [max(flip, _seeds_p(*both)) for flip, both in zip(flips, sides, strict=True)]
    judged = []
    for pair, both, chance, corrected in zip(tested, sides, p, paired_tests.holm(p), strict=True):
        found = both[0].mean(0) - both[1].mean(0)
        needed = paired_tests.patients_needed(found, len(tested), _seeds_error(*both))
        low = high = None
        better = ""
        if len(found) >= paired_tests.FEWEST_FOR_INTERVAL:
            several = max(pair.seeds) > 1
            low, high = seeds.interval(*both) if several else map(float, paired_tests.interval(found))
            if corrected < paired_tests.LEVEL:
                better = pair.first if low > 0 else pair.second if high < 0 else ""
        judged.append(
            dataclasses.replace(pair, low=low, high=high, p=chance, corrected_p=corrected, needed=needed, better=better)
        )
    return judged


def _defined(*sides: np.ndarray) -> tuple[np.ndarray, ...]:
    """(seeds, n) each: the patients for whom no seed of either model is undefined."""
    known = ~np.isnan(np.concatenate(sides)).any(0)
    return tuple(side[:, known] for side in sides)


def _seeds_p(ours: np.ndarray, theirs: np.ndarray) -> float:
    """That seeds and patients both are chance; 0, which decides nothing, for models that were trained once."""
    return seeds.t_test_p(ours, theirs) if ours.shape[1] > 1 and max(len(ours), len(theirs)) > 1 else 0.0


def _seeds_error(ours: np.ndarray, theirs: np.ndarray) -> tuple[tuple[float, int], ...]:
    return seeds.error(ours, theirs).seeds if ours.shape[1] > 1 else ()


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
        text = f"{both} cannot be told apart: {wording.plural(pair.patients, people)}{_over_seeds(pair)}{aside}."
    else:
        text = f"{both} cannot be told apart: difference {_size(pair)}, {_n(pair)}{aside}."
    if pair.needed is not None and not pair.better and pair.needed > pair.patients:
        about = "" if pair.needed > paired_tests.MOST else "about "
        alike = " with as many seeds" if max(pair.seeds) > 1 else ""
        text += f" To tell a difference of this size{alike} would take {about}{pair.needed_words} patients."
    return text[0].upper() + text[1:]


def _n(pair: Pair) -> str:
    return f"n = {wording.plural(pair.patients, 'patient')}{_over_seeds(pair)}"


def _over_seeds(pair: Pair) -> str:
    """`, over 5 seeds each`, or with the number of either in the order of the letters."""
    one, other = pair.seeds
    if max(one, other) == 1:
        return ""
    return f", over {one} seeds each" if one == other else f", over {one} and {other} seeds"


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
    trained = [max(1, len(evaluation.seeds)) for evaluation in comparison.evaluations]
    over, test = "patients", "of a sign-flip test"
    if max(trained) > 1:
        over, test = "patients and seeds", "the larger of a sign-flip test over patients and a t test over both"
    notes = [
        f"A patient counts once, with the {_short(measure)} of all evaluated slices together. Intervals are of 95 %, "
        f"by bootstrap over {over}; p is {test}{corrected}."
    ]
    if any(pair.patients < fewest for pair in tested):
        of = f" of {len(tested)} comparisons" if several else ""
        notes.append(f"With fewer than {fewest} patients this test{of} can never call a difference real.")
        if comparison.part == "test" and not folds:
            notes.append("With folds every patient is a test patient: `covseg train --folds 5`, or Folds in the form.")
    notes.append(_about(trained))
    if folds:
        notes.append("Patients of one fold share its models, so that intervals are a little too narrow.")
    if any(pair.needed for pair in tested):
        notes.append(
            "Patients needed: for a power of 80 %, if difference and spread are as found; from few patients a guess."
        )
    return notes


def _about(trained: Sequence[int]) -> str:
    """What the verdict is about, by how often each model was trained."""
    if max(trained) == 1:
        return "It is about these trained models: another seed, or other training data, gives other models."
    if min(trained) > 1:
        few = " Two or three seeds say little about others." if min(trained) < 4 else ""
        return f"It counts that other seeds give other models; so do other training data, which it does not.{few}"
    return "Seeds count where a model has several; for one that was trained once, another seed gives another model."
