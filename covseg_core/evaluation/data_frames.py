"""The comparison as data frames and as CSV files, every digit kept: for spreadsheets, papers and evidence."""

from __future__ import annotations

import pandas as pd

from covseg_core.config import METRICS
from covseg_core.evaluation import wording
from covseg_core.evaluation.measures import MEASURES
from covseg_core.evaluation.results import Comparison
from covseg_core.files import to_json


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
        "notes": list(dict.fromkeys(note for e in comparison.evaluations for note in e.notes)),
    }
    return {
        "about.json": to_json(about),
        "own_metric.csv": _csv(own_scores(comparison)),
        "scores.csv": _csv(scores_long(comparison)),
        "scans.csv": _csv(values_long(comparison, "scans")),
        "slices.csv": _csv(values_long(comparison, "slices")),
    }


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
    for name, scores in wording.predictors(comparison).items():
        for measure, kind in MEASURES.items():
            head = {"predictor": name, "measure": measure, "unit": units.get(kind.kind, "")}
            rows.append({**head, "level": "pooled", "value": scores.pooled[measure], "n": len(scores.slices)})
            for level, summaries in (("scans", scores.over_scans), ("slices", scores.over_slices)):
                if summary := summaries.get(measure):
                    spread = {"std": summary.std, "median": summary.median, "low": summary.low, "high": summary.high}
                    rows.append({**head, "level": level, "value": summary.mean, "n": summary.n, **spread})
                else:
                    rows.append({**head, "level": level, "value": None, "n": 0})
    return pd.DataFrame(rows)


def values_long(comparison: Comparison, level: str) -> pd.DataFrame:
    """A row for each predictor and scan, or slice, a column for each measure."""
    rows = []
    for name, scores in wording.predictors(comparison).items():
        for score in scores.scans if level == "scans" else scores.slices:
            where = {"predictor": name, "scan": score.case, "patient": score.patient}
            extra = {"slice": score.z} if hasattr(score, "z") else {"slices": score.slices}
            counts = {key: getattr(score.counts, key) for key in ("tp", "fp", "fn", "tn")}
            rows.append({**where, **extra, **counts, **score.values})
    return pd.DataFrame(rows)


def _csv(table: pd.DataFrame) -> bytes:
    return table.to_csv(index=False).encode()
