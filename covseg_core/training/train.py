"""Train one run: from its configuration to its best weights."""

from __future__ import annotations

import threading
from collections.abc import Callable

import keras
import numpy as np

from covseg_core.config import RunConfig
from covseg_core.data.library.datasets import Dataset, load_dataset
from covseg_core.data.slices.cache import prepare_dataset
from covseg_core.data.slices.slice_set import SliceSet, load_slices, mean_std
from covseg_core.errors import DatasetError
from covseg_core.files import write_json
from covseg_core.runs import Run, Standardisation
from covseg_core.runs.previews import write_preview_slices
from covseg_core.runs.training_data import write_training_data
from covseg_core.training.batches import PlainBatches, TrainingBatches, channels_last
from covseg_core.training.callbacks import Follow, Record, Session, clear, remove_previews_after
from covseg_core.training.device import Device, set_up
from covseg_core.training.heartbeat import Heart
from covseg_core.training.losses import loss_of
from covseg_core.training.metrics import ForegroundDice, ForegroundIoU, PixelAccuracy
from covseg_core.training.previews import choose_previews, preview_slices
from covseg_core.training.resume import last_epoch, load_last
from covseg_core.training.unet import build_unet


def train(run: Run, heart: Heart, stop: threading.Event) -> None:
    """Fit the run's model, from the last complete epoch if there is one, and keep everything in its folder.

    Parameters
    ----------
    heart : writes the status meanwhile
    stop : set it to end at the next batch

    Raises
    ------
    StopRequested : it was asked to stop; the folder can be resumed from
    DatasetError : the data set is no longer what the run was created with
    RunError : the loss became NaN, or the saved state does not fit
    """
    session = Session(run, run.config, heart, stop)
    config = session.config
    heart.write(state="running", reason="preparing slices")
    dataset = load_unchanged(config)

    def progress(done: int, total: int) -> None:
        heart.note(reason=f"preparing slices: {done} of {total} files")

    prepare_dataset(dataset, config.prepare, config.target, progress)
    training = load_slices(dataset, run.split.train, config.prepare, config.target)
    validation = load_slices(dataset, run.split.validation, config.prepare, config.target)
    standardisation = Standardisation(*mean_std(training.images))
    write_json(run.folder / "standardise.json", standardisation)
    write_training_data(run, dataset)

    device = set_up(config.train.precision)
    print(f"device: {device.description}", flush=True)
    print(f"slices: {len(training)} training, {len(validation)} validation", flush=True)
    heart.write(reason="", device=device.description)
    model = compiled(config, standardisation, float(training.masks.mean()), device)
    fit(session, model, training, validation, device.multiple)


def load_unchanged(config: RunConfig) -> Dataset:
    """The run's data set, if it still holds the files that the run was created with."""
    dataset = load_dataset(config.dataset)
    if dataset.fingerprint != config.fingerprint:
        raise DatasetError(config.dataset, "has changed since the run was created", "the same files and labels")
    return dataset


def compiled(config: RunConfig, standardisation: Standardisation, positive_share: float, device: Device) -> keras.Model:
    """Build and compile the model; the three metrics' models start from the same weights."""
    keras.utils.set_random_seed(config.train.seed)
    average = {"use_ema": True, "ema_momentum": config.train.ema} if config.train.ema else {}
    with device.scope():
        model = build_unet(
            config.model,
            config.prepare.size,
            standardisation.mean,
            standardisation.std,
            positive_share,
            config.prepare.channels,
        )
        model.compile(
            optimizer=keras.optimizers.Adam(config.train.learning_rate, **average),
            loss=loss_of(config.metric),
            metrics=[PixelAccuracy(), ForegroundIoU(), ForegroundDice()],
        )
    return model


def fit(session: Session, model: keras.Model, training: SliceSet, validation: SliceSet, multiple: int = 1) -> None:
    """Train the epochs that are missing.

    Parameters
    ----------
    model : built and compiled
    multiple : what a batch's length must be divisible by
    """
    run, config = session.run, session.config.train
    done = last_epoch(run)
    if done:
        load_last(run, model, done)
        remove_previews_after(run, done)
        print(f"resumed after epoch {done}", flush=True)
    else:
        clear(run)
    session.rows[:] = run.history()[:done]
    chosen = choose_previews(validation)
    write_preview_slices(run, preview_slices(validation, chosen))
    batches = TrainingBatches(training, config, multiple)
    swap = keras.callbacks.SwapEMAWeights() if config.ema else None
    record = Record(session, previewer(model, validation, chosen, multiple), swap)
    model.fit(
        batches,
        validation_data=PlainBatches(validation, config.batch, multiple),
        initial_epoch=done,
        epochs=config.epochs,
        callbacks=[Follow(session, batches), *([swap] if swap else []), record],
        shuffle=False,  # Keras would shuffle the batches by a generator that is not the run's
        verbose=2,
    )


def previewer(model: keras.Model, slices: SliceSet, chosen: np.ndarray, multiple: int) -> Callable[[], np.ndarray]:
    """A function that predicts the chosen slices: (K, S, S) uint8, probability 1 is 255."""
    places = np.arange(-(-len(chosen) // multiple) * multiple) % len(chosen)
    images = channels_last(slices.images[chosen[places]])

    def predict() -> np.ndarray:
        # on several devices each may answer for the whole batch: the first slices are enough
        probabilities = np.asarray(model.predict_on_batch(images))
        return np.rint(255 * probabilities[: len(chosen), ..., 0]).astype(np.uint8)

    return predict
