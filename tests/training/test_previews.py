"""The same few slices, small and large lesions, are predicted every epoch: the user sees the model learn."""

from __future__ import annotations

import numpy as np

from covseg_core.data.slices.slice_set import SliceSet
from covseg_core.training.previews import choose_previews, preview_slices


def _slices(areas: list[int]) -> SliceSet:
    masks = np.zeros((len(areas), 16, 16), np.uint8)
    for number, area in enumerate(areas):
        masks[number].flat[:area] = 1
    return SliceSet(np.zeros_like(masks), masks, ("case",) * len(areas), np.arange(len(areas)))


def test_small_and_large_lesions_are_shown_and_no_empty_slice():
    chosen = choose_previews(_slices([0, 0, 9, 1, 0, 30, 20, 5, 2, 60, 0, 40]))
    areas = sorted([0, 0, 9, 1, 0, 30, 20, 5, 2, 60, 0, 40][number] for number in chosen)
    assert len(chosen) == 4
    assert areas[0] <= 2
    assert areas[-1] >= 40


def test_the_choice_is_the_same_every_time():
    slices = _slices([5] * 30)
    assert np.array_equal(choose_previews(slices), choose_previews(slices))


def test_fewer_lesions_than_previews():
    assert choose_previews(_slices([0, 4, 0, 7])).tolist() == [1, 3]


def test_without_any_lesion_there_are_still_previews():
    assert len(choose_previews(_slices([0] * 9))) == 4


def test_a_preview_shows_the_slice_and_not_its_neighbours():
    """The page of the curves would try to draw a picture of five channels."""
    plain = _slices([4, 7])
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 5), np.uint8)
    shown = preview_slices(SliceSet(images, plain.masks, plain.cases, plain.z), np.array([1]))
    assert np.array_equal(shown.images, images[1:, :, :, 2])
    assert np.array_equal(preview_slices(plain, np.array([1])).images, plain.images[1:])
