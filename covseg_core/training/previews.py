"""A few fixed validation slices whose predicted masks are kept for every epoch: watching a model learn."""

from __future__ import annotations

import numpy as np

from covseg_core.data.slices.slice_set import SliceSet
from covseg_core.runs.previews import PreviewSlice, PreviewSlices

COUNT = 4


def choose_previews(slices: SliceSet, count: int = COUNT) -> np.ndarray:
    """Numbers of slices that show small and large lesions of different cases.

    Slices with the target are taken in the order of its area, at even steps; without any, slices at even steps.

    Returns
    -------
    (K,) int64 : K = `count`, or fewer if there are fewer slices
    """
    area = slices.masks.sum(axis=(1, 2), dtype=np.int64)
    candidates = np.flatnonzero(area)
    candidates = candidates[np.argsort(area[candidates], kind="stable")] if len(candidates) else np.arange(len(slices))
    steps = (np.arange(count) + 0.5) / count * len(candidates)
    return np.unique(candidates[steps.astype(np.int64)])


def preview_slices(slices: SliceSet, chosen: np.ndarray) -> PreviewSlices:
    """The chosen slices, without their neighbours, as they are kept beside their predictions."""
    origin = [PreviewSlice(slices.cases[number], int(slices.z[number])) for number in chosen]
    images = slices.images[chosen]
    if images.ndim == 4:
        images = images[..., images.shape[-1] // 2]
    return PreviewSlices(images, slices.masks[chosen], origin)
