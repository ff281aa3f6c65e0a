"""Import. What a user loses when it fails: models trained on wrong masks, patients or labels."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from niftis import listing, rewrite

from covseg_core.data.library.datasets import list_datasets, load_dataset
from covseg_core.data.library.importing import import_dataset, import_sample
from covseg_core.errors import DatasetError, ScanError


def test_a_case_is_described_as_its_files_are(cases: Path) -> None:
    dataset = import_dataset("demo", [cases])
    assert load_dataset("demo") == dataset
    case = dataset.case("phantom_001")
    stored = nib.load(cases / "phantom_001/infection_mask.nii.gz")
    up = nib.as_closest_canonical(stored).dataobj[...]
    assert case.shape == up.shape[::-1]
    assert case.infection_voxels == tuple(int(n) for n in np.count_nonzero(up, axis=(0, 1)))
    assert case.spacing == pytest.approx(stored.header.get_zooms()[::-1])
    assert case.orientation == "".join(nib.aff2axcodes(stored.affine))
    assert (case.scale, case.patient, case.labels, case.spacing_known) == ("HU", "phantom_001", None, True)
    for role, name in {"scan": "ct", "infection": "infection_mask", "lung": "lung_mask"}.items():
        content = (cases / f"phantom_001/{name}.nii.gz").read_bytes()
        assert dataset.path(case, role) == dataset.folder / f"cases/phantom_001/{name}.nii.gz"
        assert dataset.path(case, role).read_bytes() == content
        assert case.sha256[role] == hashlib.sha256(content).hexdigest()


def test_the_files_given_are_left_alone(cases: Path) -> None:
    before = listing(cases)
    import_dataset("demo", [cases])
    assert listing(cases) == before


def test_an_empty_infection_mask_is_taken_when_meant(cases: Path) -> None:
    rewrite(cases / "phantom_003/infection_mask.nii.gz", np.zeros_like)
    case = import_dataset("demo", [cases], allow_empty=True).case("phantom_003")
    assert case.positive_slices == 0
    assert "no infection" in case.warnings


def test_labels_choose_what_counts_and_are_part_of_the_fingerprint(cases: Path) -> None:
    path = cases / "phantom_003/infection_mask.nii.gz"
    rewrite(path, lambda mask: np.where(np.arange(64)[:, None, None] < 32, mask, mask * 2).astype(np.uint8))
    both = import_dataset("both", [cases / "phantom_003"])
    [first, second] = [import_dataset(f"l{n}", [cases / "phantom_003"], labels=[n]) for n in (1, 2)]
    voxels = [sum(dataset.cases[0].infection_voxels or ()) for dataset in (both, first, second)]
    assert voxels[0] == voxels[1] + voxels[2]
    assert min(voxels) > 0
    assert both.cases[0].warnings == ("labels 1, 2 of the mask all count as infection (--labels chooses)",)
    assert first.cases[0].warnings == ()
    assert len({dataset.fingerprint for dataset in (both, first, second)}) == 3
    with pytest.raises(ScanError, match="mask.nii.gz: labels 1, 2; expected at least one of 7, or --allow-empty"):
        import_dataset("l7", [cases / "phantom_003"], labels=[7])
    healthy = import_dataset("l7", [cases / "phantom_003"], labels=[7], allow_empty=True)
    assert healthy.cases[0].positive_slices == 0


def test_a_mask_of_another_patient_on_the_same_grid_is_pointed_out(cases: Path) -> None:
    rewrite(
        cases / "phantom_003/infection_mask.nii.gz",
        lambda mask: np.pad(mask[5:20, :5] * 0 + 1, ((0, 49), (0, 59), (0, 0))),
    )
    [warning] = import_dataset("demo", [cases]).case("phantom_003").warnings
    assert warning.startswith("100% of the infection is outside the lung mask")


def test_spacing_of_one_everywhere_is_not_believed(cases: Path) -> None:
    for path in (cases / "phantom_003").iterdir():
        rewrite(path, lambda voxels: voxels, np.diag([-1.0, -1, 1, 1]))
    dataset = import_dataset("demo", [cases])
    assert dataset.case("phantom_001").spacing_known
    assert not dataset.case("phantom_003").spacing_known
    assert any("1 mm" in warning for warning in dataset.case("phantom_003").warnings)


def test_stacked_slices_have_no_spacing_and_a_patient_each(cases: Path, tmp_path: Path) -> None:
    for name, stacked in (("ct", "tr_im"), ("infection_mask", "tr_mask")):
        shutil.copy(cases / f"phantom_001/{name}.nii.gz", tmp_path / f"{stacked}.nii.gz")
    dataset = import_dataset("medseg", [tmp_path / "tr_im.nii.gz", tmp_path / "tr_mask.nii.gz"])
    [case] = dataset.cases
    assert case.stacked
    assert not case.spacing_known
    assert len(dataset.patients) == 8


def test_adding_keeps_what_is_there_and_refuses_the_same_case(phantom_files: Path, data_folder: Path) -> None:
    import_dataset("demo", [phantom_files / "phantom_003"], source="first")
    before = listing(data_folder / "datasets/demo/cases")
    dataset = import_dataset("demo", [phantom_files / "phantom_001"], source="second")
    assert [case.id for case in dataset.cases] == ["phantom_001", "phantom_003"]
    assert dataset.source == "first, second"
    assert load_dataset("demo") == dataset
    assert before.items() <= listing(data_folder / "datasets/demo/cases").items()
    before = listing(data_folder)
    with pytest.raises(DatasetError, match=r"phantom_003/ct.nii.gz: case phantom_003 is in dataset demo already"):
        import_dataset("demo", [phantom_files / "phantom_003"])
    assert listing(data_folder) == before


def test_a_folder_with_a_name_that_is_no_text_can_be_imported_and_listed(cases: Path, tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"\xff")
    try:
        cases.rename(odd)
    except OSError:
        pytest.skip("this file system takes names in UTF-8 only")
    dataset = import_dataset("demo", [odd])
    assert load_dataset("demo") == dataset
    assert re.fullmatch(r"\d+ files", dataset.source)


def test_zips_are_as_good_as_folders_and_errors_name_files_inside(cases: Path, tmp_path: Path) -> None:
    for folder, file in (("COVID-19-CT-Seg_20cases", "ct"), ("Infection_Mask", "infection_mask")):
        with zipfile.ZipFile(tmp_path / f"{folder}.zip", "w") as archive:
            for number in (1, 3):
                archive.write(cases / f"phantom_00{number}/{file}.nii.gz", f"coronacases_00{number}.nii.gz")
    paths = [tmp_path / "COVID-19-CT-Seg_20cases.zip", tmp_path / "Infection_Mask.zip"]
    dataset = import_dataset("zipped", paths)
    assert [case.id for case in dataset.cases] == ["coronacases_001", "coronacases_003"]
    content = (cases / "phantom_003/ct.nii.gz").read_bytes()
    assert dataset.path(dataset.cases[1], "scan").read_bytes() == content

    with zipfile.ZipFile(paths[0], "a") as archive:
        archive.writestr("coronacases_004.nii.gz", content[:100])
        archive.writestr("._coronacases_001.nii.gz", b"left by a Mac")
    with pytest.raises(ScanError, match=r"^COVID-19-CT-Seg_20cases/coronacases_004.nii.gz: "):
        import_dataset("other", paths)
    assert list_datasets() == ["zipped"]


def test_the_sample_has_lesions_and_a_healthy_scan(data_folder: Path) -> None:
    done = []
    dataset = import_sample("sample", scans=2, size=48, progress=lambda *counts: done.append(counts))
    assert [bool(case.positive_slices) for case in dataset.cases] == [True, False]
    assert all(case.scale == "HU" and case.lung for case in dataset.cases)
    assert done == [(1, 2), (2, 2)]
    assert not [path for path in data_folder.rglob("*") if path.name.startswith(".")]


def test_the_real_cases(real_data: Path) -> None:
    dataset = import_dataset("ct20", [real_data / "ct20"])
    slices = {case.id: case.slices for case in dataset.cases}
    assert slices == {
        "coronacases_001": 100,
        "coronacases_002": 76,
        "coronacases_003": 69,
        "coronacases_004": 120,
        "coronacases_005": 115,
        "coronacases_006": 39,
        "radiopaedia_10_85902_1": 8,
        "radiopaedia_10_85902_3": 57,
        "radiopaedia_27_86410_0": 27,
        "radiopaedia_29_86490_1": 3,
        "radiopaedia_29_86491_1": 9,
        "radiopaedia_7_85703_0": 23,
    }
    assert len(dataset.patients) == 10
    assert {case.id for case in dataset.cases if case.scale == "HU"} == {f"coronacases_00{n}" for n in range(1, 7)}
    assert not any(case.spacing_known for case in dataset.cases)
    share = {case.id: sum(case.infection_voxels or ()) / sum(case.lung_voxels or ()) for case in dataset.cases}
    assert share["coronacases_001"] == pytest.approx(0.148, abs=0.001)
    assert share["coronacases_004"] == pytest.approx(0.022, abs=0.001)
    assert any("almost no infection" in warning for warning in dataset.case("radiopaedia_29_86490_1").warnings)


def test_the_real_stacked_slices(real_data: Path) -> None:
    [case] = import_dataset("medseg", [real_data / "medseg"]).cases
    [glass] = import_dataset("glass", [real_data / "medseg"], labels=[1]).cases
    assert (case.stacked, case.shape, case.scale, case.positive_slices) == (True, (50, 512, 512), "0-255", 50)
    assert 0 < sum(glass.infection_voxels or ()) < sum(case.infection_voxels or ())
