"""Right and left lung. What a user loses otherwise: shares of the wrong lung, or infection in the bowel unseen."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from covseg_core.data.reading.volumes import load_mask, load_scan
from covseg_core.data.slices.intensity import detect_scale
from covseg_core.prediction.masks.components import Components
from covseg_core.prediction.masks.lung_sides import (
    LEFT,
    RIGHT,
    _seams,
    body_middle,
    clean_lungs,
    measure_lungs,
    split_lungs,
)

SHAPE = (6, 40, 80)
RIGHT_LUNG, LEFT_LUNG = np.s_[:, 5:35, 44:75], np.s_[:, 5:35, 5:36]
"""x grows to the patient's right."""
MODEL = ("lung", "0" * 64)


def lungs(*parts) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    for part in parts:
        mask[part] = 1
    return mask


def sides(mask: np.ndarray, middle: float = 39.5) -> np.ndarray:
    return split_lungs(mask, middle)


def test_two_lungs_are_the_right_and_the_left() -> None:
    found = sides(lungs(RIGHT_LUNG, LEFT_LUNG))
    assert set(np.unique(found[RIGHT_LUNG])) == {RIGHT}
    assert set(np.unique(found[LEFT_LUNG])) == {LEFT}
    assert np.count_nonzero(found) == found[RIGHT_LUNG].size + found[LEFT_LUNG].size


def test_lungs_that_touch_are_cut_where_they_touch() -> None:
    """In front of the heart, where only a thin layer parts them."""
    bridge = np.s_[2:4, 30:34, 36:44]
    found = sides(lungs(RIGHT_LUNG, LEFT_LUNG, bridge))
    assert (found[RIGHT_LUNG] == RIGHT).all()
    assert (found[LEFT_LUNG] == LEFT).all()
    assert set(np.unique(found[bridge])) == {RIGHT, LEFT}


def test_the_cut_follows_a_junction_that_leans() -> None:
    """It moves by a column a row; a straight cut would give a corner of each lung to the other."""
    mask = lungs(RIGHT_LUNG, LEFT_LUNG, np.s_[:, 5:35, 36:44])
    for row in range(5, 35):
        mask[:, row, 28 + row // 2 + 4] = 0
    mask[:, 20:22, 30:50] = 1  # they touch here
    found = sides(mask)
    gaps = [28 + row // 2 + 4 for row in range(5, 35)]
    for row, gap in zip(range(5, 35), gaps, strict=True):
        if row not in (20, 21):
            assert (found[:, row, gap + 1 : 75] == RIGHT).all()
            assert (found[:, row, 5:gap] == LEFT).all()


@pytest.mark.parametrize(("part", "side"), [(RIGHT_LUNG, RIGHT), (LEFT_LUNG, LEFT)])
def test_one_lung_alone_is_not_cut(part, side: int) -> None:
    """After the other was removed; the body tells which it is."""
    assert set(np.unique(sides(lungs(part))[part])) == {side}


def test_a_lung_that_fills_the_middle_is_one() -> None:
    """There is no gap that a cut could follow."""
    part = np.s_[:, 5:35, 20:66]
    found = sides(lungs(part))
    assert len(np.unique(found[part])) == 1


def test_a_shifted_middle_costs_a_lung_nothing() -> None:
    """Hearts shift the body's middle: parts go by where most of them lies."""
    for middle in (34.0, 45.0):
        found = sides(lungs(RIGHT_LUNG, LEFT_LUNG), middle)
        assert (found[RIGHT_LUNG] == RIGHT).all()
        assert (found[LEFT_LUNG] == LEFT).all()


def test_no_lung_has_no_sides() -> None:
    found = sides(lungs())
    assert not found.any()
    report = measure_lungs(found, lungs(np.s_[0, 0, :3]), (5, 1, 1), 0.005, MODEL, None)
    assert (report.both.voxels, report.both.share, report.right.share) == (0, None, None)
    assert (report.outside_voxels, report.outside_share) == (3, 1.0)
    assert "no lungs" in report.warnings[0]


def test_specks_are_no_lung() -> None:
    speck = np.s_[0, 0, 0:5]
    mask = lungs(RIGHT_LUNG, LEFT_LUNG, speck)
    assert not clean_lungs(mask)[speck].any()
    assert clean_lungs(mask).sum() == mask.sum() - 5
    assert not clean_lungs(lungs()).any()


def test_the_middle_is_the_bodys_whatever_lungs_there_are() -> None:
    voxels = np.full(SHAPE, -1000, np.int16)
    voxels[:, 2:38, 20:76] = 40
    voxels[:, 8:32, 50:68] = -850
    mask = (voxels == -850).astype(np.uint8)
    assert 45 <= body_middle(voxels, "HU", mask) <= 50
    missed = np.zeros_like(mask)
    missed[2, 20, 60] = 1
    assert 45 <= body_middle(voxels, "HU", missed) <= 50, "a lung that the model did not find is body all the same"
    assert body_middle(voxels, "HU", np.zeros_like(mask)) == 39.5


def test_shares_by_hand() -> None:
    """Voxels of 2 x 1 x 1 mm: 40 of infection in the right lung, 20 in the left, 12 far outside."""
    mask = lungs(RIGHT_LUNG, LEFT_LUNG)
    infection = lungs(np.s_[2, 10:14, 50:60], np.s_[3:5, 20, 10:20], np.s_[0, 0:2, 37:43])
    mask[0] = 0
    infection[0] = 0
    infection[5, 36:40, 77:80] = 1  # 2 to 5 mm from the lung: an edge that two models see differently
    report = measure_lungs(sides(mask), infection, (2.0, 1.0, 1.0), 0.002, MODEL, "lung_mask.nii.gz")
    n = 5 * 30 * 31
    assert (report.right.voxels, report.left.voxels, report.both.voxels) == (n, n, 2 * n)
    assert (report.right.infection_voxels, report.left.infection_voxels) == (40, 20)
    assert report.right.share == pytest.approx(40 / n)
    assert report.both.share == pytest.approx(60 / (2 * n))
    assert report.right.volume_ml == pytest.approx(n * 0.002)
    assert report.both.infection_ml == pytest.approx(0.12)
    assert report.tolerance_mm == 5.0
    corner = [(y, x) for y in range(36, 40) for x in range(77, 80) if (y - 34) ** 2 + (x - 74) ** 2 > 25]
    assert report.outside_voxels == len(corner) > 0


def test_infection_far_outside_is_flagged() -> None:
    mask = lungs(RIGHT_LUNG)
    infection = lungs(np.s_[2, 10:14, 50:60], np.s_[2, 10:14, 5:15])
    report = measure_lungs(sides(mask), infection, (5.0, 1.0, 1.0), 0.005, MODEL, None)
    assert (report.outside_voxels, report.outside_share) == (40, 0.5)
    assert "50% of the infection" in report.warnings[0]
    inside = measure_lungs(sides(mask), lungs(np.s_[2, 10:14, 50:60]), (5.0, 1.0, 1.0), 0.005, MODEL, None)
    assert inside.warnings == ()


def test_the_tolerance_reaches_to_slices_above_and_below_in_mm() -> None:
    """Under the dome of the diaphragm, a slice below the lung is beside it."""
    mask = lungs(np.s_[3:, 5:35, 44:75])
    infection = lungs(np.s_[2, 10:14, 50:60])
    near = measure_lungs(sides(mask), infection, (4.0, 1.0, 1.0), 0.004, MODEL, None)
    far = measure_lungs(sides(mask), infection, (8.0, 1.0, 1.0), 0.008, MODEL, None)
    assert (near.outside_voxels, far.outside_voxels) == (0, 40)


def test_without_spacing_there_are_shares_and_no_ml() -> None:
    report = measure_lungs(sides(lungs(RIGHT_LUNG)), lungs(np.s_[2, 10:14, 50:60]), None, None, MODEL, None)
    assert report.right.share == pytest.approx(40 / (6 * 30 * 31))
    assert (report.right.volume_ml, report.both.infection_ml, report.outside_ml) == (None, None, None)
    assert report.tolerance_mm is None


@pytest.mark.parametrize("case", ["coronacases_003", "radiopaedia_10_85902_3"])
def test_real_lungs_that_are_made_to_touch_are_parted_as_before(real_data: Path, case: str) -> None:
    """Their masks are two parts, so who is who is known; grown until they touch, they are one."""
    folder = real_data / "ct20" / case
    scan, apart = load_scan(folder / "ct.nii.gz"), load_mask(folder / "lung_mask.nii.gz").voxels
    middle = body_middle(scan.voxels, detect_scale(scan.voxels), apart)
    known = split_lungs(apart, middle)
    assert set(np.unique(known)) == {0, RIGHT, LEFT}
    for width in range(5, 41, 4):
        grown = np.stack([cv2.dilate(plane, np.ones((5, width), np.uint8)) for plane in apart])
        parts = Components(grown).sizes
        if parts.max() > 0.9 * parts.sum():
            break
    else:
        pytest.fail("they never touch: the test tests nothing")
    found = split_lungs(grown, middle)
    wrong = np.count_nonzero((found != known) & (known > 0)) / np.count_nonzero(known)
    assert wrong < 0.01


def test_the_lobes_of_a_real_scan_lie_on_their_sides(real_data: Path) -> None:
    """Named right and left by somebody else, and stored in an orientation of their own."""
    folder = real_data / "dicom" / "gstt_covid_20_lung_lobes"
    lobes = {path.name: load_mask(path).voxels for path in sorted(folder.glob("*.nii.gz"))}
    right, left = (sum(mask for name, mask in lobes.items() if side in name) for side in ("right", "left"))
    both = np.asarray((right + left) > 0, np.uint8)
    found = split_lungs(both, (np.flatnonzero(both.any(axis=(0, 1)))[[0, -1]]).mean())
    assert np.mean(found[right > 0] == RIGHT) > 0.99
    assert np.mean(found[left > 0] == LEFT) > 0.99


def test_a_seam_is_the_cheapest_way() -> None:
    """Slices of different heights are cut together; each has to be cut as if it were alone."""
    random = np.random.default_rng(0)
    costs = [random.integers(0, 4, (rows, 7)).astype(float) for rows in (1, 2, 5, 9, 5, *range(1, 40))]
    for cost, seam in zip(costs, _seams(costs), strict=True):
        assert len(seam) == len(cost)
        assert np.abs(np.diff(seam)).max(initial=0) <= 2
        least = cost[0]
        for row in cost[1:]:
            near = np.abs(np.arange(7)[:, None] - np.arange(7)) <= 2
            least = np.where(near, least, np.inf).min(axis=1) + row
        assert cost[np.arange(len(cost)), seam].sum() == least.min()
    assert _seams([]) == []
