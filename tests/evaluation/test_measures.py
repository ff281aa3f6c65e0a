"""Measures. What a user loses otherwise: the right to believe any number in any table."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from skimage.metrics import hausdorff_distance

from covseg_core.config import METRICS, THESIS
from covseg_core.errors import SettingError
from covseg_core.evaluation.measures import (
    MEASURES,
    TOLERANCE,
    Counts,
    count,
    diagonal,
    overlap,
    surface,
    surface_distances,
    surface_measures,
)

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "reference" / "metrics.md"

masks = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=6))
pairs = hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=6).flatmap(
    lambda shape: st.tuples(hnp.arrays(bool, shape), hnp.arrays(bool, shape))
)
spacings = st.tuples(*[st.sampled_from([0.5, 0.7, 1.0, 5.0])] * 3)


def brute_surface(mask: np.ndarray) -> list[tuple[int, ...]]:
    """Foreground voxels with a background neighbour across a face, one voxel at a time."""
    found = []
    for index in np.argwhere(mask):
        for axis, side in itertools.product(range(mask.ndim), (-1, 1)):
            neighbour = index.copy()
            neighbour[axis] += side
            outside = not 0 <= neighbour[axis] < mask.shape[axis]
            if outside or not mask[tuple(neighbour)]:
                found.append(tuple(index.tolist()))
                break
    return found


def brute_distances(truth: np.ndarray, prediction: np.ndarray, spacing: tuple[float, ...]) -> list[np.ndarray]:
    """Every surface voxel against every other, both ways."""
    a, b = (np.array(brute_surface(mask)) * spacing for mask in (truth, prediction))
    table = np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1))
    return [table.min(1), table.min(0)]


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        ([[1, 1], [0, 0]], {"accuracy": 1, "iou": 1, "dice": 1, "mean_iou": 1, "sensitivity": 1, "precision": 1}),
        ([[1, 0], [0, 0]], {"accuracy": 0.75, "iou": 1 / 2, "dice": 2 / 3, "mean_iou": (1 / 2 + 2 / 3) / 2}),
        ([[1, 0], [1, 0]], {"accuracy": 0.5, "iou": 1 / 3, "dice": 0.5, "sensitivity": 0.5, "specificity": 0.5}),
        ([[0, 1], [0, 1]], {"accuracy": 0.5, "mean_iou": 1 / 3, "specificity": 0.5, "precision": 0.5}),
        ([[1, 1], [1, 1]], {"accuracy": 0.5, "iou": 0.5, "dice": 2 / 3, "precision": 0.5, "specificity": 0}),
        ([[0, 0], [1, 1]], {"accuracy": 0, "iou": 0, "dice": 0, "mean_iou": 0, "sensitivity": 0, "precision": 0}),
        ([[0, 0], [0, 0]], {"accuracy": 0.5, "iou": 0, "dice": 0, "mean_iou": 0.25, "precision": 0, "specificity": 1}),
    ],
)
def test_overlap_worked_by_hand(prediction: list[list[int]], expected: dict[str, float]) -> None:
    found = overlap(count(np.array([[1, 1], [0, 0]]), np.array(prediction)))
    assert {name: found[name] for name in expected} == pytest.approx(expected)


@settings(deadline=None)
@given(pairs)
def test_overlap_is_what_its_formula_says_on_sets(pair: tuple[np.ndarray, np.ndarray]) -> None:
    truth, prediction = ({tuple(index) for index in np.argwhere(mask).tolist()} for mask in pair)
    found = overlap(count(*pair), "one")
    union = truth | prediction
    assert found["iou"] == pytest.approx(len(truth & prediction) / len(union) if union else 1)
    total = len(truth) + len(prediction)
    assert found["dice"] == pytest.approx(2 * len(truth & prediction) / total if total else 1)
    assert found["accuracy"] == pytest.approx(np.mean(pair[0] == pair[1]))
    assert found["sensitivity"] == pytest.approx(len(truth & prediction) / len(truth) if truth else 1)


@settings(deadline=None)
@given(pairs)
def test_iou_follows_from_dice_and_overlap_is_symmetric(pair: tuple[np.ndarray, np.ndarray]) -> None:
    found, swapped = overlap(count(*pair)), overlap(count(*pair[::-1]))
    inverted = overlap(count(~pair[0], ~pair[1]))
    assert found["iou"] == pytest.approx(found["dice"] / (2 - found["dice"]), nan_ok=True)
    for name in ("accuracy", "iou", "dice", "mean_iou"):
        assert found[name] == pytest.approx(swapped[name], nan_ok=True)
    assert found["mean_iou"] == pytest.approx((found["iou"] + inverted["iou"]) / 2, nan_ok=True)
    assert found["specificity"] == pytest.approx(inverted["sensitivity"], nan_ok=True)


@settings(deadline=None)
@given(pairs)
def test_pooled_counts_are_those_of_the_whole(pair: tuple[np.ndarray, np.ndarray]) -> None:
    assert sum((count(a, b) for a, b in zip(*pair, strict=True)), Counts()) == count(*pair)


def test_only_two_empty_masks_depend_on_the_policy() -> None:
    empty = Counts(tn=9)
    for name in ("iou", "dice", "mean_iou", "sensitivity", "precision"):
        assert np.isnan(overlap(empty, "nan")[name])
        assert overlap(empty, "one")[name] == 1
    for policy in ("nan", "one"):
        missed, invented = overlap(Counts(fn=1, tn=8), policy), overlap(Counts(fp=1, tn=8), policy)
        for name in ("iou", "dice", "precision"):
            assert missed[name] == invented[name] == 0, "an error is never left out of a mean"
        assert missed["sensitivity"] == 0
    with pytest.raises(SettingError, match=r"^policy: 'zero'; expected nan or one$"):
        overlap(empty, "zero")  # type: ignore[arg-type]


@settings(deadline=None)
@given(masks)
def test_surface_is_that_of_the_definition_and_of_scipy(mask: np.ndarray) -> None:
    assert sorted(map(tuple, np.argwhere(surface(mask)).tolist())) == sorted(brute_surface(mask))
    np.testing.assert_array_equal(surface(mask), mask & ~ndimage.binary_erosion(mask))


@settings(deadline=None)
@given(pairs.filter(lambda pair: pair[0].any() and pair[1].any()), spacings)
def test_surface_measures_against_every_pair_of_surface_voxels(
    pair: tuple[np.ndarray, np.ndarray], spacing: tuple[float, ...]
) -> None:
    spacing = spacing[: pair[0].ndim]
    forth, back = brute_distances(*pair, spacing)
    found = surface_measures(*pair, spacing, tolerance=1.0)
    assert found["hd95"] == pytest.approx(max(np.percentile(forth, 95), np.percentile(back, 95)))
    assert found["nsd"] == pytest.approx(np.mean(np.concatenate([forth, back]) <= 1.0 + 1e-9))
    assert surface_measures(*pair[::-1], spacing, tolerance=1.0) == pytest.approx(found)
    assert found["hd95"] < diagonal(pair[0].shape, spacing)


def test_surface_distances_of_a_scan_sized_pair_against_distance_transforms() -> None:
    z, y, x = np.ogrid[:20, :60, :70]
    truth = ((z - 9) / 8) ** 2 + ((y - 30) / 20) ** 2 + ((x - 30) / 25) ** 2 < 1
    prediction = np.roll(truth, (1, 4, -3), (0, 1, 2)) | ((abs(z - 3) < 2) & (abs(y - 55) < 3) & (abs(x - 64) < 3))
    spacing = (5.0, 0.7, 0.7)
    for found, source, other in zip(
        surface_distances(truth, prediction, spacing), (truth, prediction), (prediction, truth), strict=True
    ):
        to_other = ndimage.distance_transform_edt(~surface(other), spacing)
        np.testing.assert_allclose(found, to_other[surface(source)])
    pooled = np.percentile(np.concatenate(surface_distances(truth, prediction, spacing)), 95)
    assert pooled < surface_measures(truth, prediction, spacing)["hd95"], "MedPy's variant, as the page on metrics says"
    largest = max(distances.max() for distances in surface_distances(truth, prediction, (1, 1, 1)))
    assert largest == pytest.approx(hausdorff_distance(surface(truth), surface(prediction)))


@settings(deadline=None)
@given(pairs, spacings, st.integers(1, 3))
def test_surface_measures_do_not_depend_on_the_empty_space_around(
    pair: tuple[np.ndarray, np.ndarray], spacing: tuple[float, ...], margin: int
) -> None:
    if pair[0].any() and pair[1].any():
        padded = [np.pad(mask, margin) for mask in pair]
        spacing = spacing[: pair[0].ndim]
        assert surface_measures(*padded, spacing) == pytest.approx(surface_measures(*pair, spacing))


def test_hd95_is_in_millimetres_of_the_right_axis() -> None:
    truth, prediction = np.zeros((2, 8, 8, 8), bool)
    truth[2, 2, 2] = True
    prediction[4, 2, 2] = True
    assert surface_measures(truth, prediction, (5.0, 0.7, 0.7)) == {"hd95": 10.0, "nsd": 0.0}
    prediction = np.moveaxis(prediction, 0, 2)
    assert surface_measures(truth, prediction, (5.0, 0.7, 0.7)) == {"hd95": pytest.approx(1.4), "nsd": 1.0}


def test_distance_of_exactly_the_tolerance_counts_as_near() -> None:
    truth, prediction = np.zeros((2, 1, 40), bool)
    truth[0, 0] = prediction[0, 30] = True
    assert surface_measures(truth, prediction, (1.0, 0.1))["nsd"] == 1, "30 times 0.1 mm is 3 mm"


@pytest.mark.parametrize(
    ("millimetres", "near"), [(2.9, True), (3.0, True), (3.0001, False), (3.1, False), (6.0, False)]
)
def test_beyond_the_tolerance_is_far_however_little(millimetres: float, near: bool) -> None:
    """The allowance is for the last binary digit, not for a rim of voxels: that would flatter every model alike."""
    truth, prediction = np.zeros((2, 1, 40), bool)
    truth[0, 0] = prediction[0, 30] = True
    assert surface_measures(truth, prediction, (1.0, millimetres / 30))["nsd"] == near
    assert MEASURES["nsd"].label == f"NSD (tolerance {TOLERANCE:g})", "the tables say which tolerance it is"


def test_hd95_worked_by_hand() -> None:
    """21 voxels in a row, and in the prediction the last two 8 and 10 voxels off: 5 % of 21 is the last one."""
    truth, prediction = np.zeros((2, 21, 20), bool)
    truth[:, 0] = True
    prediction[:19, 0] = True
    prediction[19, 8] = prediction[20, 10] = True
    # from the prediction: 19 zeros, 8, 10, of which number 0.95 * 20 = 19 counting from 0. From the truth: 0, ..., 1, 2
    assert surface_measures(truth, prediction, (1.0, 1.0))["hd95"] == pytest.approx(8)
    assert surface_measures(prediction, truth, (1.0, 1.0))["hd95"] == pytest.approx(8), "the larger, whichever way"


def test_sizes_of_both_masks_follow_from_the_counts() -> None:
    counts = Counts(tp=1, fp=2, fn=4, tn=8)
    assert (counts.truth, counts.predicted) == (5, 3)


def test_masks_of_numbers_are_masks() -> None:
    """Labels 1, 2 and 255 in a file are foreground alike, and a mask of uint8 is measured like one of bool."""
    truth, prediction = np.array([[2, 255, 0, 0]]), np.array([[1, 0, 4, 0]], np.uint8)
    assert count(truth, prediction) == Counts(tp=1, fp=1, fn=1, tn=1)
    # 1, 1 pixel apart; 0 and 1: the first of both masks lie on each other, of the others each is next to the first
    assert surface_measures(truth, prediction, (1.0, 2.0), tolerance=1.0) == {"hd95": pytest.approx(1.9), "nsd": 0.5}


def test_empty_masks_cost_the_diagonal_unless_both_are() -> None:
    empty, full = np.zeros((3, 4), bool), np.ones((3, 4), bool)
    for policy in ("nan", "one"):
        for pair in ((empty, full), (full, empty)):
            assert surface_measures(*pair, (1.0, 2.0), policy=policy) == {"hd95": pytest.approx(73**0.5), "nsd": 0.0}
    assert surface_measures(empty, empty, (1, 1), policy="one") == {"hd95": 0, "nsd": 1}
    assert all(np.isnan(value) for value in surface_measures(empty, empty, (1, 1)).values())


def test_masks_of_different_shapes_are_a_bug_and_not_broadcast() -> None:
    with pytest.raises(ValueError, match="different shapes"):
        count(np.zeros((2, 2)), np.zeros((1, 2)))


def test_every_metric_has_a_heading_in_the_document_and_the_document_no_other() -> None:
    headings = re.findall(r"^### `(\w+)`$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    assert headings == [*MEASURES, *(METRICS[metric].score for metric in THESIS), "soft_dice_loss", "combined_loss"]


def test_every_metric_has_a_row_in_the_documents_table() -> None:
    rows = re.findall(r"^\| `(\w+)` \| .*, .* \|", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows[: len(MEASURES)] == list(MEASURES)
