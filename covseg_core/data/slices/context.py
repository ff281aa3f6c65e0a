"""Slices with their neighbours, for networks that see more than one: `PrepareConfig.context`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from covseg_core.config import PrepareConfig

DISTANCE_MM = 5.0
"""From a slice to its neighbour, where the spacing is known: scans of 1 mm and of 5 mm then show the network the same.
Slices that are farther apart, and those of unknown spacing, have the next one as their neighbour."""


def with_context(
    images: np.ndarray, zs: Sequence[int] | slice, prepare: PrepareConfig, slice_mm: float | None, stacked: bool = False
) -> np.ndarray:
    """Some slices of a scan, as the network is shown them.

    Parameters
    ----------
    images : (Z, S, S) uint8, all slices of the scan, or those around the chosen ones
    zs : which of them
    slice_mm : distance of two slices [mm]; None where it is not known
    stacked : whether they are of several patients and have no neighbours

    Returns
    -------
    (n, S, S) uint8; with `prepare.context` of k (n, S, S, 2k + 1), from below to above, the ends of the scan repeated
    """
    if not prepare.context:
        return images[zs] if isinstance(zs, slice) else images[list(zs)]
    middle = np.arange(len(images))[zs if isinstance(zs, slice) else list(zs)]
    step = 0 if stacked else neighbour_step(slice_mm)
    steps = step * np.arange(-prepare.context, prepare.context + 1)
    return np.moveaxis(images[np.clip(middle[:, None] + steps, 0, len(images) - 1)], 1, -1)


def neighbour_step(slice_mm: float | None) -> int:
    """How many slices away a neighbour is.

    >>> neighbour_step(1.25), neighbour_step(8), neighbour_step(None)
    (4, 1, 1)
    """
    return 1 if not slice_mm else max(1, round(DISTANCE_MM / slice_mm))
