"""A few fixed validation slices whose predicted masks are kept for every epoch: watching a model learn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from covseg_core.data.slices.slice_set import SliceSet
from covseg_core.files import atomic_path, write_json
from covseg_core.runs import Run

COUNT = 4


@dataclass(frozen=True)
class PreviewSlice:
    """Where a preview comes from."""

    case: str
    z: int


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


def write_preview_slices(run: Run, slices: SliceSet, chosen: np.ndarray) -> None:
    """Keep the images (K, S, S) uint8, the true masks (K, S, S) uint8 and their origin beside the predictions."""
    for name, array in (("images", slices.images[chosen]), ("masks", slices.masks[chosen])):
        with atomic_path(run.previews / f"{name}.npy") as temporary:
            np.save(temporary, array)
    origin = [PreviewSlice(slices.cases[number], int(slices.z[number])) for number in chosen]
    write_json(run.previews / "slices.json", origin)
