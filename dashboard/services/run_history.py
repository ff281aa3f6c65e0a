"""Runs as they stand, with their curves, which are read again only when the file has changed, and their logs."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from covseg_core.config import RunConfig
from covseg_core.errors import CovsegError
from covseg_core.figures.learning_curves import columns
from covseg_core.files import Stamp, stamp
from covseg_core.runs import Run, Status, read_status
from dashboard.services.model_catalog import ListedRun

Columns = Mapping[str, np.ndarray]
"""Column of `history.csv` -> (epochs,) float64."""

LOG_LINES = 30
KEPT = 128
"""Curves in memory, shared by all sessions: 250 epochs are 25 kB."""


@dataclass(frozen=True)
class Snapshot:
    """A run as it stands at this moment."""

    run: Run
    config: RunConfig
    status: Status
    history: Columns

    @property
    def id(self) -> str:
        return self.run.id

    @property
    def epochs_done(self) -> int:
        return len(self.history.get("epoch", ()))


def look(listed: ListedRun) -> Snapshot:
    """Status and curves of a run at this moment.

    Raises
    ------
    CovsegError : its status or history cannot be read, or it is being deleted
    """
    return Snapshot(listed.run, listed.config, listed.run.status, history(listed.run))


def history(run: Run) -> Columns:
    """Curves of a run; without a first epoch there are none.

    Raises
    ------
    CovsegError : `history.csv` is not a table of numbers
    """
    return _history(run, stamp(run.history_csv))


def log_tail(path: Path, lines: int = LOG_LINES) -> str:
    """The last lines of a log, of which only the end is read."""
    try:
        with open(path, "rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - 32 * 1024))
            text = log.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def preselected(listed: Sequence[ListedRun]) -> list[str]:
    """Ids of the newest experiment; while all of it waits in the queue, of the newest that does not."""
    experiments: dict[str, list[ListedRun]] = {}
    for item in listed:
        experiments.setdefault(item.config.experiment, []).append(item)
    for items in experiments.values():
        if not all(_waits(item) for item in items):
            return [item.id for item in items]
    return [item.id for item in listed if item.config.experiment == listed[0].config.experiment]


def _waits(listed: ListedRun) -> bool:
    """Whether a run has nothing to show yet, and is not about to."""
    status = read_status(listed.run)
    return status is not None and status.state == "queued" and not status.epoch


@functools.lru_cache(maxsize=KEPT)
def _history(run: Run, stamp: Stamp | None) -> Columns:
    try:
        return columns(run.history())
    except (TypeError, ValueError, KeyError):
        raise CovsegError(run.history_csv, "cannot be read", "a table of numbers, a row an epoch") from None
