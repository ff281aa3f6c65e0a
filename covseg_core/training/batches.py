"""Batches for `keras.Model.fit`, from slices that stay in memory as bytes.

What an epoch holds follows from (seed, epoch) alone: a resumed run sees the slices, in the order and with the
augmentation, that the uninterrupted run would have seen, on every Keras backend.
"""

from __future__ import annotations

import keras
import numpy as np

from covseg_core.config import AugmentConfig, TrainConfig
from covseg_core.data.slices.slice_set import SliceSet
from covseg_core.training.augment import augment

Batch = tuple[np.ndarray, ...]
"""Images (B, S, S, C) uint8, masks (B, S, S, 1) uint8, and weights (B,) float32 where slices were repeated."""


class TrainingBatches(keras.utils.PyDataset):
    """Shuffled, augmented batches of one epoch at a time; for `fit(..., shuffle=False)`.

    Parameters
    ----------
    multiple : batches are filled up to a multiple of this, the number of devices that share one
    """

    def __init__(self, slices: SliceSet, config: TrainConfig, multiple: int = 1) -> None:
        super().__init__()
        self.slices = slices
        self.config = config
        self.multiple = multiple
        positive = slices.masks.any(axis=(1, 2))
        self._positive, self._empty = np.flatnonzero(positive), np.flatnonzero(~positive)
        # a data set without any lesion still has to give a batch
        kept = round(config.empty_share * len(self._empty))
        self._kept_empty = kept if len(self._positive) else max(1, kept)
        self._weights = _patient_weights(slices, config.balance)
        self.start_epoch(0)

    def start_epoch(self, epoch: int) -> None:
        """Choose and shuffle the slices of an epoch, from 0.

        Keras calls `on_epoch_end` also before the first epoch, so that counting its calls would not do.
        """
        self.epoch = epoch
        self._order = self._shuffled()

    @property
    def slices_an_epoch(self) -> int:
        return len(self._order)

    def __len__(self) -> int:
        return -(-self.slices_an_epoch // self.config.batch)

    def __getitem__(self, index: int) -> Batch:
        chosen = self._order[index * self.config.batch : (index + 1) * self.config.batch]
        images, masks = self.slices.images[chosen], self.slices.masks[chosen]
        if self.config.augment != AugmentConfig():
            for place, number in enumerate(chosen):
                key: tuple[int, ...] = (self.config.seed, self.epoch, int(number))
                if self._weights is not None:  # a slice can come several times, each time changed in another way
                    key += (index * self.config.batch + place,)
                rng = np.random.default_rng(key)
                images[place], masks[place] = augment(images[place], masks[place], self.config.augment, rng)
        return _filled(images, masks, self.multiple)

    def _shuffled(self) -> np.ndarray:
        """Numbers of the slices of this epoch: all with the target, a new choice of the empty ones."""
        rng = np.random.default_rng((self.config.seed, self.epoch))
        empty = rng.choice(self._empty, self._kept_empty, replace=False)
        order = rng.permutation(np.concatenate([self._positive, empty]))
        if self._weights is None:
            return order
        weights = self._weights[order]
        return rng.choice(order, len(order), p=weights / weights.sum())


class PlainBatches(keras.utils.PyDataset):
    """All slices in their order, unchanged: for validation."""

    def __init__(self, slices: SliceSet, batch: int, multiple: int = 1) -> None:
        super().__init__()
        self.slices = slices
        self.batch = batch
        self.multiple = multiple

    def __len__(self) -> int:
        return -(-len(self.slices.images) // self.batch)

    def __getitem__(self, index: int) -> Batch:
        chosen = slice(index * self.batch, (index + 1) * self.batch)
        return _filled(self.slices.images[chosen], self.slices.masks[chosen], self.multiple)


def channels_last(images: np.ndarray) -> np.ndarray:
    """(B, S, S) as (B, S, S, 1); images with neighbours have their channels already."""
    return images[..., None] if images.ndim == 3 else images


def _patient_weights(slices: SliceSet, balance: float) -> np.ndarray | None:
    """(N,) float64: how often each slice is drawn, in proportion; None where each is taken once."""
    if not balance or not slices.patients:
        return None
    _, patient, counts = np.unique(np.array(slices.patients), return_inverse=True, return_counts=True)
    return np.asarray(counts[patient].astype(np.float64) ** -balance)


def _filled(images: np.ndarray, masks: np.ndarray, multiple: int) -> Batch:
    """Add the channel axis where there is none; repeat slices, with weight 0, until the devices can share the batch."""
    count, images = len(images), channels_last(images)
    if multiple == 1:
        return images, masks[..., None]
    places = np.arange(-(-count // multiple) * multiple)
    weights = (places < count).astype(np.float32)
    places %= count
    return images[places], masks[places][..., None], weights
