"""The whole way of a mask, for every way a file can store a scan. If this fails, masks land in the wrong place."""

from __future__ import annotations

import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from covseg_core.config import Resize
from covseg_core.data.reading.volumes import grid_mismatch, load_mask, load_scan, save_mask
from covseg_core.data.slices.slices import Grid, to_images, to_masks, to_native

AXES = [(order, signs) for order in itertools.permutations(range(3)) for signs in itertools.product((1, -1), repeat=3)]


def centre(mask: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Centre of mass of a mask in file order [mm]."""
    return nib.affines.apply_affine(affine, np.argwhere(mask).mean(axis=0))


def oriented(order: tuple[int, ...], signs: tuple[int, ...], spacing: tuple[float, ...], tilt: float) -> np.ndarray:
    """Affine whose file axis n runs along patient axis order[n], in the direction of signs[n], tilted about x."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for n in range(3):
        affine[order[n], n] = signs[n] * spacing[order[n]]
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]]
    affine = turn @ affine
    affine[:3, 3] = (31.5, -120.25, 7.0)
    return affine


@pytest.mark.parametrize(("order", "signs"), AXES, ids=lambda value: "".join(map(str, value)))
@given(
    shape=st.tuples(st.integers(30, 50), st.integers(30, 50), st.integers(5, 9)),
    spacing=st.tuples(st.floats(0.5, 1.2), st.floats(0.5, 1.2), st.floats(0.7, 5.0)),
    tilt=st.sampled_from([0.0, 0.2]),
    size=st.sampled_from([32, 48, 64]),
    resize=st.sampled_from(["area", "thesis"]),
)
@example(shape=(40, 40, 6), spacing=(1.0, 1.0, 1.0), tilt=0.0, size=48, resize="area")
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_lesion_stays_where_it_is_in_the_body(
    tmp_path: Path,
    order: tuple[int, int, int],
    signs: tuple[int, int, int],
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    tilt: float,
    size: int,
    resize: Resize,
) -> None:
    affine = oriented(order, signs, spacing, tilt)
    stored = tuple(shape[axis] for axis in order)
    # In patient axes (x right, y anterior, z superior): off centre everywhere, of another extent along every axis.
    lesion = np.zeros(shape, bool)
    lesion[shape[0] * 6 // 10 : shape[0] * 9 // 10, shape[1] // 6 : shape[1] // 2, 1:3] = True
    in_file = lesion[tuple(np.s_[::sign] for sign in (signs[order.index(axis)] for axis in range(3)))].transpose(order)
    values = np.where(in_file, 100, -900).astype(np.int16)
    nib.save(nib.Nifti1Image(values, affine), tmp_path / "ct.nii")
    nib.save(nib.Nifti1Image(in_file.astype(np.uint8), affine), tmp_path / "truth.nii")

    scan, truth = load_scan(tmp_path / "ct.nii"), load_mask(tmp_path / "truth.nii")
    assert grid_mismatch(scan, truth) is None
    assert np.array_equal(truth.voxels, lesion.T)
    assert scan.voxels.shape == shape[::-1]
    assert scan.spacing == pytest.approx(spacing[::-1], rel=1e-5)

    grid = Grid(scan.voxels.shape[1:], scan.spacing[1:], size, resize)
    images = to_images(np.where(scan.voxels > 0, 255, 0).astype(np.uint8), grid)
    masks = to_masks(truth.voxels, grid)
    assert (images[masks == 1] > 60).all()
    upper = np.argwhere(masks[1]).mean(axis=0)
    assert upper[0] > size / 2  # posterior half: below
    assert upper[1] < size / 2  # right half: left

    for prepared in (masks.astype(np.float32), images.astype(np.float32) / 255):
        save_mask(to_native(prepared, grid) >= 0.5, scan.geometry, tmp_path / "mask.nii.gz")
        saved = nib.load(tmp_path / "mask.nii.gz")
        result = np.asarray(saved.dataobj) > 0
        assert result.shape == stored
        assert np.allclose(saved.affine, affine, atol=1e-4)
        seen = max(spacing[:2]) * (2 if resize == "thesis" else 1)
        pixel = max(seen, max(n * s for n, s in zip(shape[:2], spacing[:2], strict=True)) / size)
        assert np.linalg.norm(centre(result, saved.affine) - centre(in_file, affine)) < pixel
        assert np.array_equal(
            result.any(axis=(order.index(0), order.index(1))), in_file.any(axis=(order.index(0), order.index(1)))
        )
