"""Models and the cases of a dataset: the lungs of those without a lung mask, and answers about some slices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from covseg_core.config import PrepareConfig
from covseg_core.data.library.datasets import Case, Dataset
from covseg_core.data.slices.cache import case_grid, network_images, prepared
from covseg_core.data.slices.lungs import keep_lungs
from covseg_core.data.slices.slices import to_native
from covseg_core.files import cached_sha256
from covseg_core.prediction.inference import Segmenter
from covseg_core.prediction.masks.lung_sides import clean_lungs
from covseg_core.progress import Progress
from covseg_core.runs.lung_model import shipped_lungs, without_lungs

LUNG_THRESHOLD = 0.5
"""Probability from which a voxel is lung, whatever the threshold of the infection."""


def find_lungs(
    dataset: Dataset, prepare: PrepareConfig, cases: Sequence[str] | None = None, progress: Progress | None = None
) -> None:
    """Ask the lung model about cases whose lungs are not known, where slices are to be cut to them.

    Parameters
    ----------
    prepare : nothing is done unless its region is `lungs`
    cases : ids; None for all
    progress : called with the cases done and those there are

    Raises
    ------
    DatasetError : lungs have to be found, and there is no lung model
    """
    unknown = without_lungs(dataset, prepare, cases)
    shipped = shipped_lungs() if unknown else None
    if shipped is None:
        return
    segmenter, model = Segmenter(shipped), cached_sha256(shipped.onnx)
    for number, case in enumerate(unknown, start=1):
        grid = case_grid(dataset, case, segmenter.prepare)
        probabilities = segmenter.probabilities(prepared(dataset, case, segmenter.prepare, "images"))
        lungs = np.empty(case.shape, np.uint8)
        for z in range(case.slices):
            lungs[z] = to_native(probabilities[z : z + 1], grid)[0] >= LUNG_THRESHOLD
        keep_lungs(case, clean_lungs(lungs), model)
        if progress is not None:
            progress(number, len(unknown))


def case_probabilities(
    segmenter: Segmenter, dataset: Dataset, case: Case, zs: Sequence[int], progress: Progress | None = None
) -> np.ndarray:
    """A model's answer about slices of a case, as prediction would give it: (n, S, S) float32.

    Raises
    ------
    DatasetError : the case is not as it was imported, or nothing is known of its lungs: call `find_lungs` before
    """
    prepare = segmenter.prepare
    images = network_images(dataset, case, prepare, zs)
    near = prepared(dataset, case, prepare, "near_lungs")[list(zs)] if prepare.region == "lungs" else None
    return segmenter.probabilities(images, progress, near=near)
