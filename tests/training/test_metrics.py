"""What Keras shows in training is what docs/reference/metrics.md says, whatever the batches; else no curve is true."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covseg_core import config
from covseg_core.evaluation.measures import count, overlap
from covseg_core.training.losses import combined_loss, loss_of, soft_dice_loss
from covseg_core.training.metrics import ForegroundDice, ForegroundIoU, PixelAccuracy

pytestmark = pytest.mark.training

METRICS = {"accuracy": PixelAccuracy, "iou": ForegroundIoU, "dice": ForegroundDice}

TRUE = np.array([[1, 1], [0, 0]], np.uint8).reshape(1, 2, 2, 1)
HALF = np.array([[0.9, 0.1], [0.2, 0.6]], np.float32).reshape(1, 2, 2, 1)
"""One hit, one miss, one right background, one false alarm."""


@pytest.mark.parametrize(
    ("metric", "expected"), [(PixelAccuracy, 2 / 4), (ForegroundIoU, 1 / 3), (ForegroundDice, 2 / 4)]
)
def test_by_hand(metric, expected):
    found = metric()
    found.update_state(TRUE, HALF)
    assert float(found.result()) == pytest.approx(expected)


@pytest.mark.parametrize("name", METRICS)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**16), share=st.sampled_from([0.0, 0.02, 0.5, 1.0]))
def test_batches_pool_to_the_numpy_reference(name, seed, share):
    """The mean of per-batch scores would depend on the batch size and on how many slices are empty."""
    rng = np.random.default_rng(seed)
    true = (rng.random((5, 8, 8, 1)) < share).astype(np.uint8)
    predicted = rng.random((5, 8, 8, 1)).astype(np.float32)
    metric = METRICS[name]()
    for part in (slice(0, 2), slice(2, 4), slice(4, 5)):
        metric.update_state(true[part], predicted[part])
    assert float(metric.result()) == pytest.approx(overlap(count(true, predicted >= 0.5), "one")[name], abs=1e-6)


@pytest.mark.parametrize(("metric", "expected"), [(PixelAccuracy, 1), (ForegroundIoU, 1), (ForegroundDice, 1)])
def test_nothing_to_find_and_nothing_found_is_perfect(metric, expected):
    found = metric()
    found.update_state(np.zeros_like(TRUE), np.zeros_like(HALF))
    assert float(found.result()) == expected


def test_iou_is_of_the_foreground_only():
    """`keras.metrics.BinaryIoU` averages both classes unless told otherwise."""
    true = np.array([[1, 0], [0, 0]], np.uint8).reshape(1, 2, 2, 1)
    ours, both_classes, foreground = ForegroundIoU(), keras.metrics.BinaryIoU(), keras.metrics.BinaryIoU([1])
    for metric in (ours, both_classes, foreground):
        metric.update_state(true, HALF)
    assert float(ours.result()) == pytest.approx(float(foreground.result())) == pytest.approx(1 / 2)
    assert float(both_classes.result()) == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_slices_of_weight_zero_do_not_count():
    """Batches are filled up with repeated slices where devices share them."""
    metric = ForegroundDice()
    metric.update_state(
        np.concatenate([TRUE, TRUE]), np.concatenate([HALF, 1 - HALF]), sample_weight=np.array([1, 0], np.float32)
    )
    assert float(metric.result()) == pytest.approx(0.5)


def test_reset_forgets_the_epoch_before():
    metric = ForegroundDice()
    metric.update_state(TRUE, 1 - TRUE.astype(np.float32))
    metric.reset_state()
    metric.update_state(TRUE, TRUE.astype(np.float32))
    assert float(metric.result()) == 1


def test_soft_dice_loss_by_hand():
    loss = float(keras.ops.convert_to_numpy(soft_dice_loss(TRUE, HALF)))
    assert loss == pytest.approx(1 - (2 * (0.9 + 0.1) + 1) / (2 + 1.8 + 1), abs=1e-6)


def test_soft_dice_loss_of_an_empty_prediction_of_nothing_is_zero():
    """`keras.losses.Dice` charges 1 there, so that a model could not learn from healthy slices."""
    assert float(soft_dice_loss(np.zeros_like(TRUE), np.zeros_like(HALF))) == pytest.approx(0)
    assert float(soft_dice_loss(TRUE, TRUE.astype(np.float32))) == pytest.approx(0)
    assert float(soft_dice_loss(np.ones_like(TRUE), np.zeros_like(HALF))) == pytest.approx(1 - 1 / 5)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**16), share=st.sampled_from([0.0, 0.02, 0.5, 1.0]))
def test_the_combined_loss_is_that_of_the_document(seed, share):
    """The mean cross-entropy of all pixels, and 1 - (2 sum(tp) + 1) / (sum(t) + sum(p) + 1)."""
    rng = np.random.default_rng(seed)
    true = (rng.random((3, 8, 8, 1)) < share).astype(np.uint8)
    predicted = rng.uniform(0.001, 0.999, (3, 8, 8, 1)).astype(np.float32)
    t, p = true.astype(np.float64), predicted.astype(np.float64)
    entropy = np.mean(-t * np.log(p) - (1 - t) * np.log(1 - p))
    dice = 1 - (2 * np.sum(t * p) + 1) / (np.sum(t) + np.sum(p) + 1)
    found = float(keras.ops.convert_to_numpy(combined_loss(true, predicted)))
    assert found == pytest.approx(entropy + dice, rel=1e-4)


def test_what_is_certain_and_wrong_costs_much_and_not_infinitely():
    """One pixel of probability 0 in a lesion would make the loss NaN, and end the training."""
    wrong = float(combined_loss(TRUE, 1 - TRUE.astype(np.float32)))
    assert 10 < wrong < 20
    assert float(combined_loss(TRUE, TRUE.astype(np.float32))) == pytest.approx(0, abs=1e-5)


GRADIENTS = """
import jax, keras
from covseg_core.training.losses import binary_crossentropy
true = jax.numpy.array([1.0, 1.0, 1.0, 0.0, 0.0]).reshape(1, 1, 5, 1)
def loss(logits):
    return binary_crossentropy(true, jax.nn.sigmoid(logits)).sum()
print(*jax.grad(loss)(jax.numpy.array([0.0, -20.0, -80.0, 0.0, 15.0]).reshape(1, 1, 5, 1)).ravel())
"""


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")
def test_a_network_that_is_sure_of_the_background_can_still_learn_with_jax():
    """Keras's own cross-entropy has no gradient there: the thesis's network stayed all background for 100 epochs."""
    environment = os.environ | {"KERAS_BACKEND": "jax"}
    told = subprocess.run([sys.executable, "-c", GRADIENTS], env=environment, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr[-2000:]
    gradients = [float(word) for word in told.stdout.split()]
    assert gradients == pytest.approx([-0.5, -1, -1, 0.5, 1], abs=0.05)


@pytest.mark.parametrize("metric", config.METRICS)
def test_every_metric_minimises_the_loss_of_its_row(metric):
    loss = loss_of(metric)
    assert loss.__name__ == config.METRICS[metric].loss
