"""What happens beside the fitting: stop on request, learning rate, history, checkpoints, previews, status."""

from __future__ import annotations

import math
import shutil
import threading
import time
from collections.abc import Callable

import keras
import numpy as np

from covseg_core.config import RunConfig
from covseg_core.errors import RunError
from covseg_core.files import atomic_path
from covseg_core.heart import Heart, StopRequested
from covseg_core.objectives import SCORES
from covseg_core.progress import best_epoch, learning_rate, should_stop
from covseg_core.resume import save_last
from covseg_core.runs import Run

_TRAINING = ("loss", *SCORES.values())
COLUMNS = (*_TRAINING, *(f"val_{name}" for name in _TRAINING))
"""Of `history.csv`, after the epoch's number."""
Rows = list[dict[str, float]]
"""History so far, shared by the callbacks."""
Preview = Callable[[], np.ndarray]
"""Predicts the preview slices: (K, S, S) uint8."""

STOP_POLL = 0.2
"""Seconds between two looks for a stop request."""


class Follow(keras.callbacks.Callback):
    """Stop on request, learning rate of the epoch, progress within it."""

    def __init__(self, run: Run, config: RunConfig, heart: Heart, stop: threading.Event, rows: Rows) -> None:
        super().__init__()
        self.run, self.config, self.heart, self.stop, self.rows = run, config, heart, stop, rows
        self._looked = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        score = f"val_{SCORES[self.config.metric]}"
        rate = learning_rate(self.config.train, [row[score] for row in self.rows])
        self.model.optimizer.learning_rate = rate
        self.heart.note(step=0, steps=self.params["steps"])

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.heart.note(step=batch + 1)
        self._check()

    def on_test_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self._check()

    def _check(self) -> None:
        if self.stop.is_set():
            raise StopRequested("the process was told to end")
        if time.monotonic() - self._looked > STOP_POLL:
            self._looked = time.monotonic()
            if self.run.stop_file.exists():
                raise StopRequested("stopped on request")


class Record(keras.callbacks.Callback):
    """A row of history, the best weights, the previews and the state to resume from, in this order, every epoch.

    After a crash between two of them, resuming repeats the epoch from the last complete state and writes the same.
    """

    def __init__(self, run: Run, config: RunConfig, heart: Heart, rows: Rows, preview: Preview) -> None:
        super().__init__()
        self.run, self.config, self.heart, self.rows, self.preview = run, config, heart, rows, preview
        self._before = rows[-1]["total_seconds"] if rows else 0.0
        self._mark = 0.0

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._mark = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        values = {name: float((logs or {})[name]) for name in COLUMNS}
        if math.isnan(values["loss"]):
            raise RunError(self.run.id, f"the loss became NaN in epoch {epoch + 1}", "a lower learning rate")
        now = time.monotonic()
        self._before += now - self._mark
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        self.rows.append(
            {"epoch": epoch + 1, **values, "learning_rate": rate, "seconds": now - self._mark}
            | {"total_seconds": self._before}
        )
        self._mark = now

        scores = [row[f"val_{SCORES[self.config.metric]}"] for row in self.rows]
        if best_epoch(scores) == epoch + 1:
            with atomic_path(self.run.best_weights) as temporary:
                self.model.save_weights(temporary)
        with atomic_path(self.run.previews / f"epoch_{epoch + 1:04d}.npy") as temporary:
            np.save(temporary, self.preview())
        self.run.write_history(self.rows)
        save_last(self.run, self.model, epoch + 1)
        self.heart.write(epoch=epoch + 1, step=0, seconds=self._before)
        if should_stop(self.config.train, scores):
            self.model.stop_training = True


def remove_previews_after(run: Run, epoch: int) -> None:
    """Forget previews of epochs that will be trained again."""
    for file in run.previews.glob("epoch_*.npy"):
        if int(file.stem.split("_")[1]) > epoch:
            file.unlink()


def clear(run: Run) -> None:
    """Remove what a training wrote, before it starts from the first epoch."""
    shutil.rmtree(run.previews, ignore_errors=True)
    shutil.rmtree(run.last, ignore_errors=True)
    for file in (run.history_csv, run.best_weights):
        file.unlink(missing_ok=True)
