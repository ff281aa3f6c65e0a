"""Slices that stay on the device train as fed ones do, on TensorFlow and on JAX, and resume with the same curve.

No GPU is needed: the tests let the CPU hold the slices, and call it a GPU.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

from covseg_core.config import AugmentConfig, ModelConfig, PrepareConfig, RunConfig, SplitConfig, TrainConfig
from covseg_core.data.slices.slice_set import SliceSet
from covseg_core.data.splitting.split import Split
from covseg_core.runs import Run, create_run
from covseg_core.runs.pace import Pace, read_pace
from covseg_core.training import step_time
from covseg_core.training import train as training
from covseg_core.training.batches import TrainingBatches
from covseg_core.training.device import Device, set_up
from covseg_core.training.device_slices import DeviceSlices, NumberedModel, TrainingNumbers, ValidationNumbers
from covseg_core.training.resume import saving_last

pytestmark = pytest.mark.training

HERE = Path(__file__).resolve()
SIZE = 32
CHANGES = AugmentConfig(flip=True, shift=0.1, scale=0.1, rotate=5, contrast=0.2, noise=0.03, gamma=0.2, blur=0.8)


def slices(count: int, positive: int | None = None, channels: int = 1, patients: str = "") -> SliceSet:
    """Slices with a bright square, which is the mask, in the first ones; their corner has their number."""
    images = np.random.default_rng(count).integers(0, 200, (count, SIZE, SIZE, channels), np.uint8)
    masks = np.zeros((count, SIZE, SIZE), np.uint8)
    masks[:positive, 8:20, 8:20] = 1
    images[masks > 0] = 250
    images[:, 0, 0] = np.arange(count)[:, None]
    images = images[..., 0] if channels == 1 else images
    return SliceSet(images, masks, ("case",) * count, np.arange(count), tuple(patients))


def config(name: str, **train: object) -> RunConfig:
    """Of a tiny training; with batch normalisation and an average of the weights, which have states of their own."""
    settings = TrainConfig(**({"epochs": 2, "batch": 8, "ema": 0.9, "augment": CHANGES} | train))  # type: ignore[arg-type]
    identity = (name, "experiment", "data", "0" * 64, "dice", "quick", "2020-01-01T00:00:00+00:00")
    return RunConfig(*identity, prepare=PrepareConfig(SIZE), model=ModelConfig(1, "batch"), train=settings)  # type: ignore[arg-type]


def as_gpu() -> Device:
    """The CPU, which holds slices and gets several steps at once, as a GPU would."""
    return dataclasses.replace(set_up("float32"), gpu=True, memory=None)


def train_in_sessions(
    run: RunConfig, device: Device, ends: list[int], on_device: bool = True
) -> list[dict[str, float]]:
    """History of a run that is stopped after these epochs, and each time resumed by a fresh model."""
    import threading

    from covseg_core.runs.run import open_run
    from covseg_core.training.callbacks import Session
    from covseg_core.training.heartbeat import Heart, StopRequested

    create_run(run, Split(SplitConfig(), {}, {}, {}))
    folder = open_run(run.id)
    for end in ends:
        stop = threading.Event()

        class StopsAfter(Heart):
            def write(self, end: int = end, stop: threading.Event = stop, **changes: object) -> None:
                super().write(**changes)
                if changes.get("epoch") == end:
                    stop.set()

        with StopsAfter(folder, folder.status) as heart:
            session = Session(folder, run, heart, stop)
            model = training.compiled(run, training.Standardisation(110.0, 70.0), 0.1, device)
            try:
                training.fit(session, model, slices(24, 17), slices(8), device, on_device)
            except StopRequested:
                assert end < run.train.epochs
    return [{name: value for name, value in row.items() if "seconds" not in name} for row in folder.history()]


def main() -> None:
    """What the tests ask of each backend, in a process of its own: JSON on the last line."""
    device = as_gpu()
    held = DeviceSlices(slices(24, 17), slices(8))
    model = training.compiled(config("x"), training.Standardisation(110.0, 70.0), 0.1, device)
    model.hold(held, AugmentConfig())
    plain = config("x", augment=AugmentConfig()).train
    numbers = TrainingNumbers(held, slices(24, 17), plain)[1]
    found = [keras.ops.convert_to_numpy(part) for part in model.fetched(numbers)]
    expected = TrainingBatches(slices(24, 17), plain)[1]
    model.augment = CHANGES
    changed = [keras.ops.convert_to_numpy(part) for part in model.fetched(numbers)]
    print(
        json.dumps(
            {
                "same": all(np.array_equal(*pair) for pair in zip(found, expected, strict=True)),
                "sums": [int(part.astype(np.int64).sum()) for part in found],
                "changed": [part.astype(int).ravel()[::37].tolist() for part in changed],
                "whole": train_in_sessions(config("whole"), device, [2]),
                "resumed": train_in_sessions(config("resumed"), device, [1, 2]),
            }
        )
    )


@pytest.fixture(scope="module")
def asked(made_once: Callable[[str, Callable[[Path], None]], Path]) -> Callable[[str], dict]:
    """`asked(backend)`: what a backend answers."""

    def ask(backend: str) -> dict:
        if importlib.util.find_spec(backend) is None:
            pytest.skip(f"{backend} is not installed")

        def make(folder: Path) -> None:
            done = subprocess.run(
                [sys.executable, str(HERE)],
                env=os.environ
                | {"KERAS_BACKEND": backend, "COVSEG_CHECKPOINTS": str(folder), "PYTHONPATH": str(HERE.parents[2])}
                # the same program three times: compiled once, and in half the time
                | {"JAX_COMPILATION_CACHE_DIR": f"{folder}/jax", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
                | {"XLA_FLAGS": "--xla_backend_optimization_level=0"},
                capture_output=True,
                text=True,
                timeout=1400,
            )
            assert done.returncode == 0, done.stderr[-3000:]
            (folder / "answer.json").write_text(done.stdout.splitlines()[-1])

        return json.loads((made_once(f"slices-on-{backend}", make) / "answer.json").read_text())

    return ask


BACKENDS = pytest.mark.parametrize("backend", ["tensorflow", "jax"])


@BACKENDS
@pytest.mark.timeout(1500)
def test_a_batch_that_is_fetched_is_the_one_that_is_fed(asked, backend: str) -> None:
    assert asked(backend)["same"]


@BACKENDS
def test_a_resumed_training_has_the_same_curve(asked, backend: str) -> None:
    """To the last digit: slices, order and changes follow from seed and epoch alone."""
    answer = asked(backend)
    assert len(answer["whole"]) == 2
    assert answer["resumed"] == answer["whole"]


def test_without_augmentation_held_slices_train_as_fed_ones() -> None:
    device, plain = as_gpu(), {"epochs": 1, "augment": AugmentConfig()}
    [held] = train_in_sessions(config("held", **plain), device, [1])
    [fed] = train_in_sessions(config("fed", **plain), device, [1], on_device=False)
    assert held == pytest.approx(fed, rel=1e-4)


def test_tensorflow_and_jax_see_the_same_slices(asked) -> None:
    """Changed ones, too: what is drawn does not come from a backend's generator. A grey value may be rounded apart."""
    tensorflow, jax = asked("tensorflow"), asked("jax")
    assert tensorflow["sums"] == jax["sums"]
    for ours, theirs in zip(tensorflow["changed"], jax["changed"], strict=True):
        differences = np.abs(np.array(ours) - np.array(theirs))
        assert differences.max() <= 1
        assert (differences > 0).mean() < 0.01
    for ours, theirs in zip(tensorflow["whole"], jax["whole"], strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=0.05), "they begin with other weights"


@pytest.mark.parametrize("channels", [1, 3])
def test_validation_comes_in_its_order_behind_the_training_slices(channels: int) -> None:
    part = slices(7, channels=channels)
    held = DeviceSlices(slices(5, channels=channels), part)
    model = NumberedModel(*_input_and_output(channels))
    model.held = held
    batches = ValidationNumbers(held, 4)
    images, masks = zip(*(map(keras.ops.convert_to_numpy, model.fetched(batches[i])) for i in range(2)), strict=True)
    assert len(batches) == 2
    assert np.array_equal(np.concatenate(images), part.images.reshape(7, SIZE, SIZE, channels))
    assert np.array_equal(np.concatenate(masks), part.masks[..., None])


def _input_and_output(channels: int) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    images = keras.Input((SIZE, SIZE, channels), dtype="uint8")
    return images, keras.layers.Rescaling(1.0)(images)


def test_seeds_follow_from_seed_epoch_and_slice() -> None:
    """Not from the batch, nor from the epochs before: else a resumed run would see other changes."""
    part = slices(11)
    held = DeviceSlices(part, slices(2))

    def seeds(epoch: int, batch: int, seed: int = 0) -> dict[int, tuple[int, ...]]:
        batches = TrainingNumbers(held, part, TrainConfig(batch=batch, seed=seed))
        batches.start_epoch(epoch)
        pairs = [(n, s) for i in range(len(batches)) for n, s in zip(*_of(batches[i]), strict=True)]
        return {int(number): tuple(map(int, both)) for number, both in pairs}

    assert seeds(2, 4) == seeds(2, 11)
    assert len(set(seeds(2, 4).values())) == 11
    assert not set(seeds(2, 4).values()) & (set(seeds(3, 4).values()) | set(seeds(2, 4, seed=1).values()))


def _of(batch: tuple[dict[str, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    return batch[0]["slices"], batch[0]["seeds"]


def test_a_slice_that_is_drawn_twice_has_two_seeds() -> None:
    part = slices(2, patients="ab")
    held = DeviceSlices(part, slices(2))
    batches = TrainingNumbers(held, part, TrainConfig(batch=2, balance=1.0))
    for epoch in range(20):
        batches.start_epoch(epoch)
        chosen, seeds = _of(batches[0])
        if chosen[0] == chosen[1]:
            break
    assert chosen[0] == chosen[1]
    assert tuple(seeds[0]) != tuple(seeds[1])


@pytest.fixture
def run(checkpoints_folder: Path) -> Run:
    return create_run(config("a", scale_batch=True, augment=CHANGES), Split(SplitConfig(), {}, {}, {}))


def test_slices_lie_on_the_device_if_there_is_room(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    pace = training.settle_pace(run, as_gpu(), slices(200), slices(7))
    assert pace == Pace(16, 1e-3 * 2**0.5, on_device=True), "at 16 slices a step, 200 are twelve steps"
    assert read_pace(run) == pace
    assert capsys.readouterr().out == ""


def test_slices_without_room_are_fed_and_the_log_says_so(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    pace = training.settle_pace(run, dataclasses.replace(as_gpu(), memory=10**6), slices(200), slices(7))
    assert not pace.on_device
    assert "fed batch by batch, because with a training step they need" in capsys.readouterr().out


def test_several_devices_are_fed_and_the_log_says_so(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Also a run that began on one of them."""
    two = dataclasses.replace(as_gpu(), count=2, holds=False)
    assert not training.settle_pace(run, two, slices(200), slices(7)).on_device
    assert "a single device only" in capsys.readouterr().out
    model = training.compiled(run.config, training.Standardisation(0.0, 1.0), 0.1, as_gpu())
    batches, _ = training.batches_of(model, slices(9), slices(2), run.config.train, two, on_device=True)
    assert type(batches) is TrainingBatches
    assert "a single device only" in capsys.readouterr().out


def test_a_cpu_is_fed(run: Run) -> None:
    device = set_up("auto")
    if device.gpu:
        pytest.skip("this machine has a GPU")
    assert training.settle_pace(run, device, slices(200), slices(7)) == Pace(8, 1e-3)


def test_a_resumed_run_keeps_its_pace_on_whatever_it_finds(run: Run) -> None:
    """Another batch would bend the curve."""
    began = training.settle_pace(run, as_gpu(), slices(200), slices(7))
    with saving_last(run, training.compiled(run.config, training.Standardisation(0.0, 1.0), 0.1, as_gpu()), 1):
        pass
    assert training.settle_pace(run, set_up("auto"), slices(200), slices(7)) == began


def test_the_time_of_a_step_is_that_of_slices_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the batch that the training will have; the page says so before it is started."""
    monkeypatch.setattr(step_time, "set_up", lambda precision: as_gpu())
    monkeypatch.setattr(step_time, "SECONDS", 0.0)
    asked = config("x", scale_batch=True)
    found = step_time.step_time(step_time.Question(asked.prepare, asked.model, asked.train, slices=200))
    assert (found["batch"], found["learning_rate"]) == (16, 1e-3 * 2**0.5)
    assert isinstance(found["seconds_per_slice"], float)
    assert found["seconds_per_slice"] > 0


def test_a_device_that_is_full_after_all_is_fed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another program may have taken the memory in between."""

    def full(array: np.ndarray) -> None:
        raise MemoryError("failed to allocate 12 GB")

    monkeypatch.setattr("covseg_core.training.device_slices.place", full)
    device, settings = as_gpu(), config("x").train
    model = training.compiled(config("x"), training.Standardisation(0.0, 1.0), 0.1, device)
    batches, _ = training.batches_of(model, slices(9), slices(2), settings, device, on_device=True)
    assert type(batches) is TrainingBatches
    assert "the device has no room: failed to allocate 12 GB" in capsys.readouterr().out


if __name__ == "__main__":
    main()
