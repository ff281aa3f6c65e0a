"""The comparison as data frames and as CSV files, every digit kept: for spreadsheets, papers and evidence."""

from __future__ import annotations

from typing import get_args

import pandas as pd

from covseg_core.config import METRICS
from covseg_core.evaluation import wording
from covseg_core.evaluation.measures import MEASURES
from covseg_core.evaluation.results import Comparison, Evaluation
from covseg_core.evaluation.seeds.over_seeds import Level, level_value, own_spread, spread
from covseg_core.files import to_json

_MEANS: tuple[Level, ...] = ("scans", "slices")


def files(comparison: Comparison) -> dict[str, bytes]:
    """All tables, a CSV file each, and what they are about as JSON, by file name."""
    first = comparison.evaluations[0]
    about = {
        "dataset": first.dataset,
        "fingerprint": first.fingerprint,
        "part": first.part,
        "split": first.split,
        "leaky": comparison.leaky,
        "slices": first.slices,
        "positive_slices": first.positive_slices,
        "scans": first.scans,
        "patients": first.patients,
        "target": first.target,
        "threshold": first.threshold,
        "policy": first.policy,
        "units": first.units,
        "runs": dict(zip(wording.model_names(comparison), (e.run for e in comparison.evaluations), strict=True)),
        "baselines": {scores.name: scores.description for scores in comparison.baselines},
        **_about_seeds(comparison),
        "notes": list(dict.fromkeys(note for e in comparison.evaluations for note in e.notes)),
    }
    tables = {
        "own_metric.csv": own_scores(comparison),
        "scores.csv": scores_long(comparison),
        "scans.csv": values_long(comparison, "scans"),
        "slices.csv": values_long(comparison, "slices"),
    }
    if wording.seeds(comparison):
        tables["seeds.csv"] = seeds_long(comparison)
    return {"about.json": to_json(about)} | {name: _csv(table) for name, table in tables.items()}


def own_scores(comparison: Comparison) -> pd.DataFrame:
    """The thesis's table: each model in its own metric."""
    return pd.DataFrame(
        [
            {
                "Model": name,
                "Score": METRICS[evaluation.metric].score_label,
                "Training [min]": evaluation.training_seconds / 60,
                "Train + validation": evaluation.own.train_validation,
                "Test": evaluation.own.test,
                **_own_over_seeds(evaluation, comparison),
                "Epochs": evaluation.epochs,
                "Loss": METRICS[evaluation.metric].loss_label,
                "Run": evaluation.run,
            }
            for name, evaluation in zip(wording.model_names(comparison), comparison.evaluations, strict=True)
        ]
    )


def scores_long(comparison: Comparison) -> pd.DataFrame:
    """A row for each predictor, level and measure, with every digit; empty where undefined."""
    units, rows = comparison.evaluations[0].units, []
    models = dict(zip(wording.model_names(comparison), comparison.evaluations, strict=True))
    for name, scores in wording.predictors(comparison).items():
        for measure, kind in MEASURES.items():
            head = {"predictor": name, "measure": measure, "unit": units.get(kind.kind, "")}
            pooled = {"level": "pooled", "value": scores.pooled[measure], "n": len(scores.slices)}
            rows.append({**head, **pooled, **_over_seeds(models.get(name), measure, "pooled")})
            for level in _MEANS:
                row: dict[str, object] = {**head, "level": level, "value": None, "n": 0}
                if summary := (scores.over_scans if level == "scans" else scores.over_slices).get(measure):
                    row |= {"value": summary.mean, "n": summary.n, "std": summary.std, "median": summary.median}
                    row |= {"low": summary.low, "high": summary.high}
                rows.append(row | _over_seeds(models.get(name), measure, level))
    return pd.DataFrame(rows)


def seeds_long(comparison: Comparison) -> pd.DataFrame:
    """A row for each seed of a model, level and measure."""
    rows = []
    for name, evaluation in zip(wording.model_names(comparison), comparison.evaluations, strict=True):
        for seed in evaluation.seeds:
            head = {"predictor": name, "number": seed.number, "seed": seed.seed, "run": seed.run}
            rows.append({**head, "measure": seed.own.metric, "level": "own", "value": seed.own.test})
            for measure in MEASURES:
                for level in get_args(Level):
                    value = level_value(seed.model, measure, level)
                    rows.append({**head, "measure": measure, "level": level, "value": value})
    return pd.DataFrame(rows)


def values_long(comparison: Comparison, level: str) -> pd.DataFrame:
    """A row for each predictor and scan, or slice, a column for each measure; counts are sums over seeds."""
    rows = []
    for name, scores in wording.predictors(comparison).items():
        for score in scores.scans if level == "scans" else scores.slices:
            where = {"predictor": name, "scan": score.case, "patient": score.patient}
            extra = {"slice": score.z} if hasattr(score, "z") else {"slices": score.slices}
            counts = {key: getattr(score.counts, key) for key in ("tp", "fp", "fn", "tn")}
            rows.append({**where, **extra, **counts, **score.values})
    return pd.DataFrame(rows)


def _over_seeds(evaluation: Evaluation | None, measure: str, level: Level) -> dict[str, object]:
    """Cells on the seeds' values; none for baselines and for models that were trained once."""
    summary = spread(evaluation, measure, level) if evaluation else None
    return {"seeds": summary.n, "std_over_seeds": summary.std} if summary else {}


def _own_over_seeds(evaluation: Evaluation, comparison: Comparison) -> dict[str, object]:
    """Columns on the seeds, if any model of the table has several."""
    if not wording.seeds(comparison):
        return {}
    summary = own_spread(evaluation)
    return {"Seeds": summary.n if summary else 1, "SD over seeds": summary.std if summary else None}


def _about_seeds(comparison: Comparison) -> dict[str, object]:
    if not wording.seeds(comparison):
        return {}
    named = zip(wording.model_names(comparison), comparison.evaluations, strict=True)
    seeds = {name: [seed.seed for seed in evaluation.seeds] for name, evaluation in named}
    return {"seeds": seeds, "counts": "of voxels, summed over seeds"}


def _csv(table: pd.DataFrame) -> bytes:
    return table.to_csv(index=False).encode()
