"""What happens beside the fitting: stop on request, learning rate, history, checkpoints, previews, status."""

from __future__ import annotations

import math
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import keras
import numpy as np

from covseg_core.config import METRICS, THESIS, RunConfig
from covseg_core.errors import RunError
from covseg_core.files import atomic_path
from covseg_core.runs import Run
from covseg_core.runs.history import best_epoch
from covseg_core.training.batches import TrainingBatches
from covseg_core.training.heartbeat import Heart, StopRequested
from covseg_core.training.resume import save_weights, saving_last
from covseg_core.training.schedule import learning_rate, should_stop

_TRAINING = ("loss", *(METRICS[metric].score for metric in THESIS))
COLUMNS = (*_TRAINING, *(f"val_{name}" for name in _TRAINING))
"""Of `history.csv`, after the epoch's number."""
Rows = list[dict[str, float]]
"""History so far, shared by the callbacks."""
Preview = Callable[[], np.ndarray]
"""Predicts the preview slices: (K, S, S) uint8."""

STOP_POLL = 0.2
"""Seconds between two looks for a stop request."""


@dataclass(frozen=True)
class Session:
    """One training of a run, from its start or resumption to its end."""

    run: Run
    config: RunConfig
    heart: Heart
    stop: threading.Event
    """Set to end at the next batch."""
    rows: Rows = field(default_factory=list)

    @property
    def scores(self) -> list[float]:
        """Validation score of each epoch so far, in the run's own metric."""
        return [row[f"val_{METRICS[self.config.metric].score}"] for row in self.rows]


class Follow(keras.callbacks.Callback):
    """Slices and learning rate of the epoch, progress within it, stop on request.

    Parameters
    ----------
    ahead : a step may be sent to the device before the last one has ended; a stop is then noticed some steps later
    """

    def __init__(self, session: Session, batches: TrainingBatches, ahead: bool = False) -> None:
        super().__init__()
        self.session, self.batches = session, batches
        self.async_safe = ahead  # Keras asks for it
        self._looked = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.batches.start_epoch(epoch)
        self.model.optimizer.learning_rate = learning_rate(self.session.config.train, self.session.scores)
        self.session.heart.note(step=0, steps=len(self.batches))

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.session.heart.note(step=batch + 1)
        self._check()

    def on_test_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self._check()

    def _check(self) -> None:
        if self.session.stop.is_set():
            raise StopRequested("the process was told to end")
        if time.monotonic() - self._looked > STOP_POLL:
            self._looked = time.monotonic()
            if self.session.run.stop_file.exists():
                raise StopRequested("stopped on request")


class Record(keras.callbacks.Callback):
    """Best weights, previews, a row of history and, last, the state to resume from, every epoch.

    After a crash between two of them, resuming repeats the epoch from the last complete state and writes the same.
    """

    def __init__(self, session: Session, preview: Preview, swap: keras.callbacks.SwapEMAWeights | None = None) -> None:
        super().__init__()
        self.session, self.preview, self.swap = session, preview, swap
        self._mark = 0.0

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._mark = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        run, rows = self.session.run, self.session.rows
        rows.append(self._row(epoch + 1, logs or {}))
        with saving_last(run, self.model, epoch + 1) as weights:
            with averaged(self.swap):
                if best_epoch(self.session.scores) == epoch + 1:
                    with atomic_path(run.best_weights) as temporary:
                        if self.swap is None:
                            shutil.copyfile(weights, temporary)  # a tenth of the time that Keras takes
                        else:
                            save_weights(self.model, temporary)
                with atomic_path(run.previews / f"epoch_{epoch + 1:04d}.npy") as temporary:
                    np.save(temporary, self.preview())
            run.write_history(rows)
        self.session.heart.write(epoch=epoch + 1, step=0, seconds=rows[-1]["total_seconds"])
        if should_stop(self.session.config.train, self.session.scores):
            self.model.stop_training = True

    def _row(self, epoch: int, logs: dict) -> dict[str, float]:
        """The epoch's line of history; its seconds run from the end of the epoch before."""
        if math.isnan(logs["loss"]):
            raise RunError(self.session.run.id, f"the loss became NaN in epoch {epoch}", "a lower learning rate")
        now = time.monotonic()
        seconds, self._mark = now - self._mark, now
        before = self.session.rows[-1]["total_seconds"] if self.session.rows else 0.0
        return {
            "epoch": epoch,
            **{name: float(logs[name]) for name in COLUMNS},
            "learning_rate": float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)),
            "seconds": seconds,
            "total_seconds": before + seconds,
        }


@contextmanager
def averaged(swap: keras.callbacks.SwapEMAWeights | None) -> Iterator[None]:
    """The model has the average of its weights meanwhile, if there is one, as in a validation."""
    if swap is None:
        yield
        return
    swap.on_test_begin()
    try:
        yield
    finally:
        swap.on_test_end()


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
