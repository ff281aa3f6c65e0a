"""Decisions of a training that follow from its scores so far.

They are functions of the history and not the state of a callback: a resumed run decides as the uninterrupted one would.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from covseg_core.config import TrainConfig
from covseg_core.runs.history import best_epoch

PLATEAU = 5
"""Epochs without a better score before the learning rate is halved."""
SMALLEST_RATE = 1e-6


def learning_rate(config: TrainConfig, scores: Sequence[float]) -> float:
    """Learning rate of the epoch that follows these validation scores.

    >>> learning_rate(TrainConfig(epochs=11, schedule="cosine", learning_rate=0.1), [0.5] * 10)
    0.001
    """
    epoch = len(scores)
    if config.schedule == "cosine":
        done = epoch / max(1, config.epochs - 1)
        share = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        return config.learning_rate * share
    if config.schedule == "plateau":
        return max(config.learning_rate * 0.5 ** _halvings(scores), SMALLEST_RATE)
    return config.learning_rate


def should_stop(config: TrainConfig, scores: Sequence[float]) -> bool:
    """Whether early stopping ends the training after these validation scores."""
    return 0 < config.patience <= len(scores) - best_epoch(scores)


def _halvings(scores: Sequence[float]) -> int:
    """How often the score has not improved for `PLATEAU` epochs; the count starts anew after each time."""
    best, waited, count = -math.inf, 0, 0
    for score in scores:
        if score > best:
            best, waited = score, 0
        else:
            waited += 1
        if waited == PLATEAU:
            count, waited = count + 1, 0
    return count
