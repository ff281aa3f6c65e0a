"""A run is repeated from its config.json; presets are what the documentation and the thesis say."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from covseg_core.config import (
    METRICS,
    MOST_SEEDS,
    PRESETS,
    AugmentConfig,
    ModelConfig,
    PrepareConfig,
    RunConfig,
    SplitConfig,
    TrainConfig,
    preset,
    training_seed,
)
from covseg_core.errors import CovsegError, SettingError
from covseg_core.files import read_json, write_json
from covseg_core.runs.preset_changes import PresetChanges


def _config(**values) -> RunConfig:
    return RunConfig("id", "experiment", "data", "f" * 64, "dice", "quick", "2020-01-01T00:00:00+00:00", **values)


@pytest.mark.parametrize("name", PRESETS)
def test_a_configuration_comes_back_from_its_file_as_it_was(name, tmp_path):
    row = PRESETS[name]
    config = _config(prepare=row.prepare, model=row.model, train=row.train, versions={"keras": "3"})
    write_json(tmp_path / "config.json", config)
    assert read_json(tmp_path / "config.json", RunConfig) == config


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ('"dice"', '"dicee"', "metric"),
        ('"epochs": 100', '"epochs": "many"', "epochs"),
        ('"epochs": 100', '"epochs": 0', "epochs"),
        ('"size": 256', '"size": 100', "multiple of 16"),
        ("{", "{{", "malformed"),
    ],
)
def test_a_damaged_configuration_says_where(before, after, says, tmp_path):
    file = tmp_path / "config.json"
    write_json(file, _config())
    file.write_text(file.read_text().replace(before, after, 1))
    with pytest.raises(CovsegError) as error:
        read_json(file, RunConfig)
    assert says in str(error.value)
    assert str(file) in str(error.value)


def test_the_paper_preset_is_the_thesis():
    paper = preset("paper")
    assert (paper.prepare.size, paper.prepare.resize, paper.model) == (256, "thesis", ModelConfig(filters=32))
    assert paper.epochs == {"accuracy": 100, "iou": 100, "dice": 250, "combined": 250}
    assert paper.train.augment == AugmentConfig()


def test_every_preset_has_epochs_for_every_metric():
    assert all(set(row.epochs) == set(METRICS) for row in PRESETS.values())


@pytest.mark.parametrize(
    "make",
    [
        lambda: PrepareConfig(size=100),
        lambda: PrepareConfig(window=(250.0, -1250.0)),
        lambda: SplitConfig(fractions=(0.7, 0.2, 0.2)),
        lambda: SplitConfig(fractions=(1.0, 0.0, 0.0)),
        lambda: ModelConfig(filters=0),
        lambda: TrainConfig(epochs=0),
        lambda: TrainConfig(batch=0),
        lambda: TrainConfig(learning_rate=0.0),
        lambda: TrainConfig(empty_share=1.5),
        lambda: TrainConfig(patience=-1),
        lambda: TrainConfig(seed=-1),
        lambda: TrainConfig(seed=2**32),
        lambda: TrainConfig(seeds=1),
        lambda: TrainConfig(seeds=-2),
        lambda: TrainConfig(seeds=100),
        lambda: TrainConfig(seeds=3),
        lambda: TrainConfig(seeds=3, seed_number=4),
        lambda: TrainConfig(seed_number=1),
        lambda: preset("best"),
    ],
)
def test_values_that_cannot_work_are_refused_before_a_run_exists(make):
    with pytest.raises(SettingError, match="expected"):
        make()


def test_changed_replaces_what_is_given():
    changed = PresetChanges(epochs=3).train(PRESETS["quick"], "dice")
    assert changed == dataclasses.replace(PRESETS["quick"].train, epochs=3)


def test_no_two_trainings_have_the_same_seed() -> None:
    """Accuracy and IoU minimise the same loss: from one seed they would be one training, counted twice."""
    seeds = [
        training_seed(seed, metric, number)
        for seed in range(4)
        for metric in METRICS
        for number in range(1, MOST_SEEDS + 1)
    ]
    assert len(set(seeds)) == len(seeds)
    assert [TrainConfig(seeds=3, seed_number=2).seed_suffix, TrainConfig().seed_suffix] == ["-seed2of3", ""]


def test_a_run_from_before_there_were_seeds_is_one_training(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    write_json(file, _config())
    old = json.loads(file.read_text())
    del old["train"]["seeds"], old["train"]["seed_number"]
    file.write_text(json.dumps(old))
    assert read_json(file, RunConfig) == _config()


def test_paths_come_from_the_environment(data_folder: Path, checkpoints_folder: Path):
    from covseg_core.paths import checkpoints_root, data_root

    assert (data_root(), checkpoints_root()) == (data_folder, checkpoints_folder)
