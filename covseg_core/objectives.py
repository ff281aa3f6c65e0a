"""What a run is compiled with: the three experiments as three rows of a table.

Every model *reports* all three metrics, since a curve costs nothing and only a common yardstick compares; the row says
which loss is minimised and which score picks the best epoch. `SCORES` is read by code that must not import Keras.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from covseg_core.config import Metric

SCORES: dict[Metric, str] = {"accuracy": "pixel_accuracy", "iou": "iou_foreground", "dice": "dice_foreground"}


@dataclass(frozen=True)
class Objective:
    """One row: the score that is watched and the loss that is minimised."""

    score: str
    loss: str | Callable[..., Any]


def objective(metric: Metric) -> Objective:
    """The row of a metric (imports Keras)."""
    from covseg_core.metrics import soft_dice_loss

    rows = {
        "accuracy": Objective(SCORES["accuracy"], "binary_crossentropy"),
        "iou": Objective(SCORES["iou"], "binary_crossentropy"),
        "dice": Objective(SCORES["dice"], soft_dice_loss),
    }
    return rows[metric]
