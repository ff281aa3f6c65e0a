"""Which models the Quick prediction page offers, and which it has chosen already."""

from __future__ import annotations

from collections.abc import Sequence

from covseg_core.config import METRICS, Target
from covseg_core.files import cached_sha256
from covseg_core.runs.lung_model import LUNGS
from dashboard.services.model_catalog import ListedRun, finished_runs, newest, shipped_runs

RECOMMENDED = ("infection", LUNGS)
"""Of the shipped models, one for each target."""
TARGETS: dict[Target, str] = {"infection": "Infection", "lung": "Lungs"}


def offered() -> list[ListedRun]:
    """What can be asked, the newest first, shipped models last; of an experiment accuracy, IoU, Dice."""
    return [one for one in (*finished_runs(), *shipped_runs()) if one.run.onnx.is_file()]


def recommended(model: ListedRun) -> bool:
    """Whether it is the shipped model to begin with."""
    return model.shipped and model.id in RECOMMENDED


def preselected(models: Sequence[ListedRun]) -> list[str]:
    """The recommended shipped model, whatever was trained since: a training on five phantoms says nothing about a scan.

    Without it, of the newest experiment that is finished the models that differ; of a cross-validation all folds of one
    metric, of several seeds all seeds, of folds and seeds the folds of one seed. One by patient comes before one by
    slice, whose scores say less about a new patient.
    """
    if best := [one.id for one in models if recommended(one)]:
        return best
    own = [one for one in models if not one.shipped]
    chosen = newest([one for one in own if one.config.split.kind == "patient"] or own) or list(models)
    if not chosen:
        return []
    metrics = [one.config.metric for one in chosen]
    metric = "dice" if "dice" in metrics else metrics[0]
    of_metric = [one for one in chosen if one.config.metric == metric]
    first, folds = of_metric[0].config.train, chosen[0].config.split.folds
    if folds or first.seeds:
        return [one.id for one in of_metric if not folds or one.config.train.seed_number == first.seed_number]
    different = {cached_sha256(one.run.onnx): one.id for one in chosen}
    return [one.id for one in chosen if one.id in different.values()]


def same_models(models: Sequence[ListedRun]) -> str:
    """Which of the models are one and the same, in one sentence; empty if none."""
    by_weights: dict[str, list[str]] = {}
    for one in models:
        by_weights.setdefault(cached_sha256(one.run.onnx), []).append(METRICS[one.config.metric].label)
    twins = [" and ".join(names) for names in by_weights.values() if len(names) > 1]
    return f"{'; '.join(twins)} have the same weights: one opinion is counted more than once." if twins else ""
