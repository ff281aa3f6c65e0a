"""What a run is compiled with: the three experiments as three rows of a table.

Every model *reports* all three metrics, since a curve costs nothing and only a common yardstick compares; the row says
which loss is minimised and which score picks the best epoch. Accuracy and IoU have the same loss: from the same seed
their models train alike, and differ only in the epoch that is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from covseg_core.config import LOSSES, SCORES, Metric


@dataclass(frozen=True)
class Objective:
    """One row: the score that is watched and the loss that is minimised."""

    score: str
    loss: str | Callable[..., Any]


def objective(metric: Metric) -> Objective:
    """The row of a metric (imports Keras)."""
    from covseg_core.training.metrics import soft_dice_loss

    loss = LOSSES[metric]
    return Objective(SCORES[metric], soft_dice_loss if loss == soft_dice_loss.__name__ else loss)
