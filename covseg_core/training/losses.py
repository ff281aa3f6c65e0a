"""Losses that Keras does not have, and which of them a model minimises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from covseg_core.config import METRICS, Metric

LEAST = 1e-37
"""Smallest probability of the cross-entropy: about the smallest number that float32 holds with all its digits."""
LEAST_LEFT = 2.0**-24
"""The same for one minus a probability, which float32 cannot tell from 0 below that."""


def loss_of(metric: Metric) -> Callable[..., Any]:
    """What a model of this metric minimises, as `model.compile` takes it."""
    return {loss.__name__: loss for loss in (binary_crossentropy, soft_dice_loss, combined_loss)}[METRICS[metric].loss]


def binary_crossentropy(y_true, y_pred):
    """-t log p - (1 - t) log(1 - p) of each pixel, with a gradient wherever float32 can have one.

    `keras.losses.BinaryCrossentropy` looks for the logits with TensorFlow, and has a gradient everywhere. With JAX and
    PyTorch it cuts probabilities off at 1e-7, where the gradient ends: a network that calls all of a slice background
    with such certainty, as the thesis's once did on a GPU after an epoch, learns nothing any more.

    Parameters
    ----------
    y_true, y_pred : (N, S, S, 1) masks 0/1 and probabilities

    Returns
    -------
    (N, S, S) float32, which Keras takes the mean of
    """
    true = ops.cast(y_true, "float32")
    if keras.backend.backend() == "tensorflow":
        pixels = ops.binary_crossentropy(true, y_pred)
        return ops.mean(pixels, axis=-1)
    predicted = ops.cast(y_pred, "float32")
    log, log_left = ops.log(ops.maximum(predicted, LEAST)), ops.log(ops.maximum(1 - predicted, LEAST_LEFT))
    return -ops.mean(true * log + (1 - true) * log_left, axis=-1)


def soft_dice_loss(y_true, y_pred):
    """1 - (2 sum(t p) + 1) / (sum(t) + sum(p) + 1), over all pixels of the batch, p not thresholded.

    The 1 makes an all-empty batch with an empty prediction cost 0; `keras.losses.Dice` charges it 1. Source: Milletari,
    Navab, Ahmadi, "V-Net", 3DV 2016, with plain instead of squared sums, as in the thesis.

    Parameters
    ----------
    y_true, y_pred : (N, S, S, 1) masks 0/1 and probabilities

    Returns
    -------
    () float32
    """
    true = ops.cast(y_true, "float32")
    predicted = ops.cast(y_pred, "float32")
    both = ops.sum(true * predicted)
    return 1 - (2 * both + 1) / (ops.sum(true) + ops.sum(predicted) + 1)


def combined_loss(y_true, y_pred):
    """The mean of `binary_crossentropy`, and `soft_dice_loss`, added.

    The first tells every pixel apart and is steady, the second does not drown a small lesion in background. Source:
    Isensee et al., "nnU-Net", Nature Methods 2021.

    Parameters
    ----------
    y_true, y_pred : (N, S, S, 1) masks 0/1 and probabilities

    Returns
    -------
    () float32
    """
    return ops.mean(binary_crossentropy(y_true, y_pred)) + soft_dice_loss(y_true, y_pred)
