"""Losses that Keras does not have, and which of them a model minimises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras import ops

from covseg_core.config import METRICS, Metric


def loss_of(metric: Metric) -> str | Callable[..., Any]:
    """What a model of this metric minimises, as `model.compile` takes it."""
    name = METRICS[metric].loss
    return {loss.__name__: loss for loss in (soft_dice_loss, combined_loss)}.get(name, name)


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
    """The mean binary cross-entropy of all pixels and `soft_dice_loss`, added.

    The first tells every pixel apart and is steady, the second does not drown a small lesion in background. Source:
    Isensee et al., "nnU-Net", Nature Methods 2021.

    Parameters
    ----------
    y_true, y_pred : (N, S, S, 1) masks 0/1 and probabilities

    Returns
    -------
    () float32
    """
    true, predicted = ops.cast(y_true, "float32"), ops.cast(y_pred, "float32")
    return ops.mean(ops.binary_crossentropy(true, predicted)) + soft_dice_loss(true, predicted)
