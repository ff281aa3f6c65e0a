"""All visible devices share the work, and say so; tested with two virtual CPU devices in processes of their own."""

from __future__ import annotations

import functools
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

from covseg_core.training.device import cpu_label, set_up

pytestmark = pytest.mark.training

TRAIN = """
import tempfile
from pathlib import Path
import numpy as np
import keras
{before}
from covseg_core.training.batches import PlainBatches, TrainingBatches
from covseg_core.config import ModelConfig, PrepareConfig, RunConfig, TrainConfig
from covseg_core.training.device import set_up
from covseg_core.data.slices.slice_set import SliceSet
from covseg_core.runs import Run, Standardisation
from covseg_core.training.resume import load_last, saving_last
from covseg_core.training.train import compiled, previewer

device = set_up({precision!r})
rng = np.random.default_rng(0)
images = rng.integers(0, 256, (11, 32, 32), dtype=np.uint8)
slices = SliceSet(images, (images > 200).astype(np.uint8), ("case",) * 11, np.arange(11))
identity = ("id", "experiment", "data", "0" * 64, "dice", "quick", "2026-01-01")
config = RunConfig(*identity, prepare=PrepareConfig(size=32), model=ModelConfig(filters=2))
model = compiled(config, Standardisation(128.0, 74.0), 0.1, device)
model.fit(TrainingBatches(slices, TrainConfig(batch=4), device.multiple), epochs=2, shuffle=False, verbose=0)
scores = model.evaluate(PlainBatches(slices, 4, device.multiple), return_dict=True, verbose=0)
previews = previewer(model, slices, np.arange(3), device.multiple)()
run, weights = Run(Path(tempfile.mkdtemp())), model.get_weights()
with saving_last(run, model, 2):
    pass
model.set_weights([np.zeros_like(weight) for weight in weights])
load_last(run, model, 2)
assert all(np.array_equal(a, b) for a, b in zip(weights, model.get_weights()))
predicted = model.predict(images[:8, ..., None], batch_size=8, verbose=0)
assert previews.shape == (3, 32, 32)
assert np.abs(previews / 255 - predicted[:3, ..., 0]).max() < 0.01
print(device.description)
print(device.count, scores["loss"], scores["dice_foreground"])
"""

TWO_TENSORFLOW = """
import tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
"""

COMPILED_QUICKLY = "--xla_backend_optimization_level=0"
"""For JAX: the same numbers from a program that takes half as long to compile, and runs for a second."""


@functools.cache
def _train(backend: str, before: str = "", precision: str = "auto", **environment: str) -> tuple[str, int, float]:
    done = subprocess.run(
        [sys.executable, "-c", TRAIN.format(before=before, precision=precision)],
        env=os.environ | {"KERAS_BACKEND": backend} | environment,
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    description, numbers = done.stdout.strip().splitlines()[-2:]
    count, _, dice = numbers.split()
    return description, int(count), float(dice)


def test_on_a_cpu_precision_is_float32():
    device = set_up("auto")
    if device.gpu:
        pytest.skip("this machine has a GPU")
    assert keras.config.dtype_policy().name == "float32"
    assert device.count == 1
    assert cpu_label() in device.description


def test_two_tensorflow_devices_share_a_batch_and_reach_the_same():
    description, count, dice = _train("tensorflow", TWO_TENSORFLOW)
    assert (count, description.split()[:2]) == (2, ["2", "CPU"])
    assert dice == pytest.approx(_train("tensorflow")[2], abs=0.02)


def test_mixed_precision_trains():
    description, _, dice = _train("tensorflow", precision="mixed")
    assert description.endswith("mixed_bfloat16")
    assert dice > 0


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")
def test_jax_trains_the_same_model_on_one_and_on_two_devices():
    """Batches of 4 and 3 slices do not divide by two devices unless they are filled up."""
    _, one, dice = _train("jax", XLA_FLAGS=COMPILED_QUICKLY)
    flags = f"{COMPILED_QUICKLY} --xla_force_host_platform_device_count=2"
    description, two, dice_of_two = _train("jax", XLA_FLAGS=flags)
    assert (one, two) == (1, 2)
    assert ", jax, " in description
    assert dice_of_two == pytest.approx(dice, abs=0.02)
    assert dice == pytest.approx(_train("tensorflow")[2], abs=0.05)
