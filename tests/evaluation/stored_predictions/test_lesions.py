"""Lesion-wise detection. What a user loses otherwise: the lesion that every voxel-wise score is too coarse to miss."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import ndimage

from covseg_core.data.library.datasets import Case
from covseg_core.evaluation.stored_predictions.lesions import BINS, FOUND_FROM, Item, Lesions, find_lesions, is_found
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


def item(size: float, covered: float | None = None, z: int = 0) -> Item:
    return Item("case", z, size, covered, (0, 0, 0, 0))


@pytest.mark.parametrize(
    ("unit", "edges"), [("mm3", (0, 100, 1000, 10_000, None)), ("voxels", (0, 50, 500, 5000, None))]
)
def test_a_lesion_of_exactly_a_class_s_lower_end_is_in_it(unit, edges) -> None:
    """The table's rows say "100 to 1000": a lesion counted in two of them, or in none, makes the sum wrong."""
    sizes = [0.5, *(size for edge in edges[1:-1] for size in (edge - 1, edge))]
    lesions = Lesions(unit, 1, tuple(item(size, 1.0) for size in sizes), tuple(map(item, sizes)), ())
    *classes, total = lesions.classes()
    assert [(one.low, one.high) for one in classes] == list(itertools.pairwise(edges))
    # half a unit and 99; 100 and 999; 1000 and 9999; 10000 alone
    assert [(one.lesions, one.found, one.false) for one in classes] == [(2, 2, 2), (2, 2, 2), (2, 2, 2), (1, 1, 1)]
    assert (total.low, total.high, total.lesions, total.false) == (0, None, 7, 7), "the smallest count as well"


def test_what_is_not_found_is_missed() -> None:
    lesions = Lesions("mm3", 1, (item(10, 0.0), item(20, 0.09), item(30, 0.1), item(400, 0.9)), (item(10),), ())
    found = [(one.lesions, one.found, one.missed, one.false) for one in lesions.classes()]
    assert found == [(3, 1, 2, 1), (1, 1, 0, 0), (0, 0, 0, 0), (0, 0, 0, 0), (4, 2, 2, 1)]


def test_a_lesion_at_the_edge_of_small_is_listed_once() -> None:
    """Missed and small are two lists of pictures: what is in neither is never looked at."""
    lesions = Lesions("mm3", 1, (item(99, 0.0, 1), item(100, 0.0, 2), item(101, 0.0, 3)), (), ())
    assert [one.z for one in lesions.worst("missed")] == [3, 2]
    assert [one.z for one in lesions.worst("small")] == [1]


def test_small_lesions_half_covered_are_fine_and_of_equals_the_larger_comes_first() -> None:
    small = (item(10, 0.2, 1), item(40, 0.2, 2), item(20, 0.49, 3), item(20, 0.5, 4), item(20, 0.0, 5))
    assert [one.z for one in Lesions("mm3", 1, small, (), ()).worst("small")] == [5, 2, 1, 3]


def test_a_pixel_of_exactly_the_threshold_is_marked() -> None:
    """As in predicted masks: otherwise lesions would be counted on another mask than the one that is shown."""
    truth, _ = empty()
    truth[2, 2:12, 2:12] = True
    assert is_found(find_lesions([scan(truth, truth * 0.25)], 0.25).true[0])


def test_every_scan_counts() -> None:
    """With more than one scan in the test, none may push the others' false alarms out of the lists."""
    truth, marked = empty()
    truth[1, 10:20, 10:20] = marked[1, 9:21, 9:21] = marked[5, 30:34, 30:34] = True
    found = find_lesions([scan(truth, marked), scan(truth, marked), scan(*empty())])
    assert (len(found.true), len(found.false), len(found.boundary), found.scans) == (2, 2, 2, 3)
    assert {one.case for one in (*found.true, *found.false, *found.boundary)} == {"case"}


def test_a_single_slice_of_a_scan_has_lesions() -> None:
    """Splits by slice test single slices of a scan."""
    truth, marked = empty()
    truth[0, 2:6, 2:6] = marked[0, 2:6, 2:6] = marked[0, 20:22, 20:22] = True
    found = find_lesions([scan(truth[:1], marked[:1], zs=(5,))])
    assert [(one.z, one.covered) for one in found.true] == [(5, 1.0)]
    assert [(one.z, one.size) for one in found.false] == [(5, 8.0)]


@pytest.mark.parametrize(
    ("row", "column", "near"),
    [
        (8, 15, True),  # two pixels outside the square's edge
        (7, 15, False),
        (9, 9, True),  # one step over the corner, each way
        (9, 8, False),  # one and two: 2.2 pixels from the corner
        (8, 9, False),
        (8, 8, False),
        (8, 21, False),
        (21, 8, False),
        (21, 21, False),
        (21, 14, True),  # the same on the other sides
        (15, 8, True),
        (14, 21, True),
        (11, 15, True),  # the second pixel inside
        (15, 18, True),
        (12, 15, False),
        (15, 17, False),
    ],
)
def test_the_boundary_is_two_pixels_wide_on_either_side(row: int, column: int, near: bool) -> None:
    """A radiologist's own outlines differ by as much: what lies further off is a mistake of another kind."""
    truth, _ = empty()
    truth[3, 10:20, 10:20] = True
    marked = truth.copy()
    marked[3, row, column] ^= True
    assert bool(find_lesions([scan(truth, marked)]).boundary) == near


def test_half_of_what_is_wrong_on_the_border_makes_a_boundary_error() -> None:
    truth, _ = empty()
    truth[3:6, 10:20, 10:20] = True
    marked = truth.copy()
    marked[3, 9, 15] = marked[3, 2:4, 15] = True  # one near, two far
    marked[4, 9, 15] = marked[4, 2, 15] = True  # one near, one far
    marked[5, 9, 15] = True
    found = find_lesions([scan(truth, marked)])
    pixel = (9, 9, 15, 15)
    assert [(one.z, one.size, one.box) for one in found.boundary] == [(4, 4.0, pixel), (5, 2.0, pixel)]


def test_a_mark_beside_a_lesion_is_no_boundary_error() -> None:
    """The lesion was missed, and what is beside it is a false alarm; a third picture would belittle both."""
    truth, marked = empty()
    truth[3, 10:12, 10:12] = marked[3, 10:12, 12:14] = True
    found = find_lesions([scan(truth, marked)])
    assert (len(found.true), len(found.false), len(found.boundary)) == (1, 1, 0)
