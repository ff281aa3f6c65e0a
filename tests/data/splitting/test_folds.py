"""Cross-validation: a patient whom a fold has learned from and tests, or whom no fold tests, would spoil its score."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covseg_core.cli import cli
from covseg_core.config import METRICS, RunConfig, SplitConfig
from covseg_core.data.library.datasets import Case, Dataset
from covseg_core.data.splitting.folds import deal
from covseg_core.data.splitting.split import PARTS, make_splits, split_report
from covseg_core.errors import DatasetError, RunError, SettingError
from covseg_core.files import read_json, write_json
from covseg_core.runs import jobs, list_runs, open_runs


def make_case(id: str, patient: str, voxels: list[int]) -> Case:
    return Case(
        id, patient, False, f"cases/{id}/ct.nii.gz", f"cases/{id}/infection.nii.gz", None, None, (len(voxels), 8, 8),
        (1.0, 1.0, 1.0), True, "LPS", "HU", tuple(voxels), None, {},
    )  # fmt: skip


def make_dataset(*cases: Case) -> Dataset:
    return Dataset("chests", cases, "2024-01-01T00:00:00+00:00", "made up")


def patients(count: int, slices: int = 10) -> Dataset:
    cases = [make_case(f"scan{n}", f"p{n}", [0, 1] * (slices // 2 + n % 3)) for n in range(count)]
    return make_dataset(*cases)


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 6), st.integers(0, 6), st.sampled_from(["patient", "slice"]), st.integers(0, 1000))
def test_every_slice_is_tested_once_and_never_by_a_fold_that_has_learned_from_its_patient(
    folds: int, more: int, kind: str, seed: int
) -> None:
    dataset = patients(folds + 2 + more)
    splits = make_splits(dataset, SplitConfig(kind, seed=seed, folds=folds, fold=1), "infection")  # type: ignore[arg-type]
    every = {(case.id, z) for case in dataset.cases for z in range(case.slices)}
    tested: Counter[tuple[str, int]] = Counter()
    for number, split in enumerate(splits, start=1):
        assert split.config.fold == number
        parts = [{(id, z) for id, zs in split.part(part).items() for z in zs} for part in PARTS]
        assert all(parts)
        assert set.union(*parts) == every
        assert sum(map(len, parts)) == len(every)
        tested.update(parts[2])
        if kind == "patient":
            assert not split_report(split, dataset).leaky
    assert set(tested) == every
    assert set(tested.values()) == {1}


def test_folds_are_of_nearly_equal_size_and_each_has_something_to_find() -> None:
    """A fold with a third of the patients, or without a lesion, would weigh too much or say nothing."""
    random = np.random.default_rng(1)
    for seed in range(5):
        slices = random.integers(30, 120, 18)
        positives = (slices * random.uniform(0.1, 0.8, 18)).astype(int)
        part = deal(slices, positives, 5, seed)
        assert np.abs(np.bincount(part, slices) / slices.sum() - 0.2).max() < 0.06
        assert np.abs(np.bincount(part, positives) / positives.sum() - 0.2).max() < 0.06
    healthy = [make_case(f"healthy{n}", f"h{n}", [0] * 10) for n in range(10)]
    ill = [make_case(f"ill{n}", f"i{n}", [1] * 10) for n in range(5)]
    for split in make_splits(make_dataset(*healthy, *ill), SplitConfig(folds=5, fold=1)):
        assert split_report(split, make_dataset(*healthy, *ill)).parts[2].positive == 10


def test_validation_gets_its_share_of_what_is_left() -> None:
    dataset = patients(20)
    for split in make_splits(dataset, SplitConfig(folds=5, fold=1)):
        rows = split_report(split, dataset).parts
        assert rows[1].slices / (rows[0].slices + rows[1].slices) == pytest.approx(2 / 9, abs=0.08)


def test_two_scans_of_a_patient_are_tested_in_one_fold() -> None:
    cases = [make_case(f"scan{n}", f"p{n // 2}", [0, 1, 1]) for n in range(12)]
    for split in make_splits(make_dataset(*cases), SplitConfig(folds=3, fold=1)):
        people = [int(case[4:]) // 2 for case in split.test]
        assert all(count == 2 for count in Counter(people).values())


def test_other_seeds_deal_other_folds() -> None:
    dataset = patients(12)
    assert len({str(make_splits(dataset, SplitConfig(seed=seed, folds=4, fold=1))[0].test) for seed in range(6)}) > 3


TEN = [make_case(f"scan{n}", f"p{n}", [0, 1, 1] * (4 + n)) for n in range(10)]
"""12 to 39 slices of ten patients."""


def test_a_seed_deals_the_folds_that_it_always_has() -> None:
    """A cross-validation that is gone on with after an update must not test people that it has learned from.

    A change here is a change for users: it belongs in the CHANGELOG.
    """
    splits = make_splits(make_dataset(*TEN), SplitConfig(seed=0, folds=3, fold=1))
    assert [(list(split.validation), list(split.test)) for split in splits] == [
        (["scan1", "scan4"], ["scan3", "scan6", "scan8"]),
        (["scan7"], ["scan2", "scan5", "scan9"]),
        (["scan8"], ["scan0", "scan1", "scan4", "scan7"]),
    ]


@pytest.mark.parametrize(
    ("people", "folds", "says"),
    [(5, 5, "5 patient(s); expected at least 6 for 5 folds"), (3, 2, "all patients but one")],
)
def test_too_few_patients_are_one_clear_line(people: int, folds: int, says: str) -> None:
    with pytest.raises(DatasetError) as error:
        make_splits(patients(people), SplitConfig(folds=folds, fold=1))
    assert says in str(error.value)


@pytest.mark.parametrize("values", [{"folds": 1}, {"folds": 5}, {"folds": 5, "fold": 6}, {"fold": 1}, {"folds": -1}])
def test_a_fold_that_is_not_there_is_refused(values: dict[str, int]) -> None:
    with pytest.raises(SettingError, match="fold"):
        SplitConfig(**values)  # type: ignore[arg-type]


def test_runs_from_before_there_were_folds_can_be_read(tmp_path) -> None:
    """Whoever updates keeps the models of last week."""
    config = RunConfig("old", "old", "chests", "f", "dice", "quick", "2024-01-01T00:00:00+00:00")
    write_json(tmp_path / "config.json", config)
    old = json.loads((tmp_path / "config.json").read_text())
    del old["split"]["folds"], old["split"]["fold"]
    (tmp_path / "config.json").write_text(json.dumps(old))
    assert read_json(tmp_path / "config.json", RunConfig).split == SplitConfig()


def test_an_experiment_of_folds_starts_with_all_metrics_of_the_first(phantoms: str, no_training: None) -> None:
    """So that there is something to compare after three trainings, not after thirteen."""
    runs = jobs.train(phantoms, folds=5)
    experiment = runs[0].config.experiment
    expected = [f"{experiment}-{metric}-fold{fold}of5" for fold in range(1, 6) for metric in METRICS]
    assert [run.id for run in runs] == expected
    assert [run.id for run in sorted(list_runs(), key=lambda run: run.status.queued)] == expected, "the queue's order"
    assert len({str(run.split.test) for run in runs}) == 5
    assert all(run.split.config == run.config.split for run in runs)
    assert [run.id for run in open_runs(experiment)] == expected
    assert [run.id for run in open_runs(expected[3])] == [expected[3]]
    with pytest.raises(RunError, match="no such run"):
        open_runs(experiment[:-1])


def test_one_fold_is_a_single_split(phantoms: str, no_training: None) -> None:
    [run] = jobs.train(phantoms, ["dice"], folds=1)
    assert run.config.split == SplitConfig()


def test_too_many_folds_leave_no_run_behind(phantoms: str, no_training: None) -> None:
    with pytest.raises(DatasetError, match="at least 7 for 6 folds"):
        jobs.train(phantoms, folds=6)
    assert list_runs() == []


def test_the_command_line_says_what_each_fold_tests_and_stops_all_at_once(phantoms: str, no_training: None) -> None:
    from click.testing import CliRunner

    done = CliRunner().invoke(cli, ["train", phantoms, "--metric", "dice", "--folds", "3"], catch_exceptions=False)
    assert done.exit_code == 0
    assert "Split by patient into 3 folds, seed 0" in done.output
    assert done.output.count("patients") == 3
    assert done.output.count("queued ") == 3
    experiment = list_runs()[0].config.experiment
    done = CliRunner().invoke(cli, ["runs", "stop", experiment, "--json"], catch_exceptions=False)
    assert [row["state"] for row in json.loads(done.output)] == ["stopping"] * 3
    assert [row["fold"] for row in json.loads(done.output)] == [1, 2, 3]


def test_an_experiment_is_deleted_as_a_whole_or_not_at_all(phantoms: str, no_training: None) -> None:
    from click.testing import CliRunner

    runs = jobs.train(phantoms, ["dice"], folds=3)
    experiment = runs[0].config.experiment
    for run in runs[:2]:
        run.write_status(dataclasses.replace(run.status, state="stopped"))
    done = CliRunner().invoke(cli, ["runs", "delete", experiment, "--yes"])
    assert isinstance(done.exception, RunError) and runs[2].id in str(done.exception)
    assert len(list_runs()) == 3
    runs[2].write_status(dataclasses.replace(runs[2].status, state="failed"))
    assert CliRunner().invoke(cli, ["runs", "delete", experiment, "--yes"]).exit_code == 0
    assert list_runs() == []


@pytest.mark.training
def test_an_experiment_of_folds_trains_and_resumes(phantoms: str) -> None:
    """The one real training: two tiny runs, of which the second is stopped while it waits and goes on later."""
    runs = jobs.train(phantoms, ["dice"], folds=2, size=32, filters=2, batch=4, epochs=1)
    jobs.stop(runs[1])
    jobs.wait(runs)
    assert [run.status.state for run in runs] == ["finished", "stopped"]
    jobs.resume(runs[1])
    jobs.wait(runs)
    assert runs[1].status.state == "finished"
    assert all(run.evaluation.exists() for run in runs)
