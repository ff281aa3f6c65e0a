"""A DICOM series in, masks out: what comes back must lie on the slices that were sent, whatever program opens it."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import dicomfiles
import nibabel as nib
import numpy as np
import pydicom
import pytest
from playwright.sync_api import expect

from covseg_core.data.library.datasets import load_dataset
from covseg_core.data.reading.opening import open_scan
from covseg_core.runs import Run

if TYPE_CHECKING:
    from .conftest import Open

REAL = "dicom/gstt_covid_20"


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """A folder with one series: a real one if there are real data, else slices with two lungs."""
    named = os.environ.get("COVSEG_REAL_DATA")
    if named and Path(named, REAL).is_dir():
        return Path(shutil.copytree(Path(named, REAL), tmp_path / "series"))
    stack = dicomfiles.make_stack((12, 64, 64))
    values = stack.values
    values[:] = 40
    values[:, :4] = -1000
    values[:, 14:50, 8:28] = values[:, 14:50, 36:56] = -820
    values[3:9, 30:40, 12:20] = -300
    dicomfiles.write(tmp_path / "series", stack)
    return tmp_path / "series"


def test_a_dicom_series_comes_back_as_masks_that_lie_on_it(
    visit: Open, models: list[Run], series: Path, tmp_path: Path
) -> None:
    opened = open_scan(series)
    z, y, x = opened.volume.voxels.shape
    user = visit("predict")
    user.choose("Where it is", "Upload a folder")
    user.send(series)
    user.sees(f"Matrix {x} x {y} x {z} voxels")
    user.sees("Preview")
    expect(user.panels).to_have_count(1)
    user.click("Predict")
    user.sees("3. Mask")
    expect(user.panels).to_have_count(6)  # CT, all models, each of three, disagreement
    user.settles()
    mask = nib.load(user.download("Download mask", tmp_path))
    np.testing.assert_allclose(mask.affine, opened.volume.geometry.affine, atol=1e-4)
    voxels = np.asarray(nib.as_closest_canonical(mask).dataobj)
    assert set(np.unique(voxels)) == {0, 1}
    volume = float(user.main.get_by_test_id("stMetricValue").first.inner_text().replace(",", ""))
    assert volume == pytest.approx(voxels.sum() * abs(np.linalg.det(mask.affine[:3, :3])) / 1000, rel=1e-2, abs=0.06)
    check_segmentation(user.download("DICOM SEG", tmp_path), series, voxels, opened.interpolated)
    sheet = user.download("Sheet to print", tmp_path).read_text(encoding="utf-8")
    assert "not for diagnosis" in sheet
    report = json.loads(user.download("Report (JSON)", tmp_path, menu="More files").read_text(encoding="utf-8"))
    assert report["mask"]["voxels"] == voxels.sum()
    assert report["passport"]["kind"] == "dicom"
    for text in (sheet, json.dumps(report)):
        assert dicomfiles.SECRET not in text


def test_a_folder_of_dicom_slices_and_masks_becomes_a_dataset(
    visit: Open, phantom_files: Path, tmp_path: Path, data_folder: Path
) -> None:
    """With a SEG for one case and a NIfTI mask for the other, and nobody's name in what is kept."""
    for number in (1, 3):
        images = phantom_files / f"phantom_00{number}"
        stack = dicomfiles.stack_of(nib.load(images / "ct.nii.gz"))
        slices = dicomfiles.write(tmp_path / f"study/p{number}/dicom", stack)
        mask = nib.load(images / "infection_mask.nii.gz")
        if number == 1:
            planes = np.asarray(mask.dataobj).T.astype(np.uint8)[..., None]
            dicomfiles.write_seg(tmp_path / "study/p1/1-1.dcm", slices, planes, ["Infection"])
        else:
            nib.save(mask, tmp_path / "study/p3/infection_mask.nii.gz")
    user = visit()
    user.send(tmp_path / "study")
    user.sees("1 NIfTI file, 17 DICOM files")
    user.click("Import")
    user.sees("Dataset study is ready: 2 cases.")
    dataset = load_dataset("study")
    for case, number in zip(dataset.cases, (1, 3), strict=True):
        stored = nib.as_closest_canonical(nib.load(dataset.path(case, "infection")))
        given = nib.as_closest_canonical(nib.load(phantom_files / f"phantom_00{number}/infection_mask.nii.gz"))
        np.testing.assert_array_equal(np.asarray(stored.dataobj), np.asarray(given.dataobj))
    for file in filter(Path.is_file, dataset.folder.rglob("*")):
        content = file.read_bytes()
        assert dicomfiles.SECRET.encode() not in (gzip.decompress(content) if file.suffix == ".gz" else content)


def check_segmentation(path: Path, series: Path, voxels: np.ndarray, interpolated: tuple[int, ...]) -> None:
    """It refers to slices of the series, and marks as many voxels as the NIfTI does on them."""
    segmentation = pydicom.dcmread(path)
    files = [file for file in series.rglob("*") if file.is_file()]
    sent = {pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID for file in files}
    frames = segmentation.PerFrameFunctionalGroupsSequence
    named = {frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID for frame in frames}
    assert named <= sent
    real = np.delete(voxels, list(interpolated), axis=2)
    assert segmentation.pixel_array.sum() == real.sum()
    assert not str(segmentation.PatientName)
