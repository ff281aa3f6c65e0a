"""Which slices train, validate and test: a patient on two sides would make every score a lie."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covseg_core.config import SplitConfig
from covseg_core.data.library.datasets import Case, Dataset
from covseg_core.data.splitting.split import PARTS, Split, make_split, make_splits, split_report
from covseg_core.errors import DatasetError
from covseg_core.files import read_json, to_json, write_json


def make_case(id: str, patient: str, voxels: list[int], stacked: bool = False, lung: bool = True) -> Case:
    counts = tuple(voxels)
    return Case(
        id=id,
        patient=patient,
        stacked=stacked,
        scan=f"cases/{id}/ct.nii.gz",
        infection=f"cases/{id}/infection_mask.nii.gz",
        lung=f"cases/{id}/lung_mask.nii.gz" if lung else None,
        labels=None,
        shape=(len(counts), 8, 8),
        spacing=(1.0, 1.0, 1.0),
        spacing_known=True,
        orientation="LPS",
        scale="HU",
        infection_voxels=counts,
        lung_voxels=counts if lung else None,
        sha256={},
    )


def make_dataset(*cases: Case) -> Dataset:
    return Dataset("chests", cases, "2024-01-01T00:00:00+00:00", "made up")


@st.composite
def datasets(draw: Callable) -> Dataset:
    """3 to 8 patients with 1 to 3 scans each, some stacked, in any order."""
    cases = []
    for patient in range(draw(st.integers(3, 8))):
        for scan in range(draw(st.integers(1, 3))):
            voxels = draw(st.lists(st.sampled_from([0, 0, 7]), min_size=1, max_size=9))
            stacked = draw(st.booleans()) and patient > 5
            cases.append(make_case(f"scan{9 - patient}{scan}", f"p{patient}", voxels, stacked))
    return make_dataset(*draw(st.permutations(cases)))


fractions = st.sampled_from([(0.7, 0.2, 0.1), (0.5, 0.25, 0.25), (0.98, 0.01, 0.01), (0.1, 0.1, 0.8)])
configs = st.builds(SplitConfig, st.sampled_from(["patient", "slice"]), fractions, st.integers(0, 2**32))


def slices_of(split: Split) -> list[tuple[str, int]]:
    return [(case, z) for part in PARTS for case, chosen in split.part(part).items() for z in chosen]


@settings(deadline=None, max_examples=50)
@given(datasets(), configs)
def test_every_slice_is_in_exactly_one_part(dataset: Dataset, config: SplitConfig) -> None:
    """Slices left out are data lost, slices used twice are leaks."""
    try:
        split = make_split(dataset, config)
    except DatasetError:
        assert sum(case.slices for case in dataset.cases) < 3
        return
    assert sorted(slices_of(split)) == sorted((case.id, z) for case in dataset.cases for z in range(case.slices))
    assert all(split.part(part) for part in PARTS), "a part without slices"


@settings(deadline=None, max_examples=50)
@given(datasets(), fractions, st.integers(0, 1000))
def test_no_patient_is_on_two_sides(dataset: Dataset, shares: tuple[float, float, float], seed: int) -> None:
    """The tool's main promise: test scores come from people the model has not seen."""
    split = make_split(dataset, SplitConfig("patient", shares, seed))
    sides: dict[str, set[str]] = {}
    for part in PARTS:
        for case, chosen in split.part(part).items():
            for z in chosen:
                sides.setdefault(dataset.case(case).patient_of(z), set()).add(part)
    assert all(len(parts) == 1 for parts in sides.values())
    assert not split_report(split, dataset).leaky


@settings(deadline=None, max_examples=50)
@given(datasets(), configs)
def test_same_seed_same_split_in_any_order_of_cases_and_after_json(dataset: Dataset, config: SplitConfig) -> None:
    """Three models are only comparable if they share their split, also when the dataset is imported again."""
    if sum(case.slices for case in dataset.cases) < 3:
        return
    split = make_split(dataset, config)
    assert make_split(make_dataset(*reversed(dataset.cases)), config) == split
    assert msgspec.json.decode(to_json(split), type=Split) == split


@settings(deadline=None, max_examples=50)
@given(datasets(), configs)
def test_the_report_counts_what_the_split_holds(dataset: Dataset, config: SplitConfig) -> None:
    """Users judge a split by this table."""
    if sum(case.slices for case in dataset.cases) < 3:
        return
    split = make_split(dataset, config)
    report = split_report(split, dataset)
    sides: dict[str, set[str]] = {}
    for row in report.parts:
        chosen = [(dataset.case(case), z) for case, zs in split.part(row.part).items() for z in zs]
        assert row.slices == len(chosen)
        assert row.scans == len({case.id for case, _ in chosen})
        assert row.patients == len({case.patient_of(z) for case, z in chosen})
        assert row.positive == sum((case.voxels("infection") or ())[z] > 0 for case, z in chosen)
        for case, z in chosen:
            sides.setdefault(case.patient_of(z), set()).add(row.part)
    assert sum(row.share for row in report.parts) == pytest.approx(1)
    shared = {patient: set(parts) for patient, parts in report.shared_patients.items()}
    assert shared == {patient: parts for patient, parts in sides.items() if len(parts) > 1}
    assert report.leaky == bool(shared)


def test_two_scans_of_one_patient_stay_together() -> None:
    """radiopaedia_29_86490_1 and 29_86491_1 are one person: 3 patients here, so one part gets both scans."""
    cases = [make_case(f"scan{number}", patient, [1] * 4) for number, patient in enumerate("abcc")]
    for seed in range(20):
        split = make_split(make_dataset(*cases), SplitConfig(fractions=(0.4, 0.3, 0.3), seed=seed))
        assert any({"scan2", "scan3"} <= split.part(part).keys() for part in PARTS)


def test_a_split_by_slice_gives_the_thesis_shares_and_is_called_leaky() -> None:
    """Who repeats the thesis gets 70/20/10 % of the slices, and is told that patients stand on several sides."""
    dataset = make_dataset(*(make_case(f"scan{n}", f"p{n}", [0] * 20 + [5] * 30) for n in range(4)))
    report = split_report(make_split(dataset, SplitConfig("slice")), dataset)
    assert [row.slices for row in report.parts] == [140, 40, 20]
    assert [row.positive for row in report.parts] == pytest.approx([84, 24, 12], abs=5)
    assert report.leaky
    assert set(report.shared_patients) == {"p0", "p1", "p2", "p3"}
    assert sum(report.shared_patients["p0"].values()) == 50


def test_by_patient_the_shares_come_close_and_positive_slices_go_everywhere() -> None:
    """With one patient too large or without infection in the test part, the score would mean nothing."""
    voxels = [[0] * 30, [4] * 70, [0, 2] * 20, [3] * 10, [0] * 25 + [1] * 35, [6] * 20, [0] * 12 + [5] * 33, [8] * 9]
    dataset = make_dataset(*(make_case(f"scan{n}", f"p{n}", counts) for n, counts in enumerate(voxels)))
    for seed in range(10):
        parts = split_report(make_split(dataset, SplitConfig(seed=seed)), dataset).parts
        assert all(row.positive for row in parts)
        assert all(abs(row.share - share) < 0.08 for row, share in zip(parts, (0.7, 0.2, 0.1), strict=True))


@pytest.mark.parametrize("shares", [(0.7, 0.2, 0.1), (0.5, 0.25, 0.25)])
@pytest.mark.parametrize("seed", range(8))
def test_no_way_to_split_a_few_patients_is_much_closer(seed: int, shares: tuple[float, float, float]) -> None:
    """Every way there is, for six patients: a test part that is too small, or has nothing to find, says nothing.

    Closeness is the sum of differences in shares of slices and of positive slices, and 1 for a part without any.
    """
    random = np.random.default_rng(seed)
    slices = random.integers(10, 60, 6)
    positives = (slices * random.uniform(0, 0.8, 6)).astype(int) * (seed % 3 > 0)
    cases = [make_case(f"scan{n}", f"p{n}", [1] * positives[n] + [0] * (slices[n] - positives[n])) for n in range(6)]

    def off(part: tuple[int, ...]) -> float:
        total = 0.0
        for number, share in enumerate(shares):
            mine = np.array(part) == number
            total += abs(slices[mine].sum() / slices.sum() - share)
            if positives.any():
                total += abs(positives[mine].sum() / positives.sum() - share) + (positives[mine].sum() == 0)
        return total

    best = min(off(way) for way in itertools.product(range(3), repeat=6) if len(set(way)) == 3)
    split = make_split(make_dataset(*cases), SplitConfig(fractions=shares, seed=seed))
    where = {id: number for number, part in enumerate(PARTS) for id in split.part(part)}
    assert off(tuple(where[f"scan{n}"] for n in range(6))) <= best + 0.1 + 1e-9


def test_other_seeds_give_other_splits() -> None:
    """Repeating an experiment over seeds must vary something."""
    dataset = make_dataset(*(make_case(f"scan{n}", f"p{n}", [0, 1] * 10) for n in range(10)))
    assert len({str(make_split(dataset, SplitConfig(seed=seed))) for seed in range(8)}) > 4


TEN = [make_case(f"scan{n}", f"p{n}", [0, 1, 1] * (4 + n)) for n in range(10)]
"""12 to 39 slices of ten patients, 255 in all."""


@pytest.mark.parametrize(
    ("seed", "validation", "test"), [(0, ["scan5", "scan6"], ["scan3"]), (1, ["scan2", "scan8"], ["scan4"])]
)
def test_a_seed_deals_the_patients_that_it_always_has(seed: int, validation: list[str], test: list[str]) -> None:
    """Whoever repeats a published experiment with a later covseg, by its seed, must test on the same people.

    A change here is a change for users: it belongs in the CHANGELOG.
    """
    split = make_split(make_dataset(*TEN), SplitConfig(seed=seed))
    assert (list(split.validation), list(split.test)) == (validation, test)


def test_an_experiment_has_a_split_or_one_for_each_fold() -> None:
    dataset = make_dataset(*TEN, make_case("other", "p10", [1], lung=False))
    assert make_splits(dataset, SplitConfig(seed=3)) == [make_split(dataset, SplitConfig(seed=3))]
    folds = make_splits(dataset, SplitConfig(seed=3, folds=4, fold=2), "lung")
    assert folds == [make_split(dataset, SplitConfig(seed=3, folds=4, fold=n), "lung") for n in (1, 2, 3, 4)]
    assert {id for split in folds for id in split.test} == {case.id for case in TEN}, "of all who have lung masks"


def test_a_report_of_nothing_is_a_table_of_zeros() -> None:
    split = Split(SplitConfig(), {}, {}, {})
    assert [(row.slices, row.share) for row in split_report(split, make_dataset(*TEN)).parts] == [(0, 0.0)] * 3


def test_stacked_slices_are_a_patient_each() -> None:
    """One file of unrelated slices can be split by patient, and no slice leaks into another part."""
    dataset = make_dataset(make_case("stack", "stack", [1] * 50, stacked=True))
    split = make_split(dataset, SplitConfig())
    assert [row.patients for row in split_report(split, dataset).parts] == [35, 10, 5]
    assert not split_report(make_split(dataset, SplitConfig("slice")), dataset).leaky


def test_cases_without_the_targets_mask_are_left_out() -> None:
    """A scan without a lung mask would teach the lung model that there is no lung."""
    cases = [make_case(f"scan{n}", f"p{n}", [1, 1], lung=n < 3) for n in range(5)]
    split = make_split(make_dataset(*cases), SplitConfig(), "lung")
    assert {case for case, _ in slices_of(split)} == {"scan0", "scan1", "scan2"}


def test_cases_that_are_left_out_are_in_no_part_and_must_be_there() -> None:
    """A mask that a radiologist has rejected must not be learned from, and a typing error must not pass for that."""
    dataset = make_dataset(*(make_case(f"scan{n}", f"p{n}", [1, 1]) for n in range(6)))
    split = make_split(dataset, SplitConfig(leave_out=("scan2", "scan5")))
    assert {case for case, _ in slices_of(split)} == {"scan0", "scan1", "scan3", "scan4"}
    folds = make_splits(dataset, SplitConfig(folds=3, fold=1, leave_out=("scan0",)))
    assert sorted(case for fold in folds for case in fold.test) == ["scan1", "scan2", "scan3", "scan4", "scan5"]
    with pytest.raises(DatasetError, match="no case 'scan9'"):
        make_split(dataset, SplitConfig(leave_out=("scan9",)))
    with pytest.raises(DatasetError, match="at least 3 patients"):
        make_split(dataset, SplitConfig(leave_out=("scan0", "scan1", "scan2", "scan3")))


@pytest.mark.parametrize(
    ("patients", "kind", "says"),
    [
        ("aab", "patient", "2 patient(s); expected at least 3 patients to split, or a split by slice"),
        ("a", "slice", "1 slice(s); expected at least 3 slices to split"),
        ("", "slice", "chests: no case has a mask of the infection; expected at least one infection mask"),
    ],
)
def test_too_little_to_split_is_one_clear_line(patients: str, kind: str, says: str) -> None:
    """Two patients cannot be three parts; the user must learn what would help."""
    dataset = make_dataset(*(make_case(f"scan{n}", patient, [1]) for n, patient in enumerate(patients)))
    with pytest.raises(DatasetError) as error:
        make_split(dataset, SplitConfig(kind))
    assert str(error.value).endswith(says)


def test_a_report_on_another_dataset_is_refused() -> None:
    """Counting another dataset's voxels would silently give a wrong table."""
    dataset = make_dataset(*(make_case(f"scan{n}", f"p{n}", [1, 1]) for n in range(3)))
    split = make_split(dataset, SplitConfig())
    shorter = make_dataset(*(make_case(f"scan{n}", f"p{n}", [1]) for n in range(3)))
    for other in (shorter, make_dataset(*dataset.cases[:2])):
        with pytest.raises(DatasetError, match="^chests: case scan. .* is gone; expected the split's own dataset$"):
            split_report(split, other)


def test_a_split_can_be_read_from_its_file(tmp_path: Path) -> None:
    """A resumed run trains on the slices it started with."""
    dataset = make_dataset(*(make_case(f"scan{n}", f"p{n}", [0, 1, 1]) for n in range(5)))
    split = make_split(dataset, SplitConfig(seed=3))
    write_json(tmp_path / "split.json", split)
    assert read_json(tmp_path / "split.json", Split) == split
