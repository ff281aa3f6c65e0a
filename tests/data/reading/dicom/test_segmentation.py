"""DICOM SEG as masks: what a user loses when it fails is a mask beside its lesion, or a page that a file has ended."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicomfiles import AXIAL, CORONAL, make_stack, rotated, write, write_seg
from scipy.spatial import cKDTree

from covseg_core.data.reading.dicom.segmentation import load_segments, read_segmentation
from covseg_core.data.reading.opening import Opened, open_scan
from covseg_core.data.reading.volumes import Volume
from covseg_core.errors import CovsegError, PairingError, ScanError

SHAPE = (9, 12, 10)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return write(tmp_path / "scan", make_stack(SHAPE))


@pytest.fixture
def masks() -> np.ndarray:
    """(N, rows, columns, 2): two segments, which overlap."""
    return (np.random.default_rng(3).random((*SHAPE, 2)) > 0.7).astype(np.uint8)


@pytest.fixture
def seg(tmp_path: Path, files: list[Path], masks: np.ndarray) -> Path:
    return write_seg(tmp_path / "seg.dcm", files, masks, ["one", "two"])


def load(path: Path, opened: Opened, *numbers: int) -> Volume:
    return load_segments(read_segmentation(path), numbers, opened.volume, opened.series)[0]


def test_what_it_says(seg: Path, files: list[Path]) -> None:
    found, source = read_segmentation(seg), pydicom.dcmread(files[0])
    assert (found.series_uids, found.frame_uid) == ({source.SeriesInstanceUID}, source.FrameOfReferenceUID)
    assert [(segment.number, segment.words[0]) for segment in found.segments] == [(1, "one"), (2, "two")]


@pytest.mark.parametrize("orientation", [AXIAL, CORONAL, rotated(12, -7, 20), rotated(-160, 30, 75)])
@pytest.mark.parametrize("numbers", [(1,), (2,), (1, 2), ()])
def test_segments_by_number(
    tmp_path: Path, masks: np.ndarray, orientation: tuple[float, ...], numbers: tuple[int, ...]
) -> None:
    """Each voxel is compared where the standard's formula puts it, not where our grid does."""
    stack = make_stack(SHAPE, orientation=orientation)
    files = write(tmp_path / "scan", stack)
    opened = open_scan(tmp_path / "scan")
    mask = load(write_seg(tmp_path / "seg.dcm", files, masks, ["one", "two"]), opened, *numbers)
    expected = np.any([masks[..., n - 1] for n in numbers], axis=0) if numbers else np.zeros(SHAPE, bool)
    marked = np.array([stack.world(*pixel) for pixel in np.argwhere(expected).tolist()]).reshape(-1, 3)
    at = (np.argwhere(mask.voxels)[:, ::-1] @ mask.affine[:3, :3].T + mask.affine[:3, 3]) * [-1, -1, 1]
    assert len(at) == len(marked)
    if len(at):
        distances, partners = cKDTree(marked).query(at)
        assert distances.max() < 0.01
        assert len(set(partners.tolist())) == len(at)
    assert mask.labels == numbers


def test_a_scan_that_was_converted_is_matched_by_position(tmp_path: Path, seg: Path, masks: np.ndarray) -> None:
    opened = open_scan(tmp_path / "scan")
    alone = load_segments(read_segmentation(seg), [1], opened.volume, None)[0]
    assert np.array_equal(alone.voxels, load(seg, opened, 1).voxels)
    moved = opened.volume.geometry.affine + np.eye(4)[:, [2, 2, 2, 2]] * [0, 0, 0, 1]
    volume = dataclasses.replace(opened.volume, geometry=dataclasses.replace(opened.volume.geometry, affine=moved))
    with pytest.raises(PairingError, match="seg.dcm: frames up to 1 mm beside the scan's voxels"):
        load_segments(read_segmentation(seg), [1], volume, None)


def test_slices_of_a_series_may_lie_a_little_beside_the_grid(tmp_path: Path) -> None:
    """As much as is allowed to slices themselves, whose positions a SEG repeats."""
    depths = np.arange(9) * 10.0
    depths[4] += 0.4
    files = write(tmp_path / "scan", make_stack(SHAPE, depths=depths))
    seg = write_seg(tmp_path / "seg.dcm", files, np.ones((*SHAPE, 1), np.uint8), ["lesion"])
    assert load(seg, open_scan(tmp_path / "scan"), 1).voxels.all()


@pytest.mark.parametrize("change", ["rows", "frames", "no pixels", "no groups", "no position", "nan", "JPEG"])
def test_a_file_that_promises_what_it_has_not(tmp_path: Path, seg: Path, change: str) -> None:
    """Before memory is taken for it."""
    tags = pydicom.dcmread(seg)
    match change:
        case "rows":
            tags.Rows = tags.Columns = 60_000
        case "frames":
            tags.NumberOfFrames = 2**30
        case "no pixels":
            del tags.PixelData
        case "no groups":
            del tags.PerFrameFunctionalGroupsSequence
        case "no position":
            del tags.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence
        case "nan":
            position = tags.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence[0]
            position["ImagePositionPatient"]._value = [float("nan")] * 3
        case "JPEG":
            tags.file_meta.TransferSyntaxUID = pydicom.uid.JPEG2000Lossless
            tags.PixelData = pydicom.encaps.encapsulate([b"\\xff\\x4f\\xff\\x51" * 50])
    tags.save_as(seg, enforce_file_format=False)
    with pytest.raises((ScanError, PairingError)) as caught:
        load(seg, open_scan(tmp_path / "scan"), 1, 2)
    wanted = {"rows": "frames of 60000 x 60000 pixels", "JPEG": "packed pixels", "nan": "beside the scan's voxels"}
    assert wanted.get(change, "a damaged or truncated DICOM SEG") in str(caught.value)


def test_bytes_changed_at_random_give_a_mask_or_one_line(tmp_path: Path, seg: Path) -> None:
    opened, content = open_scan(tmp_path / "scan"), seg.read_bytes()
    chance = np.random.default_rng(11)
    lines = 0
    for _ in range(150):
        changed = np.frombuffer(content, np.uint8).copy()
        at = chance.integers(132, len(changed), chance.integers(1, 30))
        changed[at] = chance.integers(0, 256, len(at))
        seg.write_bytes(changed[: chance.integers(200, len(changed)) if chance.random() < 0.2 else None].tobytes())
        try:
            assert load(seg, opened, 1, 2).voxels.shape == opened.volume.voxels.shape
        except CovsegError as error:
            assert "\n" not in str(error)
            lines += 1
    assert lines > 10


def test_no_segments_and_no_file(tmp_path: Path, seg: Path) -> None:
    tags = pydicom.dcmread(seg)
    tags.SegmentSequence = []
    tags.save_as(seg)
    with pytest.raises(ScanError, match="a DICOM SEG without segments"):
        read_segmentation(seg)
    with pytest.raises(ScanError, match="a damaged or truncated DICOM SEG"):
        read_segmentation(tmp_path / "gone.dcm")
