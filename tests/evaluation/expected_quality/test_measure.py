"""Expected Dice of predictions. What a user loses otherwise: a figure of quality that was made up."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from chests import LESION, chest, grey, make_run, save_scan, stored
from click.testing import CliRunner
from cohorts import Here
from ensembles import HALF, SHARES, ensemble, hazy, hazy_cases, of_patients, save_case
from fakeruns import save_model

from covseg_core.cli import cli
from covseg_core.config import SplitConfig
from covseg_core.data.library.datasets import Dataset, load_dataset
from covseg_core.data.library.importing import import_dataset
from covseg_core.errors import RunError
from covseg_core.evaluation.expected_quality import ensembles_of, measure_quality
from covseg_core.evaluation.expected_quality.measure import related
from covseg_core.evaluation.expected_quality.relation import FEWEST_PATIENTS
from covseg_core.evaluation.grouping import finished_models
from covseg_core.evaluation.review_queue import ranked
from covseg_core.files import read_json, write_json
from covseg_core.prediction.cohort import predict as cohort_module
from covseg_core.prediction.cohort.dataset import dataset_of_cohort
from covseg_core.prediction.cohort.predict import predict_cohort
from covseg_core.prediction.decide import Prediction
from covseg_core.prediction.expected_dice import FILE, Quality, changed_since, stored_quality
from covseg_core.prediction.masks.agreement import agreement
from covseg_core.prediction.output.report import Report
from covseg_core.prediction.predict import predict
from covseg_core.prediction.request import asked_for
from covseg_core.runs import Run
from covseg_core.runs.operating_point import FILE as POINT
from covseg_core.runs.operating_point import OperatingPoint


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return hazy_cases(tmp_path / "in")


@pytest.fixture
def members(dataset: Dataset) -> tuple[Run, ...]:
    return tuple(ensemble(dataset))


@pytest.fixture
def measured(members: tuple[Run, ...]) -> Quality:
    return measure_quality([members])


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return save_scan(tmp_path / "new.nii.gz", hazy(0.5))


def expected(prediction: Prediction) -> tuple[float | None, float | None, float | None]:
    found = prediction.report.expected_dice
    assert found is not None
    return found.value, found.low, found.high


def reason(prediction: Prediction) -> str:
    found = prediction.report.expected_dice
    assert found is not None and found.value is None
    return found.reason


def test_it_learns_from_what_no_member_was_trained_on_and_says_so(
    members: tuple[Run, ...], measured: Quality, dataset: Dataset
) -> None:
    split = members[0].split
    unseen = {**dict.fromkeys(split.validation, "validation"), **dict.fromkeys(split.test, "test")}
    assert {scan.case: scan.part for scan in measured.scans} == unseen
    assert len(unseen) >= FEWEST_PATIENTS and split.train
    assert measured.dataset == dataset.reference and not measured.refused
    for one in measured.scans:
        case = dataset.case(one.case)
        alone = predict(dataset.path(case, "scan"), list(members))
        truth = stored(dataset.path(case, "infection")).T.astype(bool)
        mask = alone.mask.astype(bool)
        assert mask.shape == truth.shape
        overlap = 2 * (np.flip(mask, (1, 2)) & truth).sum() / (mask.sum() + truth.sum())
        both = 2 * (mask & truth).sum() / (mask.sum() + truth.sum())
        assert one.dice == pytest.approx(max(overlap, both)), "the mask that `predict` makes"
        assert one.agreement == agreement(mask for run, mask in alone.packed.items() if run)


def test_a_prediction_says_what_to_expect_and_it_is_near_the_truth(
    members: tuple[Run, ...], measured: Quality, scan: Path, tmp_path: Path
) -> None:
    found = predict(scan, list(reversed(members)), tmp_path / "out")
    value, low, high = expected(found)
    assert value is not None and low is not None and high is not None
    truth = chest() == LESION
    mask = stored(tmp_path / "out" / "mask.nii.gz") > 0
    dice = 2 * (mask & truth).sum() / (mask.sum() + truth.sum())
    assert abs(value - dice) < 0.1 and low <= dice <= high
    assert 0 <= low < value < high <= 1
    report = read_json(tmp_path / "out" / "report.json", Report)
    assert report.expected_dice == found.report.expected_dice
    assert found.report.expected_dice is not None
    assert found.report.expected_dice.sentence == f"expected Dice {value:.2f} ({low:.2f} to {high:.2f})"
    words = f"<b>{value:.2f}</b><span>expected Dice ({low:.2f} to {high:.2f})</span>"
    page = (tmp_path / "out" / "report.html").read_text()
    assert words in page and f"measured on\n  {measured.patients} patients of hazy@1" in page
    [row, *_] = csv.DictReader((tmp_path / "out" / "report.csv").read_text().splitlines())
    assert (float(row["expected_dice"]), float(row["expected_dice_low"])) == pytest.approx((value, low), abs=1e-4)
    easy = expected(predict(save_scan(scan, hazy(0)), list(members)))[0]
    hard = expected(predict(save_scan(scan, hazy(0.95)), list(members)))[0]
    assert easy is not None and hard is not None and hard < value < easy


def test_nothing_is_said_of_other_models(members: tuple[Run, ...], measured: Quality, scan: Path) -> None:
    assert predict(scan, list(members[:-1])).report.expected_dice is None
    assert predict(scan, members[0]).report.expected_dice is None
    other = make_run(members[0].folder.parent, "other", grey(100))
    assert predict(scan, [*members, other]).report.expected_dice is None


@pytest.mark.parametrize(
    ("way", "why"),
    [
        ({"threshold": 0.4}, "with the models at their operating points"),
        ({"minimum_mm3": 50.0}, "with the models at their operating points"),
        ({"combine": "vote"}, "combined by mean"),
        ({"mirror": True}, "without mirror images"),
    ],
)
def test_used_otherwise_they_tell_nothing(
    way: dict[str, object], why: str, members: tuple[Run, ...], measured: Quality, scan: Path
) -> None:
    assert why in reason(predict(scan, list(members), **way))  # type: ignore[arg-type]


def test_a_lung_model_beside_them_is_a_part_of_the_way(
    dataset: Dataset, members: tuple[Run, ...], scan: Path, checkpoints_folder: Path
) -> None:
    """The shipped one leaves out what lies beyond the chest."""
    make_run(checkpoints_folder / "pretrained", "lung", grey(-900), target="lung")
    found = measure_quality([members])
    assert found.way.lungs_sha256
    assert expected(predict(scan, list(members)))[0] is not None
    assert "with another lung model" in reason(predict(scan, list(members), lungs=None))
    assert "beyond the chest" in reason(predict(scan, list(members), keep_beyond=True))


def test_whatever_changes_ends_it(
    dataset: Dataset, members: tuple[Run, ...], measured: Quality, scan: Path, checkpoints_folder: Path
) -> None:
    point = OperatingPoint(
        1, "", "", "validation", "dice", 0.5, 0, "mm3", 1, 1, 0.5, 1, 1, 1
    )  # fmt: skip
    assert not changed_since(measured, members)
    write_json(members[2].folder / POINT, point)
    assert f"the operating point of {members[2].id} has changed" in reason(predict(scan, list(members)))
    (members[2].folder / POINT).unlink()
    assert expected(predict(scan, list(members)))[0] is not None
    before = members[3].onnx.read_bytes()
    save_model(members[3].onnx, grey(90), 48)
    assert f"the model of {members[3].id} has changed" in reason(predict(scan, list(members)))
    members[3].onnx.write_bytes(before)
    save_case(dataset.folder.parent / "more" / "c90", hazy(0.1), chest() == LESION)
    import_dataset("hazy", [dataset.folder.parent / "more"])
    assert "dataset hazy has changed" in reason(predict(scan, list(members)))
    assert changed_since(measured, members)
    again = measure_quality([members])
    assert {one.part for one in again.scans if one.case == "c90"} == {"new"}
    assert expected(predict(scan, list(members)))[0] is not None


def test_fewer_than_five_are_refused(members: tuple[Run, ...]) -> None:
    with pytest.raises(RunError, match="an ensemble of 4 members; expected at least 5"):
        measure_quality([members[:4]])
    with pytest.raises(RunError, match="one run twice"):
        measure_quality([(*members[:4], members[0])])
    assert not (members[0].folder / FILE).exists()


def test_few_patients_are_refused_before_anything_is_predicted(
    tmp_path: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scans of one patient are no sample, however many there are."""
    patients = ["a", "b", "c", *["d"] * 13]
    members = tuple(ensemble(of_patients(dataset, patients), SplitConfig(fractions=(0.1, 0.1, 0.8))))
    monkeypatch.setattr("covseg_core.evaluation.expected_quality.measure.predict_scan", lambda *_, **__: 1 / 0)
    with pytest.raises(RunError, match=r"patients? of hazy with whom none of them was trained; expected at least 10"):
        measure_quality([members])


def test_a_dataset_of_one_patient_and_a_split_by_slice_have_nobody_unseen(dataset: Dataset) -> None:
    alone = of_patients(dataset, ["a"] * 16)
    members = tuple(ensemble(alone, SplitConfig("slice")))
    with pytest.raises(RunError, match="0 patients of hazy"):
        measure_quality([members])


def test_stacks_of_unrelated_slices_are_no_scans(dataset: Dataset, members: tuple[Run, ...]) -> None:
    """An agreement over fifty people is that of nobody."""
    stacked = tuple(replace(case, stacked=True) for case in dataset.cases)
    write_json(dataset.folder / "dataset.json", replace(dataset, cases=stacked))
    with pytest.raises(RunError, match=r"0 patients of hazy .* \(stacks of unrelated slices are no scans\)"):
        measure_quality([members])


def test_where_agreement_tells_nothing_that_is_kept_and_shown(tmp_path: Path, scan: Path) -> None:
    """All masks are right, whether or not the members agree."""
    members = tuple(ensemble(hazy_cases(tmp_path / "in", honest=False)))
    found = measure_quality([members])
    assert {round(one.dice, 3) for one in found.scans} == {1.0} and len({one.agreement for one in found.scans}) > 5
    assert "says no more about Dice than the mean" in found.refused and not found.agreement
    made = predict(scan, list(members), tmp_path / "out")
    assert reason(made) == found.refused
    assert "No expected Dice: how far these models agree" in (tmp_path / "out" / "report.html").read_text()


def test_empty_masks_are_neither_learned_from_nor_judged(tmp_path: Path, scan: Path) -> None:
    """Two empty masks agree with 1, and their Dice is 1 or 0: at the same agreement as the best masks."""
    shares = (*SHARES, 0)
    for number, share in enumerate(shares, 1):
        save_case(tmp_path / "in" / f"c{number:02}", hazy(share, lesion=share > 0), chest() == LESION)
    dataset = import_dataset("hazy", [tmp_path / "in"])
    split = replace(HALF, leave_out=("c17",))
    members = tuple(ensemble(dataset, split))
    assert "c17" not in {one.case for one in measure_quality([members]).scans}, "left out on purpose"
    members = tuple(ensemble(dataset, replace(HALF, seed=seed_that_tests("c17", dataset)), experiment="other"))
    found = measure_quality([members])
    assert "c17" not in {one.case for one in found.scans}
    assert any(note.startswith("Left out: c17: nothing was marked") for note in found.notes)
    nothing = predict(save_scan(scan, hazy(0, lesion=False)), list(members))
    assert nothing.report.mask.voxels == 0
    assert "Dice of an empty mask is all or nothing" in reason(nothing)
    assert nothing.report.expected_dice is not None and nothing.report.expected_dice.agreement == 1


def seed_that_tests(case: str, dataset: Dataset) -> int:
    from covseg_core.data.splitting.split import make_split

    return next(seed for seed in range(50) if case in make_split(dataset, replace(HALF, seed=seed)).test)


def test_folds_learn_together_from_whom_each_tests(dataset: Dataset, scan: Path) -> None:
    runs = ensemble(dataset, SplitConfig(), folds=2)
    [model] = finished_models(runs)
    first, second = ensembles = ensembles_of(model)
    assert [run.config.split.fold for run in (*first, *second)] == [1] * 5 + [2] * 5
    found = measure_quality(ensembles)
    assert sorted(one.case for one in found.scans) == sorted(case.id for case in dataset.cases)
    assert {one.part for one in found.scans} == {"test"}
    for members in ensembles:
        assert stored_quality(members) == found
        assert expected(predict(scan, list(members)))[0] is not None
    assert predict(scan, [*first[:3], *second[:3]]).report.expected_dice is None


def test_another_dataset_counts_without_those_who_are_known(
    tmp_path: Path, dataset: Dataset, members: tuple[Run, ...]
) -> None:
    """Scans that were learned from are recognised, and patients of the same name are not trusted to be others."""
    trained = sorted(members[0].split.train)
    truth = chest() == LESION
    for number in range(12):
        save_case(tmp_path / "other" / f"x{number:02}", hazy((number + 0.5) / 12), truth, np.diag([0.8, 0.8, 9, 1]))
    save_case(tmp_path / "other" / trained[0], hazy(0.33), truth)
    copied = dataset.case(trained[1])
    save_case(
        tmp_path / "other" / "y00",
        hazy(SHARES[int(copied.id[1:]) - 1]),
        truth,
        np.diag([0.8, 0.8, copied.spacing[0], 1]),
    )
    other = import_dataset("other", [tmp_path / "other"])
    assert other.case("y00").sha256["scan"] == copied.sha256["scan"]
    found = measure_quality([members], "other")
    assert [one.case for one in found.scans] == [f"x{number:02}" for number in range(12)]
    assert {one.part for one in found.scans} == {"new"} and found.dataset == "other@1"
    few = of_patients(other, [*trained[:3], *trained[:3], *(case.id for case in other.cases[6:])])
    with pytest.raises(RunError, match="names that they have learned from are taken for the same people"):
        measure_quality([members], few.name)


def test_the_cohort_has_it_in_every_file_and_the_review_goes_by_it(
    tmp_path: Path, members: tuple[Run, ...], measured: Quality, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cohort_module, "Worker", Here)
    (tmp_path / "scans").mkdir()
    for number, share in enumerate((0.9, 0.2, 0.5), 1):
        save_scan(tmp_path / "scans" / f"scan{number}.nii.gz", hazy(share))
    save_scan(tmp_path / "scans" / "scan4.nii.gz", hazy(0, lesion=False))
    out = tmp_path / "out"
    cohort = predict_cohort([tmp_path / "scans"], asked_for(list(members)), out)
    found = [row.figures.expected_dice for row in cohort.rows if row.figures]
    values = [one.value for one in found if one]
    assert values[0] < values[2] < values[1] and values[3] is None  # type: ignore[operator]
    rows = list(csv.DictReader((out / "cohort.csv").read_text().splitlines()))
    assert [row["expected_dice"] for row in rows] == [*(f"{round(value, 4)}" for value in values[:3]), ""]  # type: ignore[arg-type]
    assert rows[0]["expected_dice_high"] and not rows[3]["expected_dice_high"]
    page = (out / "cohort.html").read_text()
    assert all(f"<td>{one.words}</td>" in page for one in found[:3] if one)
    assert "No expected Dice for 1 scan: nothing was marked" in page and "Expected Dice: what the agreement" in page
    made = dataset_of_cohort(out, "cohort")
    order = [(one.case, one.value) for one in ranked(load_dataset("cohort"), "infection", "quality")]
    assert order == [("scan1", values[0]), ("scan3", values[2]), ("scan2", values[1]), ("scan4", None)]
    listed = CliRunner().invoke(cli, ["review", "list", made.name, "--order", "quality", "--json"])
    assert [row["case"] for row in json.loads(listed.stdout)] == ["scan1", "scan3", "scan2", "scan4"]


def said(*arguments: str) -> str:
    return CliRunner().invoke(cli, list(arguments), catch_exceptions=False, standalone_mode=True).stdout


def test_the_commands(dataset: Dataset, members: tuple[Run, ...], scan: Path, tmp_path: Path) -> None:
    text = said("quality", "experiment")
    assert "experiment-dice: 5 members" in text and "with whom no member was trained" in text
    assert "validation the best epoch and the operating point were picked" in text
    assert "Reviewed in the order of expected Dice instead of at random" in text
    assert re.search(r"\n +46% +0\.\d{3} +0\.\d{3} +0\.\d{3}\n", text), "of 13 scans, six are the most below half"
    first = read_json(members[0].folder / FILE, Quality)
    [named] = json.loads(said("quality", *(run.id for run in members), "--json"))
    assert named["margin"] == first.margin and len(named["scans"]) == len(first.scans)
    assert not any(one.case in json.dumps(named["scans"]) for one in first.scans), "no names"
    assert "expected Dice 0." in said(
        "predict", str(scan), "--output", str(tmp_path / "out"), "--run", *(run.id for run in members)
    )
    with pytest.raises(RunError, match="an ensemble of 1 member;"):
        CliRunner().invoke(cli, ["quality", members[0].id], standalone_mode=False, catch_exceptions=False)


def test_a_calibration_that_lost_its_patients_says_how_few_are_left(measured: Quality) -> None:
    few = related(replace(measured, scans=measured.scans[:6]))
    assert few.refused == "masks of 6 patients are known, and at least 10 are needed"
