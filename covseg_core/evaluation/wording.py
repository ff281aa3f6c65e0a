"""The comparison in words and cells, so that command line and dashboard say the same."""

from __future__ import annotations

import math
import string
from collections.abc import Iterator, Sequence

from covseg_core.config import METRICS, Metric
from covseg_core.evaluation.measures import MEASURES
from covseg_core.evaluation.results import Comparison, Evaluation
from covseg_core.evaluation.scores import Scores, Summary

TWO_IOUS = (
    "The mean IoU of two classes is higher than the IoU of the foreground, about (1 + IoU) / 2, because the background "
    "counts as a class, and nearly all of it is right."
)
"""Why the same prediction has two IoUs."""
_MOST_DIGITS = 6


def letters() -> Iterator[str]:
    """A to Z, then A1 and so on: short names of the runs in the tables' heads."""
    return (letter + suffix for suffix in ("", *map(str, range(1, 100))) for letter in string.ascii_uppercase)


def model_names(comparison: Comparison) -> list[str]:
    """`A · Accuracy`, `B · IoU`, ...: heads of columns and legends."""
    return names_of([evaluation.metric for evaluation in comparison.evaluations])


def names_of(metrics: Sequence[Metric]) -> list[str]:
    """The same for models that were not compared yet."""
    return [f"{letter} · {METRICS[metric].label}" for letter, metric in zip(letters(), metrics, strict=False)]


def predictors(comparison: Comparison) -> dict[str, Scores]:
    """Models and baselines, by the name their column has."""
    models = zip(model_names(comparison), comparison.evaluations, strict=True)
    return {name: evaluation.model for name, evaluation in models} | {
        baseline_name(scores): scores for scores in comparison.baselines
    }


def baseline_name(scores: Scores) -> str:
    """As tables and figures call a baseline: `threshold` is one of grey values, not of probabilities."""
    return "HU threshold" if scores.name == "threshold" else scores.name.capitalize()


def header(comparison: Comparison) -> str:
    """What was evaluated, how much of it, how it was split, and whether that leaks."""
    first = comparison.evaluations[0]
    part = "test part" if comparison.part == "test" else "all slices"
    leak = ", LEAKY: patients seen in training" if comparison.leaky else ""
    much = f"{plural(first.slices, 'slice')} ({first.positive_slices} with {first.target})"
    much += f", {plural(first.scans, 'scan')}, {plural(first.patients, 'patient')}"
    trained = f"{words}; " if (words := seeds(comparison)) else ""
    return (
        f"{comparison.dataset}, {part}: n = {much}; split by {splits(comparison)}{leak}; {trained}"
        f"threshold {first.threshold:g}; empty pairs: {first.policy}"
    )


def splits(comparison: Comparison) -> str:
    """How the runs' data were split: `patient`, `slice`, or both; of a cross-validation, into how many folds."""
    folds = comparison.evaluations[0].folds
    kinds = " and ".join(dict.fromkeys(evaluation.split for evaluation in comparison.evaluations))
    return kinds + (f", {plural(folds, 'fold')}" if folds else "")


def seeds(comparison: Comparison) -> str:
    """Over how many seeds the models are: `5 seeds`, or `5 and 1 seeds` where they differ; empty for models of one."""
    if not any(evaluation.seeds for evaluation in comparison.evaluations):
        return ""
    counts = list(dict.fromkeys(max(1, len(evaluation.seeds)) for evaluation in comparison.evaluations))
    return plural(counts[0], "seed") if len(counts) == 1 else f"{' and '.join(map(str, counts))} seeds"


def several_seeds(comparison: Comparison) -> str:
    """The same where there is a spread over seeds to be told; empty if no more than one of them counts."""
    return seeds(comparison) if any(len(evaluation.seeds) > 1 for evaluation in comparison.evaluations) else ""


def same_models(evaluations: Sequence[Evaluation]) -> str:
    """A sentence on models that predict the same, since a reader would take it for a mistake of the table.

    The same means: as many right and wrong voxels on every slice. Empty if no two do.
    """
    groups: dict[tuple[object, ...], list[tuple[str, Evaluation]]] = {}
    for letter, evaluation in zip(letters(), evaluations, strict=False):
        groups.setdefault(tuple(score.counts for score in evaluation.model.slices), []).append((letter, evaluation))
    same = [group for group in groups.values() if len(group) > 1]
    if not same:
        return ""
    names = " and ".join(", ".join(letter for letter, _ in group) for group in same)
    if all(len({METRICS[evaluation.metric].loss for _, evaluation in group}) == 1 for group in same):
        why = "runs of one loss and one seed train alike, and the metric only picks their best epoch"
        return f"{names} predict the same: {why}."
    return f"{names} predict the same on these slices, although their losses differ: look at what they predict."


def plural(count: int, word: str) -> str:
    """`1 scan`, `2 scans`, `1,200 slices`."""
    return f"{count:,} {word}" + ("" if count == 1 else "s")


def number(value: float | None, measure: str, digits: int) -> str:
    """A share with its digits; a distance or volume with at most one. Empty for None.

    >>> number(0.74451, "dice", 4), number(21158.0, "volume_difference", 4), number(None, "dice", 4)
    ('0.7445', '21,158', '')
    """
    if value is None:
        return ""
    if MEASURES[measure].kind == "share":
        return f"{value:.{digits}f}"
    return f"{value:,.1f}" if abs(value) < 1000 else f"{value:,.0f}"


def spread(summary: Summary | None, measure: str, digits: int = 3) -> str:
    """Mean ± standard deviation; the mean alone for a single value, empty for none."""
    if summary is None:
        return ""
    deviation = number(summary.std, measure, digits)
    return number(summary.mean, measure, digits) + (f" ± {deviation}" if deviation else "")


def over_seeds(summary: Summary | None, measure: str, digits: int = 3) -> str:
    """`± 0.012`, the standard deviation over seeds; empty for a model of one seed."""
    deviation = "" if summary is None else number(summary.std, measure, digits)
    return f"± {deviation}" if deviation else ""


def size(difference: float, low: float, high: float, real: bool) -> str:
    """A difference without its sign, and its interval the same way round, with as many digits as that is worth.

    Parameters
    ----------
    real : it is called a difference, so that no edge may be rounded to 0

    >>> size(-0.0421, -0.0713, -0.0032, True), size(0.0421, -0.01, 0.09, False)
    ('0.042 (0.003 to 0.071)', '0.04 (-0.01 to 0.09)')
    """
    low, high = (low, high) if difference >= 0 else (-high, -low)
    width = high - low
    digits = min(_MOST_DIGITS, max(2, -math.floor(math.log10(width)))) if width else 2
    while real and round(low, digits) == 0 and digits < _MOST_DIGITS:
        digits += 1  # "better by 0.04 (0.00 to 0.07)" would contradict itself
    return f"{abs(difference):z.{digits}f} ({low:z.{digits}f} to {high:z.{digits}f})"


def label(measure: str, units: dict[str, str]) -> str:
    """A measure's name with its unit: `HD95 in px`."""
    kind = MEASURES[measure].kind
    return MEASURES[measure].label + (f" in {units[kind]}" if kind in units else "")
