"""Slices a step and learning rate: those of the settings, or on a GPU larger ones; and where the slices lie.

A GPU that gets eight slices a step waits for the next step most of the time. Where the settings allow it
(`scale_batch`; a batch that the user gives is kept), the batch is doubled once or twice, as long as

- an epoch still has `LEAST_STEPS` steps: few slices need many steps more than fast ones,
- a step takes at most half of the memory that is free on the GPU, by `step_bytes`.

The learning rate grows with the square root of the batch, in a network with batch normalisation. One without, such as
the thesis's, keeps its own: at twice the rate it called everything background after an epoch, and stayed there (H100,
bfloat16, 27 November 2026). Sources: Krizhevsky, "One weird trick for parallelizing
convolutional neural networks", arXiv:1404.5997 (2014), section 3.2, for the variance of the mean of a batch; Malladi,
Lyu, Panigrahi and Arora, "On the SDEs and scaling rules for adaptive gradient algorithms", NeurIPS 2022, for Adam;
Bjorck, Gomes, Selman and Weinberger, "Understanding batch normalization", NeurIPS 2018, for the rates it bears.

The choice is written to the run's folder when its training starts, so that one that is resumed goes on alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from covseg_core.config import ModelConfig, PrepareConfig, TrainConfig
from covseg_core.files import read_json
from covseg_core.runs.run import Run

FILE = "pace.json"
DOUBLINGS = 2
"""At most: four times the batch, twice the learning rate."""
LEAST_STEPS = 12
"""In an epoch, for a larger batch."""
STEP_SHARE = 0.5
"""Of the free memory, for a step."""
LAYERS = 24
"""Images of the first block's width that a training step keeps for each slice: about twelve at the first level, and
as many in all levels below, which halve. What XLA plans for networks of 8 to 32 filters in float32 is 22 to 24."""


@dataclass(frozen=True)
class Pace:
    """What a training goes on with, from its first epoch to its last."""

    batch: int
    """Slices a step."""
    learning_rate: float
    on_device: bool = False
    """Slices stay on the device, which also augments them; else each batch is made by the CPU and sent."""

    def of(self, train: TrainConfig) -> TrainConfig:
        """The settings with this pace."""
        return replace(train, batch=self.batch, learning_rate=self.learning_rate)

    def words(self, train: TrainConfig) -> str:
        """What is not as in the settings, for people; empty where nothing is."""
        if self.batch == train.batch:
            return ""
        if self.learning_rate == train.learning_rate:
            return f"batch {self.batch} on this GPU, in place of {train.batch}"
        return (
            f"batch {self.batch} and learning rate {self.learning_rate:.3g} on this GPU, "
            f"in place of {train.batch} and {train.learning_rate:.3g}"
        )


def choose_pace(
    train: TrainConfig, prepare: PrepareConfig, model: ModelConfig, slices: int, gpu: bool, memory: int | None
) -> Pace:
    """Batch and learning rate by the rule above.

    Parameters
    ----------
    slices : training slices of an epoch
    memory : bytes that are free on the device; None if unknown

    >>> thesis, normalised = ModelConfig(), ModelConfig(normalization="batch")
    >>> choose_pace(TrainConfig(scale_batch=True), PrepareConfig(), thesis, 467, gpu=True, memory=None)
    Pace(batch=32, learning_rate=0.001, on_device=False)
    >>> choose_pace(TrainConfig(scale_batch=True), PrepareConfig(), normalised, 467, gpu=True, memory=None)
    Pace(batch=32, learning_rate=0.002, on_device=False)
    """
    batch, doublings = train.batch, 0
    while gpu and train.scale_batch and doublings < DOUBLINGS:
        if slices < LEAST_STEPS * 2 * batch:
            break
        if memory is not None and step_bytes(prepare, model, 2 * batch) > STEP_SHARE * memory:
            break
        batch, doublings = 2 * batch, doublings + 1
    faster = math.sqrt(batch / train.batch) if model.normalization == "batch" else 1.0
    return Pace(batch, train.learning_rate * faster)


def step_bytes(prepare: PrepareConfig, model: ModelConfig, batch: int) -> int:
    """About how much a training step takes, in float32; half of it in bfloat16."""
    return batch * prepare.size**2 * model.filters * LAYERS * 4


def read_pace(run: Run) -> Pace:
    """What the run's training goes on with; that of its settings where it says nothing."""
    path = run.folder / FILE
    train = run.config.train
    return read_json(path, Pace) if path.is_file() else Pace(train.batch, train.learning_rate)
