"""The settings of runs side by side: which differ, and what they are called."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from covseg_core.config import RunConfig

LABELS = {
    "preset": "Preset",
    "target": "Target",
    "split.kind": "Split",
    "split.seed": "Split seed",
    "split.folds": "Folds",
    "split.fold": "Fold",
    "split.leave_out": "Cases left out",
    "prepare.size": "Size",
    "prepare.region": "Region",
    "prepare.context": "Context",
    "model.filters": "Filters",
    "model.normalization": "Normalization",
    "train.epochs": "Planned epochs",
    "train.batch": "Batch",
    "train.learning_rate": "Learning rate",
    "train.schedule": "Schedule",
    "train.patience": "Patience",
    "train.seed": "Seed",
    "train.ema": "Average of weights",
}
"""What people call them, in the order of tables; all other settings follow under their own names."""
APART = (
    "id",
    "experiment",
    "created",
    "fingerprint",
    "dataset",
    "metric",
    "versions",
    "train.seeds",
    "train.seed_number",
)
"""No settings, or shown for themselves."""

Value = str | int | float


def setting_values(config: RunConfig) -> dict[str, Value]:
    """Setting -> value, such as `prepare.size` -> 128; lists as text, yes and no as such.

    >>> config = RunConfig("a", "a", "ct20", "", "dice", "quick", "")
    >>> {name: setting_values(config)[name] for name in ("prepare.size", "prepare.window", "train.augment.flip")}
    {'prepare.size': 256, 'prepare.window': '-1250, 250', 'train.augment.flip': 'no'}
    """
    return {name: value for name, value in _flat("", dataclasses.asdict(config)).items() if not name.startswith(APART)}


def differing(configs: Sequence[RunConfig]) -> list[str]:
    """Settings in which these runs are not all alike, in the order of tables."""
    each = [setting_values(config) for config in configs]
    names = dict.fromkeys([*LABELS, *(name for values in each for name in values)])
    return [name for name in names if len({values.get(name) for values in each}) > 1]


def label(name: str) -> str:
    """What people call a setting.

    >>> label("model.filters"), label("train.balance")
    ('Filters', 'train.balance')
    """
    return LABELS.get(name, name)


def _flat(prefix: str, values: dict[str, object]) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= _flat(f"{prefix}{name}.", value)
        elif isinstance(value, bool):
            found[prefix + name] = "yes" if value else "no"
        elif isinstance(value, str | int | float):
            found[prefix + name] = value
        elif isinstance(value, tuple):
            found[prefix + name] = ", ".join(f"{one:g}" if isinstance(one, int | float) else str(one) for one in value)
    return found
