"""Slices that stay on the device for the whole training: a step is told which, and fetches and changes them itself.

They lie there as bytes. What goes over at each step are numbers: which slices, and two seeds for each. Fetching,
augmentation, standardisation and the training step are one compiled program, on TensorFlow and on JAX.
"""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from covseg_core.config import AugmentConfig, TrainConfig
from covseg_core.data.slices.slice_set import SliceSet
from covseg_core.training.batches import TrainingBatches, channels_last
from covseg_core.training.device import captured, place
from covseg_core.training.device_augment import augmented

Numbers = tuple[dict[str, np.ndarray]]
"""`slices` (B,) int32, and for training `seeds` (B, 2) uint32; with JAX the slices themselves, which do not move."""


class DeviceSlices:
    """Training slices, then validation slices, on the device.

    Raises
    ------
    MemoryError : there is no room for them
    """

    def __init__(self, training: SliceSet, validation: SliceSet) -> None:
        self.training, self.validation = len(training.images), len(validation.images)
        self.images = place(np.concatenate([channels_last(part.images) for part in (training, validation)]))
        self.masks = place(np.concatenate([part.masks[..., None] for part in (training, validation)]))
        # a compiled step of JAX would copy what it only refers to into the program; what it is handed, it shares
        self.handed = {} if captured() else {"images": self.images, "masks": self.masks}


class TrainingNumbers(TrainingBatches):
    """The batches of `TrainingBatches`, as numbers of slices and seeds of their augmentation.

    Slices of the epoch's beginning fill its last batch: a shorter one would be another program to compile, which takes
    as long as the first, a quarter of a minute and more on a GPU.
    """

    def __init__(self, held: DeviceSlices, slices: SliceSet, config: TrainConfig) -> None:
        self.held = held
        super().__init__(slices, config)

    def start_epoch(self, epoch: int) -> None:
        super().start_epoch(epoch)
        if len(self._order) > self.config.batch:
            self._order = np.resize(self._order, len(self) * self.config.batch)
        rng = np.random.default_rng((self.config.seed, epoch, 1))
        self._seeds = rng.integers(0, 2**32, (max(len(self.slices.images), len(self._order)), 2), np.uint32)

    def __getitem__(self, index: int) -> Numbers:  # type: ignore[override]
        places = slice(index * self.config.batch, (index + 1) * self.config.batch)
        chosen = self._order[places].astype(np.int32)
        # a slice that can come several times is changed in another way each time
        seeds = self._seeds[chosen if self._weights is None else places]
        return ({"slices": chosen, "seeds": seeds, **self.held.handed},)


class ValidationNumbers(keras.utils.PyDataset):
    """All validation slices in their order, unchanged."""

    def __init__(self, held: DeviceSlices, batch: int) -> None:
        super().__init__()
        self.held, self.batch = held, batch

    def __len__(self) -> int:
        return -(-self.held.validation // self.batch)

    def __getitem__(self, index: int) -> Numbers:
        start = index * self.batch
        numbers = np.arange(start, min(start + self.batch, self.held.validation), dtype=np.int32)
        return ({"slices": self.held.training + numbers, **self.held.handed},)


class NumberedModel(keras.Model):
    """A network whose steps of training and validation take slices, or numbers of slices that it holds."""

    held: DeviceSlices | None = None
    augment = AugmentConfig()

    def hold(self, held: DeviceSlices, augment: AugmentConfig) -> None:
        """Take numbers from now on."""
        self.held, self.augment = held, augment

    def complete(self) -> None:
        """Make what Keras would make from the first batch: states of loss, metrics and optimizer; after `compile`.

        Numbers are no images that they could be made from. And TensorFlow traces the step a second time if the first
        one has made a variable, which takes as long as the first: two seconds or more.
        """
        target = ops.zeros((1, *self.output_shape[1:]))
        self.compute_loss(y=target, y_pred=target)
        self.compute_metrics(None, target, target)
        self.optimizer.build(self.trainable_variables)
        self.reset_metrics()

    def train_step(self, *arguments):
        """As Keras calls it: with the data last, before them with JAX the state."""
        *state, data = arguments
        return super().train_step(*state, self.fetched(data))

    def test_step(self, *arguments):
        """As `train_step`."""
        *state, data = arguments
        return super().test_step(*state, self.fetched(data))

    def fetched(self, data):
        """Images and masks of a batch of numbers; a batch of slices as it is."""
        numbers = data[0] if isinstance(data, tuple) else data
        if self.held is None or not isinstance(numbers, dict):
            return data
        images = ops.take(numbers.get("images", self.held.images), numbers["slices"], axis=0)
        masks = ops.take(numbers.get("masks", self.held.masks), numbers["slices"], axis=0)
        if "seeds" in numbers:
            images, masks = augmented(images, masks, numbers["seeds"], self.augment)
        return images, masks
