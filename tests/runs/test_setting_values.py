"""Which settings differ decides which columns and axes somebody sees: one too few hides the reason of a difference."""

from __future__ import annotations

import dataclasses

from covseg_core.config import PRESETS, AugmentConfig, RunConfig, TrainConfig
from covseg_core.runs.setting_values import differing, setting_values


def _config(id: str, **values: object) -> RunConfig:
    config = RunConfig(id, id, "ct20", id, "dice", "quick", id, versions={"keras": id})
    return dataclasses.replace(config, **values)  # type: ignore[arg-type]


def test_runs_that_differ_in_name_and_time_alone_have_the_same_settings() -> None:
    assert differing([_config("one"), _config("two", dataset="other", metric="iou")]) == []
    assert differing([]) == differing([_config("one")]) == []


def test_every_setting_that_differs_is_found_those_with_a_name_first() -> None:
    one = _config("one")
    two = _config("two", train=TrainConfig(seed=1, augment=AugmentConfig(flip=True)), prepare=PRESETS["quick"].prepare)
    assert differing([one, one, two]) == ["prepare.size", "train.seed", "train.augment.flip"]
    assert [setting_values(config)["train.augment.flip"] for config in (one, two)] == ["no", "yes"]


def test_the_number_of_a_seed_is_no_setting_beside_the_seed() -> None:
    seeds = [_config(id, train=TrainConfig(seed=seed, seeds=2, seed_number=seed)) for id, seed in (("a", 1), ("b", 2))]
    assert differing(seeds) == ["train.seed"]
