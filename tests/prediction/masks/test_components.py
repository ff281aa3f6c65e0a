"""Connected parts. What a user loses otherwise: a wrong number of lesions, or a lesion that was filtered out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from skimage.filters import apply_hysteresis_threshold

from covseg_core.prediction.masks.components import (
    Components,
    joined,
    lesions,
    only_parts,
    parts_to_keep,
    smallest_voxels,
)

ALL_26 = np.ones((3, 3, 3))


@pytest.mark.parametrize(
    ("other", "parts"),
    [((1, 1, 2), 1), ((1, 2, 2), 1), ((2, 2, 2), 1), ((0, 0, 0), 1), ((2, 0, 2), 1), ((1, 1, 3), 2), ((3, 1, 1), 2)],
)
def test_voxels_belong_together_if_they_touch_at_a_face_an_edge_or_a_corner(other, parts) -> None:
    mask = np.zeros((4, 4, 4), np.uint8)
    mask[1, 1, 1] = mask[other] = 1
    assert len(lesions(mask)) == parts


def test_what_is_joined_only_above_is_one_lesion() -> None:
    """A U on its side: two pieces on the lower planes, met by the third."""
    mask = np.zeros((3, 3, 9), np.uint8)
    mask[:2, 1, 1] = mask[:2, 1, 7] = mask[2, 1, 1:8] = 1
    np.testing.assert_array_equal(lesions(mask), [11])


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("share", [0.02, 0.08, 0.3])
def test_the_parts_are_those_of_scipy(seed: int, share: float) -> None:
    """Which numbers the whole volume at once, in much more memory."""
    mask = (np.random.default_rng(seed).random((7, 19, 23)) < share).astype(np.uint8)
    expected, number = ndimage.label(mask, ALL_26)
    parts = Components(mask)
    assert len(parts.sizes) == number
    planes = np.stack([parts.plane(z) for z in range(len(mask))])
    for part in range(1, number + 1):
        assert len(set(planes[expected == part])) == 1
    np.testing.assert_array_equal(planes == 0, mask == 0)
    np.testing.assert_array_equal(parts.sizes, np.bincount(planes.ravel())[1:])
    kept = np.isin(expected, 1 + np.flatnonzero(np.bincount(expected.ravel())[1:] >= 4))
    np.testing.assert_array_equal(parts_to_keep(mask, 4)[0], kept & (mask > 0))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("side", [1, 4, 19])
def test_parts_that_are_sure_somewhere_are_those_of_hysteresis(seed: int, side: int) -> None:
    """scikit-image has the same rule for voxels that touch at faces alone."""
    noise = np.random.default_rng(seed).random((7, side, 23))
    mask, sure = (noise > 0.85).astype(np.uint8), (noise > 0.97).astype(np.uint8)
    labels, number = ndimage.label(mask, ALL_26)
    expected = np.isin(labels, [part for part in range(1, number + 1) if sure[labels == part].any()])
    kept, sizes = parts_to_keep(mask, 1, sure)
    np.testing.assert_array_equal(kept, expected)
    assert sizes.sum() == kept.sum() < mask.sum()
    faces = apply_hysteresis_threshold(noise, 0.85, 0.97)
    assert not (faces & (kept == 0)).any(), "what touches at faces touches at corners, too"


@pytest.mark.parametrize("planes", [15, 16, 17, 33, 50])
@pytest.mark.parametrize("share", [0.03, 0.1])
def test_parts_go_on_from_one_group_of_planes_to_the_next(planes: int, share: float) -> None:
    """Planes are compared a few at a time; a vessel through all of them is one part."""
    mask = (np.random.default_rng(planes).random((planes, 9, 13)) < share).astype(np.uint8)
    mask[:, 4, 6] = 1
    mask[planes // 2, :, :3] = 0
    expected, number = ndimage.label(mask, ALL_26)
    parts = Components(mask)
    found = np.stack([parts.plane(z) for z in range(planes)])
    assert len(parts.sizes) == number
    pairs = {(int(one), int(other)) for one, other in zip(expected.ravel(), found.ravel(), strict=True)}
    assert len(pairs) == number + (not mask.all())
    np.testing.assert_array_equal(parts.sizes, np.bincount(found.ravel())[1:])
    for part, columns in enumerate(parts.columns(), start=1):
        np.testing.assert_array_equal(columns, (found == part).sum(axis=(0, 1)))
    values = np.random.default_rng(0).integers(1, 200, number).astype(np.uint8)
    np.testing.assert_array_equal(parts.painted(values), np.concatenate([[0], values])[found])


def test_parts_lie_where_the_mask_has_them() -> None:
    """Only the box around the mask is numbered."""
    mask = np.zeros((7, 9, 11), np.uint8)
    mask[2:4, 3, 4] = mask[4, 6, 8] = 1
    parts = Components(mask)
    np.testing.assert_array_equal(parts.sizes, [2, 1])
    np.testing.assert_array_equal(np.stack([parts.plane(z) for z in range(7)]), ndimage.label(mask, ALL_26)[0])
    np.testing.assert_array_equal(np.argwhere(parts_to_keep(mask, 2)[0]), [[2, 3, 4], [3, 3, 4]])


@pytest.mark.parametrize("axis", range(3))
def test_parts_on_one_line_are_told_apart(axis: int) -> None:
    """A box of one voxel across is where connected-components-3d 4.1.1 fails."""
    mask = np.zeros((8, 8, 8), np.uint8)
    np.moveaxis(mask, axis, 0)[[1, 3, 6], 4, 4] = 1
    np.testing.assert_array_equal(lesions(mask), [1, 1, 1])


def test_an_empty_mask_has_no_lesions() -> None:
    mask = np.zeros((3, 4, 5), np.uint8)
    assert lesions(mask).size == 0
    assert not Components(mask).plane(1).any()
    assert parts_to_keep(mask, 10)[0] is mask


def test_a_part_of_exactly_the_smallest_size_stays() -> None:
    mask = np.zeros((1, 3, 9), np.uint8)
    mask[0, 1, :3] = mask[0, 1, 5:7] = 1
    # a voxel of 0.1 mm3: in binary, 3 of them are not quite 0.3
    assert smallest_voxels(0.3, 0.1) == 3
    np.testing.assert_array_equal(parts_to_keep(mask, 3)[0][0, 1], [1, 1, 1, 0, 0, 0, 0, 0, 0])
    assert parts_to_keep(mask, smallest_voxels(0, 0.1))[0] is mask
    assert mask.sum() == 5, "the mask given must stay as it is"


def row_of_parts() -> np.ndarray:
    """Parts of 1, 3 and 2 voxels, in this order from below, and the one of 3 in two planes."""
    mask = np.zeros((5, 4, 12), np.uint8)
    mask[0, 1, 1] = 1
    mask[2, 1, 5:7] = mask[3, 2, 7] = 1
    mask[4, 0, 10:12] = 1
    return mask


def test_parts_are_numbered_from_below_and_listed_from_the_largest() -> None:
    """A report says "3 lesions, the largest of 3 voxels", and the viewer finds each by its number."""
    mask = row_of_parts()
    parts = Components(mask)
    assert parts.sizes.tolist() == [1, 3, 2]
    assert [np.unique(parts.plane(z)).tolist() for z in range(5)] == [[0, 1], [0], [0, 2], [0, 2], [0, 3]]
    assert lesions(mask).tolist() == [3, 2, 1]
    kept, sizes = parts_to_keep(mask, 2)
    assert (sizes.tolist(), kept.sum(), kept.dtype) == ([3, 2], 5, np.uint8)
    assert parts_to_keep(mask, 3)[1].tolist() == [3]
    assert parts_to_keep(mask, 4)[1].size == 0 and not parts_to_keep(mask, 4)[0].any()
    assert parts_to_keep(mask, 1)[0] is mask
    np.testing.assert_array_equal(only_parts(parts, np.array([False, True, False])), mask * (parts_of(mask) == 2))


def parts_of(mask: np.ndarray) -> np.ndarray:
    return ndimage.label(mask, ALL_26)[0]


@pytest.mark.parametrize(
    ("minimum", "voxel", "needed"),
    [(0, 2.5, 1), (2.4, 2.5, 1), (2.5, 2.5, 1), (2.6, 2.5, 2), (5, 2.5, 2), (10, 0.5, 20)],
)
def test_a_part_needs_as_many_voxels_as_fill_the_smallest_size(minimum: float, voxel: float, needed: int) -> None:
    """One voxel more would remove lesions that were to be kept; one less would keep the noise."""
    assert smallest_voxels(minimum, voxel) == needed


def test_pieces_that_touch_in_a_chain_are_one_part() -> None:
    """Whichever way round the pairs are found: 0 with 3, 3 with 1, and 2 by itself."""
    part = joined(np.array([[3, 0], [1, 3]]), 4)
    assert part[0] == part[1] == part[3] != part[2]
    assert set(part.tolist()) == {0, 1}
    assert len(joined(np.empty((0, 2), np.int64), 0)) == 0
