"""What is left out beyond the chest must never be a lesion in it; what is on the table must not stay."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy import ndimage

from covseg_core.prediction.masks.chest import leave_out_beyond


def _lungs() -> np.ndarray:
    """Two boxes in slices 4 to 11 of 16; right and left, as two values."""
    lungs = np.zeros((16, 64, 64), np.uint8)
    lungs[4:12, 20:44, 12:26] = 1
    lungs[4:12, 20:44, 38:52] = 2
    return lungs


def test_what_lies_in_and_between_the_lungs_stays():
    """A consolidated lobe is often missing in the lung mask."""
    lungs = _lungs()
    mask = np.zeros_like(lungs)
    mask[6, 22:40, 14:50] = 1
    lungs[6, 22:40, 40:50] = 0
    kept, out = leave_out_beyond(mask, lungs, (5.0, 2.0, 2.0))
    assert kept is mask
    assert out == 0


@pytest.mark.parametrize("spacing", [(5.0, 2.0, 2.0), None])
def test_the_table_is_left_out(spacing):
    mask = np.zeros((16, 64, 64), np.uint8)
    mask[6, 2:4, 10:50] = 1
    mask[6, 30, 20] = 1
    before = mask.copy()
    kept, out = leave_out_beyond(mask, _lungs(), spacing)
    assert out == 80
    assert kept.sum() == 1
    assert kept[6, 30, 20] == 1
    assert np.array_equal(mask, before), "the caller's mask was changed"


def test_the_rim_is_measured_in_millimetres():
    mask = np.zeros((16, 64, 64), np.uint8)
    mask[6, 32, 52:60] = 1  # the lung ends at 51
    kept, _ = leave_out_beyond(mask, _lungs(), (5.0, 2.0, 2.0))
    assert kept[6, 32, 52:60].tolist() == [1] * 5 + [0] * 3
    kept, _ = leave_out_beyond(mask, _lungs(), (5.0, 2.0, 5.0))
    assert kept[6, 32, 52:60].tolist() == [1] * 2 + [0] * 6


def test_slices_beyond_the_lungs_count_as_far_as_the_reach():
    mask = np.zeros((16, 64, 64), np.uint8)
    mask[:, 30, 20] = 1
    kept, out = leave_out_beyond(mask, _lungs(), (10.0, 2.0, 2.0))
    assert np.flatnonzero(kept[:, 30, 20]).tolist() == list(range(2, 14))
    assert out == 4


def test_without_lungs_nothing_is_left_out():
    """Then the lung model has failed, and its word counts for nothing."""
    mask = np.ones((3, 16, 16), np.uint8)
    kept, out = leave_out_beyond(mask, np.zeros_like(mask), None)
    assert kept is mask
    assert out == 0


def test_it_is_what_the_hull_of_all_lung_pixels_gives():
    """Against the slow obvious form: a hull that is a pixel off would cut lesions at its edge."""
    random = np.random.default_rng(0)
    cut = 0
    for _ in range(60):
        shape = (3, *random.integers(8, 60, 2))
        noise = ndimage.gaussian_filter(random.normal(size=shape), (0, 3, 3))
        lungs = (noise > np.quantile(noise, random.choice([0.5, 0.9, 0.98]))).astype(np.uint8)
        mask = (random.random(shape) < random.choice([0.02, 0.4])).astype(np.uint8)
        element = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 11))
        expected = np.zeros_like(mask)
        for z in range(3):
            around = np.zeros(shape[1:], np.uint8)
            points = cv2.findNonZero(lungs[max(0, z - 1) : z + 2].max(axis=0))
            if points is not None:
                cv2.fillConvexPoly(around, cv2.convexHull(points), 1)
            expected[z] = mask[z] & cv2.dilate(around, element)
        kept, out = leave_out_beyond(mask, lungs, (20.0, 2.0, 2.5))  # 1 slice up and down, 5 rows, 4 columns
        np.testing.assert_array_equal(kept, expected)
        assert out == mask.sum() - expected.sum()
        cut += out > 0
    assert cut > 10
