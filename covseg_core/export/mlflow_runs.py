"""A run as a run of MLflow: settings, metrics by epoch, test scores, tags, model card and model.

Needs `mlflow-skinny`, the optional extra `mlflow`. Where it is written to is MLflow's own setting
(`MLFLOW_TRACKING_URI`) unless it is said.
"""

from __future__ import annotations

import importlib
import math
from datetime import datetime
from typing import Any

from covseg_core.errors import CovsegError, RunError
from covseg_core.evaluation.stored_scores import stored_pooled
from covseg_core.export.model_card import model_card
from covseg_core.runs import Run
from covseg_core.runs.labels import read_labels
from covseg_core.runs.setting_values import setting_values

EXPERIMENT = "covseg"
"""Of MLflow: one for all, since MLflow compares within an experiment."""
LONGEST = 500
"""Characters of a parameter and of a tag that every MLflow takes."""
_BATCH = 1000
"""Metrics that MLflow takes at a time."""


def log_run(run: Run, uri: str = "") -> str:
    """Write the run to MLflow; returns MLflow's id of it.

    Raises
    ------
    CovsegError : MLflow is not installed, or does not take it
    """
    try:
        mlflow: Any = importlib.import_module("mlflow")
    except ImportError:
        raise CovsegError("mlflow", "is not installed", "pip install mlflow-skinny") from None
    card = model_card(run)
    try:
        return _log(mlflow, run, uri, card)
    except (mlflow.exceptions.MlflowException, OSError) as error:
        text = " ".join(str(error).split())[:300]
        raise CovsegError(uri or "MLFLOW_TRACKING_URI", text, "an MLflow that can be written to") from None


def _log(mlflow: Any, run: Run, uri: str, card: str) -> str:
    client = mlflow.MlflowClient(tracking_uri=uri or None)
    found = client.get_experiment_by_name(EXPERIMENT)
    experiment = found.experiment_id if found else client.create_experiment(EXPERIMENT)
    config, labels = run.config, read_labels(run)
    began = datetime.fromisoformat(config.created).timestamp()
    tags = {"covseg.run": run.id, "covseg.experiment": config.experiment, "mlflow.note.content": labels.note}
    tags |= {"covseg.tags": ", ".join(labels.tags)[:LONGEST], "covseg.fingerprint": config.fingerprint}
    made = client.create_run(
        experiment,
        start_time=round(1000 * began),
        run_name=labels.name or run.id,
        tags={name: value for name, value in tags.items() if value},
    )
    id = made.info.run_id
    settings = {"dataset": config.dataset, "metric": config.metric, **setting_values(config)}
    entities = mlflow.entities
    client.log_batch(id, params=[entities.Param(name, str(value)[:LONGEST]) for name, value in settings.items()])
    metrics = [
        entities.Metric(name, value, round(1000 * (began + row.get("total_seconds", 0.0))), int(row["epoch"]))
        for row in run.history()
        for name, value in row.items()
        if name != "epoch" and math.isfinite(value)
    ]
    metrics += [entities.Metric(f"test_{name}", value, round(1000 * began), 0) for name, value in _scores(run).items()]
    for start in range(0, len(metrics), _BATCH):
        client.log_batch(id, metrics=metrics[start : start + _BATCH])
    client.log_text(id, card, "model_card.md")
    for path in (run.onnx, run.folder / "config.json"):
        if path.is_file():
            client.log_artifact(id, str(path))
    state = run.status.state
    client.set_terminated(id, "FINISHED" if state == "finished" else "KILLED" if state == "stopped" else "FAILED")
    return id


def _scores(run: Run) -> dict[str, float]:
    try:
        return {name: value for name, value in stored_pooled(run).items() if value is not None}
    except RunError:
        return {}
