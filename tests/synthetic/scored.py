"""Evaluations made of nothing but counts, for tests of what is concluded from them."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from covseg_core.config import METRICS, Metric
from covseg_core.evaluation.baselines import DESCRIPTIONS
from covseg_core.evaluation.measures import Counts, overlap
from covseg_core.evaluation.results import VERSION, Comparison, Evaluation, OwnScore, SeedScores
from covseg_core.evaluation.scores import ScanScore, Scores, SliceScore, Values, summarise
from covseg_core.evaluation.seeds.over_seeds import mean_scores

Row = tuple[str, str, Counts]
"""Patient, scan and counts of a slice."""


def of_dice(dice: float, size: int = 10_000) -> Counts:
    """A slice on which the Dice of two masks of one size is this, to four digits."""
    tp = round(dice * size)
    return Counts(tp, size - tp, size - tp, 10 * size)


def scores(name: str, rows: Sequence[Row], surfaces: bool = True) -> Scores:
    """A predictor, under the policy `nan`; surface measures of pairs that are not empty, or none at all."""
    seen: Counter[str] = Counter()
    slices = []
    for patient, case, counts in rows:
        slices.append(SliceScore(case, seen[case], patient, counts, values(counts, surfaces)))
        seen[case] += 1
    scans = []
    for case in dict.fromkeys(score.case for score in slices):
        own = [score for score in slices if score.case == case]
        counts = sum((score.counts for score in own), Counts())
        scans.append(ScanScore(case, own[0].patient, len(own), True, counts, values(counts, surfaces)))
    return summarise(name, DESCRIPTIONS.get(name, ""), scans, slices, "nan")


def values(counts: Counts, surfaces: bool) -> Values:
    found: Values = {name: None if math.isnan(value) else value for name, value in overlap(counts).items()}
    found |= (
        {"hd95": 2.5, "nsd": 0.5} if surfaces and counts.truth and counts.predicted else {"hd95": None, "nsd": None}
    )
    found["volume_difference"] = float(counts.fp - counts.fn)
    found["false_positive_volume"] = None if counts.truth else float(counts.fp)
    return found


def evaluation(metric: Metric, rows: Sequence[Row], surfaces: bool = True, **changes: object) -> Evaluation:
    """A run with these slices."""
    background = [(patient, case, Counts(fn=each.truth, tn=each.fp + each.tn)) for patient, case, each in rows]
    made = Evaluation(
        version=VERSION,
        created="2026-01-02T03:04:05+00:00",
        run=f"run-{metric}",
        metric=metric,
        model_sha256="",
        target="infection",
        dataset="ct20",
        fingerprint="f" * 64,
        part="test",
        split="patient",
        leaky=False,
        seen_patients=(),
        policy="nan",
        threshold=0.5,
        slices=len(rows),
        positive_slices=sum(counts.truth > 0 for _, _, counts in rows),
        scans=len({case for _, case, _ in rows}),
        patients=len({patient for patient, _, _ in rows}),
        spacing_known=True,
        units={"distance": "mm", "volume": "mL"},
        own=OwnScore(METRICS[metric].score, None, 0.5),
        training_seconds=90.0,
        epochs=3,
        model=scores("model", rows, surfaces),
        baselines=(scores("background", background, surfaces),),
        predictions=None,
        notes=(),
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def comparison(*evaluations: Evaluation) -> Comparison:
    first = evaluations[0]
    return Comparison(first.dataset, first.part, any(one.leaky for one in evaluations), evaluations)


def by_patient(models: dict[Metric, Sequence[float]], **changes: object) -> Comparison:
    """Models with a Dice for each patient, all in one slice."""
    rows = {
        metric: [(f"p{number}", f"s{number}", of_dice(dice)) for number, dice in enumerate(values)]
        for metric, values in models.items()
    }
    return comparison(*(evaluation(metric, slices, **changes) for metric, slices in rows.items()))


def seeded(metric: Metric, dice: np.ndarray, **changes: object) -> Evaluation:
    """A model of several seeds, from the Dice of each for each patient, (seeds, patients)."""
    each = [by_patient({metric: row}).evaluations[0] for row in dice.tolist()]
    seeds = tuple(
        SeedScores(number, f"run-{metric}-seed{number}", number, one.own, one.model)
        for number, one in enumerate(each, start=1)
    )
    changes = {"model": mean_scores([one.model for one in each]), "seeds": seeds} | changes
    return dataclasses.replace(each[0], **changes)  # type: ignore[arg-type]
