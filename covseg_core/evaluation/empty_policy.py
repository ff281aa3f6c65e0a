"""The same evaluation under another policy for empty masks, without predicting or measuring anything again.

A policy only decides what 0/0 is worth. Overlap follows from the counts that every evaluation keeps; surface measures
depend on the policy only where both masks are empty, and there their values are known.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TypeVar

from covseg_core.evaluation import wording
from covseg_core.evaluation.measures import Counts, EmptyPolicy, overlap
from covseg_core.evaluation.results import Comparison, Evaluation
from covseg_core.evaluation.scores import ScanScore, Scores, SliceScore, Values, summarise
from covseg_core.evaluation.seeds.over_seeds import mean_scores

One = TypeVar("One", SliceScore, ScanScore)

WORDS: dict[EmptyPolicy, str] = {"nan": "left out", "one": "counted as perfect"}
"""What happens to slices and scans where truth and prediction are both empty."""


def with_policy(comparison: Comparison, policy: EmptyPolicy) -> Comparison:
    """The comparison as it would be, had it been evaluated under `policy`; itself if it was.

    A run's score in its own metric is pooled over what the network sees and does not depend on the policy.

    Raises
    ------
    SettingError : an unknown policy
    """
    overlap(Counts(), policy)  # raises
    if all(evaluation.policy == policy for evaluation in comparison.evaluations):
        return comparison
    baselines = tuple(_scores(scores, policy) for scores in comparison.baselines)
    evaluations = tuple(_evaluation(one, policy, baselines) for one in comparison.evaluations)
    return dataclasses.replace(comparison, evaluations=evaluations)


def order_change(comparison: Comparison) -> str:
    """A sentence if the policy decides the order of the models in mean Dice over slices, or over scans; else empty."""
    each = {policy: with_policy(comparison, policy) for policy in WORDS}
    changes = []
    for level in ("slices", "scans"):
        orders = {policy: _order(one, level) for policy, one in each.items()}
        if len(set(orders.values())) > 1:
            told = ", ".join(f"{orders[policy]} if {words}" for policy, words in WORDS.items())
            changes.append(f"over {level} ({told})")
    if not changes:
        return ""
    return f"The order of the models in mean Dice depends on how empty masks are scored: {' and '.join(changes)}."


def _evaluation(evaluation: Evaluation, policy: EmptyPolicy, baselines: tuple[Scores, ...]) -> Evaluation:
    """Of a model of several seeds the mean is taken anew: it does not follow from counts."""
    seeds = tuple(dataclasses.replace(seed, model=_scores(seed.model, policy)) for seed in evaluation.seeds)
    model = mean_scores([seed.model for seed in seeds]) if seeds else _scores(evaluation.model, policy)
    return dataclasses.replace(evaluation, policy=policy, model=model, baselines=baselines, seeds=seeds)


def _scores(scores: Scores, policy: EmptyPolicy) -> Scores:
    scans = [_replaced(scan, scan.whole, policy) for scan in scores.scans]
    slices = [_replaced(score, True, policy) for score in scores.slices]
    return summarise(scores.name, scores.description, scans, slices, policy)


def _replaced(score: One, surfaces: bool, policy: EmptyPolicy) -> One:
    """A slice or scan under another policy; `surfaces`: whether its surface measures are defined at all."""
    counts = score.counts
    if counts.truth and counts.tn + counts.fp:
        return score  # nothing is 0/0
    found: Values = {name: None if math.isnan(value) else value for name, value in overlap(counts, policy).items()}
    if surfaces and not counts.truth and not counts.predicted:
        found |= {"hd95": 0.0, "nsd": 1.0} if policy == "one" else {"hd95": None, "nsd": None}
    return dataclasses.replace(score, values=score.values | found)


def _order(comparison: Comparison, level: str) -> str:
    """Letters by mean Dice, best first: `C > A = B`; models without any are left out."""
    means: dict[float, list[str]] = {}
    for letter, evaluation in zip(wording.letters(), comparison.evaluations, strict=False):
        summary = (evaluation.model.over_slices if level == "slices" else evaluation.model.over_scans).get("dice")
        if summary is not None:
            means.setdefault(summary.mean, []).append(letter)
    return " > ".join(" = ".join(letters) for _, letters in sorted(means.items(), reverse=True))
