"""What there is, as tables for the pages: datasets and runs. One broken folder costs its row, not the page."""

from __future__ import annotations

from datetime import datetime

import pandas as pd

from covseg_core import runs
from covseg_core.config import METRICS, RunConfig
from covseg_core.data.library.datasets import Case, Dataset
from covseg_core.errors import CovsegError


def counts(dataset: Dataset) -> list[tuple[str, int | str, str | None]]:
    """Label, value and explanation of what there is in a dataset."""
    positive = _positive_slices(dataset)
    return [
        ("Cases", len(dataset.cases), "Scans with their masks"),
        ("Patients", len(dataset.patients), "In stacked scans, every slice counts as a patient"),
        ("Slices", sum(case.slices for case in dataset.cases), None),
        ("Positive slices", "none" if positive is None else positive, "Slices on which infection is outlined"),
    ]


def case_table(dataset: Dataset) -> pd.DataFrame:
    """A row a case."""
    return pd.DataFrame(
        [
            {
                "Case": case.id,
                "Patient": "one a slice" if case.stacked else case.patient,
                "Slices": case.slices,
                "Positive slices": case.positive_slices,
                "Masks": " and ".join(role for role in ("infection", "lung") if role in case.files) or "none",
                "Matrix": " x ".join(map(str, reversed(case.shape[1:]))),
                "Spacing (mm)": _spacing(case),
                "Axes": case.orientation,
                "Scale": case.scale,
                "Warnings": "; ".join(case.warnings),
            }
            for case in dataset.cases
        ]
    )


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
                "Metric": METRICS[config.metric].label + _fold(config) + _seed(config),
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


def newest_experiment(table: pd.DataFrame) -> list[str]:
    """Runs of the newest experiment, of a run table that is not empty."""
    return list(table[table["Experiment"] == table["Experiment"].iloc[0]]["Run"])


def _positive_slices(dataset: Dataset) -> int | None:
    counts = [case.infection_voxels for case in dataset.cases if case.infection_voxels is not None]
    return sum(voxels > 0 for case in counts for voxels in case) if counts else None


def _fold(config: RunConfig) -> str:
    split = config.split
    return f", fold {split.fold} of {split.folds}" if split.folds else ""


def _seed(config: RunConfig) -> str:
    train = config.train
    return f", seed {train.seed_number} of {train.seeds}" if train.seeds else ""


def _time(iso: str) -> datetime | None:
    """A stored time, for the browser to show in its own zone; None if it cannot be read."""
    try:
        return datetime.fromisoformat(iso)
    except ValueError:
        return None


def _spacing(case: Case) -> str:
    return " x ".join(f"{size:.3g}" for size in reversed(case.spacing)) if case.spacing_known else "unknown"
