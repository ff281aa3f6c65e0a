"""Trainings that differ in their seed. What a user loses otherwise: five seeds that are two, or five that are one."""

from __future__ import annotations

import dataclasses

import pytest
from click.testing import CliRunner

from covseg_core.cli import cli
from covseg_core.config import TrainConfig
from covseg_core.errors import CovsegError
from covseg_core.files import safe_name
from covseg_core.runs import jobs, list_runs

TINY = {"size": 32, "filters": 2, "batch": 4, "epochs": 1}


def test_every_metric_is_trained_on_the_same_split_with_seeds_of_its_own(phantoms: str, no_training: None) -> None:
    runs = jobs.train(phantoms, seeds=3, seed=4, **TINY)
    assert len(runs) == 9
    assert [(run.config.train.seed_number, run.config.metric) for run in runs[:4]] == [
        (1, "accuracy"),
        (1, "iou"),
        (1, "dice"),
        (2, "accuracy"),
    ], "the first seed of all metrics can be compared while the others train"
    assert [run.config.train.seed for run in runs] == [4001, 4101, 4201, 4002, 4102, 4202, 4003, 4103, 4203]
    assert all(run.config.split.seed == 4 and run.split == runs[0].split for run in runs)
    experiment = runs[0].config.experiment
    assert {run.config.experiment for run in runs} == {experiment}
    assert runs[5].id == f"{experiment}-dice-seed2of3"
    plain = dataclasses.replace(runs[0].config, id="", train=TrainConfig())
    assert all(
        dataclasses.replace(run.config, id="", train=TrainConfig(), metric=plain.metric) == plain for run in runs
    ), "nothing but metric and seed differs"


def test_one_seed_is_what_it_was(phantoms: str, no_training: None) -> None:
    """Who repeats an old run with its seed gets the same models."""
    runs = jobs.train(phantoms, seeds=1, seed=4, **TINY)
    assert [run.config.train.seed for run in runs] == [4, 4, 4]
    assert [run.id.rpartition("-")[2] for run in runs] == ["accuracy", "iou", "dice"]
    assert {(run.config.train.seeds, run.config.train.seed_number) for run in runs} == {(0, 0)}


def test_folds_are_trained_for_every_seed_on_the_same_deal(phantoms: str, no_training: None) -> None:
    runs = jobs.train(phantoms, ["dice"], seeds=2, folds=3, split_seed=7, **TINY)
    assert [(run.config.train.seed_number, run.config.split.fold) for run in runs] == [
        (1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3),
    ]  # fmt: skip
    assert [run.split for run in runs[:3]] == [run.split for run in runs[3:]]
    assert {run.config.split.seed for run in runs} == {7}
    assert runs[4].id.endswith("-dice-seed2of2-fold2of3")
    assert {run.config.train.seed for run in runs[3:]} == {202}


def test_an_experiment_of_seeds_is_not_taken_for_one_that_exists(phantoms: str, no_training: None) -> None:
    first = jobs.train(phantoms, ["dice"], seeds=2, **TINY)[0].config.experiment
    assert jobs._free_name(first) == f"{first}-2"


def test_the_longest_name_can_be_a_folder() -> None:
    name = jobs._free_name("x" * 64)
    ending = TrainConfig(seeds=99, seed_number=99).seed_suffix
    assert safe_name(f"{name}-99-accuracy{ending}-fold100of100")


@pytest.mark.parametrize("seeds", [0, -1, 100, 1000])
def test_a_number_of_seeds_that_cannot_be_leaves_no_run_behind(phantoms: str, seeds: int) -> None:
    with pytest.raises(CovsegError, match=f"seeds: {seeds}; expected 1 to 99"):
        jobs.train(phantoms, seeds=seeds, **TINY)
    assert list_runs() == []


def test_a_seed_too_large_to_be_multiplied_is_refused(phantoms: str) -> None:
    with pytest.raises(CovsegError, match="seed: 5000000001; expected 0 to 4294967295"):
        jobs.train(phantoms, ["accuracy"], seeds=2, seed=5_000_000, **TINY)
    assert list_runs() == []


def test_the_command_line_says_which_seeds_are_trained(phantoms: str, no_training: None) -> None:
    options = ["--size", "32", "--filters", "2", "--epochs", "1"]
    done = CliRunner().invoke(cli, ["train", phantoms, "--metric", "all", "--seeds", "5", *options])
    assert done.exit_code == 0, done.output
    said = "Every model is trained 5 times on this split, with seeds of its own: "
    assert said + "Accuracy 1 to 5; IoU 101 to 105; Dice 201 to 205." in " ".join(done.output.split())
    assert done.output.count("queued ") == 15
    once = CliRunner().invoke(cli, ["train", phantoms, "--metric", "dice", *options])
    assert "seeds of its own" not in once.output
    wrong = CliRunner().invoke(cli, ["train", phantoms, "--metric", "dice", "--seeds", "0", *options])
    assert wrong.exit_code != 0
    assert "seeds: 0; expected 1 to 99" in (wrong.output + str(wrong.exception))
    for run in list_runs():
        run.write_status(dataclasses.replace(run.status, state="stopped"))
