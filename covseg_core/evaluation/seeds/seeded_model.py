"""The seeds of one metric as one model."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from covseg_core.config import RunConfig
from covseg_core.data.splitting.split import Selection
from covseg_core.evaluation.cross_validation.folded_run import joined_sha256
from covseg_core.evaluation.model import Model
from covseg_core.evaluation.stored_predictions.predictions import MeanRows, StoredPredictions, joined
from covseg_core.runs import Run


@dataclass(frozen=True)
class SeededModel:
    """A `Model` of several trainings on the same split, alike but for their seed."""

    seeds: tuple[Model, ...]
    """A run each, or all folds of a seed; those that are finished, by their number."""

    @property
    def id(self) -> str:
        """`<experiment>-<metric>`."""
        config = self.seeds[0].config
        return f"{config.experiment}-{config.metric}"

    @property
    def config(self) -> RunConfig:
        return dataclasses.replace(self.seeds[0].config, id=self.id)

    @property
    def runs(self) -> tuple[Run, ...]:
        return tuple(run for model in self.seeds for run in model.runs)

    @property
    def folds(self) -> tuple[int, ...]:
        return self.seeds[0].folds

    @property
    def test(self) -> Selection:
        return self.seeds[0].test

    @property
    def sha256(self) -> str:
        return joined_sha256([model.sha256 for model in self.seeds])

    def predictions(self) -> StoredPredictions:
        """The mean of the seeds' probabilities: what all of them predict together, and not what one of them does."""
        ordered = [joined([model.predictions()]) for model in self.seeds]  # all by case and slice
        return StoredPredictions(MeanRows([part.values for part in ordered]), ordered[0].rows)


def numbers(model: Model) -> list[int]:
    """Which of an experiment's seeds a model is of, from 1; empty for one that was trained once."""
    return [seed.config.train.seed_number for seed in model.seeds]


def members(model: Model) -> tuple[Model, ...]:
    """A model for each seed; itself if it was trained once."""
    return model.seeds or (model,)


def by_seed(models: Sequence[Model]) -> list[list[Model]]:
    """The first seed of each model, the second of each that has one, and so on."""
    most = max(len(members(model)) for model in models)
    return [[members(model)[place] for model in models if place < len(members(model))] for place in range(most)]
