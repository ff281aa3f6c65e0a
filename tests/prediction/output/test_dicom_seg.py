"""Without these, a viewer may show the mask elsewhere on the scan, or the file may carry the patient's name."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
import pytest
from dicomfiles import AXIAL, CORONAL, SECRET, Stack, make_stack, right_angled, rotated, write
from scipy.spatial import cKDTree

from covseg_core.data.reading.opening import open_scan
from covseg_core.errors import ScanError
from covseg_core.prediction.output.dicom_seg import save_dicom_seg, seg_problem
from covseg_core.prediction.scan import Scan

LPS = np.array([-1.0, -1.0, 1.0])
TILTED = np.array([0, 0, 1 / np.cos(np.radians(20))]) - np.cross(rotated(20, 0, 0)[:3], rotated(20, 0, 0)[3:])


def checked(path: Path) -> Scan:
    """A scan as `read_scan` gives it, without looking for lungs in noise."""
    opened = open_scan(path)
    return Scan(opened.volume, "HU", opened.sha256, opened.warnings, opened.kind, opened.series, opened.interpolated)


def blob(scan: Scan) -> np.ndarray:
    """A lopsided mask that looks like none of its mirror images."""
    mask = (np.random.default_rng(5).random(scan.volume.voxels.shape) > 0.8).astype(np.uint8)
    mask[: len(mask) // 2, :2] = 1
    return mask


def save(mask: np.ndarray, scan: Scan, path: Path, **how: bool) -> pydicom.Dataset:
    save_dicom_seg(mask, scan, path, "infection", "infection-dice", "1.2.3", **how)
    return pydicom.dcmread(path)


def points(seg: pydicom.Dataset) -> np.ndarray:
    """World positions of the voxels set in a SEG, (N, 3) LPS+ [mm], by the formula of the standard."""
    shared = seg.SharedFunctionalGroupsSequence[0]
    direction = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    rows, columns = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    frames = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    found = []
    for group, frame in zip(seg.PerFrameFunctionalGroupsSequence, frames, strict=True):
        corner = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
        row, column = np.nonzero(frame)
        found.append(corner + column[:, None] * columns * direction[:3] + row[:, None] * rows * direction[3:])
    return np.concatenate(found)


def assert_same(theirs: np.ndarray, ours: np.ndarray) -> None:
    """Two sets of positions, each (N, 3) [mm], are one."""
    assert len(theirs) == len(ours)
    distances, partners = cKDTree(ours).query(theirs)
    assert distances.max() < 0.01
    assert len(set(partners.tolist())) == len(ours)


def world(mask: np.ndarray, scan: Scan) -> np.ndarray:
    """The same of a mask, by the affine of the volume."""
    return nib.affines.apply_affine(scan.volume.affine, np.argwhere(mask)[:, ::-1]) * LPS


@pytest.mark.parametrize(
    "stack",
    [
        *(make_stack(orientation=orientation) for orientation in right_angled()),
        *(make_stack(orientation=rotated(*angles)) for angles in ((12, -7, 20), (-160, 30, 75), (91, 8, 5))),
        make_stack(orientation=rotated(20, 0, 0), drift=TILTED),
    ],
    ids=lambda stack: ",".join(f"{cosine:.1f}" for cosine in stack.orientation),
)
def test_every_voxel_lies_where_the_mask_has_it(tmp_path: Path, stack: Stack) -> None:
    write(tmp_path / "scan", stack)
    scan = checked(tmp_path / "scan")
    mask = blob(scan)
    assert_same(points(save(mask, scan, tmp_path / "mask.dcm")), world(mask, scan))


def test_highdicom_gives_the_mask_back(tmp_path: Path) -> None:
    write(tmp_path / "scan", make_stack(orientation=CORONAL))
    scan = checked(tmp_path / "scan")
    mask = blob(scan)
    save(mask, scan, tmp_path / "mask.dcm")
    volume = hd.seg.segread(tmp_path / "mask.dcm").get_volume(combine_segments=True)
    theirs = nib.affines.apply_affine(volume.affine, np.argwhere(volume.array))
    assert_same(theirs, world(mask, scan))


def test_it_refers_to_its_series(tmp_path: Path) -> None:
    """Viewers find the scan by these."""
    source = [pydicom.dcmread(path) for path in write(tmp_path / "scan", make_stack())]
    scan = checked(tmp_path / "scan")
    seg = save(np.ones_like(scan.volume.voxels, np.uint8), scan, tmp_path / "mask.dcm")
    for name in ("StudyInstanceUID", "FrameOfReferenceUID"):
        assert seg[name].value == source[0][name].value
    (reference,) = seg.ReferencedSeriesSequence
    assert reference.SeriesInstanceUID == source[0].SeriesInstanceUID
    instances = {item.ReferencedSOPInstanceUID for item in reference.ReferencedInstanceSequence}
    assert instances == {dataset.SOPInstanceUID for dataset in source}
    assert seg.SeriesInstanceUID != source[0].SeriesInstanceUID
    (segment,) = seg.SegmentSequence
    assert (seg.SegmentationType, segment.SegmentLabel, segment.SegmentAlgorithmType) == (
        "BINARY",
        "Infection",
        "AUTOMATIC",
    )
    (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("infection-dice", "1.2.3")
    save_dicom_seg(np.ones_like(scan.volume.voxels), scan, tmp_path / "lung.dcm", "lung", "lung", "1")
    assert pydicom.dcmread(tmp_path / "lung.dcm").SegmentSequence[0].SegmentLabel == "Lung"


def test_nobody_is_named(tmp_path: Path) -> None:
    write(tmp_path / "scan" / SECRET, make_stack())
    scan = checked(tmp_path / "scan")
    seg = save(blob(scan), scan, tmp_path / "mask.dcm")
    content = (tmp_path / "mask.dcm").read_bytes()
    for text in (SECRET, "Jane", "19450803", "081Y", "20200401", "Maker"):
        assert text.encode() not in content, text
    # short numbers may stand in a random UID by chance
    told = [str(element.value) for element in seg.iterall() if element.VR not in ("UI", "SQ", "OB", "OW")]
    assert not [value for value in told if "4711" in value or "101112" in value]
    assert (seg.PatientName, seg.PatientID) == ("", "")


def test_the_patient_is_kept_on_request(tmp_path: Path) -> None:
    write(tmp_path / "scan", make_stack())
    scan = checked(tmp_path / "scan")
    seg = save(blob(scan), scan, tmp_path / "mask.dcm", keep_patient=True)
    assert (seg.PatientName, seg.PatientID, seg.StudyDate) == (f"{SECRET}^Jane", f"{SECRET}-4711", "20200401")


def test_from_a_zip_whose_files_are_gone(tmp_path: Path) -> None:
    paths = write(tmp_path / "scan", make_stack())
    with zipfile.ZipFile(tmp_path / "scan.zip", "w") as archive:
        for path in paths:
            archive.write(path, path.name)
    scan = checked(tmp_path / "scan.zip")
    mask = blob(scan)
    assert len(points(save(mask, scan, tmp_path / "mask.dcm"))) == mask.sum()
    with pytest.raises(ScanError, match="a folder, not a zip") as error:
        save(mask, scan, tmp_path / "named.dcm", keep_patient=True)
    assert SECRET not in str(error.value)
    assert not (tmp_path / "named.dcm").exists()


def test_planes_that_are_not_in_the_files_have_no_frame(tmp_path: Path) -> None:
    stack = make_stack().without(3)
    write(tmp_path / "scan", stack)
    scan = checked(tmp_path / "scan")
    assert scan.interpolated == (3,)
    mask = np.ones_like(scan.volume.voxels, np.uint8)
    seg = save(mask, scan, tmp_path / "mask.dcm")
    mask[3] = 0
    assert int(seg.NumberOfFrames) == 8
    assert_same(points(seg), world(mask, scan))


def test_an_empty_mask_and_one_slice(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    write(tmp_path / "scan", make_stack())
    scan = checked(tmp_path / "scan")
    empty = save(np.zeros_like(scan.volume.voxels, np.uint8), scan, tmp_path / "empty.dcm")
    assert (int(empty.NumberOfFrames), empty.pixel_array.max()) == (9, 0)
    write(tmp_path / "single", make_stack((1, 12, 10), AXIAL))
    single = checked(tmp_path / "single")
    mask = blob(single)
    assert_same(points(save(mask, single, tmp_path / "single.dcm")), world(mask, single))
    assert not recwarn.list


def test_what_can_have_no_seg(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(make_stack().values.T, np.diag([2.0, 2.0, 3.0, 1.0])), tmp_path / "ct.nii")
    write(tmp_path / "scan", make_stack(), SOPInstanceUID=None)
    for path, why in ((tmp_path / "ct.nii", "not a DICOM series"), (tmp_path / "scan", "without UIDs")):
        scan = checked(path)
        assert why in seg_problem(scan)
        with pytest.raises(ScanError, match=why):
            save(blob(scan), scan, tmp_path / "mask.dcm")
    assert not (tmp_path / "mask.dcm").exists()


def flip(seg: pydicom.Dataset) -> None:
    seg.PixelData = bytes(255 - byte for byte in seg.PixelData)


def flip_last_voxel(seg: pydicom.Dataset) -> None:
    bits = seg.NumberOfFrames * seg.Rows * seg.Columns - 1
    content = bytearray(seg.PixelData)
    content[bits // 8] ^= 1 << bits % 8
    seg.PixelData = bytes(content)


def displace(seg: pydicom.Dataset) -> None:
    seg.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence[0].ImagePositionPatient[0] += 0.01


def _referenced(group: pydicom.Dataset) -> pydicom.Dataset:
    return group.DerivationImageSequence[0].SourceImageSequence[0]


def exchange(seg: pydicom.Dataset) -> None:
    one, other = (_referenced(group) for group in seg.PerFrameFunctionalGroupsSequence[:2])
    one.ReferencedSOPInstanceUID, other.ReferencedSOPInstanceUID = (
        other.ReferencedSOPInstanceUID,
        one.ReferencedSOPInstanceUID,
    )


def repeat(seg: pydicom.Dataset) -> None:
    one, other = (_referenced(group) for group in seg.PerFrameFunctionalGroupsSequence[:2])
    other.ReferencedSOPInstanceUID = one.ReferencedSOPInstanceUID


def stranger(seg: pydicom.Dataset) -> None:
    _referenced(seg.PerFrameFunctionalGroupsSequence[0]).ReferencedSOPInstanceUID = "1.2.3"


def one_frame_fewer(seg: pydicom.Dataset) -> None:
    seg.NumberOfFrames -= 1
    seg.PerFrameFunctionalGroupsSequence = seg.PerFrameFunctionalGroupsSequence[:-1]


def cut_short(seg: pydicom.Dataset) -> None:
    seg.PixelData = seg.PixelData[: len(seg.PixelData) // 2 // 2 * 2]


@pytest.mark.parametrize(
    "damage", [flip, flip_last_voxel, displace, exchange, repeat, stranger, one_frame_fewer, cut_short]
)
def test_a_file_that_reads_back_differently_is_not_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[pydicom.Dataset], None]
) -> None:
    """A mask on the wrong slice, or with a voxel more, would be looked at as if it were the model's."""
    write(tmp_path / "scan", make_stack())
    scan = checked(tmp_path / "scan")
    real = hd.seg.Segmentation.save_as

    def damaged(seg: hd.seg.Segmentation, path: Path) -> None:
        damage(seg)
        real(seg, path)

    monkeypatch.setattr(hd.seg.Segmentation, "save_as", damaged)
    mask = blob(scan)
    mask[:, -1, -1] = 1
    with pytest.raises(ScanError, match="reads back differently"):
        save(mask, scan, tmp_path / "out" / "mask.dcm")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("name", ["gstt_covid_20", "lungpetct_A0002_8mm_B40f", "lungmask_2_minimal_tags"])
def test_real_series(real_data: Path, tmp_path: Path, name: str) -> None:
    scan = checked(real_data / "dicom" / name)
    mask = np.zeros_like(scan.volume.voxels, np.uint8)
    mask[:, 100:140, 300:330] = 1
    seg = save(mask, scan, tmp_path / "mask.dcm")
    mask[list(scan.interpolated)] = 0
    assert_same(points(seg), world(mask, scan))
