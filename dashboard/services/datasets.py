"""Which datasets there are, and which runs train on one. One broken folder costs its line, not the page."""

from __future__ import annotations

from covseg_core import runs
from covseg_core.data.library import datasets
from covseg_core.data.library.datasets import Dataset
from covseg_core.errors import CovsegError


def load_datasets() -> tuple[list[Dataset], list[str]]:
    """All datasets that can be read, and one line for each that cannot."""
    loaded, problems = [], []
    for name in datasets.list_datasets():
        try:
            loaded.append(datasets.load_dataset(name))
        except CovsegError as error:
            problems.append(str(error))
    return loaded, problems


def runs_of(dataset: str) -> tuple[int, int]:
    """How many runs train on a dataset or wait to, and how many have ended."""
    active = ended = 0
    for run in runs.list_runs():
        try:
            if run.config.dataset != dataset:
                continue
            is_active = run.status.state in runs.ACTIVE
        except CovsegError:
            continue
        active, ended = active + is_active, ended + (not is_active)
    return active, ended
