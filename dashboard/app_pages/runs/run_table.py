"""Runs and experiments as tables of a row each. No Streamlit here."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import pandas as pd

from covseg_core.config import METRICS, RunConfig
from covseg_core.runs import setting_values
from dashboard.app_pages.runs.rows import RunRow, states

CHOSEN, NAME, TAGS, NOTE = "Choose", "Name", "Tags", "Note"
EDITED = (CHOSEN, NAME, TAGS, NOTE)
"""Columns that people write in."""
TEST, VALIDATION = "Test Dice", "Validation Dice"
SHIPPED = "Shipped"


def run_table(rows: Sequence[RunRow], chosen: set[str]) -> pd.DataFrame:
    """A row a run; of its settings those in which the runs differ."""
    different = setting_values.differing([row.config for row in rows])
    values = [setting_values.setting_values(row.config) for row in rows]
    return pd.DataFrame(
        [
            {
                CHOSEN: row.id in chosen,
                NAME: row.labels.name,
                "Run": row.id,
                "Dataset": row.config.dataset,
                "Metric": METRICS[row.config.metric].label + _fold(row.config) + _seed(row.config),
                TEST: row.test,
                VALIDATION: row.validation,
                "State": SHIPPED if row.listed.shipped else row.status.state.capitalize(),
                TAGS: list(row.labels.tags),
                NOTE: row.labels.note,
                "Epochs": row.status.epoch / row.status.epochs if row.status.epochs else 0.0,
                "Training": row.status.seconds,
                "Created": _time(row.config.created),
                **{setting_values.label(name): settings.get(name) for name in different},
                "Device": row.status.device,
                "Reason": row.status.reason,
            }
            for row, settings in zip(rows, values, strict=True)
        ]
    )


def experiment_table(groups: Sequence[Sequence[RunRow]], chosen: set[str]) -> pd.DataFrame:
    """A row an experiment, with what its runs have in common."""
    return pd.DataFrame(
        [
            {
                CHOSEN: all(row.id in chosen for row in rows),
                NAME: _common([row.labels.name for row in rows]),
                "Experiment": rows[0].id if rows[0].listed.shipped else rows[0].config.experiment,
                "Runs": len(rows),
                "Dataset": rows[0].config.dataset,
                "Metrics": ", ".join(dict.fromkeys(METRICS[row.config.metric].label for row in rows)),
                f"Best {TEST}": _best([row.test for row in rows]),
                f"Best {VALIDATION}": _best([row.validation for row in rows]),
                "State": SHIPPED if rows[0].listed.shipped else states(rows),
                TAGS: common_tags(rows),
                NOTE: _common([row.labels.note for row in rows]),
                "Training": sum(row.status.seconds for row in rows),
                "Created": _time(rows[0].config.created),
            }
            for rows in groups
        ]
    )


def common_tags(rows: Sequence[RunRow]) -> list[str]:
    """Tags of all of these runs, in the order of the first one."""
    return [tag for tag in rows[0].labels.tags if all(tag in row.labels.tags for row in rows)]


def _common(texts: Sequence[str]) -> str:
    """What all of them are; else empty."""
    return texts[0] if len(set(texts)) == 1 else ""


def _best(scores: Sequence[float | None]) -> float | None:
    return max((score for score in scores if score is not None), default=None)


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
