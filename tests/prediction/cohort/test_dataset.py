"""From a cohort to a dataset. What a user loses when it fails: masks of a model that pass for a radiologist's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from chests import BRIGHT, chest, grey, save_scan
from click.testing import CliRunner
from cohorts import Here, save_scans, save_series

from covseg_core.cli import cli
from covseg_core.data.library.datasets import Dataset, list_datasets
from covseg_core.data.library.reviews import unseen
from covseg_core.data.library.revisions import save_revision, stored_mask
from covseg_core.data.reading.volumes import load_mask
from covseg_core.errors import CovsegError, DatasetError
from covseg_core.evaluation.review_queue import ranked
from covseg_core.prediction.cohort import predict as module
from covseg_core.prediction.cohort.dataset import dataset_of_cohort
from covseg_core.prediction.cohort.predict import predict_cohort
from covseg_core.prediction.cohort.state import Cohort
from covseg_core.prediction.request import asked_for
from covseg_core.runs import Run


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Worker", Here)


@pytest.fixture
def cohort(tmp_path: Path, runs: Callable[..., Run]) -> Cohort:
    """Two files, and two series of one patient, by two models that disagree; one more file that fails."""
    save_scans(tmp_path / "in", 10, 120)
    save_series(tmp_path / "in" / "a", 20, "P1", "20200401")
    save_series(tmp_path / "in" / "b", 30, "P1", "20200410")
    save_scan(tmp_path / "in" / "mask9.nii.gz", (chest() > 100).astype(np.uint8))
    models = runs("lesions"), runs("more", grey(BRIGHT - 700))
    request = asked_for(list(models), runs("lungs", grey(-900), target="lung"))
    return predict_cohort([tmp_path / "in"], request, tmp_path / "out")


def by_name(dataset: Dataset) -> dict[str, str]:
    return {case.id: case.patient for case in dataset.cases}


def test_scans_and_masks_become_cases_and_say_who_made_them(tmp_path: Path, cohort: Cohort) -> None:
    steps: list[tuple[int, int]] = []
    dataset = dataset_of_cohort(tmp_path / "out", "seen", lambda done, total: steps.append((done, total)))
    assert len(cohort.done) == len(dataset.cases) == 4 and steps[-1] == (4, 4)
    patients = sorted(by_name(dataset).values())
    assert len(set(patients)) == 3, "two series of one patient stay on one side of a split"
    scans = {row.name: row for row in cohort.done}
    masks = {int(np.count_nonzero(load_mask(tmp_path / "out" / name / "mask.nii.gz").voxels)) for name in scans}
    assert {int(np.count_nonzero(stored_mask(dataset, case, "infection"))) for case in dataset.cases} == masks
    for case in dataset.cases:
        infection, lung = (case.history(role, dataset.created)[0] for role in ("infection", "lung"))  # type: ignore[arg-type]
        assert (infection.origin, lung.origin, infection.by_model) == ("lesions + more", "lungs", True)
        assert infection.agreement in {row.figures.agreement for row in cohort.done if row.figures}
        assert lung.agreement is None
    assert unseen(dataset, "infection") == [case.id for case in dataset.cases]
    values = [one.value for one in ranked(dataset, "infection", "agreement")]
    assert values == sorted(row.figures.agreement for row in cohort.done if row.figures)  # type: ignore[type-var]


def test_the_models_mask_stays_in_the_history_of_a_corrected_one(tmp_path: Path, cohort: Cohort) -> None:
    dataset = dataset_of_cohort(tmp_path / "out", "seen")
    case = dataset.cases[0]
    mask = stored_mask(dataset, case, "infection").copy()
    mask[0, 0, 0] ^= 1
    now = save_revision("seen", case.id, mask, author="Ada").dataset
    first, second = now.case(case.id).history("infection", now.created)
    assert (first.origin, first.by_model, second.by_model) == ("lesions + more", True, False)
    assert now.as_of(1).case(case.id).history("infection", now.created) == (first,)
    assert now.as_of(1).fingerprint == dataset.fingerprint


def test_a_name_that_is_taken_a_scan_that_is_gone_and_no_cohort(tmp_path: Path, cohort: Cohort) -> None:
    with pytest.raises(DatasetError, match="no scan of a cohort was predicted here"):
        dataset_of_cohort(tmp_path / "in", "seen")
    (tmp_path / "in" / "scan1.nii.gz").unlink()
    with pytest.raises(CovsegError, match="scan1"):
        dataset_of_cohort(tmp_path / "out", "seen")
    assert list_datasets() == []
    save_scans(tmp_path / "in", 10)
    dataset_of_cohort(tmp_path / "out", "seen")
    with pytest.raises(DatasetError, match="exists already"):
        dataset_of_cohort(tmp_path / "out", "seen")


def test_the_command(tmp_path: Path, cohort: Cohort) -> None:
    arguments = ["data", "from-cohort", "seen", str(tmp_path / "out")]
    said = CliRunner().invoke(cli, arguments, catch_exceptions=False).stdout
    assert "seen: 4 cases, 3 patients" in said
    said = CliRunner().invoke(cli, ["data", "history", "seen", "scan1"], catch_exceptions=False).stdout
    assert "lesions + more" in said.replace("\n", " ")
