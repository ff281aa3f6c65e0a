"""Boxes around what is there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def bounding_box(mask: np.ndarray, rim: Sequence[int] = ()) -> tuple[slice, ...]:
    """The smallest box around the foreground of a mask that has some.

    Parameters
    ----------
    mask : of any shape
    rim : by so much it is wider at both ends of each axis, never below 0; it can reach beyond the mask

    >>> bounding_box(np.array([[0, 0, 0], [0, 1, 1]])), bounding_box(np.array([0, 0, 1, 0]), [1])
    ((slice(1, 2, None), slice(1, 3, None)), (slice(1, 4, None),))
    """
    box = []
    for axis, extra in zip(range(mask.ndim), rim or [0] * mask.ndim, strict=True):
        hit = np.flatnonzero(mask.any(tuple(other for other in range(mask.ndim) if other != axis)))
        box.append(slice(max(0, int(hit[0]) - extra), int(hit[-1]) + 1 + extra))
    return tuple(box)
