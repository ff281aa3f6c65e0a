"""Picking a run's operating point, threshold, smallest size and peak, on its validation part.

The test part has no say in it, so that test scores at the point are as honest as those at 0.5.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from covseg_core.data.library.datasets import Dataset, load_dataset
from covseg_core.errors import CovsegError, RunError
from covseg_core.evaluation.stored_predictions.scans import stored_scans
from covseg_core.evaluation.stored_predictions.thresholds import STEPS, WhatIf
from covseg_core.files import atomic_path, sha256_file, write_json
from covseg_core.prediction.case_lungs import case_probabilities, find_lungs
from covseg_core.prediction.inference import Segmenter
from covseg_core.progress import Progress
from covseg_core.runs import Run
from covseg_core.runs.operating_point import DEFAULT, FILE, PEAKS, VERSION, OperatingPoint, Unit

PREDICTIONS = "validation_predictions.npy"
"""In the run's folder: (N, S, S) float16, ordered by case and slice, and after the array the model's SHA-256."""
MEASURE = "mean Dice over validation scans, on the network's grid"
FEW = 5
"""Below so many scans a point says more about them than about the model."""
MINIMUMS: dict[Unit, tuple[float, ...]] = {
    "mm3": (0, 10, 20, 50, 100, 200, 500),
    "voxels": (0, 5, 10, 20, 50, 100, 200),
}
"""Smallest sizes that are tried with each threshold, and with each of `PEAKS` above it."""
Tried = tuple[float, float, float]
"""Threshold, smallest size and peak."""
_EQUAL = 1e-9
"""Scores that differ by less are taken for the same."""


def choose_point(run: Run, progress: Progress | None = None, few: bool = False) -> OperatingPoint:
    """Pick threshold, smallest size and peak with the best mean Dice over validation scans, and store them in the run.

    Of equals the threshold closest to 0.5, then the smallest size and then the lowest peak win. Scans without the
    target count where the model marks something, with 0. Validation slices are predicted the first time.

    Parameters
    ----------
    run : with a `model.onnx`, whose dataset is here
    progress : may raise to end it: nothing is stored then
    few : pick it also where the validation part has less than `FEW` scans

    Raises
    ------
    RunError : the run's dataset is gone or has changed, its validation part has too few scans or shows no target, or
        the run has no model
    """
    if (scans := scans_to_choose_on(run)) < FEW and not few:
        found = f"{scans} validation scan{'s' * (scans != 1)}, on which a point can be the best by chance"
        raise RunError(run.id, found, f"at least {FEW}, or `--few`")
    model = validation(run, progress)
    target = run.config.target
    if not model.has_truth:
        raise RunError(run.id, f"no {target} on its validation slices", "some: a point cannot be picked without")
    tried = {
        (threshold, minimum, peak): _mean(model.scan_dice(threshold, minimum, peak))
        for threshold in sorted(STEPS, key=lambda step: (round(abs(step - DEFAULT), 6), step))
        for minimum in MINIMUMS[model.unit]
        for peak in PEAKS
        if not peak or peak > threshold
    }
    best = _best(tried)
    alone = _best({each: score for each, score in tried.items() if each[1:] == (0.0, best[2])})
    point = OperatingPoint(
        version=VERSION,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        model_sha256=sha256_file(run.onnx),
        chosen_on="validation",
        measure=MEASURE,
        threshold=best[0],
        minimum=best[1],
        peak=best[2],
        unit=model.unit,
        score=tried[best],
        score_at_half=tried[DEFAULT, 0.0, 0.0],
        alone=alone[0],
        score_alone=tried[alone],
        scans=model.scans,
        slices=model.slices,
    )
    write_json(run.folder / FILE, point)
    return point


def scans_to_choose_on(run: Run) -> int:
    """How many scans the run's validation part has."""
    return sum(1 for slices in run.split.validation.values() if slices)


def forget_point(run: Run) -> bool:
    """Remove a run's operating point; whether there was one."""
    there = (run.folder / FILE).is_file()
    (run.folder / FILE).unlink(missing_ok=True)
    return there


def validation(run: Run, progress: Progress | None = None) -> WhatIf:
    """A run's answers to its validation part, predicted now if they are not stored; raises as `choose_point`."""
    dataset = own_dataset(run)
    chosen = run.split.validation
    slices = [(id, z) for id in sorted(chosen) for z in sorted(chosen[id])]
    if not slices:
        raise RunError(run.id, "its split has no validation part", "validation slices, to pick a point on")
    segmenter = Segmenter(run)
    find_lungs(dataset, segmenter.prepare)
    shape = (len(slices), segmenter.prepare.size, segmenter.prepare.size)
    path, digest = run.folder / PREDICTIONS, bytes.fromhex(sha256_file(run.onnx))
    values = _read(path, shape, digest)
    if values is None:
        _predict(path, shape, digest, segmenter, dataset, slices, run, progress)
        values = _read(path, shape, digest)
        if values is None:
            raise CovsegError(path, "reads back as something else than was written", "a disk that works")
    return WhatIf(stored_scans(dataset, slices, values, run.config.prepare, run.config.target))


def _predict(
    path: Path,
    shape: tuple[int, int, int],
    digest: bytes,
    segmenter: Segmenter,
    dataset: Dataset,
    slices: list[tuple[str, int]],
    run: Run,
    progress: Progress | None,
) -> None:
    """Ask the model about the slices, scan by scan, and write what it says."""
    values, done = np.empty(shape, np.float16), 0
    for id in dict.fromkeys(id for id, _ in slices):
        zs = [z for case, z in slices if case == id]
        before = done

        def count(part: int, _: int, before: int = before) -> None:
            if progress is not None:
                progress(before + part, len(slices))

        values[done : done + len(zs)] = case_probabilities(segmenter, dataset, dataset.case(id), zs, count)
        done += len(zs)
    try:
        with atomic_path(path) as temporary, open(temporary, "wb") as handle:
            np.save(handle, values, allow_pickle=False)
            handle.write(digest)
    except OSError as error:
        raise CovsegError(path, f"cannot be written ({error.strerror or error})", "room on disk") from error


def _read(path: Path, shape: tuple[int, int, int], digest: bytes) -> np.ndarray | None:
    """Stored probabilities, memory-mapped; None if there are none, or of another model or split."""
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
        with open(path, "rb") as handle:
            handle.seek(-len(digest), 2)
            same = handle.read() == digest
    except (OSError, ValueError):
        return None
    return values if same and values.shape == shape and values.dtype == np.float16 else None


def own_dataset(run: Run) -> Dataset:
    """The dataset that the run was made from, as it was then."""
    name, expected = run.config.dataset, "the data that it was trained with, under their name"
    try:
        dataset = load_dataset(name, run.config.fingerprint)
    except CovsegError:
        raise RunError(run.id, f"its validation scans are not here (dataset {name})", expected) from None
    if dataset.fingerprint != run.config.fingerprint:
        raise RunError(run.id, f"dataset {name} has changed since the run was made", expected)
    return dataset


def _best(tried: dict[Tried, float]) -> Tried:
    """What scores best, and of equals the first."""
    highest = max(tried.values())
    return next(each for each, score in tried.items() if score >= highest - _EQUAL)


def _mean(values: list[float]) -> float:
    """Of those that are defined; -1 if none is."""
    there = [value for value in values if not math.isnan(value)]
    return float(np.mean(there)) if there else -1.0
