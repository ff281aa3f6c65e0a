"""Planes to slices and back. If this fails, left and right swap, or masks lie beside the lesions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from skimage.transform import resize as skimage_resize

from covseg_core.config import Resize
from covseg_core.data.slices.slices import Grid, native_reaching, to_images, to_masks, to_native

GRIDS = [
    Grid((512, 512), (0.7, 0.7), 128, "area"),
    Grid((401, 630), (0.7, 0.7), 128, "area"),
    Grid((630, 401), (0.5, 0.9), 96, "area"),
    Grid((40, 52), (1.0, 1.0), 64, "area"),
    Grid((61, 77), (1.3, 0.8), 64, "area"),
    Grid((401, 630), (0.7, 0.7), 128, "thesis"),
    Grid((60, 60), (0.7, 0.7), 64, "thesis"),
    Grid((7, 9), (1.0, 1.0), 16, "thesis"),
]
every_grid = pytest.mark.parametrize("grid", GRIDS, ids=lambda g: f"{g.shape[0]}x{g.shape[1]}-{g.size}-{g.resize}")


def smooth(grid: Grid, count: int = 2) -> np.ndarray:
    """Planes that change slowly and differently in every direction, 20 to 220."""
    y, x = (np.linspace(0, 1, length) for length in grid.shape)
    plane = 20 + 120 * y[:, None] ** 2 + 80 * x[None, :]
    return np.stack([plane - 5 * z for z in range(count)]).round().astype(np.uint8)


def native_coordinates(grid: Grid, axis: int) -> np.ndarray:
    """By the module's docstring: where slice pixels lie on the plane, counted in the direction of view."""
    length, spacing, size = grid.shape[axis], grid.spacing[axis], grid.size
    centres = (np.arange(size) + 0.5) / size
    if grid.resize == "thesis":
        return 2 * (centres * -(-length // 2) - 0.5)
    side = max(n * s for n, s in zip(grid.shape, grid.spacing, strict=True))
    padded = length + max(0, round(side / spacing) - length)
    return centres * padded - 0.5 - (padded - length) // 2


def test_slices_show_anterior_on_top_and_the_patient_s_right_on_the_left() -> None:
    plane = np.zeros((1, 64, 64), np.uint8)
    plane[0, 40:64, 40:64] = 200  # y up anterior, x up right
    for resize in ("area", "thesis"):
        grid = Grid((64, 64), (1.0, 1.0), 32, resize)
        for slices in (to_images(plane, grid), to_masks(plane // 200, grid)):
            assert slices[0, :11, :11].all(), resize
            assert not slices[0, 13:].any(), resize
            assert not slices[0, :, 13:].any(), resize


@pytest.mark.parametrize("size", [32, 64])
def test_area_images_are_averages_of_whole_blocks(size: int) -> None:
    planes = np.random.default_rng(0).integers(0, 256, (3, 128, 128), dtype=np.uint8)
    view = planes[:, ::-1, ::-1].astype(float)
    block = 128 // size
    expected = view.reshape(3, size, block, size, block).mean((2, 4))
    images = to_images(planes, Grid((128, 128), (0.7, 0.7), size, "area"))
    assert np.abs(images - expected).max() <= 0.5 + 1e-6


def test_area_images_are_averages_where_pixels_are_shared() -> None:
    planes = np.random.default_rng(0).integers(0, 256, (1, 60, 60), dtype=np.uint8)
    weights = np.zeros((32, 60))  # share of each of the 60 pixels in each of the 32, in order of view
    for u in range(32):
        for i in range(60):
            weights[u, i] = max(0, min(i + 1, (u + 1) * 60 / 32) - max(i, u * 60 / 32)) * 32 / 60
    expected = weights @ planes[0, ::-1, ::-1] @ weights.T
    assert np.abs(to_images(planes, Grid((60, 60), (1.0, 1.0), 32, "area"))[0] - expected).max() < 1


def test_padding_makes_a_physical_square_and_is_black() -> None:
    grid = Grid((40, 60), (2.0, 1.0), 64, "area")  # 80 mm high, 60 mm wide: 10 pixels on either side
    images = to_images(np.full((1, 40, 60), 200, np.uint8), grid)
    masks = to_masks(np.ones((1, 40, 60), np.uint8), grid)
    assert (images[0, :, 8:56] == 200).all()
    assert not images[0, :, :8].any()
    assert not images[0, :, 56:].any()
    assert np.array_equal(masks > 0, images > 0)


def test_thesis_images_are_those_of_the_thesis() -> None:
    planes = np.random.default_rng(0).integers(0, 256, (2, 101, 80), dtype=np.uint8)
    images = to_images(planes, Grid((101, 80), (1.0, 1.0), 32, "thesis"))
    for image, plane in zip(images, planes, strict=True):
        expected = skimage_resize(plane[::-1, ::-1][::2, ::2], (32, 32), preserve_range=True).astype(np.uint8)
        assert np.array_equal(image, expected)


def test_an_axis_worked_by_hand() -> None:
    """With a pixel more or less at either end masks lie beside the lesions; the module says how it counts."""
    # 1 + 4 + 1 pixels are shared out among 4: their centres are at 0.75, 2.25, 3.75 and 5.25 of 6
    padded = Grid((6, 4), (1.0, 1.0), 4, "area").axes[1]
    assert (padded.before, padded.after, padded.padded) == (1, 1, 6)
    assert padded.sources().tolist() == [-1, 1, 2, -1], "-1 in the padding"
    assert padded.targets() == pytest.approx([1 / 2, 7 / 6, 11 / 6, 5 / 2])
    # 7 - 4 pixels are missing: one before, two after
    uneven = Grid((7, 4), (1.0, 1.0), 7, "area").axes[1]
    assert uneven.sources().tolist() == [-1, 0, 1, 2, 3, -1, -1]
    assert uneven.targets() == pytest.approx([1, 2, 3, 4])
    # of 7 pixels every second, 4 in all, become 4
    thesis = Grid((7, 7), (1.0, 1.0), 4, "thesis").axes[0]
    assert thesis.sources().tolist() == [0, 2, 4, 6]
    assert thesis.targets() == pytest.approx([0, 0.5, 1, 1.5, 2, 2.5, 3])


def test_enlarged_images_are_interpolated() -> None:
    """A small stack must not come out as a mosaic, which no network has seen: 2 pixels as 4 are a ramp."""
    plane = np.array([[[0, 100], [0, 100]]], np.uint8)
    [image] = to_images(plane, Grid((2, 2), (1.0, 1.0), 4, "area"))
    assert image.tolist() == [[100, 75, 25, 0]] * 4


@pytest.mark.parametrize("resize", ["area", "thesis"])
def test_slices_are_bytes(resize: Resize) -> None:
    """A cache of float64 would be eight times as large, and another one than every model was trained with."""
    grid = Grid((40, 50), (1.0, 1.0), 32, resize)
    assert to_images(smooth(grid), grid).dtype == to_masks(smooth(grid), grid).dtype == np.uint8


@every_grid
def test_images_lie_where_the_module_says(grid: Grid) -> None:
    planes = smooth(grid)
    rows, columns = (native_coordinates(grid, axis) for axis in (0, 1))
    images = to_images(planes, grid)
    inside = np.ix_(
        np.flatnonzero((rows > 3) & (rows < grid.shape[0] - 4)),
        np.flatnonzero((columns > 3) & (columns < grid.shape[1] - 4)),
    )
    y, x = (grid.shape[0] - 1 - rows) / (grid.shape[0] - 1), (grid.shape[1] - 1 - columns) / (grid.shape[1] - 1)
    expected = 20 + 120 * y[:, None] ** 2 + 80 * x[None, :]
    assert np.abs(images[0][inside] - expected[inside]).max(initial=0) < 2.5


@every_grid
def test_masks_are_the_pixel_at_each_centre(grid: Grid) -> None:
    masks = np.random.default_rng(0).integers(0, 2, (2, *grid.shape), dtype=np.uint8)
    masks[1] = 0
    rows, columns = (native_coordinates(grid, axis) for axis in (0, 1))
    expected = np.zeros((grid.size, grid.size), np.uint8)
    step = 2 if grid.resize == "thesis" else 1
    for u, row in enumerate(rows):
        for v, column in enumerate(columns):
            i, j = (int(np.floor(c / step + 0.5)) * step for c in (row, column))
            if 0 <= i < grid.shape[0] and 0 <= j < grid.shape[1]:
                expected[u, v] = masks[0, grid.shape[0] - 1 - i, grid.shape[1] - 1 - j]
    prepared = to_masks(masks, grid)
    assert prepared.dtype == np.uint8
    assert np.array_equal(prepared[0], expected)
    assert not prepared[1].any()


@every_grid
def test_native_probabilities_are_interpolated_between_centres(grid: Grid) -> None:
    probabilities = np.random.default_rng(0).random((2, grid.size, grid.size), np.float32)
    at = []
    for axis in (0, 1):
        centres = native_coordinates(grid, axis)
        seen = np.interp(np.arange(grid.shape[axis]), centres, np.arange(grid.size))  # clamped at the rim
        at.append(seen[::-1])
    y, x = (np.minimum(np.floor(coordinate).astype(int), grid.size - 2) for coordinate in at)
    wy, wx = (at[0] - y)[:, None], (at[1] - x)[None, :]
    for native, source in zip(to_native(probabilities, grid), probabilities.astype(float), strict=True):
        top = source[y][:, x] * (1 - wx) + source[y][:, x + 1] * wx
        bottom = source[y + 1][:, x] * (1 - wx) + source[y + 1][:, x + 1] * wx
        assert native.dtype == np.float32
        assert np.abs(native - (top * (1 - wy) + bottom * wy)).max() < 0.04  # OpenCV works in steps of 1/32 pixel


@pytest.mark.parametrize("resize", ["area", "thesis"])
def test_a_mask_survives_there_and_back(resize: Resize) -> None:
    y, x = np.mgrid[0:401, 0:630]
    mask = ((((y - 150) / 60) ** 2 + ((x - 420) / 90) ** 2) < 1).astype(np.uint8)[None]
    grid = Grid((401, 630), (0.8, 0.6), 256, resize)
    again = to_native(to_masks(mask, grid).astype(np.float32), grid) >= 0.5
    overlap = 2 * (again & (mask > 0)).sum() / (again.sum() + mask.sum())
    assert overlap > 0.98


@pytest.mark.parametrize("function", [to_images, to_masks, to_native])
def test_no_slices_give_none_and_wrong_planes_are_a_bug(function: Callable) -> None:
    grid = Grid((40, 50), (1.0, 1.0), 32, "area")
    side = (32, 32) if function is to_native else (40, 50)
    assert len(function(np.zeros((0, *side), np.uint8), grid)) == 0
    with pytest.raises(ValueError, match=r"^planes of \(41, 50\) for a grid of \(\d\d, \d\d\)$"):
        function(np.zeros((2, 41, 50), np.uint8), grid)


def test_prepared_slices_can_be_read_only_and_not_contiguous() -> None:
    grid = Grid((40, 50), (1.0, 1.0), 32, "area")
    planes = smooth(grid, 4)
    planes.flags.writeable = False
    assert np.array_equal(to_images(planes[::2], grid), to_images(planes, grid)[::2])
    half = np.random.default_rng(0).random((2, 32, 32)).astype(np.float16)
    assert np.allclose(to_native(half[::-1], grid), to_native(half.astype(np.float32), grid)[::-1])


@every_grid
@pytest.mark.parametrize("sharpness", [1, 6, 40])
def test_what_reaches_a_threshold_is_what_resampling_everything_gives(grid: Grid, sharpness: int) -> None:
    """Only boxes of slices are resampled; a voxel that is lost at the rim of one is a lesion that shrinks."""
    random = np.random.default_rng(sharpness)
    probabilities = random.random((5, grid.size, grid.size), np.float32) ** sharpness
    probabilities[1:3] *= random.random((2, 1, 1), np.float32)
    probabilities[3] = 0
    native, found = to_native(probabilities, grid), 0
    for threshold in (0.05, 0.5, 0.9, float(probabilities.max()), float(native.max())):
        reached = np.zeros(native.shape, np.uint8)
        native_reaching(probabilities, grid, threshold, reached)
        np.testing.assert_array_equal(reached, native >= threshold)
        found += int(reached.sum())
    assert found
