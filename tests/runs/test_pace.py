"""Batch and learning rate on a GPU: a rule that everybody can look up, and never another batch than the user's own."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from covseg_core.config import PRESETS, ModelConfig, PrepareConfig, RunConfig, SplitConfig, TrainConfig
from covseg_core.data.splitting.split import Split
from covseg_core.files import write_json
from covseg_core.runs import Run, Status, create_run
from covseg_core.runs.pace import FILE, LEAST_STEPS, STEP_SHARE, Pace, choose_pace, read_pace, step_bytes
from covseg_core.runs.preset_changes import PresetChanges

SETTINGS = TrainConfig(batch=8, learning_rate=1e-3, scale_batch=True)
NORMALISED = ModelConfig(normalization="batch")


def pace(train: TrainConfig = SETTINGS, slices: int = 10_000, gpu: bool = True, memory: int | None = None) -> Pace:
    return choose_pace(train, PrepareConfig(), NORMALISED, slices, gpu, memory)


def test_a_gpu_gets_four_times_the_batch_and_twice_the_rate() -> None:
    assert pace() == Pace(32, 2e-3)


def test_a_network_without_normalisation_keeps_its_rate() -> None:
    """The thesis's network, at twice the rate on a GPU, called everything background after one epoch, and for good."""
    thesis = choose_pace(SETTINGS, PrepareConfig(), ModelConfig(), 10_000, True, None)
    assert thesis == Pace(32, 1e-3)
    assert thesis.words(SETTINGS) == "batch 32 on this GPU, in place of 8"


def test_a_cpu_trains_as_the_settings_say() -> None:
    assert pace(gpu=False) == Pace(8, 1e-3)


@pytest.mark.parametrize("given", [{"batch": 8}, {"learning_rate": 2e-3}])
def test_a_batch_or_a_rate_that_the_user_gives_is_kept(given: dict[str, float]) -> None:
    preset = PRESETS["quick"]
    assert pace(PresetChanges(**given).train(preset, "dice")) == Pace(8, 2e-3)
    assert pace(PresetChanges(epochs=3).train(preset, "dice")) == Pace(32, 4e-3)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_leaves_the_batch_to_the_rule(name: str) -> None:
    assert PRESETS[name].train.scale_batch


def test_a_run_from_before_the_rule_keeps_its_batch() -> None:
    """Its `config.json` does not know the setting."""
    assert pace(TrainConfig(batch=8)) == Pace(8, 1e-3)


@pytest.mark.parametrize(("slices", "batch"), [(50, 8), (LEAST_STEPS * 16 - 1, 8), (LEAST_STEPS * 16, 16), (384, 32)])
def test_few_slices_keep_the_batch_small(slices: int, batch: int) -> None:
    """A hundred slices in batches of 32 would be four steps an epoch, and four hundred in a whole training."""
    assert pace(slices=slices) == Pace(batch, 1e-3 * math.sqrt(batch / 8))


@pytest.mark.parametrize("batch", [8, 16, 32])
def test_a_step_takes_at_most_half_of_the_memory(batch: int) -> None:
    enough = math.ceil(step_bytes(PrepareConfig(), ModelConfig(), batch) / STEP_SHARE)
    assert pace(memory=enough).batch == batch
    assert pace(memory=enough - 1).batch == max(8, batch // 2)


def test_what_was_chosen_is_said_and_what_was_not_is_not() -> None:
    assert pace().words(SETTINGS) == "batch 32 and learning rate 0.002 on this GPU, in place of 8 and 0.001"
    assert pace(gpu=False).words(SETTINGS) == ""


def test_a_status_names_the_device_and_what_was_chosen_for_it() -> None:
    """The Monitor page and `covseg train --wait` show it."""
    assert Status("running", device="1 GPU", chosen=pace().words(SETTINGS)).trains_on.startswith("1 GPU, batch 32 and")
    assert Status("running", device="1 CPU").trains_on == "1 CPU"


def test_only_batch_and_rate_of_the_settings_change() -> None:
    train = PRESETS["standard"].train
    changed = Pace(32, 2e-3, on_device=True).of(train)
    assert (changed.batch, changed.learning_rate) == (32, 2e-3)
    assert changed.schedule == train.schedule
    assert changed.augment == train.augment


def test_a_run_goes_on_with_what_it_began_with(checkpoints_folder: Path) -> None:
    config = RunConfig("a", "e", "d", "0", "dice", "quick", "", train=SETTINGS)
    run: Run = create_run(config, Split(SplitConfig(), {}, {}, {}))
    assert read_pace(run) == Pace(8, 1e-3), "as the settings say, where nothing was kept"
    write_json(run.folder / FILE, Pace(16, 1.5e-3, True))
    assert read_pace(run) == Pace(16, 1.5e-3, True)
