"""Disagreement. What a user loses otherwise: a map that glows where all agree, or is dark where they do not."""

from __future__ import annotations

import numpy as np
import pytest

from covseg_core.prediction.masks.disagreement import as_levels, disagreement


def answer(*values: float) -> list[np.ndarray]:
    return [np.array([value], np.float32) for value in values]


@pytest.mark.parametrize("values", [(0.0, 0.0), (1.0, 1.0, 1.0), (0.5, 0.5, 0.5), (0.013, 0.013, 0.013), (0.7,)])
def test_it_is_nothing_where_all_give_the_same_probability(values) -> None:
    assert as_levels(disagreement(answer(*values)))[0] == 0


def test_two_that_contradict_each_other_make_one_bit() -> None:
    assert disagreement(answer(0, 1))[0] == 1
    assert disagreement(answer(0, 1, 1, 0))[0] == 1


def test_by_hand() -> None:
    """One of three: H(1/3) = 1/3 log2 3 + 2/3 log2 1.5. Unsure ones: H(0.5) - (H(0.25) + H(0.75)) / 2."""
    assert disagreement(answer(1, 0, 0))[0] == pytest.approx(np.log2(3) / 3 + 2 / 3 * np.log2(1.5), abs=1e-3)
    quarter = -(0.25 * np.log2(0.25) + 0.75 * np.log2(0.75))
    assert disagreement(answer(0.25, 0.75))[0] == pytest.approx(1 - quarter, abs=1e-3)


def test_it_is_never_outside_0_to_1_and_the_order_of_models_is_nothing() -> None:
    answers = list(np.random.default_rng(0).random((3, 50, 50)).astype(np.float32))
    values = disagreement(answers)
    assert 0 <= values.min() < values.max() <= 1
    np.testing.assert_allclose(values, disagreement(answers[::-1]), atol=1e-4)
