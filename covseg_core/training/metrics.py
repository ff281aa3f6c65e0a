"""Metrics for training, streaming over batches, in Keras 3; docs/reference/metrics.md defines them.

Counts are pooled over all pixels of an epoch, so that a slice without lesion cannot give a perfect score by itself, and
the result does not depend on the batch size. Each is tested against its NumPy reference in
`covseg_core.evaluation.measures`.
"""

from __future__ import annotations

import keras
from keras import ops

THRESHOLD = 0.5


class _PooledCounts(keras.metrics.Metric):
    """Sums of true, predicted and agreeing pixels at threshold 0.5."""

    def __init__(self, name: str, **kwargs) -> None:
        super().__init__(name=name, **kwargs)
        # float32 keeps a sum of 1e9 pixels right to 6e-8 of itself
        self.true = self.add_weight(name="true", shape=(), dtype="float32", initializer="zeros")
        self.predicted = self.add_weight(name="predicted", shape=(), dtype="float32", initializer="zeros")
        self.both = self.add_weight(name="both", shape=(), dtype="float32", initializer="zeros")
        self.pixels = self.add_weight(name="pixels", shape=(), dtype="float32", initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None) -> None:
        """Add a batch: masks 0/1 and probabilities (N, S, S, 1); weights (N,) of 0 or 1 leave slices out."""
        true = ops.cast(ops.reshape(y_true, (ops.shape(y_true)[0], -1)), "float32")
        predicted = ops.cast(ops.reshape(y_pred, (ops.shape(y_pred)[0], -1)) >= THRESHOLD, "float32")
        pixels = ops.ones_like(true)
        if sample_weight is not None:
            weight = ops.cast(ops.reshape(sample_weight, (-1, 1)), "float32")
            true, predicted, pixels = true * weight, predicted * weight, pixels * weight
        self.true.assign_add(ops.sum(true))
        self.predicted.assign_add(ops.sum(predicted))
        self.both.assign_add(ops.sum(true * predicted))
        self.pixels.assign_add(ops.sum(pixels))


class PixelAccuracy(_PooledCounts):
    """Share of pixels whose class is right: (TP + TN) / all. An all-background prediction gets 97 % and more."""

    def __init__(self, name: str = "pixel_accuracy", **kwargs) -> None:
        super().__init__(name, **kwargs)

    def result(self):
        wrong = self.true + self.predicted - 2 * self.both
        return ops.where(self.pixels > 0, 1 - wrong / ops.maximum(self.pixels, 1), 0.0)


class ForegroundIoU(_PooledCounts):
    """Intersection over union of the positive class: TP / (TP + FP + FN); 1 if both are empty."""

    def __init__(self, name: str = "iou_foreground", **kwargs) -> None:
        super().__init__(name, **kwargs)

    def result(self):
        union = self.true + self.predicted - self.both
        return ops.where(union > 0, self.both / ops.maximum(union, 1), 1.0)


class ForegroundDice(_PooledCounts):
    """Dice of the positive class: 2 TP / (2 TP + FP + FN); 1 if both are empty."""

    def __init__(self, name: str = "dice_foreground", **kwargs) -> None:
        super().__init__(name, **kwargs)

    def result(self):
        total = self.true + self.predicted
        return ops.where(total > 0, 2 * self.both / ops.maximum(total, 1), 1.0)
