"""Slices of many cases in memory: what a model is trained, validated or tested on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from covseg_core.config import PrepareConfig, Target
from covseg_core.data.slices.cache import network_images, prepared
from covseg_core.errors import DatasetError

if TYPE_CHECKING:
    from covseg_core.data.library.datasets import Dataset
    from covseg_core.data.splitting.split import Selection


@dataclass(frozen=True, eq=False)
class SliceSet:
    """Images with their masks, and where each comes from.

    Attributes
    ----------
    images : (N, S, S) uint8, 0..255; (N, S, S, 2k + 1) with a context of k slices
    masks : (N, S, S) uint8, 0 and 1
    cases : case id of each slice
    z : (N,) int64, index of each slice in its scan
    patients : whose slice each is; empty where that does not matter
    """

    images: np.ndarray
    masks: np.ndarray
    cases: tuple[str, ...]
    z: np.ndarray
    patients: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.cases)


def load_slices(
    dataset: Dataset, selection: Selection, prepare: PrepareConfig, target: Target = "infection"
) -> SliceSet:
    """Read the selected slices into memory, in the order of the selection.

    Parameters
    ----------
    dataset : where the cases are
    selection : case id -> z indices, such as `split.train`
    prepare : size, window and resize
    target : which mask

    Raises
    ------
    DatasetError : a case is unknown, has no such mask or fewer slices than selected
    """
    cases = {case_id: dataset.case(case_id) for case_id in selection}
    for case_id, chosen in selection.items():
        there = cases[case_id].slices
        if chosen and not 0 <= min(chosen) <= max(chosen) < there:
            found = f"slices {min(chosen)} to {max(chosen)} asked for"
            raise DatasetError(f"{dataset.name}/{case_id}", found, f"0 to {there - 1}")

    count = sum(len(chosen) for chosen in selection.values())
    masks = np.empty((count, prepare.size, prepare.size), np.uint8)
    images = np.empty(masks.shape + ((prepare.channels,) if prepare.context else ()), np.uint8)
    start = 0
    for case_id, chosen in selection.items():
        stop = start + len(chosen)
        images[start:stop] = network_images(dataset, cases[case_id], prepare, chosen)
        masks[start:stop] = prepared(dataset, cases[case_id], prepare, target)[list(chosen)]
        start = stop
    names = tuple(case_id for case_id, chosen in selection.items() for _ in chosen)
    z = np.array([z for chosen in selection.values() for z in chosen], np.int64)
    patients = tuple(cases[name].patient_of(int(place)) for name, place in zip(names, z, strict=True))
    return SliceSet(images, masks, names, z, patients)


def mean_std(images: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of all pixels, exact, without a float copy of all images.

    Parameters
    ----------
    images : (N, ...) uint8, 0..255

    Returns
    -------
    mean, std : of the population (dividing by the number of pixels), in float64

    >>> mean_std(np.array([[[0, 10], [20, 30]]], np.uint8))
    (15.0, 11.180339887498949)
    """
    total = squares = 0
    for image in images:
        grey = image.ravel().astype(np.float64)  # sums of whole numbers below 2**53 are exact
        total += int(grey.sum())
        squares += int((grey * grey).sum())
    return total / images.size, math.sqrt(images.size * squares - total**2) / images.size
