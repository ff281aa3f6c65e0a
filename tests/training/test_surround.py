"""A body drawn around padded slices must leave the lungs, and slices that have a body, alone."""

from __future__ import annotations

import numpy as np
import pytest

from covseg_core.training.surround import AIR, content_box, surround

SIZE = 128


def _padded(padding: int = 38, box: tuple[int, int, int, int] = (30, 90, 20, 110)) -> np.ndarray:
    """Noise in a box, padding around it."""
    image = np.full((SIZE, SIZE), padding, np.uint8)
    top, bottom, left, right = box
    image[top:bottom, left:right] = np.random.default_rng(0).integers(100, 200, (bottom - top, right - left))
    return image


@pytest.mark.parametrize("padding", [0, 38])
def test_the_box_of_the_content_is_found(padding):
    assert content_box(_padded(padding)) == (30, 90, 20, 110)


def test_slices_with_their_full_field_of_view_have_no_box():
    """Drawing over a real body would destroy what a model should learn from."""
    full = np.full((SIZE, SIZE), AIR, np.uint8)
    full[5:120, 2:126] = 200
    uneven = _padded()
    uneven[:20, :20] = 120
    for image in (full, uneven, np.zeros((SIZE, SIZE), np.uint8)):
        assert content_box(image) is None
        assert surround(image, np.random.default_rng(0)) is image


@pytest.mark.parametrize("seed", range(20))
def test_the_content_stays_and_the_padding_becomes_a_body(seed):
    image = _padded()
    drawn = surround(image, np.random.default_rng(seed))
    assert (drawn.dtype, drawn.shape) == (np.uint8, image.shape)
    assert np.array_equal(drawn[31:89, 21:109], image[31:89, 21:109])
    around = drawn[27:30, 50:80]
    assert np.median(around) > 150, "no tissue above the lungs"
    assert np.array_equal(image, _padded()), "the slice in memory was changed"


def test_the_same_seed_draws_the_same_body():
    first, second = (surround(_padded(), np.random.default_rng(4)) for _ in range(2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, surround(_padded(), np.random.default_rng(5)))


def test_neighbours_get_the_same_body_around_what_each_of_them_shows():
    """Nothing of a neighbour that is larger than the slice is drawn over."""
    stack = np.stack([_padded(), _padded(box=(20, 95, 20, 115)), _padded(box=(40, 80, 30, 100))], axis=-1)
    assert content_box(stack) == (20, 95, 20, 115)
    drawn = surround(stack, np.random.default_rng(4))
    assert (drawn.dtype, drawn.shape) == (np.uint8, stack.shape)
    assert np.array_equal(drawn[21:94, 21:114], stack[21:94, 21:114])
    around = np.ones((SIZE, SIZE), bool)
    around[21:94, 21:114] = False
    assert np.array_equal(drawn[around], np.repeat(drawn[around][:, :1], 3, axis=1))
    assert not np.array_equal(drawn[around], stack[around])
