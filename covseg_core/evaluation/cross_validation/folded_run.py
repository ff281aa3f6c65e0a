"""The folds of one metric as one model."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from covseg_core.config import RunConfig
from covseg_core.data.splitting.split import Selection
from covseg_core.evaluation.model import Model
from covseg_core.evaluation.stored_predictions.predictions import StoredPredictions, joined, read_predictions
from covseg_core.files import cached_sha256
from covseg_core.runs import Run


@dataclass(frozen=True)
class FoldedRun:
    """A `Model` of several runs: together they test everybody once, each what it has not learned from."""

    runs: tuple[Run, ...]
    """Finished ones, by fold."""

    @property
    def id(self) -> str:
        """`<experiment>-<metric>`, and the seed if there are several."""
        config = self.runs[0].config
        return f"{config.experiment}-{config.metric}{config.train.seed_suffix}"

    @property
    def config(self) -> RunConfig:
        return dataclasses.replace(self.runs[0].config, id=self.id)

    @property
    def folds(self) -> tuple[int, ...]:
        return tuple(run.config.split.fold for run in self.runs)

    @property
    def seeds(self) -> tuple[Model, ...]:
        return ()

    @property
    def test(self) -> Selection:
        rows: dict[str, list[int]] = {}
        for run in self.runs:
            for id, chosen in run.split.test.items():
                rows.setdefault(id, []).extend(chosen)
        return {id: tuple(sorted(chosen)) for id, chosen in sorted(rows.items())}

    @property
    def sha256(self) -> str:
        return joined_sha256([cached_sha256(run.onnx) for run in self.runs])

    def predictions(self) -> StoredPredictions:
        return joined([read_predictions(run) for run in self.runs])


def joined_sha256(models: Sequence[str]) -> str:
    """One for the models of all folds, or seeds, from the SHA-256 of each."""
    return hashlib.sha256("".join(models).encode()).hexdigest()
