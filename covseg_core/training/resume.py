"""The state a training resumes from: weights and optimizer after its last complete epoch.

Each epoch has a folder of its own under `last/`, renamed into place when it is complete; the one before is removed only
then. Whatever moment the power fails, one complete state is there.
"""

from __future__ import annotations

import os
import shutil
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import keras
import numpy as np

from covseg_core.errors import RunError
from covseg_core.runs import Run
from covseg_core.runs.starting_point import WEIGHTS


@contextmanager
def saving_last(run: Run, model: keras.Model, epoch: int) -> Iterator[Path]:
    """Save the state after `epoch` (from 1), and give the file of its weights.

    It counts, and the one before is forgotten, when the block has ended.
    """
    staging = run.last / f".new-{uuid.uuid4().hex[:8]}"
    staging.mkdir(parents=True)
    try:
        weights = staging / "model.weights.h5"
        save_weights(model, weights)
        optimizer: dict[str, np.ndarray] = {}
        model.optimizer.save_own_variables(optimizer)
        arrays: dict[str, Any] = {name: np.asarray(value) for name, value in optimizer.items()}
        np.savez(staging / "optimizer.npz", **arrays)
        for file in staging.iterdir():
            with open(file, "rb") as handle:
                os.fsync(handle.fileno())
        yield weights
        staging.rename(run.last / f"epoch_{epoch:04d}")
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    for folder in run.last.iterdir():
        if folder.name != f"epoch_{epoch:04d}":
            shutil.rmtree(folder, ignore_errors=True)


def save_weights(model: keras.Model, path: Path) -> None:
    """Write a model's weights alone, as Keras's `.weights.h5`."""
    _bare(model).save_weights(path)


def last_epoch(run: Run) -> int:
    """Number, from 1, of the last complete epoch; 0 if there is none."""
    return max((int(folder.name.split("_")[1]) for folder in run.last.glob("epoch_*")), default=0)


def load_last(run: Run, model: keras.Model, epoch: int) -> None:
    """Put the state after `epoch` into a built and compiled model.

    Raises
    ------
    RunError : the state does not fit the model or is damaged
    """
    folder = run.last / f"epoch_{epoch:04d}"
    try:
        with warnings.catch_warnings():
            # Keras only warns of weights it cannot place, and goes on with fresh ones
            warnings.simplefilter("error", UserWarning)
            _bare(model).load_weights(folder / "model.weights.h5")
        model.optimizer.build(model.trainable_variables)
        with open(folder / "optimizer.npz", "rb") as file, np.load(file, allow_pickle=False) as optimizer:
            if len(optimizer.files) != len(model.optimizer.variables):
                raise ValueError("another optimizer, as of another precision")
            model.optimizer.load_own_variables(dict(optimizer))
    except (OSError, ValueError, KeyError, BadZipFile, UserWarning) as error:
        raise RunError(folder, f"cannot be resumed from: {error}", "the state that the same settings wrote") from error


def load_first(run: Run, model: keras.Model) -> None:
    """Put the weights that a run starts from into a built model.

    Raises
    ------
    RunError : they do not fit the model or are damaged
    """
    path = run.folder / WEIGHTS
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            _bare(model).load_weights(path)
    except (OSError, ValueError, KeyError, UserWarning) as error:
        raise RunError(path, f"cannot be started from: {error}", "weights of the same network") from error


def _bare(model: keras.Model) -> keras.Model:
    """The same layers without the optimizer, which Keras would save with the weights, at twice their size."""
    return keras.Model(model.inputs, model.outputs)
