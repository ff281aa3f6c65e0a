"""What segmentation did before networks: Otsu's threshold, region growing, watershed and k-means, inside the lung.

They learn nothing and take longer than the other baselines, so they are worked out when somebody asks for them. Each
slice is segmented by itself, as a network of slices does it. Limits in HU are fixed in advance, as in `baselines`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import groupby

import numpy as np

from covseg_core.data.classical_lungs import lung_mask
from covseg_core.data.library.datasets import Case, Dataset, load_dataset
from covseg_core.data.reading.volumes import load_mask, load_scan
from covseg_core.data.slices.intensity import Scale
from covseg_core.errors import DatasetError, RunError
from covseg_core.evaluation.baselines import OPACITY
from covseg_core.evaluation.results import Comparison, Evaluation
from covseg_core.evaluation.scores import ScanScore, Scores, SliceScore, score_case, summarise
from covseg_core.progress import Progress

DENSE, SOLID = OPACITY["HU"]
"""[HU] Where infection may begin, and the upper end of enhanced tissue."""
AERATED, SEED = -800.0, -500.0
"""[HU] Below the first is air-filled lung, from the second on surely none."""


def otsu(image: np.ndarray, lung: np.ndarray) -> np.ndarray:
    """Denser than the threshold that splits the grey values of the lung best. Source: Otsu 1979.

    Parameters
    ----------
    image : (Y, X) float32 [HU]
    lung : (Y, X) bool, with two values of the image or more

    Returns
    -------
    mask : (Y, X) bool
    """
    from skimage.filters import threshold_otsu

    return lung & (image > threshold_otsu(image[lung]))


def region_growing(image: np.ndarray, lung: np.ndarray) -> np.ndarray:
    """From seeds of at least -500 HU over all neighbours of at least -700 HU, on the image after a median of 3 x 3."""
    from skimage.filters import apply_hysteresis_threshold

    smooth = np.where(lung, _smoothed(image, lung), -np.inf)
    return lung & apply_hysteresis_threshold(smooth, DENSE, SEED) & (image <= SOLID)


def watershed(image: np.ndarray, lung: np.ndarray) -> np.ndarray:
    """Basins of the edges (Sobel), from markers below -800 HU and of at least -500 HU. Source: Beucher 1979."""
    from skimage.filters import sobel
    from skimage.segmentation import watershed as flood

    smooth = _smoothed(image, lung)
    markers = np.where(smooth < AERATED, 1, np.where(smooth >= SEED, 2, 0)) * lung
    return lung & (flood(sobel(smooth), markers, mask=lung) == 2) if markers.any() else np.zeros_like(lung)


def k_means(image: np.ndarray, lung: np.ndarray) -> np.ndarray:
    """The denser of two clusters of grey values, which begin at the quartiles. Source: MacQueen 1967."""
    values = image[lung]
    low, high = (float(centre) for centre in np.percentile(values, [25, 75]))
    for _ in range(100):  # in one dimension and with two clusters each step is a cut in the middle
        upper = values > (low + high) / 2
        if upper.all() or not upper.any():
            break
        centres = float(values[~upper].mean()), float(values[upper].mean())
        if centres == (low, high):
            break
        low, high = centres
    return lung & (image > (low + high) / 2)


Method = Callable[[np.ndarray, np.ndarray], np.ndarray]
METHODS: dict[str, tuple[str, Method]] = {
    "otsu": ("Otsu's threshold in the lung of each slice", otsu),
    "region growing": ("from -500 HU over neighbours from -700 HU in the lung", region_growing),
    "watershed": ("edges and watershed in the lung, markers below -800 and from -500 HU", watershed),
    "k-means": ("the denser of two clusters of the lung of each slice", k_means),
}
"""Name -> what it does, and how."""


def with_methods(comparison: Comparison, progress: Progress | None = None) -> Comparison:
    """The comparison with the classical methods among its baselines, scored on the same slices.

    Parameters
    ----------
    comparison : of models of infection, whose dataset is here
    progress : called with the slices done and those there are; may raise to end it

    Raises
    ------
    RunError : the models outline lungs
    DatasetError : the dataset is gone or has changed since
    """
    first = comparison.evaluations[0]
    if first.target != "infection":
        raise RunError(first.run, "outlines lungs", "a model of infection: classical methods look inside the lung")
    dataset = load_dataset(comparison.dataset, first.fingerprint)
    if dataset.fingerprint != first.fingerprint:
        raise DatasetError(dataset.name, "has changed since the models were scored", "the same data")
    found = _scored(dataset, first, progress)
    evaluations = (dataclasses.replace(one, baselines=(*one.baselines, *found)) for one in comparison.evaluations)
    return dataclasses.replace(comparison, evaluations=tuple(evaluations))


def masks(voxels: np.ndarray, scale: Scale, lung: np.ndarray | None) -> dict[str, np.ndarray]:
    """What each method marks.

    Parameters
    ----------
    voxels : (Z, Y, X) [HU] or 0..255
    scale : which of the two
    lung : (Z, Y, X) 0/1, drawn by people, or None to find them by `classical_lungs`

    Returns
    -------
    masks : name -> (Z, Y, X) uint8, 0 and 1
    """
    inside = (lung_mask(voxels, scale) if lung is None else lung) > 0
    found = {name: np.zeros(voxels.shape, np.uint8) for name in METHODS}
    for z, plane in enumerate(inside):
        image = voxels[z].astype(np.float32)
        if scale == "0-255":
            image = image * (1500 / 255) - 1250
        if plane.any() and np.ptp(image[plane]):
            for name, (_, method) in METHODS.items():
                found[name][z] = method(image, plane)
    return found


def _scored(dataset: Dataset, evaluation: Evaluation, progress: Progress | None) -> list[Scores]:
    scans: dict[str, list[ScanScore]] = {name: [] for name in METHODS}
    slices: dict[str, list[SliceScore]] = {name: [] for name in METHODS}
    done, total = 0, len(evaluation.model.slices)
    for id, scores in groupby(evaluation.model.slices, key=lambda score: score.case):
        chosen = [score.z for score in scores]
        case = dataset.case(id)
        spacing = case.spacing if evaluation.spacing_known else None
        truth, found = _read(dataset, case, chosen)
        for name, mask in found.items():
            scan, each = score_case(case, chosen, truth, mask, spacing, evaluation.policy)
            scans[name].append(scan)
            slices[name].extend(each)
        done += len(chosen)
        if progress is not None:
            progress(done, total)
    return [
        summarise(name, description, scans[name], slices[name], evaluation.policy)
        for name, (description, _) in METHODS.items()
    ]


def _read(dataset: Dataset, case: Case, chosen: list[int]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The true mask of the chosen slices, and what each method marks on them."""
    scan = load_scan(dataset.path(case, "scan"))
    truth = load_mask(dataset.path(case, "infection"), case.labels, scan.geometry).voxels[chosen]
    lung = None
    if case.lung is not None:
        lung = load_mask(dataset.path(case, "lung"), None, scan.geometry).voxels[chosen]
    return truth, masks(scan.voxels[chosen], case.scale, lung)


def _smoothed(image: np.ndarray, lung: np.ndarray) -> np.ndarray:
    """Median of 3 x 3; outside of the lung stands its median, so that no chest wall gets in."""
    import cv2

    inside = np.where(lung, image, np.median(image[lung]))
    return np.asarray(cv2.medianBlur(inside.astype(np.float32), 3))
