"""Lesion-wise detection. What a user loses otherwise: the lesion that every voxel-wise score is too coarse to miss."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from covseg_core.data.library.datasets import Case
from covseg_core.evaluation.stored_predictions.lesions import BINS, FOUND_FROM, Item, find_lesions, is_found
from covseg_core.evaluation.stored_predictions.scans import StoredScan

SIDE, SLICES = 40, 8


def scan(
    truth: np.ndarray,
    marked: np.ndarray,
    zs: tuple[int, ...] = tuple(range(SLICES)),
    stacked: bool = False,
    known: bool = True,
) -> StoredScan:
    """(n, Y, X) masks as a scan of 1 x 1 x 2 mm, predicted with certainty."""
    case = Case(
        id="case", patient="patient", stacked=stacked, scan="ct.nii", infection="mask.nii", lung=None, labels=None,
        shape=(SLICES, SIDE, SIDE), spacing=(2.0, 1.0, 1.0), spacing_known=known, orientation="RAS", scale="HU",
        infection_voxels=None, lung_voxels=None, sha256={},
    )  # fmt: skip
    whole = slice(0, SIDE)
    return StoredScan(case, zs, marked.astype(np.float16), truth.astype(bool), (whole, whole), (1.0, 1.0))


def empty() -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((SLICES, SIDE, SIDE), bool), np.zeros((SLICES, SIDE, SIDE), bool)


def test_a_lesion_is_found_from_a_tenth_of_it() -> None:
    truth, marked = empty()
    truth[2:4, 2:12, 2:12] = truth[6, 20:30, 20:30] = True
    marked[2, 2:4, 2:12] = True  # 20 of 200 voxels
    marked[6, 20, 20:29] = True  # 9 of 100
    found = find_lesions([scan(truth, marked)])
    assert [(item.covered, is_found(item)) for item in found.true] == [(FOUND_FROM, True), (0.09, False)]
    assert found.worst("missed") == [found.true[1]]
    assert found.true[0] == Item("case", 2, 400.0, FOUND_FROM, (2, 11, 2, 11))
    assert (found.true[1].z, found.true[1].box) == (6, (20, 29, 20, 29)), "where the picture is taken"
    assert not found.false


def test_what_covers_no_true_voxel_is_a_false_alarm() -> None:
    truth, marked = empty()
    truth[2, 2:12, 2:12] = True
    marked[2, 11:20, 2:12] = True  # reaches well beyond a lesion, but hits it
    marked[5:7, 30:34, 30:36] = marked[7, 2, 2] = True
    found = find_lesions([scan(truth, marked)])
    assert [(item.z, item.size, item.box) for item in found.worst("false")] == [
        (5, 96.0, (30, 33, 30, 35)),
        (7, 2.0, (2, 2, 2, 2)),
    ]


def test_parts_that_touch_at_a_corner_of_neighbouring_slices_are_one_lesion_unless_slices_are_unrelated() -> None:
    truth, marked = empty()
    truth[2, 2:6, 2:6] = truth[3, 6:10, 6:10] = True
    assert [item.size for item in find_lesions([scan(truth, marked)]).true] == [64.0]
    assert len(find_lesions([scan(truth, marked, stacked=True)]).true) == 2
    assert len(find_lesions([scan(truth, marked, zs=(0, 1, 2, 4, 5, 6, 7, 9))]).true) == 2, "a slice is missing between"


def test_classes_add_up_and_units_follow_what_is_known() -> None:
    random = np.random.default_rng(0)
    noise = ndimage.gaussian_filter(random.normal(size=(2, SLICES, SIDE, SIDE)), (0, 0.8, 1.5, 1.5))
    truth, marked = noise > 0.09
    found = find_lesions([scan(truth, marked), scan(marked, truth)])
    assert (found.unit, found.scans) == ("mm3", 2)
    *classes, total = found.classes()
    assert [one.low for one in classes] == list(BINS["mm3"])
    for name in ("lesions", "found", "missed", "false"):
        assert sum(getattr(one, name) for one in classes) == getattr(total, name)
    assert total.lesions == len(found.true) > 20 and total.false and total.missed and total.found
    voxels = find_lesions([scan(truth, marked, known=False), scan(marked, truth)])
    assert voxels.unit == "voxels"
    assert [item.size * 2 for item in voxels.true] == [item.size for item in found.true]


def test_counts_are_those_of_a_slow_obvious_search() -> None:
    """Lesion by lesion over the whole grid, without boxes."""
    random = np.random.default_rng(1)
    truth, marked = ndimage.gaussian_filter(random.normal(size=(2, SLICES, SIDE, SIDE)), (0, 0.8, 1.5, 1.5)) > 0.1
    labels, number = ndimage.label(truth, np.ones((3, 3, 3)))
    expected = []
    for part in range(1, number + 1):
        lesion = labels == part
        z = int(np.argmax(lesion.sum(axis=(1, 2))))
        rows, columns = np.nonzero(lesion[z])
        box = (rows.min(), rows.max(), columns.min(), columns.max())
        expected.append(Item("case", z, lesion.sum() * 2.0, (lesion & marked).sum() / lesion.sum(), box))
    found = find_lesions([scan(truth, marked)])
    assert list(found.true) == expected
    labels, number = ndimage.label(marked, np.ones((3, 3, 3)))
    assert len(found.false) == sum(not (truth & (labels == part)).any() for part in range(1, number + 1))


def test_a_mask_that_is_a_little_too_wide_is_a_boundary_error_and_one_beside_it_is_not() -> None:
    truth, marked = empty()
    truth[1:4, 10:20, 10:20] = True
    marked[1, 8:22, 8:22] = True  # two pixels too wide
    marked[2, 10:20, 10:20] = marked[2, 25:38, 2:38] = True  # right, and much else
    marked[3, 10:20, 10:20] = True  # right
    marked[5, 2:4, 2:4] = True  # nothing is there
    found = find_lesions([scan(truth, marked)])
    assert [(item.z, item.size, item.box) for item in found.worst("boundary")] == [
        (1, 2.0 * (14**2 - 100), (8, 21, 8, 21))
    ]
    marked[1, 5:25, 5:25] = True  # five pixels too wide: most is beyond the border's two pixels
    assert not find_lesions([scan(truth, marked)]).boundary


def test_small_lesions_are_a_class_of_their_own_least_covered_first() -> None:
    truth, marked = empty()
    truth[1, 2:8, 2:8] = truth[3, 20:26, 20:26] = truth[5, 2:8, 30:36] = truth[6, 10:30, 10:30] = True
    marked[1, 2:4, 2:8] = marked[5, 2:8, 30:36] = True
    found = find_lesions([scan(truth, marked)])
    assert [(item.z, item.covered) for item in found.worst("small")] == [(3, 0.0), (1, pytest.approx(1 / 3))]
    assert [item.z for item in found.worst("missed")] == [6], "a small one is not listed twice"


def test_the_threshold_is_that_of_the_probabilities() -> None:
    truth, _ = empty()
    truth[2, 2:12, 2:12] = True
    soft = scan(truth, truth * 0.4)
    assert not is_found(find_lesions([soft]).true[0])
    assert is_found(find_lesions([soft], 0.35).true[0])


def test_nothing_there_and_nothing_marked_is_no_error() -> None:
    found = find_lesions([scan(*empty())])
    assert not (found.true or found.false or found.boundary)
    assert found.classes()[-1].lesions == 0
