"""Measures beside SimpleITK, MedPy and DeepMind's surface-distance, which share no code with ours or with each other.

Where definitions agree, numbers must; where they do not, what is comparable is derived from their raw distances.

- MedPy's HD95 pools both directions before it takes the percentile; ours is the larger of two percentiles.
- SimpleITK has the Hausdorff distance, and distance maps from which the rest follows.
- surface-distance puts the surface at the corners of voxels and weighs it by area.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest
import SimpleITK as sitk
from medpy.metric import binary as medpy
from scipy import ndimage

from covseg_core.evaluation.measures import (
    TOLERANCE,
    _nearest,
    count,
    overlap,
    surface,
    surface_distances,
    surface_measures,
)

Pair = tuple[np.ndarray, np.ndarray]
Spacing = tuple[float, ...]

GRIDS: list[tuple[tuple[int, ...], Spacing]] = [
    ((48, 48), (1.0, 1.0)),
    ((40, 60), (0.7, 1.6)),
    ((20, 32, 32), (1.0, 1.0, 1.0)),
    ((12, 40, 36), (5.0, 0.7, 0.8)),
]
CASES = [
    pytest.param(shape, spacing, seed, id=f"{len(shape)}D-{'x'.join(map(str, spacing))}-{seed}")
    for (shape, spacing), seed in itertools.product(GRIDS, range(5))
]


def blobs(shape: tuple[int, ...], seed: int) -> Pair:
    """Random blobs, some at the edge of the grid, and a prediction that misses, moves and invents some."""
    random = np.random.default_rng(seed)
    field, other = (ndimage.gaussian_filter(random.normal(size=shape), 2.0) for _ in range(2))
    mixed = field + random.uniform(0.2, 1.5) * other
    return field > np.quantile(field, 0.8), mixed > np.quantile(mixed, random.uniform(0.7, 0.9))


def medpy_distances(pair: Pair, spacing: Spacing) -> list[np.ndarray]:
    """From truth to prediction and back; MedPy has only the function behind its measures for that."""
    distances = getattr(medpy, "__surface_distances")
    return [distances(*pair, spacing, 1), distances(*pair[::-1], spacing, 1)]


def sitk_image(mask: np.ndarray, spacing: Spacing) -> sitk.Image:
    """With a margin, since ITK sees no surface at the edge of an image."""
    image = sitk.GetImageFromArray(np.pad(mask, 1).astype(np.uint8))
    image.SetSpacing(spacing[::-1])
    return image


def sitk_distances(pair: Pair, spacing: Spacing) -> list[np.ndarray]:
    """From truth to prediction and back, by Maurer's exact distance map (Danielsson's is off by up to 0.2 voxels)."""
    contours = [sitk.LabelContour(sitk_image(mask, spacing)) for mask in pair]
    maps = [
        sitk.Abs(sitk.SignedMaurerDistanceMap(one, squaredDistance=False, useImageSpacing=True)) for one in contours
    ]
    surfaces = [sitk.GetArrayFromImage(contour) > 0 for contour in contours]
    return [sitk.GetArrayFromImage(maps[1])[surfaces[0]], sitk.GetArrayFromImage(maps[0])[surfaces[1]]]


@pytest.fixture
def deepmind() -> Iterator[ModuleType]:
    """surface-distance 0.1, of 2018: it calls SciPy by names of that time."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Please import `\\w+` from the `scipy.ndimage` namespace", DeprecationWarning)
        import surface_distance

        yield surface_distance


@pytest.mark.parametrize(("shape", "spacing", "seed"), CASES)
def test_dice_and_iou_are_those_of_all_three(
    shape: tuple[int, ...], spacing: Spacing, seed: int, deepmind: ModuleType
) -> None:
    pair = blobs(shape, seed)
    found = overlap(count(*pair))
    assert 0.05 < found["dice"] < 0.95, "a case that can go wrong"
    itk = sitk.LabelOverlapMeasuresImageFilter()
    itk.Execute(*(sitk_image(mask, spacing) for mask in pair))
    for dice in (itk.GetDiceCoefficient(), medpy.dc(*pair), deepmind.compute_dice_coefficient(*pair)):
        assert found["dice"] == pytest.approx(dice, abs=1e-12)
    for iou in (itk.GetJaccardCoefficient(), medpy.jc(*pair)):
        assert found["iou"] == pytest.approx(iou, abs=1e-12)
    assert found["sensitivity"] == pytest.approx(medpy.sensitivity(pair[1], pair[0]))
    assert found["specificity"] == pytest.approx(medpy.specificity(pair[1], pair[0]))
    assert found["precision"] == pytest.approx(medpy.precision(pair[1], pair[0]))


@pytest.mark.parametrize(("shape", "spacing", "seed"), CASES)
def test_hd95_and_nsd_follow_from_the_distances_of_medpy_and_simpleitk(
    shape: tuple[int, ...], spacing: Spacing, seed: int
) -> None:
    pair = blobs(shape, seed)
    found = surface_measures(*pair, spacing)
    for forth, back in (medpy_distances(pair, spacing), sitk_distances(pair, spacing)):
        hd95 = max(np.percentile(forth, 95), np.percentile(back, 95))
        nsd = np.mean(np.concatenate([forth, back]) <= TOLERANCE + 1e-4)  # ITK's maps are of 32 bits
        assert found == {"hd95": pytest.approx(hd95, abs=1e-4), "nsd": pytest.approx(nsd)}


@pytest.mark.parametrize(("shape", "spacing", "seed"), CASES)
def test_their_own_measures_follow_from_our_distances(shape: tuple[int, ...], spacing: Spacing, seed: int) -> None:
    """The same surfaces and distances, put together their way."""
    pair = blobs(shape, seed)
    forth, back = surface_distances(*pair, spacing)
    assert medpy.hd95(*pair, spacing) == pytest.approx(np.percentile(np.concatenate([forth, back]), 95))
    assert medpy.hd(*pair, spacing) == pytest.approx(max(forth.max(), back.max()))
    assert medpy.assd(*pair, spacing) == pytest.approx(np.concatenate([forth, back]).mean())
    itk = sitk.HausdorffDistanceImageFilter()
    itk.Execute(*(sitk_image(mask, spacing) for mask in pair))
    assert itk.GetHausdorffDistance() == pytest.approx(max(forth.max(), back.max()), abs=1e-4)
    assert surface_measures(*pair, spacing)["hd95"] >= medpy.hd95(*pair, spacing) - 1e-9


def corners(mask: np.ndarray) -> np.ndarray:
    """Corners of voxels at which foreground and background meet, the surface of surface-distance: (n, axes) indices."""
    padded = np.pad(mask, 1)
    views = [
        padded[tuple(slice(start, size - 1 + start) for start, size in zip(starts, padded.shape, strict=True))]
        for starts in itertools.product((0, 1), repeat=mask.ndim)
    ]
    return np.argwhere(np.any(views, axis=0) & ~np.all(views, axis=0))


@pytest.mark.parametrize(("shape", "spacing", "seed"), CASES)
def test_nearest_distances_are_those_of_surface_distance_from_corner_to_corner(
    shape: tuple[int, ...], spacing: Spacing, seed: int, deepmind: ModuleType
) -> None:
    """On its surfaces our search finds what its distance transform does."""
    pair = blobs(shape, seed)
    theirs = deepmind.compute_surface_distances(*pair, spacing)
    truth, prediction = (corners(mask) * np.array(spacing) for mask in pair)
    np.testing.assert_allclose(np.sort(_nearest(truth, prediction)), theirs["distances_gt_to_pred"], atol=1e-9)
    np.testing.assert_allclose(np.sort(_nearest(prediction, truth)), theirs["distances_pred_to_gt"], atol=1e-9)


@pytest.mark.parametrize(("shape", "spacing", "seed"), CASES)
def test_two_definitions_of_a_surface_differ_by_no_more_than_a_voxel(
    shape: tuple[int, ...], spacing: Spacing, seed: int, deepmind: ModuleType
) -> None:
    """Voxel centres and corners are half a diagonal apart, once on either side."""
    pair = blobs(shape, seed)
    theirs = deepmind.compute_robust_hausdorff(deepmind.compute_surface_distances(*pair, spacing), 100)
    ours = max(distances.max() for distances in surface_distances(*pair, spacing))
    assert abs(ours - theirs) <= np.linalg.norm(spacing) + 1e-9


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.5, 0.8, 0.8)])
def test_areas_instead_of_voxels_change_little_on_smooth_lesions(spacing: Spacing, deepmind: ModuleType) -> None:
    """Balls of 24 mm, one 8 mm beside the other. A slanting surface has more area than voxels: NSD within 0.06."""
    axes = [np.arange(0, 40, step) for step in spacing]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    truth, prediction = ((z - 20) ** 2 + (y - 20) ** 2 + (x - centre) ** 2 < 12**2 for centre in (16, 24))
    theirs = deepmind.compute_surface_distances(truth, prediction, spacing)
    found = surface_measures(truth, prediction, spacing)
    assert 0.2 < found["nsd"] < 0.6
    nsd = deepmind.compute_surface_dice_at_tolerance(theirs, TOLERANCE)
    assert found["nsd"] == pytest.approx(nsd, abs=0.06)
    assert found["hd95"] == pytest.approx(deepmind.compute_robust_hausdorff(theirs, 95), abs=min(spacing))


EMPTY = np.zeros((6, 6, 6), bool)
FULL = np.pad(np.ones((2, 2, 2), bool), 2)


@pytest.mark.parametrize("pair", [(EMPTY, FULL), (FULL, EMPTY)], ids=["nothing to find", "nothing found"])
def test_one_empty_mask_is_where_the_others_fail_and_ours_counts_an_error(pair: Pair, deepmind: ModuleType) -> None:
    """Known defects, written down: an update that mends one of them fails here, and can then be compared as well."""
    assert surface_measures(*pair, (1, 1, 1)) == {"hd95": pytest.approx(np.sqrt(3 * 6**2)), "nsd": 0}
    with pytest.raises(RuntimeError, match="does not contain any binary object"):
        medpy.hd95(*pair)
    with pytest.raises(AttributeError, match="Inf"):  # np.Inf is no name of NumPy 2; meant is a distance of infinity
        deepmind.compute_surface_distances(*pair, (1, 1, 1))
    with pytest.raises(RuntimeError, match="pixelcount is equal to 0"):
        sitk.HausdorffDistanceImageFilter().Execute(*(sitk_image(mask, (1, 1, 1)) for mask in pair))
    assert overlap(count(*pair))["dice"] == medpy.dc(*pair) == 0


def test_two_empty_masks_are_a_choice_that_the_others_make_each_their_way(deepmind: ModuleType) -> None:
    """NaN with a warning, or one exception or another: the reason why the policy has a name."""
    with pytest.warns(RuntimeWarning, match="invalid value"):
        assert np.isnan(medpy.dc(EMPTY, EMPTY))
    with pytest.raises(AttributeError, match="NaN"):  # no name of NumPy 2 either
        deepmind.compute_dice_coefficient(EMPTY, EMPTY)
    with pytest.raises(RuntimeError):
        medpy.hd95(EMPTY, EMPTY)
    assert np.isnan(overlap(count(EMPTY, EMPTY), "nan")["dice"])
    assert overlap(count(EMPTY, EMPTY), "one")["dice"] == 1


def test_the_surface_is_the_contour_of_simpleitk() -> None:
    for shape, spacing in GRIDS:
        mask, _ = blobs(shape, 9)
        contour = sitk.GetArrayFromImage(sitk.LabelContour(sitk_image(mask, spacing))) > 0
        np.testing.assert_array_equal(np.pad(surface(mask), 1), contour)
