"""Runs whose models have a known answer, without a training."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from known import node, save_known

from covseg_core.config import (
    METRICS,
    Metric,
    PrepareConfig,
    RunConfig,
    SplitConfig,
    TrainConfig,
    training_seed,
)
from covseg_core.data.library.datasets import Dataset
from covseg_core.data.splitting.split import make_split
from covseg_core.runs import Run, State, create_run

SIZE = 32


def fake_run(dataset: Dataset, id: str, metric: Metric, split: SplitConfig, limit: float, **values: object) -> Run:
    """A finished run that marks all that is brighter than `limit`."""
    config = RunConfig(
        id=id,
        experiment="experiment",
        dataset=dataset.name,
        fingerprint=dataset.fingerprint,
        metric=metric,
        preset="quick",
        created="2026-01-02T03:04:05.000006+00:00",
        prepare=PrepareConfig(size=SIZE),
        split=split,
    )
    config = dataclasses.replace(config, **values)  # type: ignore[arg-type]
    run = create_run(config, make_split(dataset, split, config.target))
    save_model(run.onnx, limit)
    run.write_history([epoch_row(1), epoch_row(2)])
    run.write_status(dataclasses.replace(run.status, state="finished", epoch=2, epochs=2))
    return run


def epoch_row(epoch: int) -> dict[str, float]:
    """A row of `history.csv`: a minute an epoch, a loss that falls and scores that rise."""
    values = {"loss": 1 / epoch} | dict.fromkeys((row.score for row in METRICS.values()), epoch / (epoch + 9))
    return (
        {"epoch": epoch, "seconds": 60.0, "total_seconds": 60.0 * epoch}
        | values
        | {f"val_{name}": value for name, value in values.items()}
    )


def fake_folds(
    dataset: Dataset, limits: dict[Metric, float], folds: int, kind: str = "patient", **values: object
) -> list[Run]:
    """A finished experiment of folds, in the order of the queue; the models of each fold differ a little."""
    experiment = str(values.get("experiment", "experiment"))
    runs = []
    for fold in range(1, folds + 1):
        for metric, limit in limits.items():
            split = SplitConfig(kind, folds=folds, fold=fold)  # type: ignore[arg-type]
            id = f"{experiment}-{metric}-fold{fold}of{folds}"
            runs.append(fake_run(dataset, id, metric, split, limit + 5 * fold, **values))
    return runs


def fake_seeds(
    dataset: Dataset,
    limits: dict[Metric, float],
    seeds: int,
    folds: int = 0,
    split: SplitConfig | None = None,
    **values: object,
) -> list[Run]:
    """A finished experiment of seeds, and folds of each, in the order of the queue; models of each differ a little."""
    experiment = str(values.get("experiment", "experiment"))
    runs = []
    for number in range(1, seeds + 1):
        for fold in range(min(folds, 1), folds + 1):
            for metric, limit in limits.items():
                train = TrainConfig(seed=training_seed(0, metric, number), seeds=seeds, seed_number=number)
                ending = train.seed_suffix + (f"-fold{fold}of{folds}" if folds else "")
                one = dataclasses.replace(split or SplitConfig(), folds=folds, fold=fold)
                id = f"{experiment}-{metric}{ending}"
                runs.append(fake_run(dataset, id, metric, one, limit + 7 * number + 5 * fold, train=train, **values))
    return runs


def save_model(path: Path, limit: float, size: int = SIZE) -> None:
    """A model with a known answer: probability 1 where the grey value is above `limit`, else 0."""
    save_known(path, size, [node("Greater", "grey limit", "above"), node("Cast", "above", "masks")], {"limit": limit})


class Idle:
    """A worker that does nothing, but holds the lock of its run until it is `ended`."""

    held: ClassVar[dict[Path, list[int]]] = {}
    """Folder of a run -> descriptors."""

    def __init__(self, command: list[str], pass_fds: Sequence[int] = (), **kwargs: object) -> None:
        self.held[Path(command[3])] = [os.dup(descriptor) for descriptor in pass_fds]

    def poll(self) -> None:
        return None

    def wait(self) -> int:
        return 0


def ended(run: Run, state: State) -> None:
    """What a worker leaves that has ended so."""
    run.write_status(dataclasses.replace(run.status, state=state))
    for descriptor in Idle.held.pop(run.folder, []):
        os.close(descriptor)
