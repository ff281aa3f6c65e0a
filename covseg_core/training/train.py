"""Train one run: from its configuration to its best weights."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable

import keras
import numpy as np

from covseg_core.config import RunConfig, TrainConfig
from covseg_core.data.library.datasets import Dataset, load_dataset
from covseg_core.data.slices.cache import prepare_dataset
from covseg_core.data.slices.slice_set import SliceSet, load_slices, mean_std
from covseg_core.errors import DatasetError
from covseg_core.files import write_json
from covseg_core.runs import Run, Standardisation
from covseg_core.runs.pace import FILE, Pace, choose_pace, read_pace, step_bytes
from covseg_core.runs.previews import write_preview_slices
from covseg_core.runs.starting_point import STANDARDISATION
from covseg_core.runs.training_data import write_training_data
from covseg_core.training.batches import PlainBatches, TrainingBatches, channels_last
from covseg_core.training.callbacks import Follow, Record, Session, clear, remove_previews_after
from covseg_core.training.device import Device, set_up
from covseg_core.training.device_slices import DeviceSlices, NumberedModel, TrainingNumbers, ValidationNumbers
from covseg_core.training.heartbeat import Heart
from covseg_core.training.losses import loss_of
from covseg_core.training.metrics import ForegroundDice, ForegroundIoU, PixelAccuracy
from covseg_core.training.previews import choose_previews, preview_slices
from covseg_core.training.resume import last_epoch, load_first, load_last
from covseg_core.training.unet import build_unet

STEPS_AT_ONCE = 8
"""Training steps that a GPU gets with one call; what follows a step, such as a look for a stop, follows all of them."""
SINGLE = "they stay on a single device only, with TensorFlow or JAX"


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
    if config.parent:
        standardisation = run.standardisation
    else:
        standardisation = Standardisation(*mean_std(training.images))
        write_json(run.folder / STANDARDISATION, standardisation)
    write_training_data(run, dataset)

    device = set_up(config.train.precision)
    print(f"device: {device.description}", flush=True)
    print(f"slices: {len(training)} training, {len(validation)} validation", flush=True)
    pace = settle_pace(run, device, training, validation)
    chosen = pace.words(config.train)
    if chosen:
        print(chosen, flush=True)
    heart.write(reason="", device=device.description, chosen=chosen)
    session = dataclasses.replace(session, config=dataclasses.replace(config, train=pace.of(config.train)))
    model = compiled(session.config, standardisation, float(training.masks.mean()), device)
    if config.parent and not last_epoch(run):
        load_first(run, model)
        print(f"starts from the best weights of {config.parent}", flush=True)
    fit(session, model, training, validation, device, pace.on_device)


def settle_pace(run: Run, device: Device, training: SliceSet, validation: SliceSet) -> Pace:
    """The pace that the run's training began with; that of this device if it begins now, which is then kept."""
    if last_epoch(run):
        return read_pace(run)
    config = run.config
    slices = TrainingBatches(training, config.train).slices_an_epoch
    pace = choose_pace(config.train, config.prepare, config.model, slices, device.gpu, device.memory)
    if device.gpu:
        obstacle = _obstacle(config, pace.batch, device, training, validation)
        pace = dataclasses.replace(pace, on_device=not obstacle)
        if obstacle:
            print(f"slices: fed batch by batch, because {obstacle}", flush=True)
    write_json(run.folder / FILE, pace)
    return pace


def _obstacle(config: RunConfig, batch: int, device: Device, training: SliceSet, validation: SliceSet) -> str:
    """Why the slices cannot stay on the device beside a training step; empty if they can."""
    if not device.holds:
        return SINGLE
    room = sum(part.images.nbytes + part.masks.nbytes for part in (training, validation))
    needed = room + step_bytes(config.prepare, config.model, batch)
    if device.memory is not None and needed > device.memory:
        free = f"{device.memory / 1e9:.1f} GB are free on the device"
        return f"with a training step they need {needed / 1e9:.1f} GB, and {free}"
    return ""


def load_unchanged(config: RunConfig) -> Dataset:
    """The run's data set, if it still holds the files that the run was created with."""
    dataset = load_dataset(config.dataset, config.fingerprint)
    if dataset.fingerprint != config.fingerprint:
        raise DatasetError(config.dataset, "has changed since the run was created", "the same files and labels")
    return dataset


def compiled(
    config: RunConfig, standardisation: Standardisation, positive_share: float, device: Device
) -> NumberedModel:
    """Build and compile the model; the three metrics' models start from the same weights."""
    keras.utils.set_random_seed(config.train.seed)
    average = {"use_ema": True, "ema_momentum": config.train.ema} if config.train.ema else {}
    with device.scope():
        network = build_unet(
            config.model,
            config.prepare.size,
            standardisation.mean,
            standardisation.std,
            positive_share,
            config.prepare.channels,
        )
        model = NumberedModel(network.inputs, network.outputs, name=network.name)
        model.compile(
            optimizer=keras.optimizers.Adam(config.train.learning_rate, **average),
            loss=loss_of(config.metric),
            metrics=[PixelAccuracy(), ForegroundIoU(), ForegroundDice()],
            steps_per_execution=STEPS_AT_ONCE if device.gpu else 1,
        )
        model.complete()
    return model


def fit(
    session: Session,
    model: NumberedModel,
    training: SliceSet,
    validation: SliceSet,
    device: Device,
    on_device: bool = False,
) -> None:
    """Train the epochs that are missing.

    Parameters
    ----------
    model : built and compiled
    on_device : slices stay on the device, if they find room there
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
    batches, plain = batches_of(model, training, validation, config, device, on_device)
    swap = keras.callbacks.SwapEMAWeights() if config.ema else None
    record = Record(session, previewer(model, validation, chosen, device.multiple), swap)
    model.fit(
        batches,
        validation_data=plain,
        initial_epoch=done,
        epochs=config.epochs,
        callbacks=[Follow(session, batches, ahead=device.gpu), *([swap] if swap else []), record],
        shuffle=False,  # Keras would shuffle the batches by a generator that is not the run's
        verbose=2,
    )


def batches_of(
    model: NumberedModel,
    training: SliceSet,
    validation: SliceSet,
    config: TrainConfig,
    device: Device,
    on_device: bool,
) -> tuple[TrainingBatches, keras.utils.PyDataset]:
    """What `fit` takes for training and for validation; with `on_device` the slices are put there."""
    if on_device and not device.holds:
        print(f"slices: fed batch by batch, because {SINGLE}", flush=True)
    elif on_device:
        try:
            held = DeviceSlices(training, validation)
        except MemoryError as error:
            print(f"slices: fed batch by batch, because the device has no room: {error}", flush=True)
        else:
            model.hold(held, config.augment)
            room = sum(part.images.nbytes + part.masks.nbytes for part in (training, validation))
            print(f"slices: on the device from the first step to the last, {room / 1e6:.0f} MB", flush=True)
            return TrainingNumbers(held, training, config), ValidationNumbers(held, config.batch)
    multiple = device.multiple
    return TrainingBatches(training, config, multiple), PlainBatches(validation, config.batch, multiple)


def previewer(model: keras.Model, slices: SliceSet, chosen: np.ndarray, multiple: int) -> Callable[[], np.ndarray]:
    """A function that predicts the chosen slices: (K, S, S) uint8, probability 1 is 255."""
    places = np.arange(-(-len(chosen) // multiple) * multiple) % len(chosen)
    images = channels_last(slices.images[chosen[places]])

    def predict() -> np.ndarray:
        # on several devices each may answer for the whole batch: the first slices are enough
        probabilities = np.asarray(model.predict_on_batch(images))
        return np.rint(255 * probabilities[: len(chosen), ..., 0]).astype(np.uint8)

    return predict
