"""What there is, as tables for the pages: datasets and runs. One broken folder costs its row, not the page."""

from __future__ import annotations

from datetime import datetime

import pandas as pd

from covseg_core import runs
from covseg_core.config import Metric
from covseg_core.data import datasets
from covseg_core.data.datasets import Dataset
from covseg_core.errors import CovsegError

METRIC_NAMES: dict[Metric, str] = {"accuracy": "Accuracy", "iou": "IoU", "dice": "Dice"}


def load_datasets() -> tuple[list[Dataset], list[str]]:
    """All datasets that can be read, and one line for each that cannot."""
    loaded, problems = [], []
    for name in datasets.list_datasets():
        try:
            loaded.append(datasets.load_dataset(name))
        except CovsegError as error:
            problems.append(str(error))
    return loaded, problems


def dataset_table(loaded: list[Dataset]) -> pd.DataFrame:
    """A row a dataset. `Positive slices` are those with infection; it is missing where no case has infection masks."""
    return pd.DataFrame(
        [
            {
                "Dataset": dataset.name,
                "Cases": len(dataset.cases),
                "Patients": len(dataset.patients),
                "Slices": sum(case.slices for case in dataset.cases),
                "Positive slices": _positive_slices(dataset),
                "Lung masks": sum(case.lung is not None for case in dataset.cases),
                "Warnings": sum(len(case.warnings) for case in dataset.cases),
                "Added": _time(dataset.created),
            }
            for dataset in loaded
        ],
        columns=["Dataset", "Cases", "Patients", "Slices", "Positive slices", "Lung masks", "Warnings", "Added"],
    )


def warnings(loaded: list[Dataset]) -> list[dict[str, str]]:
    """What the import found odd, a row a warning."""
    return [
        {"Dataset": dataset.name, "Case": case.id, "Warning": warning}
        for dataset in loaded
        for case in dataset.cases
        for warning in case.warnings
    ]


def run_table() -> tuple[pd.DataFrame, list[str]]:
    """A row a run, newest first, and one line for each run that cannot be read."""
    rows, problems = [], []
    for run in runs.list_runs():
        try:
            config, status = run.config, run.status
        except CovsegError as error:
            problems.append(str(error))
            continue
        rows.append(
            {
                "Run": run.id,
                "State": status.state.capitalize(),
                "Dataset": config.dataset,
                "Metric": METRIC_NAMES[config.metric],
                "Preset": config.preset,
                "Epochs": status.epoch / status.epochs if status.epochs else 0.0,
                "Device": status.device,
                "Reason": status.reason,
                "Created": _time(config.created),
                "Experiment": config.experiment,
            }
        )
    columns = ["Run", "State", "Dataset", "Metric", "Preset", "Epochs", "Device", "Reason", "Created", "Experiment"]
    table = pd.DataFrame(rows, columns=columns)
    return table.sort_values("Created", ascending=False, ignore_index=True, kind="stable"), problems


def comparable(table: pd.DataFrame) -> list[str]:
    """Runs of the newest experiment, once all of them have finished; of a run table."""
    newest = table[table["Experiment"] == table["Experiment"].iloc[0]]
    return list(newest["Run"]) if (newest["State"] == "Finished").all() else []


def _positive_slices(dataset: Dataset) -> int | None:
    counts = [case.infection_voxels for case in dataset.cases if case.infection_voxels is not None]
    return sum(voxels > 0 for case in counts for voxels in case) if counts else None


def _time(iso: str) -> datetime | None:
    """A stored time, for the browser to show in its own zone; None if it cannot be read."""
    try:
        return datetime.fromisoformat(iso)
    except ValueError:
        return None
