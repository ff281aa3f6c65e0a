"""Boxes around masks."""

from __future__ import annotations

import numpy as np

from covseg_core.data.slices.boxes import bounding_box


def test_the_box_around_a_mask_holds_its_outermost_voxels() -> None:
    """A row less, and every surface and every picture would be cut."""
    mask = np.zeros((5, 6, 7), bool)
    mask[1, 2, 6] = mask[3, 5, 4] = True
    assert bounding_box(mask) == (slice(1, 4), slice(2, 6), slice(4, 7))
    assert bounding_box(np.ones((1, 2), np.uint8)) == (slice(0, 1), slice(0, 2))


def test_a_rim_widens_each_axis_by_its_own_and_never_begins_below_the_first_voxel() -> None:
    """A negative start would count from the end, and the box would be empty."""
    mask = np.zeros((5, 6), bool)
    mask[1, 3] = True
    assert bounding_box(mask, (2, 1)) == (slice(0, 4), slice(2, 5))
