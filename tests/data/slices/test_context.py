"""Slices with their neighbours. What a user loses otherwise: a network that is shown another patient or distance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from covseg_core.config import PrepareConfig
from covseg_core.data.slices.context import DISTANCE_MM, neighbour_step, with_context
from covseg_core.errors import SettingError


def numbered(count: int) -> np.ndarray:
    """Slices of which every pixel says which one it is, (count, 2, 2) uint8."""
    return np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None], (count, 2, 2))


@given(slice_mm=st.floats(0.3, 20))
def test_neighbours_are_as_near_to_the_distance_as_whole_slices_allow(slice_mm: float) -> None:
    """Scans of 1 mm and of 5 mm show the network the same piece of lung."""
    step = neighbour_step(slice_mm)
    assert step >= 1, "a slice would be its own neighbour"
    nearest = min(range(1, 50), key=lambda other: abs(other * slice_mm - DISTANCE_MM))
    assert abs(step * slice_mm - DISTANCE_MM) == pytest.approx(abs(nearest * slice_mm - DISTANCE_MM))


@pytest.mark.parametrize(("slice_mm", "step"), [(1.0, 5), (1.25, 4), (2.5, 2), (5.0, 1), (8.0, 1), (None, 1), (0.0, 1)])
def test_the_distance_is_about_5_mm_and_where_it_is_unknown_the_next_slice(slice_mm: float | None, step: int) -> None:
    assert neighbour_step(slice_mm) == step


@given(
    count=st.integers(1, 40),
    context=st.integers(1, 5),
    slice_mm=st.sampled_from([None, 0.7, 1.0, 2.5, 5.0, 9.0]),
    data=st.data(),
)
def test_channels_go_from_below_to_above_and_repeat_the_ends(
    count: int, context: int, slice_mm: float | None, data: st.DataObject
) -> None:
    zs = data.draw(st.lists(st.integers(0, count - 1), max_size=6))
    shown = with_context(numbered(count), zs, PrepareConfig(context=context), slice_mm)
    assert shown.shape == (len(zs), 2, 2, 2 * context + 1)
    assert shown.dtype == np.uint8
    for row, z in enumerate(zs):
        for channel in range(2 * context + 1):
            wanted = z + (channel - context) * neighbour_step(slice_mm)
            assert (shown[row, :, :, channel] == min(max(wanted, 0), count - 1)).all()


def test_a_part_of_the_slices_is_shown_as_in_the_whole() -> None:
    prepare = PrepareConfig(context=2)
    whole = with_context(numbered(20), range(20), prepare, 2.5)
    np.testing.assert_array_equal(with_context(numbered(20), slice(3, 9), prepare, 2.5), whole[3:9])


def test_stacked_slices_have_no_neighbours() -> None:
    """Each is of another patient."""
    shown = with_context(numbered(5), range(5), PrepareConfig(context=1), 1.0, stacked=True)
    np.testing.assert_array_equal(shown, np.repeat(numbered(5)[..., None], 3, axis=-1))


def test_a_scan_of_one_slice_is_its_own_neighbour() -> None:
    shown = with_context(numbered(1) + 7, [0], PrepareConfig(context=3), 1.0)
    assert shown.shape == (1, 2, 2, 7)
    assert (shown == 7).all()


def test_without_context_slices_stay_as_they_are() -> None:
    assert with_context(numbered(5), [4, 1], PrepareConfig(), 1.0)[:, 0, 0].tolist() == [4, 1]
    assert with_context(numbered(5), slice(1, 3), PrepareConfig(), 1.0)[:, 0, 0].tolist() == [1, 2]
    assert PrepareConfig().channels == 1 and PrepareConfig(context=2).channels == 5


@pytest.mark.parametrize("context", [-1, 6])
def test_a_context_that_cannot_be_is_refused(context: int) -> None:
    with pytest.raises(SettingError, match=rf"^context: {context}; expected 0 to 5 slices on each side$"):
        PrepareConfig(context=context)
