"""Reading scans and masks. If this fails, masks land mirrored or shifted, or bad files end in a traceback."""

from __future__ import annotations

import gzip
import os
import shutil
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from niftis import LPS, noise, patch, write

from covseg_core.data.reading.volumes import (
    Geometry,
    grid_mismatch,
    grid_warning,
    load_geometry,
    load_mask,
    load_scan,
    save_mask,
)
from covseg_core.errors import ScanError

OBLIQUE = np.array([[-0.68, 0.1, 0.3, 120], [-0.12, -0.69, 0.1, 90], [0.1, 0.02, 2.4, -300], [0, 0, 0, 1]])


# what is read


def test_the_array_is_in_ras_order_whatever_the_file_order(tmp_path: Path) -> None:
    values = noise()
    scan = load_scan(write(tmp_path / "ct.nii.gz", values))
    assert np.array_equal(scan.voxels, values[::-1, ::-1, :].transpose(2, 1, 0))
    assert scan.geometry.orientation == "LPS"
    assert scan.spacing == pytest.approx((2.5, 0.7, 0.7))
    assert scan.voxels.dtype == np.int16
    assert scan.voxels.flags.c_contiguous


@pytest.mark.parametrize("affine", [LPS, OBLIQUE, LPS[[2, 0, 1, 3]], OBLIQUE[[1, 2, 0, 3]]])
def test_every_voxel_keeps_its_position_in_the_body(tmp_path: Path, affine: np.ndarray) -> None:
    values = noise((9, 10, 11))
    scan = load_scan(write(tmp_path / "ct.nii", values, affine))
    reference = nib.as_closest_canonical(nib.load(tmp_path / "ct.nii"))
    assert np.array_equal(scan.voxels.T, np.asarray(reference.dataobj))
    assert np.allclose(scan.affine, reference.affine)
    assert scan.spacing[::-1] == pytest.approx(reference.header.get_zooms(), rel=1e-5)


def test_the_geometry_can_be_read_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "ct.nii.gz", noise((12, 10)), OBLIQUE)
    geometry, full = load_geometry(path), load_scan(path).geometry
    assert geometry.shape == full.shape == (12, 10, 1)
    assert np.array_equal(geometry.affine, full.affine)
    assert geometry.header == full.header
    with pytest.raises(ScanError, match="no such file"):
        load_geometry(tmp_path / "missing.nii")


def test_qform_is_used_where_the_sform_is_unset_or_unusable(tmp_path: Path) -> None:
    image = nib.Nifti1Image(noise(), LPS)
    image.set_qform(LPS, code=1)
    image.set_sform(None, code=0)
    nib.save(image, tmp_path / "qform.nii")
    assert np.allclose(load_scan(tmp_path / "qform.nii").geometry.affine, LPS, atol=1e-4)
    image.set_sform(LPS, code=1)
    image.header["srow_x"] = 0
    nib.save(nib.Nifti1Image(noise(), None, image.header), tmp_path / "broken.nii")
    assert np.allclose(load_scan(tmp_path / "broken.nii").geometry.affine, LPS, atol=1e-4)


def test_a_header_without_position_is_known_as_one(tmp_path: Path) -> None:
    bare = patch(write(tmp_path / "bare.nii", noise()), 252, "<hh", 0, 0)
    identity = write(tmp_path / "identity.nii", noise(), np.eye(4))
    assert load_scan(bare).geometry.placeholder
    assert load_scan(identity).geometry.placeholder
    assert not load_scan(write(tmp_path / "ct.nii", noise())).geometry.placeholder


@pytest.mark.parametrize(
    ("slope", "intercept", "stored", "expected"),
    [
        (1, -1024, np.uint16, np.int16),  # the usual way of unsigned scanners
        (2, 1, np.int16, np.int16),
        (-1, 0, np.int16, np.int16),
        (100, 0, np.int16, np.int32),
        (0.5, -3, np.int16, np.float32),
    ],
)
def test_the_header_s_scaling_is_applied(
    tmp_path: Path, slope: float, intercept: float, stored: type, expected: type
) -> None:
    path = tmp_path / "ct.nii.gz"
    image = nib.Nifti1Image(np.abs(noise()).astype(stored), LPS)
    image.header.set_slope_inter(slope, intercept)
    image.to_filename(path)
    raw = nib.load(path).dataobj.get_unscaled()
    content = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into("<ff", content, 112, slope, intercept)  # nibabel rescales when it saves
    path.write_bytes(gzip.compress(content))
    scan = load_scan(path)
    assert scan.voxels.dtype == expected
    canonical = raw[::-1, ::-1].T.astype(np.float64)
    assert np.array_equal(scan.voxels, canonical * slope + intercept)


@pytest.mark.parametrize("kind", [np.int32, np.int64, np.float32, np.float64, np.uint16, np.int8])
def test_other_number_types_are_read_in_the_smallest_type_that_holds_them(tmp_path: Path, kind: type) -> None:
    values = np.abs(noise()) if np.dtype(kind).kind == "u" else noise() // 10
    scan = load_scan(write(tmp_path / "ct.nii", values.astype(kind)))
    assert scan.voxels.dtype == (np.float32 if np.dtype(kind).kind == "f" else np.int16)
    assert np.array_equal(scan.voxels, values[::-1, ::-1].T)


def test_big_endian_files_are_read(tmp_path: Path) -> None:
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    nib.save(nib.Nifti1Image(noise(), LPS, header), tmp_path / "ct.nii.gz")
    scan = load_scan(tmp_path / "ct.nii.gz")
    assert gzip.decompress((tmp_path / "ct.nii.gz").read_bytes())[:4] == struct.pack(">i", 348)
    assert np.array_equal(scan.voxels, noise()[::-1, ::-1].T)
    assert scan.voxels.dtype.isnative


def test_nifti2_a_fourth_axis_of_one_and_wrong_suffixes_are_read(tmp_path: Path) -> None:
    nib.save(nib.Nifti2Image(noise(), LPS), tmp_path / "two.nii.gz")
    write(tmp_path / "four.nii.gz", noise()[..., None])
    shutil.copy(tmp_path / "four.nii.gz", tmp_path / "packed.nii")
    for name in ("two.nii.gz", "four.nii.gz", "packed.nii"):
        assert np.array_equal(load_scan(tmp_path / name).voxels, noise()[::-1, ::-1].T)


def test_gzip_in_several_members_is_read_whole(tmp_path: Path) -> None:
    content = write(tmp_path / "ct.nii", noise()).read_bytes()
    (tmp_path / "ct.nii.gz").write_bytes(gzip.compress(content[:700]) + gzip.compress(content[700:]))
    assert np.array_equal(load_scan(tmp_path / "ct.nii.gz").voxels, noise()[::-1, ::-1].T)


# masks


def labelled(kind: type = np.uint8) -> np.ndarray:
    values = np.zeros((12, 10, 6), kind)
    values[1:4, 2:9, 1] = 1
    values[5:8, 2:4, 2] = 2
    values[9, 9, 5] = 7
    return values


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32, np.float64])
def test_labels_are_found_and_chosen(tmp_path: Path, kind: type) -> None:
    path = write(tmp_path / "mask.nii.gz", labelled(kind))
    canonical = labelled()[::-1, ::-1].T
    everything = load_mask(path)
    assert everything.voxels.dtype == np.uint8
    assert np.array_equal(everything.voxels, canonical > 0)
    assert everything.labels == (1, 2, 7)
    assert np.array_equal(load_mask(path, labels=[2, 7]).voxels, canonical >= 2)
    assert np.array_equal(load_mask(path, labels=[7, 99]).voxels, canonical == 7)


def test_an_empty_mask_is_a_scan_without_lesion_whatever_labels_count(tmp_path: Path) -> None:
    path = write(tmp_path / "mask.nii.gz", np.zeros((12, 10, 6), np.uint8))
    for labels, kind in [(None, np.uint8), ([1, 2], np.uint8), (None, np.float32), ([1, 2], np.float32)]:
        write(path, np.zeros((12, 10, 6), kind))
        mask = load_mask(path, labels)
        assert mask.labels == ()
        assert not mask.voxels.any()


def test_a_mask_of_255_scaled_to_1_has_the_label_1(tmp_path: Path) -> None:
    path = write(tmp_path / "mask.nii", (labelled() > 0).astype(np.uint8) * 255)
    patch(path, 112, "<ff", 1 / 255, 0)
    assert load_mask(path).labels == (1,)


def test_a_mask_with_none_of_the_chosen_labels_is_empty_and_says_which_it_has(tmp_path: Path) -> None:
    """A patient with consolidation only is one without ground glass; whoever imports decides whether that is meant."""
    mask = load_mask(write(tmp_path / "mask.nii.gz", labelled()), [3, 4])
    assert not mask.voxels.any()
    assert mask.labels == (1, 2, 7)


def test_a_scan_given_as_a_mask_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="values from -1000 to 99"):
        load_mask(write(tmp_path / "hu.nii", noise()))
    with pytest.raises(ScanError, match=r"\d+ labels from 1 to 1000; expected at most 16"):
        load_mask(write(tmp_path / "grey.nii", np.abs(noise())))
    with pytest.raises(ScanError, match=r"value 0\.37; expected whole-number labels"):
        load_mask(write(tmp_path / "soft.nii", labelled(np.float32) * np.float32(0.37)))
    with pytest.raises(ScanError, match="values from 0 to 700000"):
        load_mask(write(tmp_path / "large.nii", labelled(np.int32) * 100_000))


# do scan and mask lie on one grid?


def test_a_mask_stored_in_another_axis_order_is_on_the_same_grid(tmp_path: Path) -> None:
    scan = load_scan(write(tmp_path / "ct.nii", noise()))
    reference = nib.as_closest_canonical(nib.Nifti1Image(labelled(), LPS))
    nib.save(reference, tmp_path / "mask.nii")
    mask = load_mask(tmp_path / "mask.nii")
    assert mask.geometry.orientation == "RAS"
    assert grid_mismatch(scan, mask) is None
    assert grid_warning(scan, mask) is None
    assert np.array_equal(mask.voxels, labelled()[::-1, ::-1].T > 0)


def _shifted(millimetres: float) -> np.ndarray:
    affine = LPS.copy()
    affine[0, 3] += millimetres
    return affine


@pytest.mark.parametrize(
    ("affine", "reason"),
    [
        (LPS, None),
        (_shifted(0.01), None),  # rounding in headers
        (_shifted(0.5), "lies up to 0.5 mm from the grid of ct.nii"),
        (LPS * [1, 1, 2, 1], "lies up to 12.5 mm"),
        (LPS * [-1, 1, 1, 1], "mm from the grid"),
        (np.eye(4), "axes RAS, not LPS as in ct.nii"),
        (np.diag([-1, -1, 1, 1]), None),  # no position of its own, but the same axes
    ],
)
def test_masks_of_another_place_are_found(tmp_path: Path, affine: np.ndarray, reason: str | None) -> None:
    scan = load_scan(write(tmp_path / "ct.nii", noise()))
    mask = load_mask(write(tmp_path / "mask.nii", labelled(), np.asarray(affine, float)))
    found = grid_mismatch(scan, mask)
    assert (found is None) == (reason is None)
    assert reason is None or reason in str(found)


def test_another_shape_is_found_before_anything_else(tmp_path: Path) -> None:
    scan = load_scan(write(tmp_path / "ct.nii", noise()))
    mask = load_mask(write(tmp_path / "mask.nii", labelled()[:, :, :5]))
    assert grid_mismatch(scan, mask) == "shape 12 x 10 x 5, not 12 x 10 x 6 as in ct.nii"


def test_a_mask_saved_with_an_identity_affine_can_take_the_scan_s_and_says_so(tmp_path: Path) -> None:
    scan = load_scan(write(tmp_path / "ct.nii", noise()))
    path = write(tmp_path / "mask.nii", labelled(), np.eye(4))
    mask = load_mask(path, like=scan.geometry)
    assert grid_mismatch(scan, mask) is None
    assert "mask.nii gives no position" in str(grid_warning(scan, mask))
    assert np.array_equal(mask.voxels, labelled()[::-1, ::-1].T > 0)
    other = write(tmp_path / "other.nii", labelled(), _shifted(9))
    assert load_mask(other, like=scan.geometry).geometry.affine[0, 3] == 129  # a real position is never overruled


# masks back to files


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("affine", [LPS, OBLIQUE, OBLIQUE[[1, 2, 0, 3]]])
def test_a_saved_mask_has_the_scan_s_grid_and_nothing_else_of_it(
    tmp_path: Path, affine: np.ndarray, suffix: str
) -> None:
    image = nib.Nifti1Image(np.abs(noise((9, 10, 11))), affine)
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=3)
    image.header["descrip"] = b"Doe, Jane"
    image.header.set_intent("t test", (2,), name="t")
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"Doe, Jane"))
    nib.save(image, tmp_path / "ct.nii")
    patch(tmp_path / "ct.nii", 112, "<ff", 1, -1024)
    scan = load_scan(tmp_path / "ct.nii")
    path = tmp_path / f"mask{suffix}"
    save_mask(scan.voxels > -500, scan.geometry, path)
    saved = nib.load(path)
    original = nib.load(tmp_path / "ct.nii")
    assert np.array_equal(np.asarray(saved.dataobj), np.asarray(original.dataobj) > -500)
    assert np.array_equal(saved.affine, original.affine)
    for field in ("sform_code", "qform_code", "quatern_b", "quatern_c", "quatern_d", "srow_x", "pixdim", "xyzt_units"):
        assert np.array_equal(saved.header[field], original.header[field]), field
    assert saved.get_data_dtype() == np.uint8
    assert saved.header.get_slope_inter() == (None, None)
    assert saved.header.get_intent()[0] == "none"
    content = path.read_bytes() if suffix == ".nii" else gzip.decompress(path.read_bytes())
    assert b"Doe" not in content
    assert sorted(os.listdir(tmp_path)) == sorted(["ct.nii", path.name])


def test_geometry_without_a_nifti_header_is_enough_to_save(tmp_path: Path) -> None:
    mask = np.zeros((6, 10, 12), np.uint8)
    mask[2, 3, 4] = 1
    save_mask(mask, Geometry((12, 10, 6), OBLIQUE, None), tmp_path / "mask.nii.gz")
    again = load_mask(tmp_path / "mask.nii.gz")
    assert np.array_equal(again.voxels, mask)
    assert np.allclose(again.geometry.affine, OBLIQUE, atol=1e-4)


def test_nifti2_and_big_endian_files_get_masks_of_their_kind(tmp_path: Path) -> None:
    nib.save(nib.Nifti2Image(noise(), LPS), tmp_path / "ct.nii")
    scan = load_scan(tmp_path / "ct.nii")
    save_mask(scan.voxels > 0, scan.geometry, tmp_path / "mask.nii")
    assert isinstance(nib.load(tmp_path / "mask.nii"), nib.Nifti2Image)
    nib.save(nib.Nifti1Image(noise(), LPS, nib.Nifti1Header(endianness=">")), tmp_path / "big.nii")
    scan = load_scan(tmp_path / "big.nii")
    save_mask(scan.voxels > 0, scan.geometry, tmp_path / "mask.nii.gz")
    assert np.array_equal(np.asarray(nib.load(tmp_path / "mask.nii.gz").dataobj), noise() > 0)


def test_a_mask_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    geometry = Geometry((12, 10, 6), LPS, None)
    mask = np.zeros((6, 10, 12), np.uint8)
    with pytest.raises(ScanError, match=r"ending in \.nii or \.nii\.gz"):
        save_mask(mask, geometry, tmp_path / "mask.png")
    (tmp_path / "file").touch()
    with pytest.raises(ScanError, match="cannot be written"):
        save_mask(mask, geometry, tmp_path / "file" / "mask.nii")
    (tmp_path / "mask.nii").write_bytes(b"before")
    monkeypatch.setattr(nib, "save", lambda image, path: nib.Nifti1Image(mask.T + 1, LPS).to_filename(path))
    with pytest.raises(ScanError, match="reads back differently"):
        save_mask(mask, geometry, tmp_path / "mask.nii")
    assert (tmp_path / "mask.nii").read_bytes() == b"before"
    assert sorted(os.listdir(tmp_path)) == ["file", "mask.nii"]


# real files


def test_real_scans_and_masks_lie_on_one_grid_each(real_data: Path) -> None:
    for case in sorted((real_data / "ct20").iterdir()):
        scan = load_scan(case / "ct.nii.gz")
        for name in ("infection_mask.nii.gz", "lung_mask.nii.gz"):
            mask = load_mask(case / name)
            assert grid_mismatch(scan, mask) is None
            assert mask.labels == (1,)
    medseg = real_data / "medseg"
    assert load_mask(medseg / "tr_mask.nii.gz").labels == (1, 2)
    assert grid_mismatch(load_scan(medseg / "tr_im.nii.gz"), load_mask(medseg / "tr_mask.nii.gz", [2])) is None


def test_real_masks_of_two_patients_of_one_shape_are_told_apart(real_data: Path) -> None:
    first, second = (load_mask(real_data / "mosmed_masks" / f"study_{n}_mask.nii.gz") for n in ("0255", "0257"))
    assert first.voxels.shape == second.voxels.shape
    assert "mm from the grid" in str(grid_mismatch(first, second))


def test_a_real_int32_scan_becomes_int16(real_data: Path) -> None:
    scan = load_scan(real_data / "totalseg_torso_3mm.nii.gz")
    assert scan.voxels.dtype == np.int16
    assert (scan.voxels.min(), scan.voxels.max()) == (-1207, 3382)
    assert scan.geometry.orientation == "RAS"
