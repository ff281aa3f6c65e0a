"""What is compared, and shown in one column: a run, all folds of one metric, or all seeds of one metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from covseg_core.config import RunConfig
from covseg_core.data.splitting.split import Selection
from covseg_core.evaluation.stored_predictions.predictions import StoredPredictions, read_predictions
from covseg_core.files import cached_sha256
from covseg_core.runs import Run


class Model(Protocol):
    """A run, or several that stand for one model: each learned from another part of the data, or by another seed."""

    @property
    def id(self) -> str:
        """As links and tables name it."""

    @property
    def config(self) -> RunConfig:
        """What all its runs have in common; its fold and its seed are those of the first."""

    @property
    def runs(self) -> tuple[Run, ...]:
        """One, or one for each seed and fold."""

    @property
    def folds(self) -> tuple[int, ...]:
        """Which folds its runs are, from 1; empty for a single run."""

    @property
    def seeds(self) -> tuple[Model, ...]:
        """A model for each seed; empty if it was trained once."""

    @property
    def test(self) -> Selection:
        """Case id -> slices that it is tested on; each run tests its own."""

    @property
    def sha256(self) -> str:
        """Changes with the weights of any of its runs."""

    def predictions(self) -> StoredPredictions:
        """What it predicts on its test part, each slice by the run that tests it, or by the mean of those that do;
        raises as `read_predictions`."""


@dataclass(frozen=True)
class SingleRun:
    """A run by itself."""

    run: Run

    @property
    def id(self) -> str:
        return self.run.id

    @property
    def config(self) -> RunConfig:
        return self.run.config

    @property
    def runs(self) -> tuple[Run, ...]:
        return (self.run,)

    @property
    def folds(self) -> tuple[int, ...]:
        return ()

    @property
    def seeds(self) -> tuple[Model, ...]:
        return ()

    @property
    def test(self) -> Selection:
        return self.run.split.test

    @property
    def sha256(self) -> str:
        return cached_sha256(self.run.onnx)

    def predictions(self) -> StoredPredictions:
        return read_predictions(self.run)


def single_runs(runs: Sequence[Run]) -> list[Model]:
    """Each run as a model of its own."""
    return [SingleRun(run) for run in runs]
