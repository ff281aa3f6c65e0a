"""Cross-validation: a patient whom a fold has learned from and tests, or whom no fold tests, would spoil its score."""

from __future__ import annotations

import itertools
import json
from collections import Counter

import numpy as np
import pytest
from fakeruns import ended
from hypothesis import given, settings
from hypothesis import strategies as st

from covseg_core.cli import cli
from covseg_core.config import THESIS, RunConfig, SplitConfig
from covseg_core.data.library.datasets import Case, Dataset
from covseg_core.data.splitting.folds import assign_fold, deal
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


def unevenness(part: np.ndarray, shares: list[float], slices: np.ndarray, positives: np.ndarray) -> float:
    """How far the parts' shares of slices and of positive slices are from those wanted; 1 for each part with none."""
    total = 0.0
    for number, share in enumerate(shares):
        mine = part == number
        total += abs(slices[mine].sum() / slices.sum() - share)
        if positives.any():
            total += abs(positives[mine].sum() / positives.sum() - share) + (positives[mine].sum() == 0)
    return total


@pytest.mark.parametrize("seed", range(12))
def test_no_way_to_deal_a_few_patients_is_much_more_even(seed: int) -> None:
    """Every way there is, for six patients: a test part that is too small, or has little to find, says little."""
    random = np.random.default_rng(seed)
    slices = random.integers(10, 60, 6)
    positives = (slices * random.uniform(0, 0.8, 6)).astype(int) * (seed % 3 > 0)
    for folds in (2, 3):
        ways = np.array(list(itertools.product(range(folds), repeat=6)))
        best = min(unevenness(way, [1 / folds] * folds, slices, positives) for way in ways)
        dealt = deal(slices, positives, folds, seed)
        assert unevenness(dealt, [1 / folds] * folds, slices, positives) <= best + 0.05 + 1e-9
        config = SplitConfig(fractions=(0.5, 0.3, 0.2), seed=seed, folds=folds, fold=folds)
        part = assign_fold(slices, positives, config, "chests")
        np.testing.assert_array_equal(part == 2, dealt == folds - 1)
        rest = part != 2
        left, found = slices[rest], positives[rest]
        ways = np.array(list(itertools.product((0, 1), repeat=len(left))))
        best = min(one_sided(way, left, found) for way in ways if 0 < way.sum() < len(way))
        assert one_sided(part[rest], left, found) <= best + 0.05 + 1e-9


def one_sided(part: np.ndarray, slices: np.ndarray, positives: np.ndarray) -> float:
    """Of the three eighths that validation should have; 1 if one of the two sides has nothing to find."""
    distance = abs(slices[part == 1].sum() / slices.sum() - 3 / 8)
    if positives.any():
        has = positives[part == 1].sum() / positives.sum()
        distance += abs(has - 3 / 8) + (has in (0, 1))
    return distance


@pytest.mark.parametrize("seed", range(5))
def test_a_deal_that_comes_out_even_is_found(seed: int) -> None:
    slices = np.array([9, 7, 6, 5, 4, 3, 1, 1])  # 36: 9 + 3, 7 + 5, 6 + 4 + 1 + 1
    assert np.bincount(deal(slices, np.zeros(8, int), 3, seed), slices).tolist() == [12, 12, 12]


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
    [
        (5, 5, "chests: 5 patient(s); expected at least 6 for 5 folds"),
        (3, 2, "tests all patients but one; expected more folds, so that one is left to validate on"),
    ],
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
    expected = [f"{experiment}-{metric}-fold{fold}of5" for fold in range(1, 6) for metric in THESIS]
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
        ended(run, "stopped")
    done = CliRunner().invoke(cli, ["runs", "delete", experiment, "--yes"])
    assert isinstance(done.exception, RunError) and runs[2].id in str(done.exception)
    assert len(list_runs()) == 3
    ended(runs[2], "failed")
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
