"""What is compared, and shown in one column: a run, or all folds of one metric of a cross-validation."""

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
    """A run, or several that stand for one model because each has learned from another part of the same data."""

    @property
    def id(self) -> str:
        """As links and tables name it."""

    @property
    def config(self) -> RunConfig:
        """What all its runs have in common; its fold is that of the first."""

    @property
    def runs(self) -> tuple[Run, ...]:
        """One, or one for each fold."""

    @property
    def folds(self) -> tuple[int, ...]:
        """Which folds its runs are, from 1; empty for a single run."""

    @property
    def test(self) -> Selection:
        """Case id -> slices that it is tested on; each run tests its own."""

    @property
    def sha256(self) -> str:
        """Changes with the weights of any of its runs."""

    def predictions(self) -> StoredPredictions:
        """What it predicts on its test part, each slice by the run that tests it; raises as `read_predictions`."""


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
