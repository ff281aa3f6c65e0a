"""Connected parts. What a user loses otherwise: a wrong number of lesions, or a lesion that was filtered out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from covseg_core.prediction.masks.components import Components, lesions, remove_small, smallest_voxels

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
    np.testing.assert_array_equal(remove_small(mask, 0.5, 2.0), kept & (mask > 0))


def test_parts_lie_where_the_mask_has_them() -> None:
    """Only the box around the mask is numbered."""
    mask = np.zeros((7, 9, 11), np.uint8)
    mask[2:4, 3, 4] = mask[4, 6, 8] = 1
    parts = Components(mask)
    np.testing.assert_array_equal(parts.sizes, [2, 1])
    np.testing.assert_array_equal(np.stack([parts.plane(z) for z in range(7)]), ndimage.label(mask, ALL_26)[0])
    np.testing.assert_array_equal(np.argwhere(remove_small(mask, 1.0, 2.0)), [[2, 3, 4], [3, 3, 4]])


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
    assert remove_small(mask, 1.0, 10.0) is mask


def test_a_part_of_exactly_the_smallest_size_stays() -> None:
    mask = np.zeros((1, 3, 9), np.uint8)
    mask[0, 1, :3] = mask[0, 1, 5:7] = 1
    # a voxel of 0.1 mm3: in binary, 3 of them are not quite 0.3
    assert smallest_voxels(0.3, 0.1) == 3
    np.testing.assert_array_equal(remove_small(mask, 0.1, 0.3)[0, 1], [1, 1, 1, 0, 0, 0, 0, 0, 0])
    assert remove_small(mask, 0.1, 0.0) is mask
    assert mask.sum() == 5, "the mask given must stay as it is"
