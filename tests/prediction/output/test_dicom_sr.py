"""Figures for an archive. What a user loses otherwise: the volume beside the mask, or a patient's name in a file."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from dicomfiles import SECRET, make_stack, write
from scipy import ndimage

from covseg_core.config import PrepareConfig
from covseg_core.data.reading.opening import open_scan
from covseg_core.errors import ScanError
from covseg_core.prediction.expected_dice import ExpectedDice
from covseg_core.prediction.masks.lung_sides import measure_lungs
from covseg_core.prediction.output import dicom_sr
from covseg_core.prediction.output.dicom_seg import save_dicom_seg
from covseg_core.prediction.output.dicom_sr import measured, save_dicom_sr
from covseg_core.prediction.output.report import NOTICE, ModelReport, Report, report_mask, report_scan
from covseg_core.prediction.scan import Scan


@pytest.fixture
def scan(tmp_path: Path) -> Scan:
    """A series whose headers name a patient."""
    write(tmp_path / "ct", make_stack())
    opened = open_scan(tmp_path / "ct")
    return Scan(opened.volume, "HU", opened.sha256, opened.warnings, opened.kind, opened.series, opened.interpolated)


def report_of(scan: Scan, mask: np.ndarray, lungs: bool = True, target: str = "infection") -> Report:
    volume = scan.volume
    sides = np.ones_like(mask)
    sides[..., mask.shape[2] // 2 :] = 2
    found = measure_lungs(sides, mask, volume.spacing, volume.voxel_ml, ("lung", "0" * 64), None) if lungs else None
    sizes = np.bincount(ndimage.label(mask, np.ones((3, 3, 3)))[0].ravel())[1:]
    sized = report_mask(mask, volume, None, sizes)
    model = ModelReport("infection-dice", "dice", "quick", "data", PrepareConfig(), "0" * 64, sized)
    return Report(
        notice=NOTICE, created="2026-01-02T03:04:05+00:00", seconds=1.0, target=target, threshold=0.5, tied_voxels=0,  # type: ignore[arg-type]
        scan=report_scan(volume, "HU", scan.sha256), mask=sized, models=(model,), warnings=(),
        versions={}, files={}, lungs=found,
    )  # fmt: skip


def blob(scan: Scan) -> np.ndarray:
    mask = np.zeros(scan.volume.voxels.shape, np.uint8)
    mask[2:5, 3:8, 1:4] = 1
    mask[6, 9, 8] = 1
    return mask


def save(scan: Scan, report: Report, mask: np.ndarray, folder: Path, keep_patient: bool = False) -> Path:
    seg, path = folder / "mask.dcm", folder / "measures.dcm"
    save_dicom_seg(mask, scan, seg, report.target, "infection-dice", "1.2.3", keep_patient)
    save_dicom_sr(seg, scan, report, path, "1.2.3")
    return path


def test_it_says_what_the_report_says(scan: Scan, tmp_path: Path) -> None:
    mask = blob(scan)
    report = report_of(scan, mask)
    found = measured(save(scan, report, mask, tmp_path))
    assert report.lungs is not None
    assert report.mask.volume_ml == pytest.approx(46 * (scan.voxel_ml or 0))
    shares = {side: part.share for side, part in
              (("", report.lungs.both), ("Right ", report.lungs.right), ("Left ", report.lungs.left))}  # fmt: skip
    assert len(set(shares.values())) == 3, "else the sides may be exchanged"
    expected = {"Volume": report.mask.volume_ml, "Number of connected parts": 2.0}
    expected |= {f"{side}Share of the lung that is infected": 100 * (share or 0) for side, share in shares.items()}
    assert found == pytest.approx(expected)


def test_expected_dice_stands_in_it_with_its_interval_where_there_is_one(scan: Scan, tmp_path: Path) -> None:
    mask, name = blob(scan), "Expected Dice, by the agreement of the models"
    known = ExpectedDice(0.8, 0.71, 0.55, 0.84, 0.9, 12, "ct20@1")
    path = save(scan, dataclasses.replace(report_of(scan, mask), expected_dice=known), mask, tmp_path)
    assert measured(path)[name] == pytest.approx(0.71)
    [group] = hd.sr.srread(path).content.get_volumetric_roi_measurement_groups()
    [found] = [one for one in group.get_measurements() if one.name.meaning == name]
    assert (found.name.value, found.name.scheme_designator) == ("EXPECTED_DICE", "99COVSEG")
    uncertainty = {
        item.ConceptNameCodeSequence[0].CodeValue: float(item.MeasuredValueSequence[0].NumericValue)
        for item in found[0].ContentSequence
        if item.ValueType == "NUM"
    }
    assert uncertainty == pytest.approx({"371886008": 0.13, "371885007": 0.16}), "upper and lower, in SNOMED CT"
    unknown = dataclasses.replace(known, value=None, low=None, high=None, reason="nothing was marked")
    (tmp_path / "none").mkdir()
    path = save(scan, dataclasses.replace(report_of(scan, mask), expected_dice=unknown), mask, tmp_path / "none")
    assert name not in measured(path)


def test_it_refers_to_the_mask_and_reads_as_the_template_says(scan: Scan, tmp_path: Path) -> None:
    """By highdicom's reader of TID 1500, as an archive's would."""
    mask = blob(scan)
    path = save(scan, report_of(scan, mask), mask, tmp_path)
    seg, report = pydicom.dcmread(tmp_path / "mask.dcm"), hd.sr.srread(path)
    [group] = report.content.get_volumetric_roi_measurement_groups()
    assert group.reference_type == pydicom.sr.codedict.codes.DCM.ReferencedSegment
    [segment] = [item for item in group[0].ContentSequence if item.ValueType == "IMAGE"]
    assert segment.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == seg.SOPInstanceUID
    assert report.StudyInstanceUID == seg.StudyInstanceUID
    assert report.SeriesInstanceUID != seg.SeriesInstanceUID
    evidence = {
        instance.ReferencedSOPInstanceUID
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
    assert seg.SOPInstanceUID in evidence


def test_it_names_the_patient_only_where_the_mask_does(scan: Scan, tmp_path: Path) -> None:
    mask = blob(scan)
    assert SECRET.encode() not in save(scan, report_of(scan, mask), mask, tmp_path).read_bytes()
    (tmp_path / "named").mkdir()
    path = save(scan, report_of(scan, mask), mask, tmp_path / "named", keep_patient=True)
    assert SECRET in str(pydicom.dcmread(path).PatientName)


def test_nothing_found_and_no_lungs_are_figures_too(scan: Scan, tmp_path: Path) -> None:
    mask = np.zeros_like(blob(scan))
    found = measured(save(scan, report_of(scan, mask, lungs=False), mask, tmp_path))
    assert found == {"Volume": 0.0, "Number of connected parts": 0.0}
    report = dataclasses.replace(report_of(scan, blob(scan), lungs=False, target="lung"))
    assert set(measured(save(scan, report, blob(scan), tmp_path))) == {"Volume"}


def test_a_volume_that_reads_back_differently_is_an_error(
    scan: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dicom_sr, "measured", lambda file: {"Volume": 1e9})
    with pytest.raises(ScanError, match="reads back differently"):
        save(scan, report_of(scan, blob(scan)), blob(scan), tmp_path)
    assert not (tmp_path / "measures.dcm").exists()


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs dciodvfy: on Debian, apt-get install dicom3tools")
@pytest.mark.parametrize("named", [False, True])
def test_a_validator_finds_no_error(scan: Scan, tmp_path: Path, named: bool) -> None:
    mask = blob(scan)
    known = ExpectedDice(0.8, 0.71, 0.55, 0.84, 0.9, 12, "ct20@1")
    report = dataclasses.replace(report_of(scan, mask), expected_dice=known)
    path = save(scan, report, mask, tmp_path, keep_patient=named)
    told = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False).stderr
    assert "Comprehensive3DSR" in told
    assert not [line for line in told.splitlines() if line.startswith("Error")], told
