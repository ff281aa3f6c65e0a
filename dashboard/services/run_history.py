"""Runs and their curves, read again only when a file has changed, and shared by all who watch.

What is kept ends with its run: a deleted run's curves are forgotten at the next look.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from covseg_core import runs
from covseg_core.config import METRICS, RunConfig
from covseg_core.errors import CovsegError
from covseg_core.figures.learning_curves import columns
from covseg_core.files import Stamp, stamp
from covseg_core.runs import Run, Status

Columns = Mapping[str, np.ndarray]
"""Column of `history.csv` -> (epochs,) float64."""


@dataclass(frozen=True)
class Known:
    """A run whose configuration can be read."""

    run: Run
    config: RunConfig

    @property
    def id(self) -> str:
        return self.run.id


@dataclass(frozen=True)
class Seen:
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


class Shelf:
    """Values read from files, each with what the file looked like then."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[Path, tuple[Stamp | None, Any]] = {}

    def read(self, path: Path, reader: Callable[[], Any]) -> Any:
        """What `reader` returned for the file as it is now."""
        found = stamp(path)
        with self._lock:
            kept = self._kept.get(path)
        if kept and kept[0] == found:
            return kept[1]
        value = reader()
        with self._lock:
            self._kept[path] = (found, value)
        return value

    def keep_only(self, folders: Iterable[Path]) -> None:
        """Forget files of folders that are not there any more."""
        wanted = set(folders)
        with self._lock:
            self._kept = {path: kept for path, kept in self._kept.items() if path.parent in wanted}

    def __len__(self) -> int:
        return len(self._kept)


@st.cache_resource(show_spinner=False)
def shelf() -> Shelf:
    """The one of this process."""
    return Shelf()


def known_runs() -> tuple[list[Known], list[str]]:
    """All runs, newest first and within an experiment by fold and metric, and one line for each that cannot be read."""
    known, problems = [], []
    listed = runs.list_runs()
    shelf().keep_only(run.folder for run in listed)
    for run in listed:
        try:
            known.append(Known(run, _config(run)))
        except CovsegError as error:
            problems.append(str(error))
    known.sort(key=lambda item: (item.config.split.fold, list(METRICS).index(item.config.metric)))
    known.sort(key=lambda item: item.config.created, reverse=True)
    return known, problems


def preselected(known: Sequence[Known]) -> list[str]:
    """Ids of the newest experiment; while all of it waits in the queue, of the newest that does not."""
    experiments: dict[str, list[Known]] = {}
    for item in known:
        experiments.setdefault(item.config.experiment, []).append(item)
    for items in experiments.values():
        if not all(_waits(item) for item in items):
            return [item.id for item in items]
    return [item.id for item in known if item.config.experiment == known[0].config.experiment]


def _waits(known: Known) -> bool:
    """Whether a run has nothing to show yet, and is not about to."""
    status = runs.read_status(known.run)
    return status is not None and status.state == "queued" and not status.epoch


def look(known: Known) -> Seen:
    """Status and curves of a run at this moment.

    Raises
    ------
    CovsegError : its status or history cannot be read, or it is being deleted
    """
    return Seen(known.run, known.config, known.run.status, history(known.run))


def history(run: Run) -> Columns:
    """Curves of a run; without a first epoch there are none.

    Raises
    ------
    CovsegError : `history.csv` is not a table of numbers
    """
    return shelf().read(run.history_csv, lambda: _columns(run))


def _config(run: Run) -> RunConfig:
    return shelf().read(run.folder / "config.json", lambda: run.config)


def _columns(run: Run) -> Columns:
    try:
        return columns(run.history())
    except (TypeError, ValueError, KeyError):
        raise CovsegError(run.history_csv, "cannot be read", "a table of numbers, a row an epoch") from None
