"""Comparing a run's model in bfloat16 with itself in float32, on its validation slices."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np

from covseg_core.config import Target
from covseg_core.data.library.datasets import Dataset
from covseg_core.data.slices.cache import prepared
from covseg_core.data.splitting.split import Selection
from covseg_core.errors import RunError
from covseg_core.evaluation.measures import Counts, count, overlap
from covseg_core.evaluation.stored_predictions.operating_point_search import own_dataset
from covseg_core.files import sha256_file, write_json
from covseg_core.prediction.case_lungs import case_probabilities, find_lungs
from covseg_core.prediction.inference import Segmenter
from covseg_core.progress import Progress
from covseg_core.runs import Run
from covseg_core.runs.bfloat16 import FILE, VERSION, Bfloat16Check
from covseg_core.runs.operating_point import DEFAULT, read_point


def check_bfloat16(run: Run, progress: Progress | None = None) -> Bfloat16Check:
    """Compare on the run's validation slices, and store the result in the run.

    Parameters
    ----------
    run : with a `model.onnx`, whose dataset is here
    progress : called with the slices done and those there are

    Raises
    ------
    RunError : the run has no model or no validation slices, its dataset is gone or has changed, or this processor does
        not compute in bfloat16
    """
    return compare(run, own_dataset(run), run.split.validation, progress)


def compare(run: Run, dataset: Dataset, selection: Selection, progress: Progress | None = None) -> Bfloat16Check:
    """The same on chosen slices, case id -> z indices, of a dataset."""
    point = read_point(run)
    threshold = point.threshold if point else DEFAULT
    segmenters = Segmenter(run), Segmenter(run, precision="bfloat16")
    find_lungs(dataset, run.config.prepare, list(selection))
    chosen = {id: list(zs) for id, zs in selection.items() if zs}
    total, done, largest = sum(map(len, chosen.values())), 0, 0.0
    if not total:
        raise RunError(run.id, "its split has no validation part", "validation slices, to compare precisions on")
    both, full, half = Counts(), Counts(), Counts()
    for id, zs in chosen.items():
        case = dataset.case(id)
        first, second = (case_probabilities(segmenter, dataset, case, zs) for segmenter in segmenters)
        truth = _truth(dataset, id, zs, run)
        largest = max(largest, float(np.abs(first - second).max()))
        both += count(first >= threshold, second >= threshold)
        full += count(truth, first >= threshold)
        half += count(truth, second >= threshold)
        done += len(zs)
        if progress is not None:
            progress(done, total)
    check = Bfloat16Check(
        version=VERSION,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        model_sha256=sha256_file(run.onnx),
        slices=total,
        threshold=threshold,
        agreement=overlap(both, "one")["dice"],
        score=overlap(full, "one")["dice"],
        score_bfloat16=overlap(half, "one")["dice"],
        largest_difference=largest,
    )
    write_json(run.folder / FILE, check)
    return check


def _truth(dataset: Dataset, id: str, zs: list[int], run: Run) -> np.ndarray:
    target: Target = run.config.target
    return np.asarray(prepared(dataset, dataset.case(id), run.config.prepare, target)[zs] > 0)
