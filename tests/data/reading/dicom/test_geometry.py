"""Without these, voxels of a DICOM series may come to lie elsewhere in the patient: mirrored, shifted or stretched."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from dicomfiles import AXIAL, CORONAL, Stack, make_stack, right_angled, rotated, write

from covseg_core.data.reading.dicom import Series, find_series, load_series
from covseg_core.data.reading.dicom.grid import BadGrid, make_grid
from covseg_core.data.reading.volumes import Volume, save_mask

LPS = np.array([-1.0, -1.0, 1.0])


def one(folder: Path) -> Series:
    (series,) = find_series(folder)
    assert not series.problem, series.problem
    return series


def at(volume: Volume, position: np.ndarray) -> tuple[float, float]:
    """Value of the voxel nearest to a position [mm], LPS+, and the distance of its centre [mm]."""
    index = nib.affines.apply_affine(np.linalg.inv(volume.affine), position * LPS)
    x, y, z = np.rint(index).astype(int)
    distance = np.linalg.norm(nib.affines.apply_affine(volume.affine, (x, y, z)) - position * LPS)
    return float(volume.voxels[z, y, x]), float(distance)


def assert_in_place(volume: Volume, stack: Stack, slices: list[int] | None = None) -> None:
    """Every voxel (of some slices) has the value that the file has at that position."""
    n, rows, columns = stack.values.shape
    for s in range(n) if slices is None else slices:
        for row in range(0, rows, 3):
            for column in range(0, columns, 3):
                value, distance = at(volume, stack.world(s, row, column))
                assert (value, distance < 1e-3) == (stack.values[s, row, column], True), (s, row, column, distance)


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("orientation", right_angled(), ids=lambda it: "".join("RrAaSs"[int(v)] for v in _axes(it)))
def test_all_48_directions(tmp_path: Path, orientation: tuple[float, ...], reverse: bool) -> None:
    stack = make_stack(orientation=orientation)
    if reverse:
        stack = dataclasses.replace(stack, values=stack.values[::-1], positions=stack.positions[::-1])
    write(tmp_path, stack)
    volume = load_series(one(tmp_path))
    assert volume.voxels.flags.c_contiguous and volume.voxels.size == stack.values.size
    assert np.all(np.diag(volume.affine) > 0)  # RAS+
    assert_in_place(volume, stack)
    assert_mask_in_place(volume, stack, tmp_path / "mask.nii")


def assert_mask_in_place(volume: Volume, stack: Stack, path: Path) -> None:
    """A mask of the brightest voxels is where the files are bright, by the NIfTI alone."""
    save_mask(volume.voxels > 1000, volume.geometry, path)
    image = nib.load(path)
    mask = np.asarray(image.dataobj)
    assert image.header["sform_code"] == 1
    inverse = np.linalg.inv(image.header.get_sform())
    for s, row, column in np.ndindex(stack.values.shape):
        index = nib.affines.apply_affine(inverse, stack.world(s, row, column) * LPS)
        assert np.abs(index - np.rint(index)).max() < 1e-2
        assert mask[tuple(np.rint(index).astype(int))] == (stack.values[s, row, column] > 1000)


@pytest.mark.parametrize(
    "orientation", [rotated(12, -7, 20), rotated(-160, 30, 75), rotated(90, 8, 5), rotated(41, 33, -50)], ids=str
)
def test_oblique_and_negative_cosines(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    stack = make_stack((9, 12, 10), orientation)
    write(tmp_path, stack)
    volume = load_series(one(tmp_path))
    assert_in_place(volume, stack)
    assert_mask_in_place(volume, stack, tmp_path / "mask.nii")
    header = nib.load(tmp_path / "mask.nii").header
    np.testing.assert_allclose(header.get_qform(), header.get_sform(), atol=1e-3)
    assert header["qform_code"] == 1


@pytest.mark.parametrize("orientation", [AXIAL, CORONAL, rotated(12, -7, 20), rotated(-160, 30, 75)], ids=str)
def test_simpleitk_sees_the_same_positions(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    stack = make_stack((9, 12, 10), orientation)
    write(tmp_path / "series", stack)
    assert_as_simpleitk(tmp_path / "series", load_series(one(tmp_path / "series")))


@pytest.mark.parametrize("name", ["lungpetct_A0002_8mm_B40f", "totalseg_jpeg2000_20", "lungmask_2_minimal_tags"])
def test_simpleitk_sees_the_same_in_real_series(real_data: Path, name: str) -> None:
    assert_as_simpleitk(real_data / "dicom" / name, load_series(one(real_data / "dicom" / name)), clip=True)


def assert_as_simpleitk(folder: Path, volume: Volume, clip: bool = False) -> None:
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    if not names:  # a series without UID
        names = [str(file) for file in one(folder).files]
    image = sitk.ReadImage(names)
    theirs = sitk.GetArrayViewFromImage(image)
    assert theirs.size == volume.voxels.size
    for _ in range(200):
        index = [int(part) for part in np.random.default_rng(_).integers(0, image.GetSize())]
        value, distance = at(volume, np.array(image.TransformIndexToPhysicalPoint(index)))
        expected = theirs[tuple(reversed(index))]
        assert distance < 0.01 and value == (max(expected, -1024) if clip else expected)


def test_a_tilted_gantry_keeps_its_shear(tmp_path: Path) -> None:
    """Read as if it were upright, a spine would lean by 20 degrees, and volumes would be 6 % too large."""
    stack = make_stack(orientation=rotated(20, 0, 0), drift=np.array([0, 0, 1 / np.cos(np.radians(20))]) - _across(20))
    np.testing.assert_allclose(np.diff(stack.positions, axis=0)[:, :2], 0, atol=1e-9)  # the table moves along z
    write(tmp_path, stack)
    series = one(tmp_path)
    volume = load_series(series)
    assert_in_place(volume, stack)
    assert_mask_in_place(volume, stack, tmp_path / "mask.nii.gz")
    assert any("tilted by 20.0 degrees" in warning for warning in series.warnings)
    assert volume.voxel_ml == pytest.approx(0.8 * 0.7 * 2.5 / 1000)
    header = nib.load(tmp_path / "mask.nii.gz").header
    assert header["qform_code"] == 0, "a qform is a rotation: a reader that prefers it would misplace the mask"


def _across(tilt: float) -> np.ndarray:
    orientation = rotated(tilt, 0, 0)
    return np.cross(orientation[:3], orientation[3:])


def test_order_is_by_position_not_by_name_or_number(tmp_path: Path) -> None:
    stack, order = make_stack(), [4, 2, 8, 0, 1, 7, 3, 6, 5]
    paths = write(tmp_path, stack, names=[f"{n}.dcm" for n in order], InstanceNumber=[9, 1, 3, 2, 5, 4, 8, 7, 6])
    series = one(tmp_path)
    assert series.files == tuple(paths)
    assert_in_place(load_series(series), stack)


def test_a_missing_slice_is_interpolated_and_said(tmp_path: Path) -> None:
    """Without the plane, all slices above it would sit too low and every volume would be wrong."""
    full = make_stack()
    stack = full.without(3)
    write(tmp_path, stack)
    series = one(tmp_path)
    volume = load_series(series)
    assert (series.slices, series.interpolated) == (9, (3,))
    assert_in_place(volume, stack)
    expected = np.rint((full.values[2].astype(float) + full.values[4]) / 2)
    np.testing.assert_array_equal(volume.voxels[3], expected[::-1, ::-1])
    assert f"at {full.positions[3][2]:.1f} mm" in " ".join(series.warnings)


def test_two_missing_slices_in_a_row(tmp_path: Path) -> None:
    full = make_stack((20, 12, 10))
    write(tmp_path, full.without(7, 8))
    voxels = load_series(one(tmp_path)).voxels
    below, above = (full.values[n, ::-1, ::-1].astype(float) for n in (6, 9))
    assert np.abs(voxels[7] - (2 * below + above) / 3).max() <= 0.51
    assert np.abs(voxels[8] - (below + 2 * above) / 3).max() <= 0.51


@pytest.mark.parametrize("orientation", [AXIAL, (-1, 0, 0, 0, 1, 0), (0, 1, 0, 1, 0, 0)], ids=str)
def test_planes_are_counted_from_the_feet(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    """Else the missing slice would be reported at the other end of the chest."""
    full = make_stack((9, 12, 12), orientation)
    lowest_first = np.argsort(full.positions[:, 2])
    write(tmp_path, full.without(int(lowest_first[2])))
    series = one(tmp_path)
    assert series.interpolated == (2,)
    volume = load_series(series)
    assert volume.geometry.orientation[2] == "S"
    assert nib.affines.apply_affine(volume.affine, (0, 0, 2))[2] == pytest.approx(full.positions[lowest_first[2], 2])


def test_unequal_gaps_of_a_tilted_gantry(tmp_path: Path) -> None:
    depths = [0, 1.2, 3.2, 5.2, 7.2, 9.2, 11.2, 13.2, 15.2, 17.2, 19.2, 21.2]
    drift = np.array([0, 0, 1 / np.cos(np.radians(20))]) - _across(20)
    stack = make_stack((12, 12, 10), rotated(20, 0, 0), depths, drift)
    write(tmp_path, stack)
    assert_in_place(load_series(one(tmp_path)), stack, list(range(1, 12)))


def test_unequal_gaps_keep_the_slices_that_fit(tmp_path: Path) -> None:
    stack = make_stack((12, 12, 10), depths=[0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 21])
    write(tmp_path, stack)
    series = one(tmp_path)
    volume = load_series(series)
    assert volume.spacing[0] == pytest.approx(2)
    assert_in_place(volume, stack, list(range(11)))


def test_an_odd_gap_in_the_middle(tmp_path: Path) -> None:
    stack = make_stack((20, 12, 10), depths=[*np.arange(16) * 2, 31, 33, 35, 37])
    write(tmp_path, stack)
    series = one(tmp_path)
    assert series.interpolated == (16, 17, 18)
    volume = load_series(series)
    assert_in_place(volume, stack, list(range(16)))
    between = (stack.values[16].astype(float) + stack.values[17]) / 2  # at 32, between 31 and 33
    assert np.abs(volume.voxels[16] - between[::-1, ::-1]).max() <= 0.5


def test_positions_written_with_one_decimal(tmp_path: Path) -> None:
    """0.625 mm is often written as 0.6 and 0.7: not a series with unequal gaps."""
    stack = make_stack((40, 12, 10), depths=np.arange(40) * 0.625)
    rounded = [[f"{part:.1f}" for part in position] for position in stack.positions]
    write(tmp_path, stack, ImagePositionPatient=rounded)
    series = one(tmp_path)
    assert (series.slices, series.interpolated) == (40, ())
    assert series.spacing and series.spacing[0] == pytest.approx(0.625, abs=0.005)


@pytest.mark.parametrize(
    ("depths", "why"),
    [
        ([0, 1, 3, 6, 10, 15, 21, 28], "gaps of 1 to 7 mm"),
        ([0, 2, 4, 6, 500, 502, 504, 506], "slices are missing"),
        ([0, 1e-1, 2e-1, 3e-1, 1e6], "slices are missing"),
    ],
)
def test_too_many_gaps_are_refused(tmp_path: Path, depths: list[float], why: str) -> None:
    write(tmp_path, make_stack((len(depths), 12, 10), depths=depths))
    (series,) = find_series(tmp_path)
    assert why in series.problem


def test_slices_displaced_sideways_are_refused() -> None:
    positions = make_stack().positions.copy()
    positions[4, 0] += 5
    with pytest.raises(BadGrid, match="sideways, by up to 5 mm"):
        make_grid(positions, AXIAL, (0.8, 0.7), 1.0)


def _axes(orientation: tuple[float, ...]) -> list[int]:
    """0 to 5 for +x, -x, +y, -y, +z, -z, of rows and of columns."""
    pairs = (orientation[:3], orientation[3:])
    return [2 * int(np.abs(v).argmax()) + int(sum(v) < 0) for v in pairs]
