"""Time a few real training steps: `python -m covseg_core.training.step_time QUESTION`.

A process of its own, since Keras must not be imported by who asks; `runs.time_estimate.measure` starts it. QUESTION is
JSON of `prepare`, `model`, `train` and `slices`. Prints one line of JSON: device, seconds per training slice, seconds
from the start of the process to the end of its first step, and the batch and learning rate that the device gets.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from dataclasses import dataclass

import msgspec
import numpy as np
import psutil

from covseg_core.config import ModelConfig, PrepareConfig, RunConfig, TrainConfig
from covseg_core.data.slices.slice_set import SliceSet
from covseg_core.runs import Standardisation
from covseg_core.runs.pace import choose_pace
from covseg_core.training.device import set_up
from covseg_core.training.train import batches_of, compiled

SECONDS = 3.0
"""Steps are timed for so long."""
STEPS = 3, 50
"""But at least, and at most, so many."""


@dataclass(frozen=True)
class Question:
    """The network to be timed."""

    prepare: PrepareConfig
    model: ModelConfig
    train: TrainConfig
    slices: int = 0
    """Training slices of an epoch, if they are known."""


def main() -> None:
    """Read the question from the command line and print the answer."""
    question = msgspec.json.decode(sys.argv[1], type=Question)
    print(json.dumps(step_time(question)), flush=True)


def step_time(question: Question) -> dict[str, object]:
    """Train on noise for a few steps.

    Returns
    -------
    dict : `device` as a run's status names it, `seconds_per_slice`, `startup` in seconds, `batch`, `learning_rate`
    """
    parent = os.getppid()
    device = set_up(question.train.precision)
    pace = choose_pace(
        question.train, question.prepare, question.model, question.slices or 10**6, device.gpu, device.memory
    )
    train = pace.of(question.train)
    config = RunConfig("", "", "", "", "dice", "", "", prepare=question.prepare, model=question.model, train=train)
    model = compiled(config, Standardisation(128.0, 64.0), 0.05, device)
    slices = _noise(4 * train.batch, question.prepare)
    batches, _ = batches_of(model, slices, slices, train, device, device.gpu)

    def step(number: int) -> float:
        if os.getppid() != parent:
            sys.exit("whoever asked is gone")
        start = time.perf_counter()
        # the loss is a number in memory: the device has finished when it is there
        float(model.train_on_batch(*batches[number % len(batches)], return_dict=True)["loss"])
        return time.perf_counter() - start

    step(0)
    startup = time.time() - psutil.Process().create_time()
    step(1)
    seconds: list[float] = []
    while len(seconds) < STEPS[0] or (sum(seconds) < SECONDS and len(seconds) < STEPS[1]):
        seconds.append(step(len(seconds)))
    return {
        "device": device.description,
        "seconds_per_slice": statistics.median(seconds) / train.batch,
        "startup": startup,
        "batch": train.batch,
        "learning_rate": train.learning_rate,
    }


def _noise(count: int, prepare: PrepareConfig) -> SliceSet:
    """Slices of the right shape; a fifth of each mask is lesion, so that no slice is left out as empty."""
    random = np.random.default_rng(0)
    shape = (count, prepare.size, prepare.size)
    images = random.integers(0, 256, shape + ((prepare.channels,) if prepare.context else ()), np.uint8)
    masks = ((images[..., 0] if prepare.context else images) < 51).astype(np.uint8)
    return SliceSet(images, masks, ("noise",) * count, np.arange(count))


if __name__ == "__main__":
    main()
