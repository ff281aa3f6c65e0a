"""What people change of a preset, from the command line, the form or a script."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, TypeVar

from covseg_core.config import (
    AUGMENTATIONS,
    AugmentConfig,
    Metric,
    ModelConfig,
    PrepareConfig,
    Preset,
    Region,
    RunConfig,
    Schedule,
    TrainConfig,
)
from covseg_core.errors import SettingError

Config = TypeVar("Config")


@dataclass(frozen=True)
class PresetChanges:
    """Settings in place of the preset's; None is the preset's own."""

    epochs: int | None = None
    size: int | None = None
    filters: int | None = None
    batch: int | None = None
    """Kept on every device, as is a learning rate: the rule for GPUs is then off."""
    region: Region | None = None
    context: int | None = None
    learning_rate: float | None = None
    schedule: Schedule | None = None
    patience: int | None = None
    augmentation: str | None = None
    """A name of `AUGMENTATIONS`."""
    ema: float | None = None

    def prepare(self, preset: Preset) -> PrepareConfig:
        """Raises `SettingError`, as do the others."""
        return _changed(preset.prepare, size=self.size, region=self.region, context=self.context)

    def model(self, preset: Preset) -> ModelConfig:
        return _changed(preset.model, filters=self.filters)

    def train(self, preset: Preset, metric: Metric, **seeds: int) -> TrainConfig:
        """Of a model of this metric; `seeds`: `seed`, `seeds` and `seed_number` of the training."""
        if self.augmentation is not None and self.augmentation not in AUGMENTATIONS:
            raise SettingError("augmentation", repr(self.augmentation), ", ".join(AUGMENTATIONS))
        kept = self.batch is not None or self.learning_rate is not None
        return _changed(
            preset.train,
            epochs=preset.epochs[metric] if self.epochs is None else self.epochs,
            batch=self.batch,
            learning_rate=self.learning_rate,
            scale_batch=False if kept else None,
            schedule=self.schedule,
            patience=self.patience,
            augment=None if self.augmentation is None else AUGMENTATIONS[self.augmentation],
            ema=self.ema,
            **seeds,
        )


def changes_of(config: RunConfig, base: Preset) -> PresetChanges:
    """What is to be changed of a preset to train as this run; what cannot be is as in the preset."""
    prepare, train = config.prepare, config.train
    changed = {
        "epochs": (train.epochs, base.epochs[config.metric]),
        "size": (prepare.size, base.prepare.size),
        "filters": (config.model.filters, base.model.filters),
        "region": (prepare.region, base.prepare.region),
        "context": (prepare.context, base.prepare.context),
        "learning_rate": (train.learning_rate, base.train.learning_rate),
        "schedule": (train.schedule, base.train.schedule),
        "patience": (train.patience, base.train.patience),
        "augmentation": (augmentation_name(train.augment), augmentation_name(base.train.augment)),
        "ema": (train.ema, base.train.ema),
    }
    values: dict[str, Any] = {name: value for name, (value, usual) in changed.items() if value != usual}
    scaled = train.batch == base.train.batch and train.scale_batch == base.train.scale_batch
    if not scaled and (train.batch != base.train.batch or "learning_rate" not in values):
        values["batch"] = train.batch
    return PresetChanges(**values)


def augmentation_name(augment: AugmentConfig) -> str | None:
    """Its name in `AUGMENTATIONS`, if it has one.

    >>> augmentation_name(AugmentConfig())
    'none'
    """
    return next((name for name, config in AUGMENTATIONS.items() if config == augment), None)


def _changed(config: Config, **values: Any) -> Config:
    """A copy with the values that are not None replaced."""
    kept = {name: value for name, value in values.items() if value is not None}
    return dataclasses.replace(config, **kept)  # type: ignore[type-var]
